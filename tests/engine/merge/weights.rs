//! Weights by scheme (uniform, by tokens, by base units, scaled) are those of the explicit list,
//! bit for bit, and every merge records what was used.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::analysis::{Proxy, ProxySource};
use stockpot::engine::checkpoint::{StorageDType, TrainerState, write_model};
use stockpot::engine::merge::{
    MergeJob, MergePartition, Pool, Scaled, Scheme, Share, Weights, scaled_merge, to_memory, write_merges,
};
use stockpot::engine::model::{Architecture, Config, Table};
use stockpot::error::Result;
use tempfile::TempDir;

fn config() -> Config {
    Config {
        architecture: Architecture::Llama,
        width: 8,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_width: 8,
        feed_forward: 16,
        vocabulary: 31,
        context: 16,
        tied: true,
        rope_base: 10000.0,
        norm_epsilon: 1e-6,
        init_std: 0.02,
        eos: 0,
    }
}

/// `n` random checkpoints `0`, `1`, ..., in f32.
fn checkpoints(n: usize) -> (TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..n).map(|i| dir.path().join(i.to_string())).collect();
    for (i, path) in paths.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(50 + i as u64);
        let values: Vec<f32> = (0..Table::new(&config()).len).map(|_| rng.random::<f32>() - 0.5).collect();
        fs::create_dir(path).unwrap();
        write_model(path, &config(), &values, StorageDType::F32, None).unwrap();
    }
    (dir, paths)
}

fn plain(paths: &[PathBuf]) -> Vec<MergePartition> {
    paths.iter().map(|path| MergePartition::of_one(path)).collect()
}

fn named(name: &str, modules: &[PathBuf]) -> MergePartition {
    MergePartition { name: Some(name.into()), modules: modules.to_vec() }
}

/// Checkpoints cut into partitions `p0`, `p1`, ... of these sizes.
fn partitions(paths: &[PathBuf], sizes: &[usize]) -> Vec<MergePartition> {
    let mut rest = paths;
    let mut partition = |(i, &size): (usize, &usize)| {
        let (modules, more) = rest.split_at(size);
        rest = more;
        named(&format!("p{i}"), modules)
    };
    sizes.iter().enumerate().map(&mut partition).collect()
}

fn bits(weights: &Weights) -> Vec<(PathBuf, u64)> {
    weights.terms().into_iter().map(|(path, weight)| (path, weight.to_bits())).collect()
}

/// Asserts that `weights` has exactly the terms of the explicit list, and its merge the same bytes.
fn is_explicit(weights: &Weights, explicit: &[(PathBuf, f64)], scratch: &Path) {
    let expected: Vec<(PathBuf, u64)> = explicit.iter().map(|(path, w)| (path.clone(), w.to_bits())).collect();
    assert_eq!(bits(weights), expected);
    let said = scratch.join("said");
    let merge = MergeJob { weights: weights.clone(), dtype: None, companions: 0, recipe: None, out: said.clone() };
    write_merges(&[merge], None).unwrap();
    let (pool, sums) = Pool::of_sums(&[explicit.to_vec()]).unwrap();
    let mut listed = vec![0.0; pool.table().len];
    to_memory(&pool, &sums[0], 0, &mut listed).unwrap();
    let file = fs::read(said.join("model.safetensors")).unwrap();
    assert!(file.ends_with(bytemuck::cast_slice::<f32, u8>(&listed)));
    let config = fs::read(pool.checkpoints()[0].directory().join("config.json")).unwrap();
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(json(&fs::read(said.join("config.json")).unwrap()), json(&config));
}

fn refused<T>(result: Result<T>, code: u8, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted, but should name {parts:?}") };
    assert_eq!(error.exit_code(), code, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn schemes_are_their_explicit_lists_bit_for_bit() {
    let (dir, paths) = checkpoints(12);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..12 {
        let n = rng.random_range(1..=4);
        let sizes: Vec<usize> = (0..n).map(|_| rng.random_range(1..=3)).collect();
        let cut = partitions(&paths, &sizes);
        let units: usize = sizes.iter().sum();
        let given: Vec<f64> = (0..n).map(|_| rng.random_range(-0.5..2.0)).collect();
        let total: f64 = given.iter().sum();
        let seed = &paths[rng.random_range(0..12)];
        let lambda = [None, Some(0.0), Some(1.0), Some(1.4), Some(-0.3)][round % 5];
        let scaled = lambda.map(|lambda| Scaled { seed: seed.clone(), lambda });
        // The explicit list of weights, scaled.
        let explicit = |terms: Vec<(PathBuf, f64)>| -> Vec<(PathBuf, f64)> {
            match lambda {
                None => terms,
                Some(lambda) => {
                    let scaled = terms.into_iter().map(|(path, w)| (path, lambda * w));
                    std::iter::once((seed.clone(), 1.0 - lambda)).chain(scaled).collect()
                }
            }
        };
        // A module's weight is that of its partition divided by its number of modules.
        let composed = |weights: &[f64]| {
            let modules = cut.iter().zip(weights).flat_map(|(p, w)| p.modules.iter().map(move |m| (m, w, p)));
            explicit(modules.map(|(module, w, p)| (module.clone(), w / p.modules.len() as f64)).collect())
        };
        let of = |partitions: &[MergePartition], scheme: Scheme, normalize: bool| {
            Weights::new(partitions, &scheme, normalize, scaled.clone()).unwrap()
        };

        // macro over merges
        let weights = of(&cut, Scheme::Uniform, false);
        is_explicit(&weights, &composed(&vec![1.0 / n as f64; n]), dir.path());
        // macro: whole partitions, and the same without names
        let whole: Vec<MergePartition> = cut.iter().map(|p| named(p.name.as_ref().unwrap(), &p.modules[..1])).collect();
        let firsts: Vec<PathBuf> = cut.iter().map(|p| p.modules[0].clone()).collect();
        let uniform = explicit(firsts.iter().map(|path| (path.clone(), 1.0 / n as f64)).collect());
        is_explicit(&of(&whole, Scheme::Uniform, false), &uniform, dir.path());
        is_explicit(&of(&plain(&firsts), Scheme::Uniform, false), &uniform, dir.path());
        // micro: every unit equal, as if there were no partitions
        let all: Vec<PathBuf> = cut.iter().flat_map(|p| p.modules.clone()).collect();
        let equal = explicit(all.iter().map(|path| (path.clone(), 1.0 / units as f64)).collect());
        is_explicit(&of(&cut, Scheme::Units, false), &equal, dir.path());
        assert_eq!(bits(&of(&plain(&all), Scheme::Uniform, false)), bits(&of(&cut, Scheme::Units, true)));
        // given
        if total.abs() > 0.1 {
            let normal: Vec<f64> = given.iter().map(|w| w / total).collect();
            is_explicit(&of(&cut, Scheme::Given(given), true), &composed(&normal), dir.path());
        }
        // by tokens
        let tokens: Vec<u64> = (0..units).map(|_| rng.random_range(1..1 << 40)).collect();
        for (path, tokens) in all.iter().zip(&tokens) {
            TrainerState { step: 1, tokens: *tokens, run: json!({}) }.write(path).unwrap();
        }
        let mut left = &tokens[..];
        let sums = sizes.iter().map(|size| {
            let (these, others) = left.split_at(*size);
            left = others;
            these.iter().sum::<u64>() as f64
        });
        let sums: Vec<f64> = sums.collect();
        let total: f64 = sums.iter().sum();
        let by_tokens: Vec<f64> = sums.iter().map(|sum| sum / total).collect();
        is_explicit(&of(&cut, Scheme::Tokens, false), &composed(&by_tokens), dir.path());
    }
}

/// For any partitions of 1 to 8 units with any weights, `stockpot merge --partition` sums the same
/// terms as a study's proxies.
#[test]
fn merges_of_partitions_have_the_weights_of_a_studys_proxies_bit_for_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut differed_by_a_reciprocal = 0;
    for _ in 0..500 {
        let sizes: Vec<usize> = (0..rng.random_range(2..6)).map(|_| rng.random_range(1..9)).collect();
        let parts: Vec<f64> = sizes.iter().map(|_| rng.random::<f64>() + 0.01).collect();
        let weights: Vec<f64> = parts.iter().map(|part| part / parts.iter().sum::<f64>()).collect();
        let paths: Vec<PathBuf> = (0..sizes.iter().sum()).map(|i: usize| PathBuf::from(i.to_string())).collect();
        let partitions = partitions(&paths, &sizes);
        let shares: Vec<Share> = sizes.iter().zip(&weights).map(|(&units, &weight)| Share { weight, units }).collect();
        for (name, scheme) in [("macro_of_merges", Scheme::Given(weights.clone())), ("micro", Scheme::Units)] {
            let ProxySource::Merge { terms, .. } = Proxy::find(name).expect("a proxy").source else {
                panic!("{name} is a merge");
            };
            let Some(terms) = terms(&shares) else {
                assert!(sizes.iter().all(|&units| units == 1), "only without units it is MERGED");
                continue;
            };
            let made = Weights::new(&partitions, &scheme, false, None).expect("weights");
            let bits = |terms: &[f64]| terms.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
            let of_study: Vec<f64> = terms.iter().map(|(_, weight)| *weight).collect();
            let of_merge: Vec<f64> = made.members.iter().map(|member| member.weight).collect();
            assert_eq!(bits(&of_study), bits(&of_merge), "{name} of {sizes:?} under {weights:?}");
            let scaled = Some(Scaled { seed: "seed".into(), lambda: 1.3 });
            let made = Weights::new(&partitions, &scheme, false, scaled).expect("weights");
            let of_merge: Vec<f64> = made.members.iter().map(|member| member.weight).collect();
            let of_study: Vec<f64> = scaled_merge(terms, 1.3).iter().map(|(_, weight)| *weight).collect();
            assert_eq!(bits(&of_study), bits(&of_merge), "{name} of {sizes:?}, scaled");
        }
        let reciprocal = |share: &Share| share.weight * (1.0 / share.units as f64) != share.weight / share.units as f64;
        differed_by_a_reciprocal += shares.iter().filter(|share| reciprocal(share)).count();
    }
    assert!(differed_by_a_reciprocal > 100, "shapes in which another order of operations would show");
}

/// Sizes for which (units / all units) * (1 / units) is not 1 / all units; no file is read for
/// these weights.
#[test]
fn a_micro_merge_gives_every_unit_exactly_the_same_weight() {
    let paths: Vec<PathBuf> = (0..60).map(|i| i.to_string().into()).collect();
    let mut through_partitions_differs = 0;
    for all in 2..60 {
        for size in 1..all {
            let cut = partitions(&paths[..all], &[size, all - size]);
            let weights = Weights::new(&cut, &Scheme::Units, false, None).unwrap();
            assert!(weights.members.iter().all(|m| m.weight == 1.0 / all as f64), "{size} of {all}");
            let partition = size as f64 / all as f64;
            assert_eq!(weights.partitions[0].weight, partition);
            through_partitions_differs += usize::from(partition * (1.0 / size as f64) != 1.0 / all as f64);
        }
    }
    assert!(through_partitions_differs > 0);
}

#[test]
fn merge_json_records_how_the_weights_were_computed() {
    let (dir, paths) = checkpoints(5);
    for (path, tokens) in paths.iter().zip([300, 100, 200, 200, 7]) {
        TrainerState { step: 1, tokens, run: json!(null) }.write(path).unwrap();
    }
    let cut = partitions(&paths, &[1, 3]);
    let scaled = Some(Scaled { seed: paths[4].clone(), lambda: 2.0 });
    let weights = Weights::new(&cut, &Scheme::Tokens, false, scaled).unwrap();
    let out = dir.path().join("out");
    let merge = MergeJob { weights, dtype: Some(StorageDType::Bf16), companions: 0, recipe: None, out: out.clone() };
    let pass = write_merges(&[merge], None).unwrap();
    let written: Value = serde_json::from_str(&fs::read_to_string(out.join("merge.json")).unwrap()).unwrap();
    let p = Table::new(&config()).len;
    let path = |i: usize| paths[i].to_str().unwrap();
    let unit = |i: usize, tokens: u64| {
        let (given, weight) = (0.625 / 3.0, 2.0 * (0.625 / 3.0));
        json!({"path": path(i), "weight": weight, "given": given, "partition": "p1", "tokens": tokens})
    };
    assert_eq!(
        written,
        json!({
            "method": "linear",
            "scheme": "tokens",
            "normalized": false,
            "scaled": {"seed": path(4), "lambda": 2.0},
            "partitions": [
                {"name": "p0", "weight": 0.75, "given": 0.375, "units": 1, "tokens": 300},
                {"name": "p1", "weight": 1.25, "given": 0.625, "units": 3, "tokens": 500},
            ],
            "members": [
                {"path": path(4), "weight": -1.0, "given": -1.0},
                {"path": path(0), "weight": 0.75, "given": 0.375, "partition": "p0", "tokens": 300},
                unit(1, 100), unit(2, 200), unit(3, 200),
            ],
            "dtype": "bf16",
            "parameters": p,
            "bytes_read": 5 * 4 * p,
            "bytes_written": 2 * p,
        })
    );
    assert_eq!(written, serde_json::to_value(&pass.reports[0]).unwrap());
    // Divided by their sum, then among modules: the given weights are still recorded.
    let weights = Weights::new(&cut, &Scheme::Given(vec![1.0, 3.0]), true, None).unwrap();
    let seen: Vec<(f64, f64)> = weights.members.iter().map(|m| (m.given, m.weight)).collect();
    assert_eq!((seen[0], seen[1]), ((1.0, 0.25), (3.0 / 3.0, 0.75 / 3.0)));
    assert_eq!((weights.partitions[1].given, weights.partitions[1].weight, weights.normalized), (3.0, 0.75, true));
    // Schemes sum to 1: there is nothing to divide.
    assert!(!Weights::new(&cut, &Scheme::Uniform, true, None).unwrap().normalized);
}

/// The sum is checked on the given weights: lambda magnifies the allowed error.
#[test]
fn a_large_lambda_needs_no_better_sum() {
    let (dir, paths) = checkpoints(3);
    let scaled = |lambda| Some(Scaled { seed: paths[2].clone(), lambda });
    let given = |a: f64| Scheme::Given(vec![a, 0.5]);
    let weights = Weights::new(&plain(&paths[..2]), &given(0.5 + 9e-7), false, scaled(1000.0)).unwrap();
    let out = dir.path().join("out");
    write_merges(&[MergeJob { weights, dtype: None, companions: 0, recipe: None, out }], None).unwrap();
    refused(Weights::new(&plain(&paths[..2]), &given(0.4), false, scaled(0.0)), 2, &["sum to 1", "got: 0.9"]);
    refused(Weights::new(&plain(&paths[..2]), &given(0.5), false, scaled(f64::INFINITY)), 2, &["lambda", "inf"]);
}

#[test]
fn invalid_weights_are_refused() {
    let (dir, paths) = checkpoints(3);
    let of = |partitions: &[MergePartition], scheme: Scheme| Weights::new(partitions, &scheme, false, None);
    refused(of(&[], Scheme::Uniform), 2, &["at least one checkpoint"]);
    refused(of(&[named("law", &[])], Scheme::Uniform), 2, &["the partition `law` has no checkpoint"]);
    let twice = [named("law", &paths[..1]), named("law", &paths[1..])];
    refused(of(&twice, Scheme::Uniform), 2, &["two partitions are named `law`", "NAME=CKPT,CKPT"]);
    refused(
        of(&plain(&paths), Scheme::Given(vec![1.0])),
        2,
        &["does not match the checkpoints", "3 weights", "got: 1"],
    );
    let cut = partitions(&paths, &[1, 2]);
    refused(of(&cut, Scheme::Given(vec![0.2; 3])), 2, &["does not match the partitions", "2 weights", "got: 3"]);
    refused(of(&cut, Scheme::Given(vec![f64::NAN, 1.0])), 2, &["finite", "NaN"]);

    let write = |tokens: u64| TrainerState { step: 1, tokens, run: json!(1) }.write(&paths[1]).unwrap();
    let by_tokens = || of(&plain(&paths[1..2]), Scheme::Tokens);
    let trainer = paths[1].join("trainer.json");
    let name = trainer.to_str().unwrap();
    refused(by_tokens(), 1, &[name, "does not record how many tokens", "--weights 0.7,0.3"]);
    write(0);
    refused(by_tokens(), 1, &[name, "training tokens is out of range", "got: 0"]);
    write(u64::MAX);
    refused(by_tokens(), 1, &[name, "training tokens is out of range", "got: 18446744073709551615"]);
    fs::write(&trainer, "{\"step\": 1,\n \"tokens\": -5, \"run\": 1}").unwrap();
    refused(by_tokens(), 1, &[&format!("{name}:2"), "not a trainer's state", "-5"]);
    let absent = dir.path().join("absent");
    refused(of(&plain(&[absent]), Scheme::Tokens), 1, &["absent/trainer.json: cannot read"]);
}
