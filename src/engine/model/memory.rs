//! The device memory that a model needs, before any is allocated: the same constructors run on a
//! device that only counts.

use super::activations::{Activations, Inputs, OptimizerArena};
use super::config::Config;
use super::forward::Batch;
use super::weights::Model;
use crate::engine::device::{Buffer, DType, Device, Executor, Launch};
use crate::error::Result;
use serde::Serialize;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of device memory for one training or scoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// Master weights, their copy in the compute type, constants.
    pub weights: u64,
    /// Gradients and both moments; 0 in scoring.
    pub optimizer: u64,
    /// Activations, their gradients in training, and the tokens and targets.
    pub activations: u64,
}

impl MemoryPlan {
    /// The plan of a training with micro-batches of the shape `micro` in batches of `batch`
    /// windows.
    pub fn of_training(
        config: &Config,
        compute: DType,
        micro: Batch,
        batch: usize,
        recompute: bool,
    ) -> Result<MemoryPlan> {
        let mut count = CountingExecutor::new(compute);
        let model = Model::without_weights(&mut count.device, config)?;
        let weights = count.so_far();
        let arena = OptimizerArena::new(&mut count.device, model.table.len)?;
        let optimizer = count.so_far() - weights;
        let acts = Activations::for_training(&mut count.device, config, micro.rows(), recompute)?;
        let inputs = Inputs::new(&mut count.device, batch * micro.context)?;
        drop((model, arena, acts, inputs)); // alive up to here, as in a training
        Ok(MemoryPlan { weights, optimizer, activations: count.so_far() - weights - optimizer })
    }

    /// The plan of scoring with at most `rows` rows at a time.
    pub fn of_evaluation(config: &Config, compute: DType, rows: usize) -> Result<MemoryPlan> {
        let mut count = CountingExecutor::new(compute);
        let model = Model::without_weights(&mut count.device, config)?;
        let weights = count.so_far();
        let acts = Activations::for_evaluation(&mut count.device, config, rows)?;
        let inputs = Inputs::new(&mut count.device, rows)?;
        drop((model, acts, inputs));
        Ok(MemoryPlan { weights, optimizer: 0, activations: count.so_far() - weights })
    }

    /// The sum of all three, in bytes.
    pub fn total(&self) -> u64 {
        self.weights + self.optimizer + self.activations
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        write!(f, "{:.2} GB: weights {:.2}", gb(self.total()), gb(self.weights))?;
        if self.optimizer > 0 {
            write!(f, ", gradients and moments {:.2}", gb(self.optimizer))?;
        }
        write!(f, ", activations {:.2}", gb(self.activations))
    }
}

/// A device without memory, and the bytes that were requested of it.
struct CountingExecutor {
    device: Device,
    bytes: Arc<AtomicU64>,
}

impl CountingExecutor {
    fn new(compute: DType) -> CountingExecutor {
        let bytes = Arc::new(AtomicU64::new(0));
        CountingExecutor { device: Device::with_executor("count", Box::new(Counter(bytes.clone())), compute), bytes }
    }
    fn so_far(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

struct Counter(Arc<AtomicU64>);

impl Executor for Counter {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        // Allocations begin on boundaries of 256 bytes.
        self.0.fetch_add(bytes.next_multiple_of(256) as u64, Ordering::Relaxed);
        Ok((256, Box::new(())))
    }
    fn launch(&mut self, _: &Launch) -> Result<()> {
        unreachable!("nothing is computed while memory is counted")
    }
    fn upload(&mut self, _: &Buffer, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn download(&mut self, _: &Buffer, _: &mut [u8]) -> Result<()> {
        unreachable!("nothing is computed while memory is counted")
    }
}
