//! Forward with loss, and the backward pass: the forward's ops in reverse. Weight gradients are
//! added to the arena, so micro-batches accumulate.

use super::activations::{Activations, Backward, Inputs, Layer};
use super::config::Architecture;
use super::forward::{Batch, linear};
use super::params::LayerOffsets;
use super::weights::Model;
use crate::engine::device::{Buffer, Device, Matrix};
use crate::engine::ops::{
    AttentionBackward, CrossEntropy, EmbeddingBackward, Epilogue, Gemm, NORM_PARTS, RmsNormBackward, SwiGluBackward,
};
use crate::error::Result;
use std::ops::Range;

/// dx = dout weight: the gradient of a linear layer's input. dout (R, out), weight (out, in).
fn input_gradient(dout: &Matrix, weight: Matrix, dx: Matrix, epilogue: Epilogue) -> Gemm {
    Gemm { a: dout.clone(), b: weight, c: dx, transpose_a: false, transpose_b: false, epilogue }
}

/// dweight += dout^T x: the gradient of a linear layer's weight. dout (R, out), x (R, in).
fn weight_gradient(dout: &Matrix, x: &Matrix, dweight: Matrix) -> Gemm {
    let (a, b) = (dout.clone(), x.clone());
    Gemm { a, b, c: dweight, transpose_a: true, transpose_b: false, epilogue: Epilogue::Accumulate }
}

/// Everything one layer's backward pass needs besides the model.
struct BackwardPass<'a> {
    shape: Batch,
    layer: &'a Layer,
    offsets: &'a LayerOffsets,
    /// Gradients of the activations.
    d: &'a Backward,
    /// (P) gradients of the weights
    grads: &'a Buffer,
    /// (R, C) input of the layer
    x: Matrix,
}

impl BackwardPass<'_> {
    fn grad(&self, range: &Range<usize>, rows: usize, cols: usize) -> Matrix {
        self.grads.slice(range.clone()).matrix(rows, cols)
    }
}

impl Model {
    /// Adds the gradient of `scale` * (sum of the targets' nats) to `grads`, (P) f32; leaves the
    /// nats of every target in [`Activations::losses`].
    pub fn accumulate_gradient(
        &self,
        device: &mut Device,
        acts: &Activations,
        grads: &Buffer,
        shape: Batch,
        inputs: &Inputs,
        scale: f32,
    ) -> Result<()> {
        let d = acts.backward.as_ref().expect("activations made by `for_training`");
        device.range("forward", |device| self.forward(device, acts, shape, inputs))?;
        let (rows, c, v) = (shape.rows(), self.config.width, self.config.vocabulary);
        let dhead = grads.slice(self.table.head.clone()).matrix(v, c);
        for start in (0..rows).step_by(acts.chunks.rows) {
            let chunk = start..rows.min(start + acts.chunks.rows);
            let logits = acts.chunks.matrix(&acts.logits, chunk.len());
            let last = self.last(acts, rows).row_range(chunk.clone());
            device.run(&linear(&last, self.head(), logits.clone(), Epilogue::Store))?;
            device.run(&CrossEntropy {
                logits: logits.clone(),
                targets: inputs.targets.slice(chunk.clone()).vector(),
                losses: acts.losses.slice(chunk.clone()).vector(),
                gradient_scale: Some(scale),
            })?;
            device.run(&weight_gradient(&logits, &last, dhead.clone()))?;
            let dlast = d.inner.matrix(rows, c).row_range(chunk);
            device.run(&input_gradient(&logits, self.head(), dlast, Epilogue::Store))?;
        }
        device.run(&RmsNormBackward {
            x: acts.stream(self.config.layers).matrix(rows, c),
            weight: self.norm(&self.table.final_norm),
            rstd: acts.last_rstd.slice(0..rows).vector(),
            dout: d.inner.matrix(rows, c),
            dx: d.stream.matrix(rows, c),
            accumulate_dx: false,
            dweight: grads.slice(self.table.final_norm.clone()).vector(),
            parts: d.norm_parts.matrix(NORM_PARTS, c),
        })?;
        for (l, offsets) in self.table.layers.iter().enumerate().rev() {
            if acts.recompute() && l + 1 < self.config.layers {
                self.layer(device, acts, shape, l)?;
            }
            let x = acts.stream(l).matrix(rows, c);
            let pass = BackwardPass { shape, layer: acts.layer(l), offsets, d, grads, x };
            match self.config.architecture {
                Architecture::Olmo2 => self.olmo2_backward(device, &pass)?,
                Architecture::Llama => self.llama_backward(device, &pass)?,
            }
        }
        device.run(&EmbeddingBackward {
            tokens: inputs.tokens.slice(0..rows).vector(),
            dout: d.stream.matrix(rows, c),
            dweight: grads.slice(self.table.embedding.clone()).matrix(v, c),
        })
    }

    fn olmo2_backward(&self, device: &mut Device, p: &BackwardPass) -> Result<()> {
        let (rows, c) = (p.shape.rows(), self.config.width);
        let (q_width, qk) = (self.config.q_width(), self.config.q_width() + self.config.kv_width());
        let (a, d, w) = (p.layer, p.d, p.offsets);
        let (dstream, dinner) = (d.stream.matrix(rows, c), d.inner.matrix(rows, c));

        let down = a.down.matrix(rows, c);
        device.run(&self.norm_backward(p, &down, &w.feed_forward_norm, &a.rstd.mlp, &dstream, &dinner, false))?;
        let middle = a.middle.matrix(rows, c);
        let dgate_up = self.mlp_backward(device, p, &dinner)?;
        device.run(&weight_gradient(&dgate_up, &middle, p.grad(&w.gate_up, dgate_up.cols(), c)))?;
        let product = self.weight(&w.gate_up, dgate_up.cols(), c);
        device.run(&input_gradient(&dgate_up, product, dstream.clone(), Epilogue::Accumulate))?;

        let inner = a.inner.matrix(rows, c);
        device.run(&self.norm_backward(p, &inner, &w.attention_norm, &a.rstd.attention, &dstream, &dinner, false))?;
        let (normed, dnormed) = (a.normed.matrix(rows, qk), d.normed.matrix(rows, qk));
        self.attention_backward(device, p, &dinner, &normed, &dnormed)?;
        device.run(&self.rope(dnormed.clone(), p.shape, true))?;
        let (qkv, dqkv) =
            (a.qkv.matrix(rows, qk + self.config.kv_width()), d.qkv.matrix(rows, qk + self.config.kv_width()));
        let (q_norm, k_norm) = w.qk_norm.as_ref().expect("olmo2 has norms of queries and keys");
        for (cols, norm, rstd) in [(0..q_width, q_norm, &a.rstd.query), (q_width..qk, k_norm, &a.rstd.key)] {
            let (x, dout) = (qkv.col_range(cols.clone()), dnormed.col_range(cols.clone()));
            device.run(&self.norm_backward(p, &x, norm, rstd, &dout, &dqkv.col_range(cols), false))?;
        }
        device.run(&weight_gradient(&dqkv, &p.x, p.grad(&w.qkv, dqkv.cols(), c)))?;
        device.run(&input_gradient(&dqkv, self.weight(&w.qkv, dqkv.cols(), c), dstream, Epilogue::Accumulate))
    }

    fn llama_backward(&self, device: &mut Device, p: &BackwardPass) -> Result<()> {
        let (rows, c) = (p.shape.rows(), self.config.width);
        let qk = self.config.q_width() + self.config.kv_width();
        let (a, d, w) = (p.layer, p.d, p.offsets);
        let (dstream, dinner) = (d.stream.matrix(rows, c), d.inner.matrix(rows, c));

        let dgate_up = self.mlp_backward(device, p, &dstream)?;
        device.run(&weight_gradient(&dgate_up, &a.inner.matrix(rows, c), p.grad(&w.gate_up, dgate_up.cols(), c)))?;
        let product = self.weight(&w.gate_up, dgate_up.cols(), c);
        device.run(&input_gradient(&dgate_up, product, dinner.clone(), Epilogue::Store))?;
        let middle = a.middle.matrix(rows, c);
        device.run(&self.norm_backward(p, &middle, &w.feed_forward_norm, &a.rstd.mlp, &dinner, &dstream, true))?;

        let (qkv, dqkv) =
            (a.qkv.matrix(rows, qk + self.config.kv_width()), d.qkv.matrix(rows, qk + self.config.kv_width()));
        let (rotated, drotated) = (qkv.col_range(0..qk), dqkv.col_range(0..qk));
        self.attention_backward(device, p, &dstream, &rotated, &drotated)?;
        device.run(&self.rope(drotated, p.shape, true))?;
        device.run(&weight_gradient(&dqkv, &a.normed.matrix(rows, c), p.grad(&w.qkv, dqkv.cols(), c)))?;
        device.run(&input_gradient(&dqkv, self.weight(&w.qkv, dqkv.cols(), c), dinner.clone(), Epilogue::Store))?;
        device.run(&self.norm_backward(p, &p.x, &w.attention_norm, &a.rstd.attention, &dinner, &dstream, true))
    }

    /// Propagates the gradient of the MLP's output product to its packed gate and up, (R, 2F).
    fn mlp_backward(&self, device: &mut Device, p: &BackwardPass, dout: &Matrix) -> Result<Matrix> {
        let (rows, c, f) = (p.shape.rows(), self.config.width, self.config.feed_forward);
        let (hidden, dhidden) = (p.layer.hidden.matrix(rows, f), p.d.hidden.matrix(rows, f));
        device.run(&weight_gradient(dout, &hidden, p.grad(&p.offsets.down, c, f)))?;
        device.run(&input_gradient(dout, self.weight(&p.offsets.down, c, f), dhidden.clone(), Epilogue::Store))?;
        let dgate_up = p.d.gate_up.matrix(rows, 2 * f);
        let gate_up = p.layer.gate_up.matrix(rows, 2 * f);
        device.run(&SwiGluBackward { gate_up, dout: dhidden, dgate_up: dgate_up.clone() })?;
        Ok(dgate_up)
    }

    /// Propagates the gradient of attention's output product to the rotated queries and keys (into
    /// `drotated`) and to the values (into the last columns of the packed gradient).
    fn attention_backward(
        &self,
        device: &mut Device,
        p: &BackwardPass,
        dout: &Matrix,
        rotated: &Matrix,
        drotated: &Matrix,
    ) -> Result<()> {
        let (rows, c, q_width) = (p.shape.rows(), self.config.width, self.config.q_width());
        let qk = q_width + self.config.kv_width();
        let values = qk..qk + self.config.kv_width();
        let (attended, dattended) = (p.layer.attended.matrix(rows, q_width), p.d.attended.matrix(rows, q_width));
        device.run(&weight_gradient(dout, &attended, p.grad(&p.offsets.attention_out, c, q_width)))?;
        let product = self.weight(&p.offsets.attention_out, c, q_width);
        device.run(&input_gradient(dout, product, dattended.clone(), Epilogue::Store))?;
        let statistics = (p.shape.batch * self.config.heads, p.shape.context);
        device.run(&AttentionBackward {
            shape: self.attention_shape(p.shape),
            q: rotated.col_range(0..q_width),
            k: rotated.col_range(q_width..qk),
            v: p.layer.qkv.matrix(rows, values.end).col_range(values.clone()),
            out: attended,
            lse: p.layer.lse.matrix(statistics.0, statistics.1),
            dout: dattended,
            dq: drotated.col_range(0..q_width),
            dk: drotated.col_range(q_width..qk),
            dv: p.d.qkv.matrix(rows, values.end).col_range(values),
            delta: p.d.delta.matrix(statistics.0, statistics.1),
        })
    }

    #[allow(clippy::too_many_arguments)] // the fields of the op, except those that follow from the rest
    fn norm_backward(
        &self,
        p: &BackwardPass,
        x: &Matrix,
        norm: &Range<usize>,
        rstd: &Buffer,
        dout: &Matrix,
        dx: &Matrix,
        accumulate_dx: bool,
    ) -> RmsNormBackward {
        RmsNormBackward {
            x: x.clone(),
            weight: self.norm(norm),
            rstd: rstd.slice(0..x.rows()).vector(),
            dout: dout.clone(),
            dx: dx.clone(),
            accumulate_dx,
            dweight: p.grads.slice(norm.clone()).vector(),
            parts: p.d.norm_parts.matrix(NORM_PARTS, norm.len()),
        }
    }
}
