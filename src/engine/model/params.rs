//! The one table of a model's parameters: name, shape and offset in the flat arena. Gradients and
//! both moments have the same layout, so AdamW, the gradient norm, checkpoints and merges are
//! linear passes.
//!
//! Names are those of `transformers`. Queries, keys and values follow each other, and so do gate
//! and up: each group is one matrix for one product.

use super::config::{Architecture, Config};
use std::ops::Range;

/// One tensor's place in the arena.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// As in the checkpoint, such as `model.layers.0.mlp.up_proj.weight`.
    pub name: String,
    /// As in the checkpoint: (out, in) of a matrix, (width) of a norm.
    pub shape: Vec<usize>,
    /// First element in the arena.
    pub offset: usize,
}

impl Parameter {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Its elements in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// Offsets of the parameters of one layer.
#[derive(Debug, Clone)]
pub struct LayerOffsets {
    /// (q_width + 2 kv_width, C): queries, keys, values
    pub qkv: Range<usize>,
    /// (C, q_width)
    pub attention_out: Range<usize>,
    /// (2F, C): gate, up
    pub gate_up: Range<usize>,
    /// (C, F)
    pub down: Range<usize>,
    /// (C): before attention in `llama`, after it in `olmo2`
    pub attention_norm: Range<usize>,
    /// (C): before the MLP in `llama`, after it in `olmo2`
    pub feed_forward_norm: Range<usize>,
    /// (q_width) and (kv_width), `olmo2` only
    pub qk_norm: Option<(Range<usize>, Range<usize>)>,
}

/// The place of every parameter in the arena.
#[derive(Debug, Clone)]
pub struct Table {
    /// In the order of the arena.
    pub parameters: Vec<Parameter>,
    /// (V, C)
    pub embedding: Range<usize>,
    /// L, in the order of the forward pass.
    pub layers: Vec<LayerOffsets>,
    /// (C)
    pub final_norm: Range<usize>,
    /// (V, C); the embedding itself when tied
    pub head: Range<usize>,
    /// P
    pub len: usize,
}

impl Table {
    /// `config` must have passed [`Config::check`].
    pub fn new(config: &Config) -> Table {
        let c = config.width;
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut len = 0;
        let mut add = |name: String, shape: &[usize]| -> Range<usize> {
            let p = Parameter { name, shape: shape.to_vec(), offset: len };
            len += p.len();
            let range = p.range();
            parameters.push(p);
            range
        };
        let embedding = add("model.embed_tokens.weight".into(), &[config.vocabulary, c]);
        let layers = (0..config.layers)
            .map(|l| {
                let mut add = |name: &str, shape: &[usize]| add(format!("model.layers.{l}.{name}.weight"), shape);
                let q = add("self_attn.q_proj", &[config.q_width(), c]);
                add("self_attn.k_proj", &[config.kv_width(), c]);
                let v = add("self_attn.v_proj", &[config.kv_width(), c]);
                let attention_out = add("self_attn.o_proj", &[c, config.q_width()]);
                let gate = add("mlp.gate_proj", &[config.feed_forward, c]);
                let up = add("mlp.up_proj", &[config.feed_forward, c]);
                let down = add("mlp.down_proj", &[c, config.feed_forward]);
                let (attention_norm, feed_forward_norm, qk_norm) = match config.architecture {
                    Architecture::Olmo2 => {
                        let qk = (
                            add("self_attn.q_norm", &[config.q_width()]),
                            add("self_attn.k_norm", &[config.kv_width()]),
                        );
                        let attention = add("post_attention_layernorm", &[c]);
                        (attention, add("post_feedforward_layernorm", &[c]), Some(qk))
                    }
                    Architecture::Llama => {
                        let attention = add("input_layernorm", &[c]);
                        (attention, add("post_attention_layernorm", &[c]), None)
                    }
                };
                LayerOffsets {
                    qkv: q.start..v.end,
                    attention_out,
                    gate_up: gate.start..up.end,
                    down,
                    attention_norm,
                    feed_forward_norm,
                    qk_norm,
                }
            })
            .collect();
        let final_norm = add("model.norm.weight".into(), &[c]);
        let head = if config.tied { embedding.clone() } else { add("lm_head.weight".into(), &[config.vocabulary, c]) };
        Table { parameters, embedding, layers, final_norm, head, len }
    }

    /// The parameter of this name, or `None`.
    pub fn find(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|p| p.name == name)
    }
}
