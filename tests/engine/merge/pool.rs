//! Pools of checkpoints: compatibility, and files that change during a merge.

use super::{F32, average, checkpoints, config, in_memory, members, merge, random, refused};
use std::fs;
use std::path::Path;
use stockpot::engine::checkpoint::{StorageDType, write_model};
use stockpot::engine::merge::Pool;
use stockpot::engine::model::{Architecture, Config, Table};

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
    // how the weights were initialized does not matter
    let path = dir.path().join("other");
    let other = Config { init_std: 0.5, ..config() };
    write_model(&path, &other, &random(Table::new(&other).len, 3), F32, None).unwrap();
    merge(&members(&[paths[0].clone(), path], &[0.5, 0.5]), &dir.path().join("out"), None).unwrap();
}

#[test]
fn a_file_truncated_during_a_merge_is_an_error() {
    let (_dir, paths, _) = checkpoints(&[F32, F32]);
    let (pool, sum) = Pool::of_one(&members(&paths, &[0.5, 0.5])).unwrap();
    in_memory(&pool, &sum).unwrap();
    let path = paths[1].join("model.safetensors");
    fs::File::options().write(true).open(&path).unwrap().set_len(100_000).unwrap();
    refused(in_memory(&pool, &sum), &[path.to_str().unwrap(), "changed while it was read"]);
}

#[test]
fn a_file_replaced_during_a_merge_is_an_error() {
    let (dir, paths, _) = checkpoints(&[F32, F32, F32]);
    let (pool, sum) = Pool::of_one(&members(&paths[..2], &[0.5, 0.5])).unwrap();
    let path = paths[1].join("model.safetensors");
    fs::rename(paths[2].join("model.safetensors"), &path).unwrap();
    refused(in_memory(&pool, &sum), &[path.to_str().unwrap(), "changed while it was read", "a different length, time"]);
    // rewritten in place: the same length, another time
    let (pool, sum) = Pool::of_one(&members(&paths[..2], &[0.5, 0.5])).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(3)).unwrap();
    refused(in_memory(&pool, &sum), &[path.to_str().unwrap(), "changed while it was read"]);
    assert!(dir.path().exists());
}

#[test]
fn different_vocabularies_are_refused_and_other_spellings_of_one_are_not() {
    let (dir, paths, _) = checkpoints(&[StorageDType::F32; 3]);
    let write = |path: &Path, json: &str| fs::write(path.join("tokenizer.json"), json).unwrap();
    write(&paths[0], r#"{"model": {"vocab": {"a": 0, "b": 1}}}"#);
    write(&paths[1], r#"{"version": "1.0", "model": {"vocab": {"b": 1, "a": 0}}}"#);
    // The third has no tokenizer and is compatible with any.
    average(&members(&paths, &[0.5, 0.25, 0.25])).unwrap();
    write(&paths[2], r#"{"model": {"vocab": {"a": 1, "b": 0}}}"#);
    let out = dir.path().join("out");
    let refused = merge(&members(&paths, &[0.5, 0.25, 0.25]), &out, None);
    let message = refused.expect_err("other ids").to_string();
    assert!(message.contains("c/tokenizer.json") && message.contains("a/tokenizer.json"), "{message}");
    assert!(!out.exists());
}
