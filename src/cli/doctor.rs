//! `doctor`: what this machine can compute on.

use crate::device::Device;
use crate::error::Result;
use crate::ops::matmul_rate;
use clap::Args;
use serde::Serialize;

#[derive(Args)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Findings {
    version: &'static str,
    threads: usize,
    /// Widest vector instructions that the CPU device uses.
    vectors: &'static str,
    /// Measured now: a 1024^3 product in f32.
    matmul_gflops: f64,
    cuda: &'static str,
}

impl Doctor {
    pub fn run(&self, threads: usize) -> Result<()> {
        let findings = Findings {
            version: env!("CARGO_PKG_VERSION"),
            threads,
            vectors: vectors(),
            matmul_gflops: matmul_rate(&mut Device::cpu())? / 1e9,
            cuda: "not in this version: no kernels are built in, a driver or NVRTC would not be used",
        };
        super::print(self.json, &findings, || {
            format!(
                "stockpot {}\ncpu: {} threads, {} vectors, {:.0} GFLOP/s in a 1024^3 f32 product\ncuda: {}",
                findings.version, findings.threads, findings.vectors, findings.matmul_gflops, findings.cuda
            )
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "AVX-512",
        (false, true) => "AVX2",
        (false, false) => "SSE2 (slow: AVX2 or AVX-512 is what the CPU device is written for)",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    std::env::consts::ARCH
}
