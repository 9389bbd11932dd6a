//! `doctor`: this machine's devices, what is missing and how to get it.

use crate::engine::device::{Device, cuda, nvrtc};
use crate::engine::ops::matmul_rate;
use crate::error::Result;
use clap::Args;
use serde::Serialize;
use std::fmt::Write;

/// Arguments of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Findings {
    version: &'static str,
    threads: usize,
    /// The widest vector instructions that the CPU device uses.
    vectors: &'static str,
    /// A 1024^3 product in f32, measured now.
    matmul_gflops: f64,
    cuda: CudaReport,
}

#[derive(Serialize)]
struct CudaReport {
    /// Whether `--device cuda` works on every GPU listed.
    ready: bool,
    /// The driver's CUDA release.
    driver: Option<String>,
    devices: Vec<GpuReport>,
    nvrtc: Option<Library>,
    /// The directory that caches compiled kernels.
    cache: Option<String>,
    missing: Vec<MissingReport>,
}

#[derive(Serialize)]
struct GpuReport {
    /// Its value for `--device`.
    device: String,
    name: String,
    compute_capability: String,
    memory_bytes: u64,
}

#[derive(Serialize)]
struct Library {
    path: String,
    version: String,
}

#[derive(Serialize)]
struct MissingReport {
    what: String,
    fix: String,
}

impl DoctorArgs {
    /// Measures the CPU, looks for GPUs and prints both. A missing driver or library is a finding,
    /// not an error. `threads` is the CPU device's.
    pub fn run(&self, threads: usize) -> Result<()> {
        let findings = Findings {
            version: env!("CARGO_PKG_VERSION"),
            threads,
            vectors: vectors(),
            matmul_gflops: matmul_rate(&mut Device::cpu())? / 1e9,
            cuda: CudaReport::look(),
        };
        super::print(self.json, &findings, || {
            format!(
                "stockpot {}\ncpu: {} threads, {} vectors, {:.0} GFLOP/s in a 1024^3 f32 product\n{}",
                findings.version,
                findings.threads,
                findings.vectors,
                findings.matmul_gflops,
                findings.cuda.text()
            )
        })
    }
}

impl CudaReport {
    fn look() -> CudaReport {
        let found = cuda::look();
        let dotted = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        let gpu = |device: cuda::FoundDevice| GpuReport {
            device: format!("cuda:{}", device.ordinal),
            name: device.name,
            compute_capability: dotted(device.capability),
            memory_bytes: device.memory,
        };
        CudaReport {
            ready: found.missing.is_empty(),
            driver: found.driver.map(dotted),
            devices: found.devices.into_iter().map(gpu).collect(),
            nvrtc: found
                .nvrtc
                .map(|(path, version)| Library { path: path.display().to_string(), version: dotted(version) }),
            cache: nvrtc::cache_directory().map(|path| path.display().to_string()),
            missing: found.missing.iter().map(|m| MissingReport { what: m.what(), fix: m.fix() }).collect(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("cuda: {}\n", if self.ready { "ready" } else { "not ready" });
        let mut line = |name: &str, value: &str| writeln!(text, "  {name}: {value}").expect("a string takes more text");
        for gpu in &self.devices {
            let gb = gpu.memory_bytes as f64 / 1e9;
            line(&gpu.device, &format!("{}, compute capability {}, {gb:.1} GB", gpu.name, gpu.compute_capability));
        }
        if let Some(driver) = &self.driver {
            line("driver", &format!("for CUDA {driver}"));
        }
        if let Some(nvrtc) = &self.nvrtc {
            line("nvrtc", &format!("{} {}", nvrtc.version, nvrtc.path));
        }
        line("cache", self.cache.as_deref().unwrap_or("none: set STOCKPOT_CACHE, XDG_CACHE_HOME or HOME"));
        for missing in &self.missing {
            line("missing", &missing.what);
            line("  fix", &missing.fix);
        }
        text
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "AVX-512",
        (false, true) => "AVX2",
        (false, false) => "SSE2 (slow: the CPU device is written for AVX2 and AVX-512)",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    std::env::consts::ARCH
}
