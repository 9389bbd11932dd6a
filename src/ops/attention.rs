//! Causal attention with grouped query heads, tiled so that no T x T matrix is stored (flash attention: Dao et
//! al. 2022, arXiv 2205.14135). Query head h uses key/value head h / (H / Hkv). Rows are (b, t) in row-major order;
//! columns of q are (head, d).

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// B
    pub batch: usize,
    /// T
    pub context: usize,
    /// H
    pub heads: usize,
    /// Hkv; divides H
    pub kv_heads: usize,
    /// D; scores are scaled by 1/sqrt(D)
    pub head_width: usize,
}

pub struct Attention {
    pub shape: AttentionShape,
    /// (B*T, H*D)
    pub q: Matrix,
    /// (B*T, Hkv*D)
    pub k: Matrix,
    /// (B*T, Hkv*D)
    pub v: Matrix,
    /// (B*T, H*D)
    pub out: Matrix,
    /// (B*H, T) f32: log of the sum of exponentials of each query's scaled scores
    pub lse: Matrix,
}

pub struct AttentionBackward {
    pub shape: AttentionShape,
    pub q: Matrix,
    pub k: Matrix,
    pub v: Matrix,
    pub out: Matrix,
    pub lse: Matrix,
    /// (B*T, H*D)
    pub dout: Matrix,
    pub dq: Matrix,
    pub dk: Matrix,
    pub dv: Matrix,
    /// (B*H, T) f32 scratch: sum of out * dout over D
    pub delta: Matrix,
}

impl AttentionShape {
    /// Multiply-adds of one T x T product over the causal half, all heads and rows of the batch.
    fn causal_macs(&self) -> u64 {
        let t = self.context as u64;
        (self.batch * self.heads * self.head_width) as u64 * t * (t + 1) / 2
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention_forward"
    }
    fn operands(&self) -> Operands {
        Operands::default().read(&self.q).read(&self.k).read(&self.v).write(&self.out).write(&self.lse)
    }
    fn flops(&self) -> u64 {
        2 * 2 * self.shape.causal_macs()
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}

impl Op for AttentionBackward {
    fn name(&self) -> &'static str {
        "attention_backward"
    }
    fn operands(&self) -> Operands {
        Operands::default()
            .read(&self.q)
            .read(&self.k)
            .read(&self.v)
            .read(&self.out)
            .read(&self.lse)
            .read(&self.dout)
            .write(&self.dq)
            .write(&self.dk)
            .write(&self.dv)
            .write(&self.delta)
    }
    fn flops(&self) -> u64 {
        2 * 5 * self.shape.causal_macs()
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
