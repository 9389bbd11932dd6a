//! Kernel launches and the interface of their executors: NVRTC and cudarc on a GPU, a test executor
//! elsewhere.

use super::memory::{Buffer, Matrix};
use super::op::Op;
use crate::error::Result;
use std::any::Any;

/// One argument of a kernel, in the order of its parameters.
#[derive(Clone)]
pub enum Arg {
    /// Address of the first element; the handle keeps the allocation alive and has its extent.
    Matrix(Matrix),
    /// By value: a size, or a stride in elements.
    U32(u32),
    /// By value: a factor or constant of the op.
    F32(f32),
    /// By value.
    F64(f64),
}

/// One kernel launch, complete: source file, entry, compile-time constants, geometry and arguments.
#[derive(Clone)]
pub struct Launch {
    /// Stem of the source file in `kernels/`, which is the stem of the op's file in
    /// `src/engine/ops/`.
    pub file: &'static str,
    /// Name of the `extern "C" __global__` entry.
    pub kernel: &'static str,
    /// Compile-time constants: name, value.
    pub defines: Vec<(&'static str, String)>,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block, along x.
    pub block: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// In the order of the kernel's parameters.
    pub args: Vec<Arg>,
}

impl Launch {
    /// The compiler options for every executor: `-DKERNEL_<kernel>`, which selects the one kernel
    /// of the file to compile, then `-DNAME=VALUE` for each define. They are part of the key of
    /// every cache of compiled kernels.
    pub fn compiler_options(&self) -> Vec<String> {
        let mut options = vec![format!("-DKERNEL_{}", self.kernel)];
        options.extend(self.defines.iter().map(|(name, value)| format!("-D{name}={value}")));
        options
    }
}

/// Runs launches and owns the memory they work on. Everything is queued and runs in queue order,
/// except uploads on the side stream.
pub trait Executor: Send {
    /// Allocates zeroed memory on a 256-byte boundary: its address, and an owner that frees it when
    /// dropped.
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)>;
    /// Queues a launch.
    fn launch(&mut self, launch: &Launch) -> Result<()>;
    /// Queues the launches of an op, in a range of its name.
    fn run(&mut self, op: &dyn Op) -> Result<()> {
        self.push_range(op.name());
        let done = op.launches().iter().try_for_each(|launch| self.launch(launch));
        self.pop_range();
        done
    }
    /// Queues a copy to the device; `bytes` may be reused at once.
    fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()>;
    /// Later uploads on the side stream wait for everything queued so far.
    fn fork_uploads(&mut self) -> Result<()> {
        Ok(())
    }
    /// Queues a copy to the device on the side stream, concurrent with launches queued after the
    /// last `fork_uploads`; `bytes` may be reused at once. The executor keeps the memory of `to`
    /// until the next `join_uploads`. An executor with a single queue runs the copy in queue order.
    fn upload_on_side_stream(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.upload(to, bytes)
    }
    /// Everything queued from now on waits for the uploads on the side stream so far.
    fn join_uploads(&mut self) -> Result<()> {
        Ok(())
    }
    /// Copies from the device, after everything queued has finished.
    fn download(&mut self, from: &Buffer, bytes: &mut [u8]) -> Result<()>;
    /// Queues a copy from the device whose bytes are awaited later, so that the queue does not run
    /// empty meanwhile.
    fn fetch(&mut self, from: &Buffer) -> Result<Box<dyn Fetched>> {
        let mut bytes = vec![0; from.len() * from.dtype().bytes()];
        self.download(from, &mut bytes)?;
        Ok(Box::new(bytes))
    }
    /// Captures the following launches instead of queueing them, until `end_capture`. Returns
    /// `false` if the executor has no graphs: launches then run as usual.
    fn begin_capture(&mut self) -> Result<bool> {
        Ok(false)
    }
    /// The launches since `begin_capture`, as one graph that can be launched repeatedly.
    fn end_capture(&mut self) -> Result<Box<dyn CapturedGraph>> {
        unreachable!("`begin_capture` returned false")
    }
    /// Waits for everything queued, uploads on the side stream included, and lets go of the memory
    /// kept for it. An error if the executor cannot be used again.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
    /// Free bytes for this process.
    fn free_memory(&self) -> Option<u64> {
        None
    }
    /// Begins a named range in a profiler's timeline; ranges nest.
    fn push_range(&mut self, _name: &str) {}
    /// Ends the innermost range.
    fn pop_range(&mut self) {}
}

/// A graph of captured launches.
pub trait CapturedGraph: Send {
    /// Queues them all.
    fn launch(&mut self) -> Result<()>;
}

/// An asynchronous device-to-host copy in flight, as bytes.
pub trait Fetched: Send {
    /// Blocks until the bytes have arrived. An error is the device's, from the copy or from earlier
    /// work.
    fn wait(self: Box<Self>) -> Result<Vec<u8>>;
}

impl Fetched for Vec<u8> {
    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        Ok(*self)
    }
}
