//! A model's sizes as a settings file gives them.

use super::{Architecture, Config};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A preset, any of whose sizes can be overridden.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// `olmo2` by default.
    #[serde(default = "olmo2")]
    pub architecture: Architecture,
    /// `tiny`, `30m`, `130m` or `1b`; see [`Config::preset`].
    pub preset: String,
    /// C; the preset's by default.
    pub width: Option<usize>,
    /// L; the preset's by default.
    pub layers: Option<usize>,
    /// H; the preset's by default. Divides C, and D = C/H.
    pub heads: Option<usize>,
    /// Key/value heads; H by default.
    pub kv_heads: Option<usize>,
    /// F; by default 8C/3 rounded up to a multiple of 64.
    pub feed_forward: Option<usize>,
    /// T; the preset's by default.
    pub context: Option<usize>,
    /// Output weights are the embedding table; by default only in `llama`.
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
