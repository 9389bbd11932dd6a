//! What a kernel launch is, for whoever executes it: NVRTC and cudarc on a GPU, a test executor elsewhere.

use super::memory::{Buffer, Matrix};
use crate::error::Result;
use std::any::Any;

/// One argument of a kernel, in the order of its parameters.
#[derive(Clone)]
pub enum Arg {
    /// Address of the first element; the handle keeps the allocation alive and tells its extent.
    Matrix(Matrix),
    U32(u32),
    F32(f32),
}

/// One kernel launch, complete: source file, entry, compile-time constants, geometry and arguments.
#[derive(Clone)]
pub struct Launch {
    /// Stem of the source file in `kernels/`, which is the stem of the op's file in `src/ops/`.
    pub file: &'static str,
    /// Name of the `extern "C" __global__` entry.
    pub kernel: &'static str,
    /// Passed as `-DNAME=VALUE`; part of the key of the compile cache.
    pub defines: Vec<(&'static str, String)>,
    pub grid: [u32; 3],
    pub block: u32,
    pub shared_bytes: u32,
    pub args: Vec<Arg>,
}

/// Runs launches and owns the memory they work on.
pub trait Executor: Send {
    /// Zeroed memory: its address, and what frees it when dropped.
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)>;
    /// Queues a launch; launches run in the order they were queued.
    fn launch(&mut self, launch: &Launch) -> Result<()>;
    /// Copies to the device, after all queued launches.
    fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()>;
    /// Copies from the device, after all queued launches have finished.
    fn download(&mut self, from: &Buffer, bytes: &mut [u8]) -> Result<()>;
}
