//! Matrix product: C (M, N) = op(A) (M, K) x op(B) (K, N), with an epilogue. f32 accumulation.

use super::Op;
use crate::device::{Host, Launch, Matrix, Operands};

/// What happens to the product.
#[derive(Clone)]
pub enum Epilogue {
    /// C = product
    Store,
    /// C += product
    Accumulate,
    /// C = residual + product; residual is (M, N)
    Residual(Matrix),
}

pub struct Gemm {
    /// (M, K), or (K, M) when `transpose_a`
    pub a: Matrix,
    /// (K, N), or (N, K) when `transpose_b`
    pub b: Matrix,
    /// (M, N)
    pub c: Matrix,
    pub transpose_a: bool,
    pub transpose_b: bool,
    pub epilogue: Epilogue,
}

impl Gemm {
    /// (M, N, K); panics when the operands' shapes do not fit.
    fn shape(&self) -> (usize, usize, usize) {
        let (m, k) = if self.transpose_a { (self.a.cols(), self.a.rows()) } else { (self.a.rows(), self.a.cols()) };
        let (kb, n) = if self.transpose_b { (self.b.cols(), self.b.rows()) } else { (self.b.rows(), self.b.cols()) };
        assert!(k == kb && (m, n) == (self.c.rows(), self.c.cols()), "gemm: the shapes do not fit");
        (m, n, k)
    }
}

impl Op for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }
    fn operands(&self) -> Operands {
        let o = Operands::default().read(&self.a).read(&self.b);
        match &self.epilogue {
            Epilogue::Store => o.write(&self.c),
            Epilogue::Accumulate => o.update(&self.c),
            Epilogue::Residual(r) => o.write(&self.c).read(r),
        }
    }
    fn flops(&self) -> u64 {
        let (m, n, k) = self.shape();
        2 * m as u64 * n as u64 * k as u64
    }
    fn cpu(&self, host: &Host) {
        todo!()
    }
    fn launch(&self) -> Launch {
        todo!()
    }
}
