//! Merges into a model on a device that runs kernels (the host executor): bit-identical to the CPU
//! with any amount of memory, copies on the side stream and launches that wait for each other, and
//! invalid checkpoints refused by name.

use crate::merging_on::*;
use crate::simt::{Mode, Simt};
use std::any::Any;
use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stockpot::engine::device::{Buffer, DType, Device, Executor, Launch};
use stockpot::engine::merge::{Merger, memory_for_pool};
use stockpot::engine::model::{Model, Table};
use stockpot::error::Result;

#[test]
fn merges_have_the_bits_of_the_cpu_whatever_the_memory() {
    merges_have_the_bits_of_the_cpu(|| Simt::bf16(Mode::FORWARD));
}

#[test]
fn merges_have_the_bits_of_the_cpu_when_copies_overtake_launches() {
    merges_have_the_bits_of_the_cpu(|| Simt::bf16(Mode::EARLY));
}

#[test]
fn inner_products_do_not_depend_on_the_memory_or_on_copies_that_overtake_launches() {
    inner_products_do_not_depend_on_the_memory(|| Simt::bf16(Mode::FORWARD));
    inner_products_do_not_depend_on_the_memory(|| Simt::bf16(Mode::EARLY));
}

#[derive(Clone, Copy, PartialEq)]
enum Forgets {
    Nothing,
    Fork,
    /// The fork after the allocation of the pool.
    FirstFork,
    Join,
}

/// Counts bytes allocated and uploaded on the side stream, and may omit a wait between the two
/// queues.
struct Watched {
    inner: Simt,
    forgets: Forgets,
    forks: u32,
    allocated: Arc<AtomicU64>,
    uploaded: Arc<AtomicU64>,
    free: Option<u64>,
}

impl Watched {
    fn device(mode: Mode, forgets: Forgets) -> (Device, Arc<AtomicU64>, Arc<AtomicU64>) {
        let (allocated, uploaded) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (inner, free) = (Simt::new(mode), Some(3 << 30));
        let watched =
            Watched { inner, forgets, forks: 0, allocated: allocated.clone(), uploaded: uploaded.clone(), free };
        (Device::with_executor("watched", Box::new(watched), DType::Bf16), allocated, uploaded)
    }
}

impl Executor for Watched {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        self.allocated.fetch_add(bytes as u64, Ordering::Relaxed);
        self.inner.allocate(bytes)
    }
    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.inner.launch(launch)
    }
    fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.inner.upload(to, bytes)
    }
    fn fork_uploads(&mut self) -> Result<()> {
        self.forks += 1;
        match self.forgets {
            Forgets::Fork => Ok(()),
            Forgets::FirstFork if self.forks == 1 => Ok(()),
            _ => self.inner.fork_uploads(),
        }
    }
    fn upload_on_side_stream(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.uploaded.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.inner.upload_on_side_stream(to, bytes)
    }
    fn join_uploads(&mut self) -> Result<()> {
        if self.forgets == Forgets::Join { Ok(()) } else { self.inner.join_uploads() }
    }
    fn download(&mut self, from: &Buffer, bytes: &mut [u8]) -> Result<()> {
        self.inner.download(from, bytes)
    }
    fn free_memory(&self) -> Option<u64> {
        self.free
    }
}

#[test]
fn an_omitted_wait_gives_wrong_results() {
    let stored = Stored::new(&[BF16; 3]);
    let (pool, pairs) = (stored.pool(), pairs_and_singles(3));
    let all = [sum(&[(0, 0.25), (1, 0.5), (2, 0.25)])];
    let right = |mode, forgets| {
        let (mut device, ..) = Watched::device(mode, forgets);
        let resident = merged(&mut device, &pool, &pairs, 2 * stored.bytes(), 2).expect("merges");
        let (mut device, ..) = Watched::device(mode, forgets);
        let streamed = merged(&mut device, &pool, &all, stored.bytes() / 3, 0).expect("a merge");
        let resident = resident.iter().zip(&pairs).all(|(ours, m)| *ours == stored.average(m));
        (resident, streamed[0] == stored.average(&all[0]))
    };
    for mode in [Mode::FORWARD, Mode::EARLY] {
        assert_eq!(right(mode, Forgets::Nothing), (true, true), "{mode:?}");
    }
    assert_eq!(right(Mode::FORWARD, Forgets::Join), (false, false), "launches that do not wait for copies");
    assert_eq!(right(Mode::EARLY, Forgets::Fork), (false, false), "copies that do not wait for launches");
    assert_eq!(right(Mode::EARLY, Forgets::FirstFork), (false, false), "copies that do not wait for zeroing");
}

#[test]
fn memory_stays_within_the_budget_and_checkpoints_are_copied_as_rarely_as_possible() {
    let stored = Stored::new(&[BF16; 6]);
    let (pool, pairs) = (stored.pool(), pairs_and_singles(6));
    let used = |budget: u64, prefetches: usize| {
        let (mut device, allocated, uploaded) = Watched::device(Mode::FORWARD, Forgets::Nothing);
        let before = {
            Model::without_weights(&mut device, pool.config()).expect("memory");
            allocated.load(Ordering::Relaxed)
        };
        merged(&mut device, &pool, &pairs, budget, prefetches).expect("merges");
        let small = 12 * 2;
        (
            allocated.load(Ordering::Relaxed) - 2 * before - small,
            uploaded.load(Ordering::Relaxed) / (stored.bytes() - 15),
        )
    };
    assert_eq!(used(u64::MAX, 0), (6 * stored.bytes(), 6));
    assert_eq!(used(u64::MAX, 9), (6 * stored.bytes(), 6));
    let given_order = 15;
    for prefetches in [0, 2] {
        let (allocated, loads) = used(3 * stored.bytes() + 1, prefetches);
        assert_eq!(allocated, 3 * stored.bytes());
        assert!((6..given_order).contains(&loads), "{loads} loads");
    }
    let all = [sum(&(0..6).map(|k| (k, 1.0 / 6.0)).collect::<Vec<_>>())];
    let (mut device, allocated, _) = Watched::device(Mode::FORWARD, Forgets::Nothing);
    Merger::new(&mut device, &pool, &all, 1_000_000).expect("memory");
    assert!((990_000..=1_000_000 + 100).contains(&allocated.load(Ordering::Relaxed)), "streaming takes no more");
    assert_eq!(memory_for_pool(&device), (3 << 30) - (512 << 20));
    assert_eq!(memory_for_pool(&Device::cpu()), u64::MAX);
}

#[test]
fn a_weight_that_is_not_finite_is_named_where_its_mixture_is_loaded() {
    for dtype in [BF16, F32, F16] {
        let stored = Stored::new(&[dtype; 3]);
        let at = Table::new(&config()).find("model.layers.0.mlp.up_proj.weight").expect("a tensor").offset + 7;
        let file = stored.paths[1].join("model.safetensors");
        let mut bytes = fs::read(&file).expect("a file");
        let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        // In every type, all bits set are a NaN.
        bytes[8 + header + at * dtype.bytes()..][..dtype.bytes()].fill(0xff);
        fs::write(&file, bytes).expect("a file");
        let pool = stored.pool();
        let sums = [sum(&[(0, 0.5), (2, 0.5)]), sum(&[(0, 0.5), (1, 0.5)]), sum(&[(2, 1.0)])];
        // All resident; two slots; streamed.
        for budget in [u64::MAX, 4 * stored.bytes(), stored.bytes() / 2] {
            let device = &mut Simt::bf16(Mode::FORWARD);
            let model = Model::without_weights(device, pool.config()).expect("memory");
            let mut merger = Merger::new(device, &pool, &sums, budget).expect("memory");
            let mut refused = 0;
            for (position, m) in merger.order().to_vec().into_iter().enumerate() {
                match merger.load(device, position, &model) {
                    Ok(()) => {
                        // The faulty one is loaded meanwhile, which is not an error yet.
                        (0..9).for_each(|_| merger.prefetch(device));
                        let weights: Vec<f32> = device.to_vec(&model.master).expect("weights");
                        let bits: Vec<u32> = weights.into_iter().map(f32::to_bits).collect();
                        assert!(bits == stored.average(&sums[m]), "{dtype:?}, {budget} bytes: sum {m}");
                    }
                    Err(error) => {
                        let error = error.to_string();
                        assert_eq!(m, 1, "{error}");
                        for part in ["not finite", "module-1", "model.layers.0.mlp.up_proj.weight", "NaN at element 7"]
                        {
                            assert!(error.contains(part), "no `{part}` in: {error}");
                        }
                        refused += 1;
                    }
                }
            }
            assert_eq!(refused, 1, "{dtype:?}, {budget} bytes");
        }
    }
}

#[test]
fn a_changed_file_is_named_when_it_is_read_and_not_needed_while_it_is_resident() {
    let stored = Stored::new(&[BF16; 3]);
    let pool = stored.pool();
    let sums = [sum(&[(0, 0.5), (1, 0.5)]), sum(&[(0, 0.25), (1, 0.75)]), sum(&[(1, 0.5), (2, 0.5)])];
    let device = &mut Simt::bf16(Mode::FORWARD);
    let model = Model::without_weights(device, pool.config()).expect("memory");
    for budget in [3 * stored.bytes(), stored.bytes()] {
        let mut merger = Merger::new(device, &pool, &sums, budget).expect("memory");
        assert_eq!(merger.order(), [0, 1, 2]);
        let resident = budget > stored.bytes();
        if resident {
            merger.load(device, 0, &model).expect("an average");
            let file = stored.paths[0].join("model.safetensors");
            File::options().write(true).open(file).and_then(|file| file.set_len(1000)).expect("a shorter file");
            merger.load(device, 1, &model).expect("the resident checkpoint is the one that was opened");
            let weights: Vec<f32> = device.to_vec(&model.master).expect("weights");
            assert!(weights.into_iter().map(f32::to_bits).eq(stored.average(&sums[1])));
            fs::remove_file(stored.paths[2].join("model.safetensors")).expect("no file");
        }
        let faulty = if resident { (2, "module-2") } else { (0, "module-0") };
        let error = merger.load(device, faulty.0, &model).expect_err("a file that changed").to_string();
        assert!(error.contains(faulty.1) && error.contains("model.safetensors"), "{error}");
    }
}

#[test]
fn a_sum_that_overflows_is_named_by_its_tensor_and_a_cancelling_sum_is_accepted() {
    let stored = Stored::new(&[BF16, F32]);
    let pool = stored.pool();
    let sums = [sum(&[(0, 1e40), (1, 1.0)]), sum(&[(1, 1e40), (1, -1e40)])];
    for budget in [u64::MAX, stored.bytes()] {
        let device = &mut Simt::bf16(Mode::FORWARD);
        let model = Model::without_weights(device, pool.config()).expect("memory");
        let mut merger = Merger::new(device, &pool, &sums, budget).expect("memory");
        let at = |m: usize| merger.order().iter().position(|&i| i == m).expect("each once");
        let (over, cancelled) = (at(0), at(1));
        let error = merger.load(device, over, &model).expect_err("1e40 is more than f32 holds").to_string();
        assert!(error.contains("overflows") && error.contains("model.embed_tokens.weight"), "{error}");
        merger.load(device, cancelled, &model).expect("zeros");
        assert!(device.to_vec::<f32>(&model.master).expect("weights").iter().all(|&x| x == 0.0));
    }
}
