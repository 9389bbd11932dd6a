//! The kernel launches of the real code: a device without memory runs whole steps of every preset
//! and records its launches. Sizes are the real ones, because nothing is allocated.

use crate::cases;
use crate::harness::Harness;
use rayon::prelude::*;
use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use stockpot::engine::device::{Arg, Buffer, DType, Device, Executor, Launch};
use stockpot::engine::model::{Activations, Architecture, Batch, Config, Inputs, Model};
use stockpot::engine::ops::merge::Merge;
use stockpot::engine::ops::{IGNORED, INNER_PRODUCT_PART, INNER_PRODUCT_PARTS, InnerProducts, LossSum};
use stockpot::engine::train::{Optimizer, Settings};
use stockpot::error::Result;

/// The properties of a launch that its CUBIN must match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Configuration {
    pub file: &'static str,
    pub kernel: &'static str,
    /// The kernel, then its defines.
    pub options: Vec<String>,
    /// Threads of a block.
    pub block: u32,
    /// Dynamic.
    pub shared_bytes: u32,
    /// Bytes of each argument, in order.
    pub arguments: Vec<u32>,
}

impl Configuration {
    pub fn of(launch: &Launch) -> Configuration {
        let bytes = |arg: &Arg| match arg {
            Arg::Matrix(_) | Arg::F64(_) => 8,
            Arg::U32(_) | Arg::F32(_) => 4,
        };
        Configuration {
            file: launch.file,
            kernel: launch.kernel,
            options: launch.compiler_options(),
            block: launch.block,
            shared_bytes: launch.shared_bytes,
            arguments: launch.args.iter().map(bytes).collect(),
        }
    }
    /// The defines, such as `TYPE=bf16 VECTOR=8`.
    pub fn flags(&self) -> String {
        self.options[1..].iter().map(|option| &option["-D".len()..]).collect::<Vec<_>>().join(" ")
    }
}

/// Accepts every launch and computes nothing; all memory reads as zero.
#[derive(Default)]
struct Recorder {
    seen: Arc<Mutex<BTreeSet<Configuration>>>,
    next: u64,
}

impl Executor for Recorder {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        let address = (self.next + 4096).next_multiple_of(256);
        self.next = address + bytes as u64;
        Ok((address, Box::new(())))
    }
    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.seen.lock().expect("no launch panics").insert(Configuration::of(launch));
        Ok(())
    }
    fn upload(&mut self, _: &Buffer, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn download(&mut self, _: &Buffer, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        Ok(())
    }
}

/// The launches of the cases of tests/support/cases.rs: odd shapes and strides.
pub fn of_cases() -> BTreeSet<Configuration> {
    let launches = |case: &cases::Case| {
        let (device, _) = device(DType::Bf16);
        (case.build)(&mut Harness::new(device, case.gap)).op.launches()
    };
    let all = cases::all();
    let chosen = all.par_iter().filter(|case| case.name.contains("Ones") || case.name.contains("Random gap 0"));
    chosen.flat_map_iter(launches).map(|launch| Configuration::of(&launch)).collect()
}

/// A recorder whose compute dtype is `compute`, and the configurations it sees.
pub fn device(compute: DType) -> (Device, Arc<Mutex<BTreeSet<Configuration>>>) {
    let recorder = Recorder::default();
    let seen = recorder.seen.clone();
    (Device::with_executor("recorder", Box::new(recorder), compute), seen)
}

/// The launches of training, scoring and merging every preset on a GPU.
pub fn of_presets() -> BTreeSet<Configuration> {
    let (mut device, seen) = device(DType::Bf16);
    for architecture in [Architecture::Llama, Architecture::Olmo2] {
        for preset in Config::PRESETS {
            let config = Config::preset(preset, architecture, 50_257, 0).expect("a preset");
            step(&mut device, &config).unwrap_or_else(|e| panic!("{preset}: {e}"));
        }
    }
    std::mem::take(&mut seen.lock().expect("no launch panics"))
}

/// One optimizer step of two micro-batches, with activations kept and recomputed, and one scoring
/// pass.
fn step(device: &mut Device, config: &Config) -> Result<()> {
    let shape = Batch { batch: 4, context: config.context };
    let rows = shape.rows();
    let settings: Settings = toml::from_str("steps = 1\nbatch = 8\nlearning_rate = 1e-3").expect("settings");
    let model = Model::without_weights(device, config)?;
    let optimizer = Optimizer::new(device, &model, None)?;
    let inputs = Inputs::new(device, rows)?;
    inputs.upload(device, &vec![0; rows], &vec![IGNORED; rows])?;
    let nats = device.alloc(DType::F64, 1)?;
    for recompute in [false, true] {
        let acts = Activations::for_training(device, config, rows, recompute)?;
        optimizer.zero_gradients(device)?;
        for accumulate in [false, true] {
            model.accumulate_gradient(device, &acts, &optimizer.arena.grads, shape, &inputs, 0.1)?;
            device.run(&LossSum { losses: acts.losses(rows).vector(), out: nats.vector(), accumulate })?;
        }
        optimizer.set_learning_rate(device, 1e-3)?;
        optimizer.update(device, &model, &settings)?;
    }
    let acts = Activations::for_evaluation(device, config, rows)?;
    model.losses(device, &acts, shape, &inputs)?;
    let losses = acts.losses(rows).matrix(shape.batch, shape.context);
    let sums = device.alloc(DType::F64, shape.batch)?;
    device.run(&LossSum { losses, out: sums.vector(), accumulate: false })?;
    merges(device, &model)?;
    inner_products(device, &model)
}

/// Merges of two checkpoints, stored in bf16 and in f32, into the model.
fn merges(device: &mut Device, model: &Model) -> Result<()> {
    let (p, stride) = (model.table.len, model.table.len.next_multiple_of(8));
    let (rows, weights) = (device.alloc(DType::U32, 2)?, device.alloc(DType::F64, 2)?);
    for dtype in [DType::Bf16, DType::F32] {
        let pool = device.alloc(dtype, 2 * stride)?.matrix(2, stride).col_range(0..p);
        let (out, copy) = (model.master.vector(), Some(model.compute.vector()));
        device.run(&Merge { pool, rows: rows.vector(), weights: weights.vector(), out, copy })?;
    }
    Ok(())
}

/// Gradients of two domains in the weights of merges of eight checkpoints.
fn inner_products(device: &mut Device, model: &Model) -> Result<()> {
    // More elements take further ops.
    let p = model.table.len.min(INNER_PRODUCT_PARTS * INNER_PRODUCT_PART);
    let (d, k, stride) = (2, 8, model.table.len.next_multiple_of(8));
    let (out, parts) = (device.alloc(DType::F64, d * k)?, device.alloc(DType::F64, INNER_PRODUCT_PARTS * d * k)?);
    for (dtype, accumulate) in [(DType::Bf16, false), (DType::F32, true)] {
        let gradients = device.alloc(DType::F32, d * stride)?.matrix(d, stride).col_range(0..p);
        let pool = device.alloc(dtype, k * stride)?.matrix(k, stride).col_range(0..p);
        let (out, parts) = (out.matrix(d, k), parts.matrix(INNER_PRODUCT_PARTS, d * k));
        device.run(&InnerProducts { gradients, pool, out, parts, accumulate })?;
    }
    Ok(())
}
