//! Merges on the CPU: sums of K mapped checkpoints of 4M parameters into memory, by stored dtype
//! and K, and M mixtures in one pass. `stockpot bench merge` times realistic sizes, output to
//! files, and memory copies for comparison.
//!
//! `cargo bench --bench merge`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;
use stockpot::engine::checkpoint::{StorageDType, write_model};
use stockpot::engine::merge::{Pool, WeightedSum, for_each_block, to_memory};
use stockpot::engine::model::{Architecture, Config, initial_weights};
use stockpot::engine::ops::dtype_convert::round_to_bytes;

const CHECKPOINTS: usize = 8;

fn pool(directory: &std::path::Path, config: &Config, dtype: StorageDType) -> Pool {
    let directories: Vec<PathBuf> = (0..CHECKPOINTS).map(|k| directory.join(format!("{dtype}{k}"))).collect();
    for (k, directory) in directories.iter().enumerate() {
        std::fs::create_dir(directory).expect("a directory");
        write_model(directory, config, &initial_weights(config, k as u64), dtype, None).expect("written");
    }
    Pool::open(&directories).expect("a pool")
}

fn bench(c: &mut Criterion) {
    let scratch = tempfile::tempdir().expect("a directory");
    let config = Config::preset("tiny", Architecture::Olmo2, 20_000, 0).expect("a preset");
    for dtype in [StorageDType::Bf16, StorageDType::F32, StorageDType::F16] {
        let pool = pool(scratch.path(), &config, dtype);
        let bytes = pool.checkpoints()[0].bytes();
        let mut group = c.benchmark_group(format!("merge {dtype}"));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
        let mut out = vec![0.0; pool.table().len];
        for count in [2, CHECKPOINTS] {
            let mixture = WeightedSum { terms: (0..count).map(|k| (k, 1.0 / count as f64)).collect() };
            group.throughput(Throughput::Bytes(bytes * count as u64 + 4 * out.len() as u64));
            group.bench_function(format!("{count} to memory"), |b| {
                b.iter(|| to_memory(&pool, &mixture, 0, &mut out).expect("a merge"));
            });
        }
        for count in [1, 8, 32] {
            let weights = |m: usize| (0..CHECKPOINTS).map(move |k| (k, (1 + (m + 5 * k) % 32) as f64 / 100.0));
            let mixtures: Vec<WeightedSum> = (0..count).map(|m| WeightedSum { terms: weights(m).collect() }).collect();
            group.throughput(Throughput::Elements((count * pool.table().len) as u64));
            group.bench_function(format!("{count} mixtures of 8, rounded to bf16"), |b| {
                b.iter(|| {
                    for_each_block(&pool, &mixtures, |_, _, sums| {
                        let mut bytes = [0u8; 4096];
                        round_to_bytes(sums, StorageDType::Bf16, black_box(&mut bytes[..2 * sums.len()]))
                    })
                    .expect("a merge")
                });
            });
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
