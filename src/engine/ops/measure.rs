//! The rate of matrix products on a device, for `doctor`.

use super::{Epilogue, Gemm, Op};
use crate::engine::device::{DType, Device};
use crate::error::Result;
use std::time::Instant;

/// Flops per second of a 1024^3 product in f32, the best of four runs.
pub fn matmul_rate(device: &mut Device) -> Result<f64> {
    let n = 1024;
    let mut matrix = || device.alloc(DType::F32, n * n).map(|b| b.matrix(n, n));
    let (a, b, c) = (matrix()?, matrix()?, matrix()?);
    let product = Gemm { a, b, c, transpose_a: false, transpose_b: true, epilogue: Epilogue::Store };
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let start = Instant::now();
        device.run(&product)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(product.flops() as f64 / best)
}
