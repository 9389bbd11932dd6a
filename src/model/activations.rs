//! Memory of a forward and a backward pass, planned once for the largest batch; smaller batches use the start of each
//! buffer. Evaluation keeps one layer's activations, training all of them.
//!
//! R = batch * context rows; Q = H*D, KV = Hkv*D.

use super::config::{Architecture, Config};
use crate::device::{Buffer, DType, Device};
use crate::error::Result;
use crate::ops::GRAD_NORM_OUT;

/// What the backward pass needs of one layer.
pub(super) struct Layer {
    /// (R, Q + 2KV): queries, keys, values; in `llama` queries and keys are rotated in place
    pub qkv: Buffer,
    /// `olmo2`: (R, Q + KV) normed and rotated queries and keys; `llama`: (R, C) normed input of attention
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
    /// (R) f32 each: attention's norm, MLP's norm, queries' norm, keys' norm
    pub rstd: [Buffer; 4],
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
}

pub struct Activations {
    /// Most rows of a batch.
    rows: usize,
    /// (R) u32
    pub(super) tokens: Buffer,
    /// (R) u32
    pub(super) targets: Buffer,
    /// (R) f32
    pub(super) losses: Buffer,
    /// (R, C) each: the residual stream before each layer and after the last
    streams: Vec<Buffer>,
    layers: Vec<Layer>,
    /// (R, C) the final norm's output; its gradient in training
    pub(super) last: Buffer,
    /// (R) f32
    pub(super) last_rstd: Buffer,
    /// (R', V) logits of a chunk of rows
    pub(super) logits: Buffer,
    pub(super) backward: Option<Backward>,
}

/// Most logits that are stored at once.
const LOGITS: usize = 1 << 24;

impl Activations {
    /// For forward and backward passes over at most `rows` rows.
    pub fn for_training(device: &mut Device, config: &Config, rows: usize) -> Result<Activations> {
        let mut a = Activations::new(device, config, rows, config.layers)?;
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
        });
        Ok(a)
    }

    /// For forward passes alone over at most `rows` rows.
    pub fn for_evaluation(device: &mut Device, config: &Config, rows: usize) -> Result<Activations> {
        Activations::new(device, config, rows, 1)
    }

    fn new(device: &mut Device, config: &Config, rows: usize, layers: usize) -> Result<Activations> {
        let (dtype, c, f) = (device.compute_dtype(), config.width, config.feed_forward);
        let qk = config.q_width() + config.kv_width();
        let olmo2 = config.architecture == Architecture::Olmo2;
        let mut alloc = |width: usize| device.alloc(dtype, rows * width);
        let streams = (0..layers + 1).map(|_| alloc(c)).collect::<Result<_>>()?;
        let mut planned = Vec::with_capacity(layers);
        for _ in 0..layers {
            let mut alloc = |width: usize| device.alloc(dtype, rows * width);
            let (qkv, normed) = (alloc(qk + config.kv_width())?, alloc(if olmo2 { qk } else { c })?);
            let (attended, inner, middle) = (alloc(config.q_width())?, alloc(c)?, alloc(c)?);
            let (gate_up, hidden, down) = (alloc(2 * f)?, alloc(f)?, alloc(if olmo2 { c } else { 0 })?);
            let mut statistics = |width: usize| device.alloc(DType::F32, rows * width);
            let lse = statistics(config.heads)?;
            let rstd = [statistics(1)?, statistics(1)?, statistics(1)?, statistics(1)?];
            planned.push(Layer { qkv, normed, attended, lse, inner, middle, gate_up, hidden, down, rstd });
        }
        Ok(Activations {
            rows,
            tokens: device.alloc(DType::U32, rows)?,
            targets: device.alloc(DType::U32, rows)?,
            losses: device.alloc(DType::F32, rows)?,
            streams,
            layers: planned,
            last: device.alloc(dtype, rows * c)?,
            last_rstd: device.alloc(DType::F32, rows)?,
            logits: device.alloc(dtype, logit_rows(rows, config.vocabulary) * config.vocabulary)?,
            backward: None,
        })
    }

    /// Most rows of a batch.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// The residual stream before layer `l`; `l = L` is after the last.
    pub(super) fn stream(&self, l: usize) -> &Buffer {
        &self.streams[l % self.streams.len()]
    }
    pub(super) fn layer(&self, l: usize) -> &Layer {
        &self.layers[l % self.layers.len()]
    }
}

/// Rows whose logits are computed together: a function of the shape alone, so that sums have a fixed order.
pub(super) fn logit_rows(rows: usize, vocabulary: usize) -> usize {
    (LOGITS / vocabulary).clamp(1, rows.max(1))
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
}

impl OptimizerArena {
    pub fn new(device: &mut Device, len: usize) -> Result<OptimizerArena> {
        Ok(OptimizerArena {
            grads: device.alloc(DType::F32, len)?,
            m: device.alloc(DType::F32, len)?,
            v: device.alloc(DType::F32, len)?,
            norm: device.alloc(DType::F32, GRAD_NORM_OUT)?,
        })
    }
}
