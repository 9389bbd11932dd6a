//! Merges against a plain f64 average, bit for bit, whatever the threads; and merges that must be refused by name.

mod recipe;
mod weights;

use rand::{Rng, SeedableRng};
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::engine::checkpoint::{OptimizerState, Reader, StorageDType, write_model};
use stockpot::engine::device::Device;
use stockpot::engine::merge::{
    Merge, MergeReport, Merger, Mixture, Partition, Pool, Scheme, Weights, check_weights, normalized, write_merges,
};
use stockpot::engine::model::{Architecture, Config, Model, Table};
use stockpot::engine::ops::dtype_convert::round_to_bytes;
use stockpot::error::Result;
use tempfile::TempDir;

/// Two chunks and a part, tensors that cross their borders.
fn config() -> Config {
    Config {
        architecture: Architecture::Olmo2,
        width: 64,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_width: 16,
        feed_forward: 168,
        vocabulary: 257,
        context: 32,
        tied: false,
        rope_base: 10000.0,
        norm_epsilon: 1e-6,
        init_std: 0.02,
        eos: 0,
    }
}

fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| (rng.random::<f32>() - 0.5) * 2f32.powi(rng.random_range(-12..2))).collect()
}

/// Random checkpoints `a`, `b`, ... of these types, and the weights as stored.
fn checkpoints(dtypes: &[StorageDType]) -> (TempDir, Vec<PathBuf>, Vec<Vec<f32>>) {
    let dir = tempfile::tempdir().unwrap();
    let (mut paths, mut stored) = (Vec::new(), Vec::new());
    for (i, dtype) in dtypes.iter().enumerate() {
        let path = dir.path().join(format!("{}", (b'a' + i as u8) as char));
        fs::create_dir(&path).unwrap();
        let values = random(Table::new(&config()).len, 10 + i as u64);
        write_model(&path, &config(), &values, *dtype, None).unwrap();
        let mut weights = vec![0.0; values.len()];
        Reader::open(&path).unwrap().read_weights(&mut weights).unwrap();
        paths.push(path);
        stored.push(weights);
    }
    (dir, paths, stored)
}

fn members(paths: &[PathBuf], weights: &[f64]) -> Vec<(PathBuf, f64)> {
    paths.iter().cloned().zip(weights.iter().copied()).collect()
}

/// sum_k w_k x_k in f64, in this order: the plainest loop.
fn plain(stored: &[Vec<f32>], weights: &[f64]) -> Vec<f64> {
    (0..stored[0].len())
        .map(|i| {
            let mut sum = weights[0] * f64::from(stored[0][i]);
            for k in 1..stored.len() {
                sum += weights[k] * f64::from(stored[k][i]);
            }
            sum
        })
        .collect()
}

/// Nearest with ties to even, by comparing the neighbours' distances, which f64 holds exactly: independent of the code
/// under test. `narrow` may be one unit off.
fn nearest(x: f64, bits: u16, widen: impl Fn(u16) -> f64) -> u16 {
    let candidates = [bits.wrapping_sub(1), bits, bits.wrapping_add(1)];
    let valid = candidates.into_iter().filter(|b| widen(*b).is_finite() && (b ^ bits) & 0x8000 == 0);
    valid.min_by(|a, b| (widen(*a) - x).abs().total_cmp(&(widen(*b) - x).abs()).then((a & 1).cmp(&(b & 1)))).unwrap()
}

fn merge(members: &[(PathBuf, f64)], out: &Path, dtype: Option<StorageDType>) -> Result<MergeReport> {
    write(members, out, dtype, false)
}

fn write(members: &[(PathBuf, f64)], out: &Path, dtype: Option<StorageDType>, normalize: bool) -> Result<MergeReport> {
    let partitions: Vec<Partition> = members.iter().map(|(path, _)| Partition::of_one(path)).collect();
    let given = Scheme::Given(members.iter().map(|member| member.1).collect());
    let weights = Weights::new(&partitions, &given, normalize, None)?;
    let merge = Merge { weights, dtype, companions: 0, recipe: None, out: out.to_path_buf() };
    Ok(write_merges(&[merge], None)?.reports.remove(0))
}

fn data(directory: &Path) -> Vec<u8> {
    let bytes = fs::read(directory.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn refused<T>(result: stockpot::error::Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted, but should name {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

const BF16: StorageDType = StorageDType::Bf16;
const F16: StorageDType = StorageDType::F16;
const F32: StorageDType = StorageDType::F32;

/// (P): the average in a model's memory.
fn in_memory(pool: &Pool, mixture: &Mixture) -> Result<Vec<f32>> {
    let mut device = Device::cpu();
    let model = Model::without_weights(&mut device, pool.config())?;
    Merger::new(&mut device, pool, std::slice::from_ref(mixture), 0)?.load(&mut device, 0, &model)?;
    device.to_vec(&model.master)
}

fn average(members: &[(PathBuf, f64)]) -> Result<(Config, Vec<f32>)> {
    let (pool, mixture) = Pool::of_one(members)?;
    Ok((pool.config().clone(), in_memory(&pool, &mixture)?))
}

#[test]
fn a_merge_is_the_plain_f64_average_rounded_once() {
    let weights = [0.5, 0.7, -0.3, 0.1];
    for inputs in [[F32; 4], [BF16; 4], [F16; 4], [F32, BF16, F16, F32]] {
        let (dir, paths, stored) = checkpoints(&inputs);
        let members = members(&paths, &weights);
        let sum = plain(&stored, &weights);
        let f32_bytes: Vec<u8> = sum.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
        let out = dir.path().join("out");

        merge(&members, &out, Some(F32)).unwrap();
        assert!(data(&out) == f32_bytes, "{inputs:?} -> f32");
        let (c, in_memory) = average(&members).unwrap();
        assert_eq!(c, config());
        assert!(bytemuck::cast_slice::<f32, u8>(&in_memory) == f32_bytes, "{inputs:?} in memory");

        merge(&members, &out, Some(BF16)).unwrap();
        for (i, (&x, b)) in sum.iter().zip(data(&out).chunks(2)).enumerate() {
            let expected = nearest(x, half::bf16::from_f64(x).to_bits(), |b| half::bf16::from_bits(b).to_f64());
            assert_eq!(u16::from_le_bytes([b[0], b[1]]), expected, "{inputs:?} -> bf16, element {i}: {x:e}");
        }
        merge(&members, &out, Some(F16)).unwrap();
        for (i, (&x, b)) in sum.iter().zip(data(&out).chunks(2)).enumerate() {
            let expected = nearest(x, half::f16::from_f64(x).to_bits(), |b| half::f16::from_bits(b).to_f64());
            assert_eq!(u16::from_le_bytes([b[0], b[1]]), expected, "{inputs:?} -> f16, element {i}: {x:e}");
        }
    }
}

#[test]
fn narrowing_from_f64_rounds_once() {
    // (value, bf16): above a tie by less than f32 can tell; the tie itself; the halfway point below a subnormal
    let tie = 1.0 + 2f64.powi(-8);
    for (x, expected) in [
        (tie, 0x3f80),
        (tie + 2f64.powi(-40), 0x3f81),
        (-tie - 2f64.powi(-52), 0xbf81),
        (1.0 + 3.0 * 2f64.powi(-8), 0x3f82),
        (1.0 + 3.0 * 2f64.powi(-8) - 2f64.powi(-45), 0x3f81),
        (2f64.powi(-134), 0x0000),
        (2f64.powi(-134) + 2f64.powi(-180), 0x0001),
        (1e-300, 0x0000),
        (-0.0, 0x8000),
    ] {
        let mut bytes = [0; 2];
        assert!(round_to_bytes(&[x], BF16, &mut bytes));
        assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]), expected, "{x:e}");
    }
    // f16: the tie between 1 and the next, 2^-25 between 0 and the smallest subnormal
    for (x, expected) in [
        (1.0 + 2f64.powi(-11), 0x3c00),
        (1.0 + 2f64.powi(-11) + 2f64.powi(-50), 0x3c01),
        (2f64.powi(-25), 0x0000),
        (2f64.powi(-25) + 2f64.powi(-70), 0x0001),
    ] {
        let mut bytes = [0; 2];
        assert!(round_to_bytes(&[x], F16, &mut bytes));
        assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]), expected, "{x:e}");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let (dir, paths, _) = checkpoints(&[BF16, F32, F16]);
    let members = members(&paths, &[0.2, 0.3, 0.5]);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out = dir.path().join(format!("out{threads}"));
        pool.install(|| {
            let memory: Vec<u32> = average(&members).unwrap().1.iter().map(|x| x.to_bits()).collect();
            merge(&members, &out, Some(BF16)).unwrap();
            (memory, fs::read(out.join("model.safetensors")).unwrap(), fs::read(out.join("merge.json")).unwrap())
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(7));
}

#[test]
fn one_checkpoint_of_weight_1_stays_as_it_is() {
    let (dir, paths, _) = checkpoints(&[BF16]);
    let path = dir.path().join("a/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last..].copy_from_slice(&half::bf16::NEG_ZERO.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let out = dir.path().join("out");
    let report = merge(&members(&paths, &[1.0]), &out, None).unwrap();
    assert_eq!(report.dtype, BF16);
    assert!(data(&out) == data(&paths[0]));
}

#[test]
fn the_output_has_the_type_of_the_inputs_when_they_agree() {
    for (inputs, expected) in [([BF16, BF16], BF16), ([F16, F16], F16), ([F32, F32], F32), ([BF16, F16], F32)] {
        let (dir, paths, _) = checkpoints(&inputs);
        let out = dir.path().join("out");
        assert_eq!(merge(&members(&paths, &[0.5, 0.5]), &out, None).unwrap().dtype, expected, "{inputs:?}");
        assert_eq!(Reader::open(&out).unwrap().dtype(), Some(expected), "{inputs:?}");
    }
}

#[test]
fn weights_must_sum_to_1_unless_normalized() {
    check_weights(&[1.5, -0.5]).unwrap();
    check_weights(&[1.0 / 3.0; 3]).unwrap();
    check_weights(&[0.5, 0.5 + 9e-7]).unwrap();
    refused(check_weights(&[0.5, 0.4]), &["sum to 1", "0.9", "--normalize"]);
    refused(check_weights(&[0.5, 0.5 + 2e-6]), &["sum to 1", "--normalize"]);
    refused(check_weights(&[f64::NAN, 1.0]), &["finite", "NaN"]);
    refused(check_weights(&[]), &["at least one"]);
    assert_eq!(normalized(&[1.0, 3.0]).unwrap(), [0.25, 0.75]);
    refused(normalized(&[1.0, -1.0]), &["cannot be normalized", "0"]);

    let (dir, paths, stored) = checkpoints(&[F32, F32]);
    let out = dir.path().join("out");
    let given = members(&paths, &[1.0, 3.0]);
    let error = merge(&given, &out, None).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    refused::<()>(Err(error), &["4", "--normalize"]);
    refused(average(&given), &["4", "--normalize"]);
    assert!(!out.exists());
    let report = write(&given, &out, None, true).unwrap().weights;
    assert_eq!((report.members[1].given, report.members[1].weight, report.normalized), (3.0, 0.75, true));
    let expected: Vec<u8> = plain(&stored, &[0.25, 0.75]).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    assert!(data(&out) == expected);
}

#[test]
fn merge_json_says_what_was_used() {
    let (dir, paths, _) = checkpoints(&[F32, F32]);
    let out = dir.path().join("out");
    merge(&members(&paths, &[0.1, 0.9]), &out, Some(BF16)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(out.join("merge.json")).unwrap()).unwrap();
    assert_eq!(json["members"][0]["weight"], 0.1);
    assert_eq!(json["members"][1]["path"], paths[1].to_str().unwrap());
    assert_eq!((&json["dtype"], &json["normalized"]), (&"bf16".into(), &false.into()));
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
}

#[test]
fn config_and_tokenizer_come_from_the_first_member() {
    let (dir, paths, _) = checkpoints(&[F32, F32]);
    for (path, text) in paths.iter().zip(["{\"of\": 1}", "{\"of\": 2}"]) {
        fs::write(path.join("tokenizer.json"), text).unwrap();
    }
    let config_path = paths[0].join("config.json");
    let text = fs::read_to_string(&config_path).unwrap().replacen('{', "{\n  \"_name_or_path\": \"mine\",", 1);
    fs::write(&config_path, text).unwrap();
    let out = dir.path().join("out");
    merge(&members(&paths, &[0.5, 0.5]), &out, None).unwrap();
    assert_eq!(fs::read_to_string(out.join("tokenizer.json")).unwrap(), "{\"of\": 1}");
    assert!(fs::read_to_string(out.join("config.json")).unwrap().contains("\"_name_or_path\": \"mine\""));
    assert!(!out.join("tokenizer_config.json").exists());
}

#[test]
fn nan_and_infinity_are_named_not_averaged() {
    for (value, weight) in [(f32::NAN, 0.5), (f32::INFINITY, 0.0), (f32::NEG_INFINITY, 0.5)] {
        let (dir, paths, _) = checkpoints(&[F32, F32]);
        let name = "model.layers.2.mlp.down_proj.weight";
        let table = Table::new(&config());
        let path = paths[1].join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 4 * (table.len - table.find(name).unwrap().offset - 11);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let members = members(&paths, &[1.0 - weight, weight]);
        let out = dir.path().join("out");
        let parts = [path.to_str().unwrap(), name, "at element 11"];
        refused(merge(&members, &out, None), &parts);
        refused(average(&members), &parts);
        assert!(!out.exists(), "nothing is left behind");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left aside");
    }
}

#[test]
fn a_sum_beyond_the_type_is_named() {
    let (dir, paths, _) = checkpoints(&[F32]);
    let mut weights = random(Table::new(&config()).len, 1);
    let name = "model.layers.0.mlp.up_proj.weight";
    weights[Table::new(&config()).find(name).unwrap().offset] = 70000.0;
    write_model(&paths[0], &config(), &weights, F32, None).unwrap();
    let result = merge(&members(&paths, &[1.0]), &dir.path().join("out"), Some(F16));
    refused(result, &[name, "f16", "70000", "bf16 or f32"]);
}

#[test]
fn models_that_differ_are_refused_by_both_names_and_the_tensor() {
    let (dir, paths, _) = checkpoints(&[F32]);
    let with = |other: Config, parts: &[&str]| {
        let path = dir.path().join("other");
        fs::create_dir_all(&path).unwrap();
        write_model(&path, &other, &random(Table::new(&other).len, 3), F32, None).unwrap();
        let all = [&paths[0], &path].map(Clone::clone);
        let result = merge(&members(&all, &[0.5, 0.5]), &dir.path().join("out"), None);
        refused(result, &[&[all[0].to_str().unwrap(), all[1].to_str().unwrap()], parts].concat());
        refused(average(&members(&all, &[0.5, 0.5])), parts);
    };
    with(Config { vocabulary: 264, ..config() }, &["model.embed_tokens.weight", "[257, 64]", "[264, 64]"]);
    with(Config { layers: 2, ..config() }, &["model.layers.2.self_attn.q_proj.weight", "no such tensor"]);
    with(Config { layers: 4, ..config() }, &["model.layers.3.self_attn.q_proj.weight", "no such tensor"]);
    with(Config { tied: true, ..config() }, &["lm_head.weight", "no such tensor"]);
    with(Config { rope_base: 20000.0, ..config() }, &["rope_base", "10000", "20000"]);
    with(Config { norm_epsilon: 1e-5, ..config() }, &["norm_epsilon"]);
    with(Config { architecture: Architecture::Llama, ..config() }, &["q_norm.weight", "no such tensor"]);
    // how the weights were drawn says nothing about them
    let path = dir.path().join("other");
    let other = Config { init_std: 0.5, ..config() };
    write_model(&path, &other, &random(Table::new(&other).len, 3), F32, None).unwrap();
    merge(&members(&[paths[0].clone(), path], &[0.5, 0.5]), &dir.path().join("out"), None).unwrap();
}

#[test]
fn the_output_replaces_only_an_earlier_merge() {
    let (dir, paths, stored) = checkpoints(&[F32, F32]);
    let given = members(&paths, &[0.5, 0.5]);
    refused(merge(&given, &paths[0], None), &["cannot be one of its inputs"]);
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis.tex"), "x").unwrap();
    refused(merge(&given, &precious, None), &["precious", "not an earlier merge", "--out"]);
    assert!(precious.join("thesis.tex").exists());
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    merge(&given, &out, None).unwrap();
    merge(&members(&paths, &[0.25, 0.75]), &out, None).unwrap();
    let expected: Vec<u8> = plain(&stored, &[0.25, 0.75]).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    assert!(data(&out) == expected);
}

#[test]
fn a_file_cut_short_under_a_merge_is_an_error() {
    let (_dir, paths, _) = checkpoints(&[F32, F32]);
    let (pool, mixture) = Pool::of_one(&members(&paths, &[0.5, 0.5])).unwrap();
    in_memory(&pool, &mixture).unwrap();
    let path = paths[1].join("model.safetensors");
    fs::File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    refused(in_memory(&pool, &mixture), &[path.to_str().unwrap(), "changed while it was read"]);
}

#[test]
fn a_file_replaced_under_a_merge_is_an_error() {
    let (dir, paths, _) = checkpoints(&[F32, F32, F32]);
    let (pool, mixture) = Pool::of_one(&members(&paths[..2], &[0.5, 0.5])).unwrap();
    let path = paths[1].join("model.safetensors");
    fs::rename(paths[2].join("model.safetensors"), &path).unwrap();
    refused(in_memory(&pool, &mixture), &[path.to_str().unwrap(), "changed while it was read", "another length, time"]);
    // rewritten in place: the same length, another time
    let (pool, mixture) = Pool::of_one(&members(&paths[..2], &[0.5, 0.5])).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(3)).unwrap();
    refused(in_memory(&pool, &mixture), &[path.to_str().unwrap(), "changed while it was read"]);
    assert!(dir.path().exists());
}

#[test]
fn a_scaled_merge_is_a_merge_with_the_seed() {
    // seed + lambda (mean of two - seed), and files that are no weights are left behind
    let (dir, paths, stored) = checkpoints(&[F32, F32, F32]);
    OptimizerState::zeros(&Table::new(&config())).write(&paths[0], &Table::new(&config())).unwrap();
    let lambda = 1.4;
    let weights = [1.0 - lambda, lambda / 2.0, lambda / 2.0];
    let out = dir.path().join("out");
    merge(&members(&paths, &weights), &out, None).unwrap();
    let expected: Vec<u8> = plain(&stored, &weights).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    assert!(data(&out) == expected);
    assert!(!out.join("optimizer.safetensors").exists());
}

#[test]
fn different_vocabularies_are_refused_and_other_spellings_of_one_are_not() {
    let (dir, paths, _) = checkpoints(&[StorageDType::F32; 3]);
    let write = |path: &Path, json: &str| fs::write(path.join("tokenizer.json"), json).unwrap();
    write(&paths[0], r#"{"model": {"vocab": {"a": 0, "b": 1}}}"#);
    write(&paths[1], r#"{"version": "1.0", "model": {"vocab": {"b": 1, "a": 0}}}"#);
    // The third has no tokenizer and fits any.
    average(&members(&paths, &[0.5, 0.25, 0.25])).unwrap();
    write(&paths[2], r#"{"model": {"vocab": {"a": 1, "b": 0}}}"#);
    let out = dir.path().join("out");
    let refused = merge(&members(&paths, &[0.5, 0.25, 0.25]), &out, None);
    let message = refused.expect_err("other ids").to_string();
    assert!(message.contains("c/tokenizer.json") && message.contains("a/tokenizer.json"), "{message}");
    assert!(!out.exists());
}
