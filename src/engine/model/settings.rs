//! Model sizes as written in a settings file.

use super::{Architecture, Config};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A preset and the sizes that override it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// `olmo2` or `llama`. Default: `olmo2`.
    #[serde(default = "olmo2")]
    pub architecture: Architecture,
    /// `tiny`, `30m`, `130m` or `1b`. Required.
    pub preset: String,
    /// Model width C. Default: the preset's.
    pub width: Option<usize>,
    /// Number of layers L. Default: the preset's.
    pub layers: Option<usize>,
    /// Number of heads H; divides C. Default: the preset's.
    pub heads: Option<usize>,
    /// Number of key/value heads. Default: H.
    pub kv_heads: Option<usize>,
    /// Feed-forward width F. Default: 8C/3, rounded up to a multiple of 64.
    pub feed_forward: Option<usize>,
    /// Context length T in tokens. Default: the preset's.
    pub context: Option<usize>,
    /// Whether the output weights are the embedding table. Default: true in `llama`, false in `olmo2`.
    pub tied: Option<bool>,
}

fn olmo2() -> Architecture {
    Architecture::Olmo2
}

impl ModelSettings {
    /// The model's sizes under a tokenizer of `vocabulary` tokens.
    pub fn config(&self, vocabulary: usize, eos: u32) -> Result<Config> {
        let Some(mut config) = Config::preset(&self.preset, self.architecture, vocabulary, eos) else {
            return Err(Error::usage(format!("there is no model preset `{}`", self.preset))
                .expected(format!("one of {}", Config::PRESETS.join(", "))));
        };
        config.width = self.width.unwrap_or(config.width);
        config.layers = self.layers.unwrap_or(config.layers);
        config.heads = self.heads.unwrap_or(config.heads);
        config.kv_heads = self.kv_heads.unwrap_or(config.heads);
        if config.heads == 0 || !config.width.is_multiple_of(config.heads) {
            return Err(Error::usage(format!("a width of {} cannot be cut into {} heads", config.width, config.heads)));
        }
        config.head_width = config.width / config.heads;
        config.feed_forward = self.feed_forward.unwrap_or((config.width * 8 / 3).next_multiple_of(64));
        config.context = self.context.unwrap_or(config.context);
        config.tied = self.tied.unwrap_or(config.tied);
        config.check().map_err(Error::into_usage)?;
        Ok(config)
    }
}
