//! NVIDIA GPUs: launches compiled by NVRTC and queued on one stream through cudarc; the side stream
//! for uploads is in `side_stream.rs`. Compute capability 8.0 and up, drivers of CUDA 12.0 and up.
//! The driver is loaded at run time, so one binary also runs on machines without it.
//!
//! cudarc panics if it finds no driver, so `probe::driver_version` is called before every other
//! function.

mod nvtx;
mod pinned;
mod probe;
mod side_stream;

pub use probe::{CudaMissing, CudaProbe, FoundDevice, look};

use super::launch::{Arg, CapturedGraph, Executor, Fetched, Launch};
use super::memory::{Buffer, Matrix};
use super::nvrtc::Nvrtc;
use crate::error::{Error, Kind, Result};
use cudarc::driver::sys::{CUfunction_attribute as Attribute, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaFunction, CudaGraph, CudaStream, DevicePtr, DriverError, result};
use cudarc::nvrtc::Ptx;
use nvtx::Ranges;
use pinned::{FetchPool, Staging};
use side_stream::SideStream;
use std::any::Any;
use std::ffi::c_void;
use std::sync::Arc;

type Defines = Vec<(&'static str, String)>;

/// Shared memory, static and dynamic, that a block may use without raising the limit.
const SHARED_BYTES: u32 = 48 << 10;

/// One GPU: its context, its streams, loaded kernels, pinned memory for copies.
pub struct Cuda {
    stream: Arc<CudaStream>,
    compiler: Nvrtc,
    architecture: String,
    name: String,
    functions: Vec<Function>,
    staging: Staging,
    fetches: FetchPool,
    /// Created on first use: most work needs none.
    side_stream: Option<SideStream>,
    /// While launches are captured: the operands that the graph keeps alive.
    captured: Option<Vec<Matrix>>,
    ranges: Option<Ranges>,
}

/// A compiled and loaded kernel, identified as launches name it.
struct Function {
    file: &'static str,
    kernel: &'static str,
    defines: Defines,
    function: CudaFunction,
    /// Dynamic shared memory that it may use.
    shared_bytes: u32,
}

/// Opens GPU `ordinal`, ready to run launches.
///
/// # Errors
/// A [`CudaMissing`], with its fix.
pub fn open(ordinal: usize) -> Result<Cuda> {
    let (compiler, architecture, name) = probe::ready(ordinal)?;
    let context = CudaContext::new(ordinal).map_err(|e| failed("open the device", e))?;
    // SAFETY: (1) nothing has been allocated yet; (2) all work is queued on one stream, in order,
    // so no event is needed between two uses of an allocation; uploads on the side stream have
    // their own events.
    unsafe { context.disable_event_tracking() };
    // Not the default stream, which cannot be captured.
    let stream = context.new_stream().map_err(|e| failed("create a stream", e))?;
    let ranges = Ranges::load(compiler.path());
    Ok(Cuda {
        staging: Staging::new(&stream)?,
        fetches: FetchPool::default(),
        side_stream: None,
        stream,
        compiler,
        architecture,
        name,
        functions: vec![],
        captured: None,
        ranges,
    })
}

impl Cuda {
    /// Adds a source of kernels; see [`Nvrtc::with_source`].
    pub fn with_source(self, source: (&'static str, &'static str)) -> Cuda {
        Cuda { compiler: self.compiler.with_source(source), ..self }
    }
    /// Product name, such as "NVIDIA H100 80GB HBM3".
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The architecture that kernels are compiled for, such as "sm_90a".
    pub fn architecture(&self) -> &str {
        &self.architecture
    }
    /// Bytes of device memory: free, total.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let (free, total) = self.stream.context().mem_get_info().map_err(|e| failed("query free memory", e))?;
        Ok((free as u64, total as u64))
    }

    /// The position in `functions` of a launch's kernel, compiled and loaded if it is new, with its
    /// shared-memory limit raised to what the launch needs.
    fn function(&mut self, launch: &Launch) -> Result<usize> {
        let same = |f: &Function| (f.kernel, f.file) == (launch.kernel, launch.file) && f.defines == launch.defines;
        let i = match self.functions.iter().position(same) {
            Some(i) => i,
            None => {
                let function = self.load(launch)?;
                self.functions.push(function);
                self.functions.len() - 1
            }
        };
        let known = &mut self.functions[i];
        if launch.shared_bytes > known.shared_bytes {
            let refused = |e| {
                let (kernel, bytes) = (launch.kernel, launch.shared_bytes);
                failed(&format!("give {kernel} {bytes} bytes of shared memory on {}", self.architecture), e)
            };
            known
                .function
                .set_attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, launch.shared_bytes as i32)
                .map_err(refused)?;
            known.shared_bytes = launch.shared_bytes;
        }
        Ok(i)
    }

    fn side_stream(&mut self) -> Result<&mut SideStream> {
        let side_stream = match self.side_stream.take() {
            Some(side_stream) => side_stream,
            None => SideStream::new(&self.stream)?,
        };
        Ok(self.side_stream.insert(side_stream))
    }

    /// Compiles and loads a launch's kernel.
    fn load(&self, launch: &Launch) -> Result<Function> {
        let compiled = self.compiler.compile(launch.file, &launch.compiler_options(), &self.architecture)?;
        let refused = |e| {
            let (major, minor) = self.compiler.version();
            let doing = format!("load {} of kernels/{}.cu for {}", launch.kernel, launch.file, self.architecture);
            let fix = "update the NVIDIA driver, or use an NVRTC that is no newer than it (STOCKPOT_NVRTC)";
            failed_with_fix(&doing, e, fix)
                .got(format!("a CUBIN of NVRTC {major}.{minor}, {}", self.compiler.path().display()))
        };
        let module = self.stream.context().load_module(Ptx::from_binary(compiled.cubin)).map_err(refused)?;
        let missing = |e| failed(&format!("find {} in kernels/{}.cu", launch.kernel, launch.file), e);
        let function = module.load_function(launch.kernel).map_err(missing)?;
        let own = function.shared_size_bytes().map_err(missing)? as u32;
        let (file, kernel, defines) = (launch.file, launch.kernel, launch.defines.clone());
        Ok(Function { file, kernel, defines, function, shared_bytes: SHARED_BYTES.saturating_sub(own) })
    }
}

/// The error of a failed driver call. A kernel's fault is reported by a later call than its launch.
fn failed(doing: &str, error: DriverError) -> Error {
    let failure = Error::new(Kind::Io, format!("cannot {doing}: {error}"));
    match lasting(error) {
        Some(fix) => failure.fix(fix),
        None if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            failure.fix("use a smaller micro_batch, context or model")
        }
        None => failure,
    }
}

/// As [`failed`], with what to do about a failure of this call alone.
fn failed_with_fix(doing: &str, error: DriverError, fix: &str) -> Error {
    let failure = failed(doing, error);
    if lasting(error).is_some() { failure } else { failure.fix(fix) }
}

/// What to do about an error after which every call fails, whichever call reports it.
fn lasting(error: DriverError) -> Option<&'static str> {
    use CUresult as R;
    match error.0 {
        R::CUDA_ERROR_ILLEGAL_ADDRESS
        | R::CUDA_ERROR_MISALIGNED_ADDRESS
        | R::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | R::CUDA_ERROR_LAUNCH_FAILED => {
            Some("a kernel queued earlier is at fault: run the same command under compute-sanitizer and report it")
        }
        R::CUDA_ERROR_DEVICE_UNAVAILABLE | R::CUDA_ERROR_ECC_UNCORRECTABLE | R::CUDA_ERROR_UNKNOWN => {
            Some("the GPU is lost: check nvidia-smi and the system's log (dmesg, Xid), then run the same command again")
        }
        _ => None,
    }
}

/// The arguments as `cuLaunchKernel` takes them: each at the start of its own eight bytes.
fn argument_bytes(args: &[Arg]) -> Vec<[u8; 8]> {
    let four = |bytes: [u8; 4]| {
        let mut slot = [0; 8];
        slot[..4].copy_from_slice(&bytes);
        slot
    };
    let slot = |arg: &Arg| match arg {
        Arg::Matrix(m) => m.address().to_ne_bytes(),
        Arg::U32(x) => four(x.to_ne_bytes()),
        Arg::F32(x) => four(x.to_ne_bytes()),
        Arg::F64(x) => x.to_ne_bytes(),
    };
    args.iter().map(slot).collect()
}

impl Executor for Cuda {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        // The driver aligns to 256 bytes and more.
        let slice = self.stream.alloc_zeros::<u8>(bytes.max(1)).map_err(|e| {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            let wanted = gb(bytes as u64);
            match self.memory() {
                Ok((free, total)) => failed(&format!("allocate {wanted:.2} GB on {}", self.name), e)
                    .got(format!("{:.2} GB of {:.2} GB are free", gb(free), gb(total)))
                    .fix("use a smaller micro_batch, context or model, or end other programs on it (nvidia-smi)"),
                // The device has failed, and no call of it succeeds.
                Err(_) => failed(&format!("allocate {wanted:.2} GB on {}", self.name), e),
            }
        })?;
        let (address, _) = slice.device_ptr(&self.stream);
        Ok((address, Box::new(slice)))
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        let i = self.function(launch)?;
        let failed = |e| failed(&format!("launch {}", launch.kernel), e);
        self.stream.context().bind_to_thread().map_err(failed)?;
        let mut values = argument_bytes(&launch.args);
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|v| v.as_mut_ptr().cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: (1) the op passes its kernel's parameters in order, one slot of eight bytes each,
        // as the kernel declares them (tested by tests/kernels/ops.rs, which runs the same
        // launches); the driver copies them before it returns; (2) `Device::run` has checked that
        // the operands are on this device and that written ones overlap nothing; (3) they stay
        // allocated: memory is freed in stream order, and captured launches keep their operands.
        unsafe {
            let function = self.functions[i].function.cu_function();
            let (block, stream) = ((launch.block, 1, 1), self.stream.cu_stream());
            result::launch_kernel(function, (x, y, z), block, launch.shared_bytes, stream, &mut pointers)
        }
        .map_err(failed)?;
        if let Some(held) = &mut self.captured {
            held.extend(launch.args.iter().filter_map(|arg| match arg {
                Arg::Matrix(m) => Some(m.clone()),
                _ => None,
            }));
        }
        Ok(())
    }

    fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.staging.upload(&self.stream, to.address(), bytes)
    }

    fn fork_uploads(&mut self) -> Result<()> {
        let stream = self.stream.clone();
        self.side_stream()?.fork(&stream)
    }

    fn upload_on_side_stream(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.side_stream()?.upload(to, bytes)
    }

    fn join_uploads(&mut self) -> Result<()> {
        let stream = self.stream.clone();
        self.side_stream()?.join(&stream)
    }

    fn download(&mut self, from: &Buffer, bytes: &mut [u8]) -> Result<()> {
        let failed = |e| failed("copy from the device", e);
        self.stream.context().bind_to_thread().map_err(failed)?;
        // SAFETY: (1) the buffer has at least as many bytes (checked by `Device::download`) and is
        // alive; (2) `bytes` is borrowed until the synchronization below.
        unsafe { result::memcpy_dtoh_async(bytes, from.address(), self.stream.cu_stream()) }.map_err(failed)?;
        self.stream.synchronize().map_err(failed)
    }

    fn fetch(&mut self, from: &Buffer) -> Result<Box<dyn Fetched>> {
        let len = from.len() * from.dtype().bytes();
        Ok(Box::new(self.fetches.fetch(&self.stream, from.address(), len)?))
    }

    fn begin_capture(&mut self) -> Result<bool> {
        // A profiler should show each op in its range; a graph's launches have no ranges.
        if self.ranges.is_some() {
            return Ok(false);
        }
        // Relaxed: other calls of this thread (such as loading a kernel) work as usual and are not
        // captured.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        self.stream.begin_capture(mode).map_err(|e| failed("capture launches", e))?;
        self.captured = Some(vec![]);
        Ok(true)
    }

    fn end_capture(&mut self) -> Result<Box<dyn CapturedGraph>> {
        let operands = self.captured.take().expect("`begin_capture` came first");
        let failed = |e| failed("create a graph of captured launches", e);
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(failed)?;
        let graph = graph.ok_or_else(|| Error::new(Kind::Io, "the driver captured no launches"))?;
        Ok(Box::new(CapturedLaunches { graph, _operands: operands }))
    }

    fn finish(&mut self) -> Result<()> {
        if self.captured.is_some() {
            return Err(Error::new(Kind::Io, "a capture of launches was not ended"));
        }
        let stream = self.stream.clone();
        if let Some(side_stream) = &mut self.side_stream {
            side_stream.join(&stream)?;
        }
        self.stream.synchronize().map_err(|e| failed("wait for the device", e))
    }

    fn free_memory(&self) -> Option<u64> {
        // Freed memory is available again only after the stream reaches the free.
        self.stream.synchronize().ok()?;
        self.memory().ok().map(|(free, _)| free)
    }

    fn push_range(&mut self, name: &str) {
        if let Some(ranges) = &self.ranges {
            ranges.push(name);
        }
    }

    fn pop_range(&mut self) {
        if let Some(ranges) = &self.ranges {
            ranges.pop();
        }
    }
}

/// Captured launches, with the memory they work on.
struct CapturedLaunches {
    graph: CudaGraph,
    _operands: Vec<Matrix>,
}

// SAFETY: (1) the driver's graph may be used from any thread, by one at a time, which `&mut self`
// and ownership ensure; (2) cudarc binds the context to the thread at each call.
unsafe impl Send for CapturedLaunches {}

impl CapturedGraph for CapturedLaunches {
    fn launch(&mut self) -> Result<()> {
        self.graph.launch().map_err(|e| failed("launch a captured graph", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_argument_is_at_the_start_of_its_slot() {
        let slots = argument_bytes(&[Arg::U32(7), Arg::F32(-2.5), Arg::F64(1e300)]);
        assert_eq!(slots[0][..4], 7u32.to_ne_bytes());
        assert_eq!(slots[1][..4], (-2.5f32).to_ne_bytes());
        assert_eq!(slots[2], 1e300f64.to_ne_bytes());
    }
}
