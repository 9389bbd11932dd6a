//! Model configuration: the architecture and sizes, the presets, and the widths and flops that
//! follow from them.

use crate::engine::device::DType;
use crate::engine::ops::WIDEST_KERNEL_HEAD;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The position of norms in a layer and the names of its parameters, both as in `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// `Olmo2ForCausalLM`: RMSNorm after attention and after the MLP, RMSNorm of queries and keys
    /// over the full width.
    Olmo2,
    /// `LlamaForCausalLM`: RMSNorm before attention and before the MLP.
    Llama,
}

/// Sizes and constants of a model. RoPE in half-rotation form, SwiGLU and no biases in both
/// architectures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The block and its parameters' names.
    pub architecture: Architecture,
    /// C
    pub width: usize,
    /// L
    pub layers: usize,
    /// H
    pub heads: usize,
    /// Key/value heads; divides H.
    pub kv_heads: usize,
    /// D
    pub head_width: usize,
    /// F
    pub feed_forward: usize,
    /// V: rows of the embedding table
    pub vocabulary: usize,
    /// T: longest context it is trained on
    pub context: usize,
    /// Output weights are the embedding table.
    pub tied: bool,
    /// Base of RoPE's frequencies base^(-2d/D); above 1.
    pub rope_base: f64,
    /// Added to the mean square in RMSNorm; between 0 and 1.
    pub norm_epsilon: f64,
    /// Standard deviation of the initial weights.
    pub init_std: f64,
    /// The token that ends every document and precedes every scored window.
    pub eos: u32,
}

impl Config {
    /// `tiny`, `30m`, `130m` or `1b`, with `vocabulary` rows; `None` for another name. Feed-forward
    /// widths are 8C/3 rounded up to a multiple of 64, so that three matrices cost what a plain 4C
    /// MLP does.
    pub fn preset(name: &str, architecture: Architecture, vocabulary: usize, eos: u32) -> Option<Config> {
        let (width, layers, heads, context) = match name {
            "tiny" => (96, 3, 3, 64),
            "30m" => (384, 8, 6, 1024),
            "130m" => (768, 12, 12, 2048),
            "1b" => (2048, 24, 16, 2048),
            _ => return None,
        };
        Some(Config {
            architecture,
            width,
            layers,
            heads,
            kv_heads: heads,
            head_width: width / heads,
            feed_forward: (width * 8 / 3).next_multiple_of(64),
            vocabulary,
            context,
            tied: architecture == Architecture::Llama,
            rope_base: 10000.0,
            norm_epsilon: 1e-6,
            init_std: 0.02,
            eos,
        })
    }

    /// The names that [`Config::preset`] accepts, by size.
    pub const PRESETS: [&'static str; 4] = ["tiny", "30m", "130m", "1b"];

    /// Refuses inconsistent sizes; every buffer and op relies on these checks.
    pub fn check(&self) -> Result<()> {
        let fault = |what: String| Err(Error::input(what).fix("correct the model's sizes"));
        for (name, n) in [
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_width", self.head_width),
            ("feed_forward", self.feed_forward),
            ("vocabulary", self.vocabulary),
            ("context", self.context),
        ] {
            if n == 0 || n > 1 << 24 {
                return fault(format!("the model's {name} is {n}; it must be between 1 and {}", 1 << 24));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return fault(format!("{} heads cannot be shared among {} key/value heads", self.heads, self.kv_heads));
        }
        for (name, n) in [("width", self.width), ("head_width", self.head_width), ("feed_forward", self.feed_forward)] {
            if !n.is_multiple_of(8) {
                return fault(format!("the model's {name} is {n}; it must be a multiple of 8"));
            }
        }
        if self.eos as usize >= self.vocabulary {
            return fault(format!("end-of-text token {} is outside the vocabulary of {}", self.eos, self.vocabulary));
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0 && self.rope_base > 1.0 && self.init_std >= 0.0) {
            return fault("norm_epsilon, rope_base or init_std is out of range".into());
        }
        Ok(())
    }

    /// Refuses a model that has no kernels on a device that computes in `compute`.
    pub fn check_for(&self, compute: DType) -> Result<()> {
        if compute == DType::F32 || self.head_width <= WIDEST_KERNEL_HEAD {
            return Ok(());
        }
        Err(Error::input(format!("there are no attention kernels for heads of width {}", self.head_width))
            .expected(format!("at most {WIDEST_KERNEL_HEAD}"))
            .fix("choose more heads, or use --device cpu"))
    }

    /// H * D
    pub fn q_width(&self) -> usize {
        self.heads * self.head_width
    }
    /// Hkv * D
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Flops of a forward and backward pass of one token: 6 per weight of a matrix product, plus
    /// attention's scores and values over a full context (6 L T (H D)), the convention of small
    /// public trainers.
    pub fn training_flops_per_token(&self) -> f64 {
        3.0 * self.forward_flops_per_token()
    }
    /// Flops of a forward pass of one token.
    pub fn forward_flops_per_token(&self) -> f64 {
        let block = self.width * (2 * self.q_width() + 2 * self.kv_width() + 3 * self.feed_forward);
        let head = self.vocabulary * self.width;
        2.0 * (self.layers * block + head) as f64 + 2.0 * (self.layers * self.context * self.q_width()) as f64
    }
}
