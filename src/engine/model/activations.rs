//! Memory of a forward and a backward pass, planned once for the largest batch; smaller batches use
//! the start of each buffer. Evaluation keeps one layer's activations, training all of them.
//!
//! R = batch * context rows; Q = H*D, KV = Hkv*D.

use super::config::{Architecture, Config};
use crate::engine::device::{Buffer, DType, Device, Matrix};
use crate::engine::ops::{ADAMW_CONSTANTS, GRAD_NORM_OUT, GRAD_NORM_PARTS, NORM_PARTS};
use crate::error::Result;
use std::ops::Range;

/// The activations of one layer that the backward pass needs.
pub(super) struct Layer {
    /// (R, Q + 2KV): queries, keys, values; in `llama` queries and keys are rotated in place
    pub qkv: Buffer,
    /// `olmo2`: (R, Q + KV) normed and rotated queries and keys; `llama`: (R, C) normed input of
    /// attention
    pub normed: Buffer,
    /// (R, Q) attention's output
    pub attended: Buffer,
    /// (B*H, T) f32
    pub lse: Buffer,
    /// (R, C): `olmo2`: attention's output product; `llama`: normed input of the MLP
    pub inner: Buffer,
    /// (R, C) residual stream between attention and MLP
    pub middle: Buffer,
    /// (R, 2F)
    pub gate_up: Buffer,
    /// (R, F)
    pub hidden: Buffer,
    /// (R, C) the MLP's output product, `olmo2` only
    pub down: Buffer,
    pub rstd: Rstd,
}

/// 1 / sqrt(mean(x^2) + epsilon) of each row x that a layer's norms read: (R) f32 for each norm.
pub(super) struct Rstd {
    pub attention: Buffer,
    pub mlp: Buffer,
    /// `olmo2` only
    pub query: Buffer,
    /// `olmo2` only
    pub key: Buffer,
}

/// Gradients of activations; one set serves all layers.
pub(super) struct Backward {
    /// (R, C) gradient of the residual stream
    pub stream: Buffer,
    /// (R, C)
    pub inner: Buffer,
    /// (R, Q)
    pub attended: Buffer,
    /// (R, Q + KV), `olmo2` only
    pub normed: Buffer,
    /// (R, Q + 2KV)
    pub qkv: Buffer,
    /// (R, F)
    pub hidden: Buffer,
    /// (R, 2F)
    pub gate_up: Buffer,
    /// (B*H, T) f32
    pub delta: Buffer,
    /// ([`NORM_PARTS`], the widest norm) f32 scratch
    pub norm_parts: Buffer,
}

/// Device memory of the passes over a batch of at most R rows; see the head of this file.
pub struct Activations {
    /// Most rows of a batch.
    rows: usize,
    /// (R) f32 nats of every target
    pub(super) losses: Buffer,
    /// (R, C) each: the residual stream before each layer and after the last
    streams: Vec<Buffer>,
    layers: Vec<Layer>,
    /// (R, C) the final norm's output; its gradient in training
    pub(super) last: Buffer,
    /// (R) f32
    pub(super) last_rstd: Buffer,
    /// (R', V) logits of a chunk of rows, see [`LogitChunks`]
    pub(super) logits: Buffer,
    pub(super) chunks: LogitChunks,
    pub(super) backward: Option<Backward>,
}

/// Chunks of a batch's rows for the output product, so that the logits of all rows are never stored
/// at once. They depend only on the shape and the compute type, so that sums have a fixed order.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogitChunks {
    /// Rows of a chunk; the last may have fewer.
    pub rows: usize,
    /// V
    vocabulary: usize,
    /// Elements from one row to the next: whole vectors of 16 bytes.
    stride: usize,
}

impl LogitChunks {
    /// Chunks of at most `most` logits, but at least one row.
    fn new(rows: usize, vocabulary: usize, most: usize) -> LogitChunks {
        LogitChunks {
            rows: (most / vocabulary).clamp(1, rows.max(1)),
            vocabulary,
            stride: vocabulary.next_multiple_of(8),
        }
    }
    /// (rows, V)
    pub fn matrix(&self, logits: &Buffer, rows: usize) -> Matrix {
        logits.matrix(rows, self.stride).col_range(0..self.vocabulary)
    }
}

impl Activations {
    /// For forward and backward passes over at most `rows` rows. With `recompute`, only one layer's
    /// activations and the inputs of all layers are kept, and the backward pass recomputes each
    /// layer's forward pass: a third more work, a fraction of the memory, and the same bits.
    pub fn for_training(device: &mut Device, config: &Config, rows: usize, recompute: bool) -> Result<Activations> {
        let layers = if recompute { 1 } else { config.layers };
        let mut a = Activations::new(device, config, rows, config.layers, layers)?;
        let (dtype, c, f) = (device.compute_dtype(), config.width, config.feed_forward);
        let qk = config.q_width() + config.kv_width();
        let mut alloc = |width: usize| device.alloc(dtype, rows * width);
        a.backward = Some(Backward {
            stream: alloc(c)?,
            inner: alloc(c)?,
            attended: alloc(config.q_width())?,
            normed: alloc(if config.architecture == Architecture::Olmo2 { qk } else { 0 })?,
            qkv: alloc(qk + config.kv_width())?,
            hidden: alloc(f)?,
            gate_up: alloc(2 * f)?,
            delta: device.alloc(DType::F32, rows * config.heads)?,
            norm_parts: device.alloc(DType::F32, NORM_PARTS * c.max(config.q_width()))?,
        });
        Ok(a)
    }

    /// For forward passes only, over at most `rows` rows.
    pub fn for_evaluation(device: &mut Device, config: &Config, rows: usize) -> Result<Activations> {
        Activations::new(device, config, rows, 1, 1)
    }

    /// The same, with chunks of at most `most` logits instead of the device's default.
    pub fn with_logits(mut self, device: &mut Device, most: usize) -> Result<Activations> {
        self.chunks = LogitChunks::new(self.rows, self.chunks.vocabulary, most);
        self.logits = device.alloc(device.compute_dtype(), self.chunks.rows * self.chunks.stride)?;
        Ok(self)
    }

    /// Memory for the inputs and the output of `streams` layers, and for the other activations of
    /// `layers` of them.
    fn new(device: &mut Device, config: &Config, rows: usize, streams: usize, layers: usize) -> Result<Activations> {
        let (dtype, c, f) = (device.compute_dtype(), config.width, config.feed_forward);
        let qk = config.q_width() + config.kv_width();
        let olmo2 = config.architecture == Architecture::Olmo2;
        let mut alloc = |width: usize| device.alloc(dtype, rows * width);
        // On a CPU they stay near its caches; a GPU needs products that fill it.
        let chunks = LogitChunks::new(rows, config.vocabulary, if dtype == DType::F32 { 1 << 24 } else { 1 << 28 });
        let streams = (0..streams + 1).map(|_| alloc(c)).collect::<Result<_>>()?;
        let mut planned = Vec::with_capacity(layers);
        for _ in 0..layers {
            let mut alloc = |width: usize| device.alloc(dtype, rows * width);
            let (qkv, normed) = (alloc(qk + config.kv_width())?, alloc(if olmo2 { qk } else { c })?);
            let (attended, inner, middle) = (alloc(config.q_width())?, alloc(c)?, alloc(c)?);
            let (gate_up, hidden, down) = (alloc(2 * f)?, alloc(f)?, alloc(if olmo2 { c } else { 0 })?);
            let mut statistics = |width: usize| device.alloc(DType::F32, rows * width);
            let lse = statistics(config.heads)?;
            let mut rstd = || statistics(1);
            let rstd = Rstd { attention: rstd()?, mlp: rstd()?, query: rstd()?, key: rstd()? };
            planned.push(Layer { qkv, normed, attended, lse, inner, middle, gate_up, hidden, down, rstd });
        }
        Ok(Activations {
            rows,
            losses: device.alloc(DType::F32, rows)?,
            streams,
            layers: planned,
            last: device.alloc(dtype, rows * c)?,
            last_rstd: device.alloc(DType::F32, rows)?,
            logits: device.alloc(dtype, chunks.rows * chunks.stride)?,
            chunks,
            backward: None,
        })
    }

    /// Most rows of a batch.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Nats of the targets of the last batch of `rows` rows, (R) f32.
    pub fn losses(&self, rows: usize) -> Buffer {
        self.losses.slice(0..rows)
    }
    /// Whether layers share one set of activations.
    pub(super) fn recompute(&self) -> bool {
        self.backward.is_some() && self.layers.len() == 1
    }
    /// The residual stream before layer `l`; `l = L` is after the last.
    pub(super) fn stream(&self, l: usize) -> &Buffer {
        &self.streams[l % self.streams.len()]
    }
    pub(super) fn layer(&self, l: usize) -> &Layer {
        &self.layers[l % self.layers.len()]
    }
}

/// Tokens and targets of R rows on the device.
#[derive(Clone)]
pub struct Inputs {
    /// (R) u32
    pub(super) tokens: Buffer,
    /// (R) u32
    pub(super) targets: Buffer,
}

impl Inputs {
    /// Room for `rows` rows.
    pub fn new(device: &mut Device, rows: usize) -> Result<Inputs> {
        Ok(Inputs { tokens: device.alloc(DType::U32, rows)?, targets: device.alloc(DType::U32, rows)? })
    }
    /// Fills the first rows; tokens are below V, targets are below V or `IGNORED`.
    pub fn upload(&self, device: &mut Device, tokens: &[u32], targets: &[u32]) -> Result<()> {
        device.upload(&self.tokens, tokens)?;
        device.upload(&self.targets, targets)
    }
    /// Rows `rows`, in the same memory. Panics if the range is out of bounds.
    pub fn rows(&self, rows: Range<usize>) -> Inputs {
        Inputs { tokens: self.tokens.slice(rows.clone()), targets: self.targets.slice(rows) }
    }
}

/// The optimizer's memory: gradients and both moments in the layout of the parameters.
pub struct OptimizerArena {
    /// (P) f32
    pub grads: Buffer,
    /// (P) f32
    pub m: Buffer,
    /// (P) f32
    pub v: Buffer,
    /// (3) f32, see [`GRAD_NORM_OUT`]
    pub norm: Buffer,
    /// f64 scratch of the norm
    pub norm_parts: Buffer,
    /// (1) u32: updates applied to these weights so far
    pub updates: Buffer,
    /// (1) f32: the learning rate of the next update
    pub rate: Buffer,
    /// (3) f32, see [`ADAMW_CONSTANTS`]
    pub constants: Buffer,
}

impl OptimizerArena {
    /// Zeroed memory for a model of `len` = P parameters.
    pub fn new(device: &mut Device, len: usize) -> Result<OptimizerArena> {
        Ok(OptimizerArena {
            grads: device.alloc(DType::F32, len)?,
            m: device.alloc(DType::F32, len)?,
            v: device.alloc(DType::F32, len)?,
            norm: device.alloc(DType::F32, GRAD_NORM_OUT)?,
            norm_parts: device.alloc(DType::F64, GRAD_NORM_PARTS)?,
            updates: device.alloc(DType::U32, 1)?,
            rate: device.alloc(DType::F32, 1)?,
            constants: device.alloc(DType::F32, ADAMW_CONSTANTS)?,
        })
    }
}
