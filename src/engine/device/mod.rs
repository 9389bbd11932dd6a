//! Devices. `Device::run(op)` is the only way to compute: the CPU device calls the op's own Rust on
//! the rayon pool of the calling thread; any other device hands the op's launches to its
//! `Executor`. A device knows no model.

pub mod cuda;
mod device_spec;
mod host;
mod launch;
mod memory;
pub mod nvrtc;
mod op;

pub use device_spec::{DeviceSpec, OpenDevice};
pub use host::{Host, Rows, RowsMut};
pub use launch::{Arg, CapturedGraph, Executor, Fetched, Launch};
pub use memory::{Access, Buffer, DType, Element, Matrix, Operands};
pub use op::{Op, OpCost};

use crate::error::{Error, Kind, Result};
use host::AlignedBytes;
use memory::Slab;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

enum Backend {
    Cpu,
    Kernels(Box<dyn Executor>),
}

/// An asynchronous device-to-host copy in flight.
pub struct Pending<T> {
    fetched: Box<dyn Fetched>,
    kind: PhantomData<T>,
}

impl<T: Element> Pending<T> {
    /// Blocks until the copy is done. An error is the device's, from the copy or from earlier work.
    pub fn wait(self) -> Result<Vec<T>> {
        let bytes = self.fetched.wait()?;
        Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }
}

/// The state of repeated work, with its captured graph; see [`Device::repeat`].
#[derive(Default)]
pub struct Repeat {
    warm: bool,
    graph: Option<Box<dyn CapturedGraph>>,
}

/// Memory and computation on this machine's CPU or through the kernels of an [`Executor`]. Memory
/// of one device cannot be used on another.
pub struct Device {
    /// Distinguishes the memory of one device from another's.
    id: u64,
    backend: Backend,
    compute: DType,
    name: String,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Device {
    /// This machine's CPU, in f32. Work runs on the rayon pool of the calling thread; results do
    /// not depend on its number of threads.
    pub fn cpu() -> Device {
        Device::new("cpu", Backend::Cpu, DType::F32)
    }

    /// GPU `ordinal`, in bf16.
    pub fn cuda(ordinal: usize) -> Result<Device> {
        let executor = cuda::open(ordinal)?;
        let name = format!("cuda {}", executor.architecture());
        Ok(Device::with_executor(&name, Box::new(executor), DType::Bf16))
    }

    /// A device that runs kernels; `compute` is the dtype of activations and of the weights used
    /// with them.
    pub fn with_executor(name: &str, executor: Box<dyn Executor>, compute: DType) -> Device {
        Device::new(name, Backend::Kernels(executor), compute)
    }

    fn new(name: &str, backend: Backend, compute: DType) -> Device {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Device { id, backend, compute, name: name.into() }
    }

    /// The kind of device, which determines the bits of results, such as `cpu` or `cuda sm_90a`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Free bytes for this process, if the device reports them.
    pub fn free_memory(&self) -> Option<u64> {
        match &self.backend {
            Backend::Cpu => None,
            Backend::Kernels(executor) => executor.free_memory(),
        }
    }

    /// Whether work is queued, so that results are best awaited later.
    pub fn is_asynchronous(&self) -> bool {
        matches!(self.backend, Backend::Kernels(_))
    }

    /// The dtype of activations and of the weights used with them; master weights and moments are
    /// f32 everywhere.
    pub fn compute_dtype(&self) -> DType {
        self.compute
    }

    /// `len` zeroed elements.
    pub fn alloc(&mut self, dtype: DType, len: usize) -> Result<Buffer> {
        let bytes = len * dtype.bytes();
        let (address, owner) = match &mut self.backend {
            Backend::Cpu => {
                let memory = AlignedBytes::zeroed(bytes).ok_or_else(|| {
                    Error::new(Kind::Io, format!("no memory for {:.1} GB", bytes as f64 / 1e9))
                        .fix("use a smaller micro_batch, context or model")
                })?;
                (memory.address(), Box::new(memory) as Box<dyn std::any::Any + Send + Sync>)
            }
            Backend::Kernels(executor) => executor.allocate(bytes)?,
        };
        Ok(Buffer::new(Slab { device: self.id, address, _owner: owner }, len, dtype))
    }

    /// Copies `from` to the start of `to`.
    pub fn upload<T: Element>(&mut self, to: &Buffer, from: &[T]) -> Result<()> {
        assert!(to.dtype() == T::DTYPE && from.len() <= to.len(), "upload of the wrong type or size");
        assert_eq!(to.slab.device, self.id, "the buffer is on another device");
        match &mut self.backend {
            Backend::Cpu => {
                // SAFETY: the range was checked above; no op runs while this holds `&mut self`.
                unsafe { std::slice::from_raw_parts_mut(to.address() as *mut T, from.len()) }.copy_from_slice(from);
                Ok(())
            }
            Backend::Kernels(executor) => executor.upload(to, bytemuck::cast_slice(from)),
        }
    }

    /// As [`Device::upload`], but on the side stream, concurrent with the work queued meanwhile.
    /// Three rules hold: work queued after the last [`Device::fork_uploads`] does not use that
    /// memory (earlier work may, and the memory is allocated before the fork too); nothing uses it
    /// before [`Device::join_uploads`]; uploads on the side stream keep their order.
    pub fn upload_on_side_stream<T: Element>(&mut self, to: &Buffer, from: &[T]) -> Result<()> {
        assert!(to.dtype() == T::DTYPE && from.len() <= to.len(), "upload of the wrong type or size");
        assert_eq!(to.slab.device, self.id, "the buffer is on another device");
        match &mut self.backend {
            Backend::Cpu => self.upload(to, from),
            Backend::Kernels(executor) => executor.upload_on_side_stream(to, bytemuck::cast_slice(from)),
        }
    }

    /// Later uploads on the side stream wait for everything queued so far.
    pub fn fork_uploads(&mut self) -> Result<()> {
        match &mut self.backend {
            Backend::Cpu => Ok(()),
            Backend::Kernels(executor) => executor.fork_uploads(),
        }
    }

    /// Everything queued from now on waits for the uploads on the side stream so far.
    pub fn join_uploads(&mut self) -> Result<()> {
        match &mut self.backend {
            Backend::Cpu => Ok(()),
            Backend::Kernels(executor) => executor.join_uploads(),
        }
    }

    /// Copies the start of `from` to `to`.
    pub fn download<T: Element>(&mut self, from: &Buffer, to: &mut [T]) -> Result<()> {
        assert!(from.dtype() == T::DTYPE && to.len() <= from.len(), "download of the wrong type or size");
        assert_eq!(from.slab.device, self.id, "the buffer is on another device");
        match &mut self.backend {
            Backend::Cpu => {
                // SAFETY: the range was checked above; no op runs while this holds `&mut self`.
                to.copy_from_slice(unsafe { std::slice::from_raw_parts(from.address() as *const T, to.len()) });
                Ok(())
            }
            Backend::Kernels(executor) => executor.download(from, bytemuck::cast_slice_mut(to)),
        }
    }

    /// Copies all elements of `from` to the host.
    pub fn to_vec<T: Element>(&mut self, from: &Buffer) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); from.len()];
        self.download(from, &mut values)?;
        Ok(values)
    }

    /// Queues a copy of all elements of `from` to the host; see [`Pending`].
    pub fn fetch<T: Element>(&mut self, from: &Buffer) -> Result<Pending<T>> {
        assert!(from.dtype() == T::DTYPE && from.slab.device == self.id, "fetch of the wrong type or device");
        let fetched: Box<dyn Fetched> = match &mut self.backend {
            Backend::Kernels(executor) => executor.fetch(from)?,
            Backend::Cpu => {
                let values = self.to_vec::<T>(from)?;
                Box::new(bytemuck::cast_slice::<T, u8>(&values).to_vec())
            }
        };
        Ok(Pending { fetched, kind: PhantomData })
    }

    /// Runs `work`, which must be the same ops on the same memory each time. A device that supports
    /// graphs captures them on the second call and from then on launches the graph (a CUDA graph).
    /// `work` must neither copy to or from the device nor allocate.
    pub fn repeat(&mut self, repeat: &mut Repeat, work: impl FnOnce(&mut Device) -> Result<()>) -> Result<()> {
        if let Some(graph) = &mut repeat.graph {
            return graph.launch();
        }
        // The first call compiles and loads kernels, which cannot be captured.
        let first = !std::mem::replace(&mut repeat.warm, true);
        let Backend::Kernels(executor) = &mut self.backend else { return work(self) };
        if first || !executor.begin_capture()? {
            return work(self);
        }
        let done = work(self);
        let Backend::Kernels(executor) = &mut self.backend else { unreachable!("the backend does not change") };
        let graph = executor.end_capture();
        done?;
        repeat.graph.insert(graph?).launch()
    }

    /// Ends a piece of work: waits for everything queued. An error if the device cannot do another.
    fn finish(&mut self) -> Result<()> {
        match &mut self.backend {
            Backend::Cpu => Ok(()),
            Backend::Kernels(executor) => executor.finish(),
        }
    }

    /// Runs `work` within a named range of a profiler's timeline.
    pub fn range<R>(&mut self, name: &str, work: impl FnOnce(&mut Device) -> R) -> R {
        if let Backend::Kernels(executor) = &mut self.backend {
            executor.push_range(name);
        }
        let result = work(self);
        if let Backend::Kernels(executor) = &mut self.backend {
            executor.pop_range();
        }
        result
    }

    /// Computes `op`, or queues it if the device is asynchronous. Fails if a kernel does not
    /// compile or cannot be launched. Panics if an operand is on another device, or if a written
    /// operand overlaps another.
    pub fn run(&mut self, op: &dyn Op) -> Result<()> {
        let operands = op.operands();
        operands.check(op.name(), self.id);
        match &mut self.backend {
            Backend::Cpu => op.cpu(&Host::new(&operands)),
            Backend::Kernels(executor) => executor.run(op)?,
        }
        Ok(())
    }
}
