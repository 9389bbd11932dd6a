//! Where computing happens. `Device::run(op)` is the only way to compute: the CPU device calls the op's own
//! Rust on the rayon pool of the calling thread, any other hands the op's `Launch` to its `Executor`.
//! A device knows no model.

mod host;
mod launch;
mod memory;
mod op;

pub use host::{Host, Rows, RowsMut};
pub use launch::{Arg, Executor, Launch};
pub use memory::{Access, Buffer, DType, Element, Matrix, Operands};
pub use op::{Cost, Op};

use crate::error::{Error, Kind, Result};
use host::AlignedBytes;
use memory::Slab;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

enum Backend {
    Cpu,
    Kernels(Box<dyn Executor>),
}

/// Time and work of one kind of op, when profiling is on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub calls: u64,
    pub time: Duration,
    pub cost: Cost,
}

pub struct Device {
    /// Distinguishes the memory of one device from another's.
    id: u64,
    backend: Backend,
    compute: DType,
    profile: Option<BTreeMap<&'static str, Spent>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Device {
    /// This machine's CPU, in f32. Work runs on the rayon pool of the calling thread; results do not depend on
    /// how many threads it has.
    pub fn cpu() -> Device {
        Device::new(Backend::Cpu, DType::F32)
    }

    /// A device that runs kernels; `compute` is the type of activations and of the weights they meet.
    pub fn with_executor(executor: Box<dyn Executor>, compute: DType) -> Device {
        Device::new(Backend::Kernels(executor), compute)
    }

    fn new(backend: Backend, compute: DType) -> Device {
        Device { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), backend, compute, profile: None }
    }

    /// The type of activations and of the weights they meet; master weights and moments are f32 everywhere.
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
        assert_eq!(to.slab.device, self.id, "the buffer lies on another device");
        match &mut self.backend {
            Backend::Cpu => {
                // SAFETY: the range was checked above; `&mut self` keeps every op away.
                unsafe { std::slice::from_raw_parts_mut(to.address() as *mut T, from.len()) }.copy_from_slice(from);
                Ok(())
            }
            Backend::Kernels(executor) => executor.upload(to, bytemuck::cast_slice(from)),
        }
    }

    /// Copies the start of `from` to `to`.
    pub fn download<T: Element>(&mut self, from: &Buffer, to: &mut [T]) -> Result<()> {
        assert!(from.dtype() == T::DTYPE && to.len() <= from.len(), "download of the wrong type or size");
        assert_eq!(from.slab.device, self.id, "the buffer lies on another device");
        match &mut self.backend {
            Backend::Cpu => {
                // SAFETY: the range was checked above; `&mut self` keeps every op away.
                to.copy_from_slice(unsafe { std::slice::from_raw_parts(from.address() as *const T, to.len()) });
                Ok(())
            }
            Backend::Kernels(executor) => executor.download(from, bytemuck::cast_slice_mut(to)),
        }
    }

    /// All elements of `from`, on the host.
    pub fn to_vec<T: Element>(&mut self, from: &Buffer) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); from.len()];
        self.download(from, &mut values)?;
        Ok(values)
    }

    pub fn run(&mut self, op: &dyn Op) -> Result<()> {
        let operands = op.operands();
        operands.check(op.name(), self.id);
        let start = self.profile.is_some().then(Instant::now);
        match &mut self.backend {
            Backend::Cpu => op.cpu(&Host::new(&operands)),
            Backend::Kernels(executor) => executor.launch(&op.launch())?,
        }
        if let (Some(start), Some(profile)) = (start, &mut self.profile) {
            let spent = profile.entry(op.name()).or_default();
            let cost = op.cost();
            spent.calls += 1;
            spent.time += start.elapsed();
            spent.cost.bytes += cost.bytes;
            spent.cost.flops += cost.flops;
        }
        Ok(())
    }

    /// Starts to record time and work per kind of op.
    pub fn start_profile(&mut self) {
        self.profile = Some(BTreeMap::new());
    }

    /// What was recorded since [`Device::start_profile`].
    pub fn take_profile(&mut self) -> BTreeMap<&'static str, Spent> {
        self.profile.take().unwrap_or_default()
    }
}
