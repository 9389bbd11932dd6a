//! The forward pass. Each line is one op; shapes are in `activations.rs`.

use super::activations::{Activations, Inputs, Layer};
use super::config::Architecture;
use super::params::LayerOffsets;
use super::weights::Model;
use crate::engine::device::{Buffer, DType, Device, Matrix};
use crate::engine::ops::{Attention, AttentionShape, CrossEntropy, Embedding, Epilogue, Gemm, RmsNorm, Rope, SwiGlu};
use crate::error::Result;

/// One batch's shape: B documents or windows of T tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// B
    pub batch: usize,
    /// T
    pub context: usize,
}

impl Batch {
    /// R = B*T
    pub fn rows(self) -> usize {
        self.batch * self.context
    }
}

/// out = x weight^T, the forward product of a linear layer: x (R, in), weight (out, in).
pub(super) fn linear(x: &Matrix, weight: Matrix, out: Matrix, epilogue: Epilogue) -> Gemm {
    Gemm { a: x.clone(), b: weight, c: out, transpose_a: false, transpose_b: true, epilogue }
}

impl Model {
    /// Leaves the nats of every target in [`Activations::losses`]; targets that are `IGNORED` give
    /// 0.
    pub fn losses(&self, device: &mut Device, acts: &Activations, shape: Batch, inputs: &Inputs) -> Result<()> {
        self.forward(device, acts, shape, inputs)?;
        let rows = shape.rows();
        for start in (0..rows).step_by(acts.chunks.rows) {
            let chunk = start..rows.min(start + acts.chunks.rows);
            let logits = acts.chunks.matrix(&acts.logits, chunk.len());
            device.run(&linear(
                &self.last(acts, rows).row_range(chunk.clone()),
                self.head(),
                logits.clone(),
                Epilogue::Store,
            ))?;
            device.run(&CrossEntropy {
                logits,
                targets: inputs.targets.slice(chunk.clone()).vector(),
                losses: acts.losses.slice(chunk).vector(),
                gradient_scale: None,
            })?;
        }
        Ok(())
    }

    /// Logits (B*T, V), all at once: for tests and inspection, not for scoring.
    pub fn logits(&self, device: &mut Device, acts: &Activations, shape: Batch, inputs: &Inputs) -> Result<Vec<f32>> {
        self.forward(device, acts, shape, inputs)?;
        let (rows, v) = (shape.rows(), self.config.vocabulary);
        let out = device.alloc(DType::F32, rows * v)?;
        device.run(&linear(&self.last(acts, rows), self.head(), out.matrix(rows, v), Epilogue::Store))?;
        device.to_vec(&out)
    }

    /// Fills the activations up to the final norm.
    pub(super) fn forward(&self, device: &mut Device, acts: &Activations, shape: Batch, inputs: &Inputs) -> Result<()> {
        let (rows, c) = (shape.rows(), self.config.width);
        assert!(rows <= acts.rows() && shape.context <= self.config.context);
        device.run(&Embedding {
            tokens: inputs.tokens.slice(0..rows).vector(),
            weight: self.weight(&self.table.embedding, self.config.vocabulary, c),
            out: acts.stream(0).matrix(rows, c),
        })?;
        for l in 0..self.config.layers {
            self.layer(device, acts, shape, l)?;
        }
        let x = acts.stream(self.config.layers).matrix(rows, c);
        device.run(&self.rms_norm(&x, self.norm(&self.table.final_norm), None, self.last(acts, rows), &acts.last_rstd))
    }

    /// Computes the residual stream after layer `l` from that before it.
    pub(super) fn layer(&self, device: &mut Device, acts: &Activations, shape: Batch, l: usize) -> Result<()> {
        let (rows, c, offsets) = (shape.rows(), self.config.width, &self.table.layers[l]);
        let (x, out) = (acts.stream(l).matrix(rows, c), acts.stream(l + 1).matrix(rows, c));
        match self.config.architecture {
            Architecture::Olmo2 => self.olmo2_layer(device, shape, offsets, acts.layer(l), &x, &out),
            Architecture::Llama => self.llama_layer(device, shape, offsets, acts.layer(l), &x, &out),
        }
    }

    /// h = x + norm(o_proj(attention)), out = h + norm(down(silu(gate h) * up h))
    fn olmo2_layer(
        &self,
        device: &mut Device,
        shape: Batch,
        w: &LayerOffsets,
        a: &Layer,
        x: &Matrix,
        out: &Matrix,
    ) -> Result<()> {
        let (rows, c, f) = (shape.rows(), self.config.width, self.config.feed_forward);
        let (q_width, qk) = (self.config.q_width(), self.config.q_width() + self.config.kv_width());
        let (q_norm, k_norm) = w.qk_norm.as_ref().expect("olmo2 has norms of queries and keys");
        let qkv = a.qkv.matrix(rows, qk + self.config.kv_width());
        let normed = a.normed.matrix(rows, qk);
        let (q, k) = (normed.col_range(0..q_width), normed.col_range(q_width..qk));

        device.run(&linear(x, self.weight(&w.qkv, qkv.cols(), c), qkv.clone(), Epilogue::Store))?;
        device.run(&self.rms_norm(&qkv.col_range(0..q_width), self.norm(q_norm), None, q.clone(), &a.rstd.query))?;
        device.run(&self.rms_norm(&qkv.col_range(q_width..qk), self.norm(k_norm), None, k.clone(), &a.rstd.key))?;
        device.run(&self.rope(normed, shape, false))?;
        device.run(&self.attention(shape, a, q, k, qkv.col_range(qk..qkv.cols())))?;
        let attended = a.attended.matrix(rows, q_width);
        let (inner, middle) = (a.inner.matrix(rows, c), a.middle.matrix(rows, c));
        device.run(&linear(&attended, self.weight(&w.attention_out, c, q_width), inner.clone(), Epilogue::Store))?;
        device.run(&self.rms_norm(&inner, self.norm(&w.attention_norm), Some(x), middle.clone(), &a.rstd.attention))?;

        let (gate_up, hidden, down) = (a.gate_up.matrix(rows, 2 * f), a.hidden.matrix(rows, f), a.down.matrix(rows, c));
        device.run(&linear(&middle, self.weight(&w.gate_up, 2 * f, c), gate_up.clone(), Epilogue::Store))?;
        device.run(&SwiGlu { gate_up, out: hidden.clone() })?;
        device.run(&linear(&hidden, self.weight(&w.down, c, f), down.clone(), Epilogue::Store))?;
        device.run(&self.rms_norm(&down, self.norm(&w.feed_forward_norm), Some(&middle), out.clone(), &a.rstd.mlp))
    }

    /// h = x + o_proj(attention(norm(x))), out = h + down(silu(gate n) * up n) with n = norm(h)
    fn llama_layer(
        &self,
        device: &mut Device,
        shape: Batch,
        w: &LayerOffsets,
        a: &Layer,
        x: &Matrix,
        out: &Matrix,
    ) -> Result<()> {
        let (rows, c, f) = (shape.rows(), self.config.width, self.config.feed_forward);
        let (q_width, qk) = (self.config.q_width(), self.config.q_width() + self.config.kv_width());
        let qkv = a.qkv.matrix(rows, qk + self.config.kv_width());
        let normed = a.normed.matrix(rows, c);

        device.run(&self.rms_norm(x, self.norm(&w.attention_norm), None, normed.clone(), &a.rstd.attention))?;
        device.run(&linear(&normed, self.weight(&w.qkv, qkv.cols(), c), qkv.clone(), Epilogue::Store))?;
        device.run(&self.rope(qkv.col_range(0..qk), shape, false))?;
        let (q, k) = (qkv.col_range(0..q_width), qkv.col_range(q_width..qk));
        device.run(&self.attention(shape, a, q, k, qkv.col_range(qk..qkv.cols())))?;
        let (attended, middle) = (a.attended.matrix(rows, q_width), a.middle.matrix(rows, c));
        let product = self.weight(&w.attention_out, c, q_width);
        device.run(&linear(&attended, product, middle.clone(), Epilogue::Residual(x.clone())))?;

        let inner = a.inner.matrix(rows, c);
        let (gate_up, hidden) = (a.gate_up.matrix(rows, 2 * f), a.hidden.matrix(rows, f));
        device.run(&self.rms_norm(&middle, self.norm(&w.feed_forward_norm), None, inner.clone(), &a.rstd.mlp))?;
        device.run(&linear(&inner, self.weight(&w.gate_up, 2 * f, c), gate_up.clone(), Epilogue::Store))?;
        device.run(&SwiGlu { gate_up, out: hidden.clone() })?;
        device.run(&linear(&hidden, self.weight(&w.down, c, f), out.clone(), Epilogue::Residual(middle)))
    }

    fn rms_norm(&self, x: &Matrix, weight: Matrix, residual: Option<&Matrix>, out: Matrix, rstd: &Buffer) -> RmsNorm {
        RmsNorm {
            x: x.clone(),
            weight,
            residual: residual.cloned(),
            out,
            rstd: rstd.slice(0..x.rows()).vector(),
            epsilon: self.config.norm_epsilon as f32,
        }
    }
    pub(super) fn rope(&self, x: Matrix, shape: Batch, inverse: bool) -> Rope {
        let table = self.rope.matrix(shape.context, self.config.head_width);
        Rope { x, table, head_width: self.config.head_width, inverse }
    }
    fn attention(&self, shape: Batch, a: &Layer, q: Matrix, k: Matrix, v: Matrix) -> Attention {
        let out = a.attended.matrix(shape.rows(), self.config.q_width());
        let lse = a.lse.matrix(shape.batch * self.config.heads, shape.context);
        Attention { shape: self.attention_shape(shape), q, k, v, out, lse }
    }
    pub(super) fn attention_shape(&self, shape: Batch) -> AttentionShape {
        AttentionShape {
            batch: shape.batch,
            context: shape.context,
            heads: self.config.heads,
            kv_heads: self.config.kv_heads,
            head_width: self.config.head_width,
        }
    }
    /// (R, C) the final norm's output
    pub(super) fn last(&self, acts: &Activations, rows: usize) -> Matrix {
        acts.last.matrix(rows, self.config.width)
    }
    /// (V, C)
    pub(super) fn head(&self) -> Matrix {
        self.weight(&self.table.head, self.config.vocabulary, self.config.width)
    }
}
