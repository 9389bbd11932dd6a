//! `stockpot merge`: user errors, bad checkpoints, a memory limit, and files truncated while
//! mapped.

use crate::binary::stockpot;
use crate::texts::MODEL;
use crate::{train_model, trained};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stockpot::engine::checkpoint::{StorageDType, write_model};
use stockpot::engine::model::{Architecture, Config, initial_weights};

#[test]
fn invalid_merges_are_refused() {
    let dir = trained();
    train_model(dir.path(), "other", MODEL);
    train_model(dir.path(), "wide", &MODEL.replace("width = 16", "width = 32"));
    let merge = |args: &[&str]| stockpot(dir.path(), &[&["merge", "--out", "merged"], args].concat());
    merge(&["model", "other", "--weights", "0.5,0.6"])
        .fails(2, &["the weights of a merge must sum to 1", "got: 1.1, from [0.5, 0.6]", "--normalize"]);
    merge(&["model", "other", "--weights", "1.0"]).fails(2, &["--weights does not match", "2 weights"]);
    merge(&["model", "wide"])
        .fails(1, &["wide", "tensor `model.embed_tokens.weight`", "[300, 16]", "[300, 32]", "from one seed model"]);
    merge(&["model", "absent"]).fails(1, &["absent/config.json: cannot read", "check the path"]);
    merge(&["model", "other", "--dtype", "f8"]).fails(2, &["--dtype f8 is unknown", "f32, bf16 or f16"]);
    merge(&["recipe.yaml"]).fails(1, &["recipe.yaml: cannot read", "check the path"]);
    merge(&[]).fails(2, &["CKPT|RECIPE.yaml"]);
    merge(&["model", "other", "--weights", "half"])
        .fails(2, &["--weights half is unknown", "uniform, tokens, units", "`half`, which is not a number"]);
    merge(&["model", "other", "--weights", "0.5,,0.5"]).fails(2, &["--weights 0.5,,0.5 is unknown", "got: ``"]);
    merge(&["model", "other", "--weights", "inf,0.5"]).fails(2, &["a finite number", "got: inf"]);
    merge(&["--partition", "law=model,other", "--weights", "0.5,0.5"]).fails(2, &["the partitions", "1 weights"]);
    merge(&["--partition", "law"]).fails(2, &["`law` is not NAME=CKPT,..."]);
    merge(&["--partition", "law=model,,other"]).fails(2, &["`law=model,,other` is not NAME=CKPT,...", "no empty path"]);
    merge(&["--partition", "law=model", "--partition", "law=other"]).fails(2, &["two partitions are named `law`"]);
    merge(&["model", "--partition", "law=other"]).fails(2, &["cannot be used with", "--partition"]);
    merge(&["model", "--seed", "other"]).fails(2, &["--lambda"]);
    merge(&["model", "--lambda", "1.4"]).fails(2, &["--seed"]);
    merge(&["model", "--seed", "other", "--lambda", "much"]).fails(2, &["--lambda", "much"]);
    merge(&["model", "--seed", "absent", "--lambda", "1.4"]).fails(1, &["absent/config.json: cannot read"]);
    merge(&["model", "other", "--weights", "0.5,0.4", "--seed", "model", "--lambda", "2"]).fails(2, &["got: 0.9"]);
    fs::remove_file(dir.path().join("other/trainer.json")).expect("a file");
    merge(&["model", "other", "--weights", "tokens"])
        .fails(1, &["other/trainer.json: this checkpoint does not record", "--weights 0.7,0.3"]);
    assert!(!dir.path().join("merged").exists());
    stockpot(dir.path(), &["merge", "--out", "model", "model", "other"])
        .fails(2, &["model: the output of a merge cannot be one of its inputs"]);
    stockpot(dir.path(), &["merge", "--out", "other", "model", "wide"]).fails(1, &["tensor"]);
    stockpot(dir.path(), &["merge", "--out", "wide", "model", "other"])
        .fails(2, &["wide: the output of a merge exists and is not an earlier merge"]);
    merge(&["model", "other", "--weights", "0.5,0.6", "--normalize", "--json"]).json();
    merge(&["model", "other", "--weights=-0.5,1.5"]).done();
    merge(&["model", "other", "--weights", "-0.5,1.5"]).done();
    // A directory that contains an input is never overwritten, even if it is an earlier merge.
    fs::create_dir(dir.path().join("merged/inner")).expect("a directory");
    fs::rename(dir.path().join("other"), dir.path().join("merged/inner/other")).expect("a move");
    merge(&["model", "merged/inner/other"]).fails(2, &["merged: the output of a merge cannot be one of its inputs"]);
}

/// `merge` and `eval --merge` take the same arguments and make the same model.
#[test]
fn eval_scores_the_merge_that_merge_writes() {
    let dir = trained();
    for (name, steps) in [("other", 2), ("third", 5)] {
        let training = format!("[training]\nsteps = {steps}\nbatch = 4\nlearning_rate = 1e-3\n");
        fs::write(dir.path().join("on.toml"), format!("files = [\"law.jsonl\"]\n{training}")).expect("settings");
        let args = ["train", "--config", "on.toml", "--init", "model", "--device", "cpu", "--out", name];
        stockpot(dir.path(), &args).done();
    }
    let eval = |args: &[&str]| {
        let rest = ["--data", "x=letters.jsonl", "--device", "cpu", "--json"];
        stockpot(dir.path(), &[&["eval"], args, &rest].concat())
    };
    // model: 1 step of 2 windows of 16; other: 2 of 4; third: 5 of 4: 1 to 4 to 10.
    let cases: [(&[&str], &str, &[f64]); 8] = [
        (&["model", "other", "third"], "uniform", &[1.0 / 3.0; 3]),
        (&["model", "other", "third", "--weights", "tokens"], "tokens", &[1.0 / 15.0, 4.0 / 15.0, 10.0 / 15.0]),
        (&["model", "other", "--weights", "-0.5,1.5"], "given", &[-0.5, 1.5]),
        (&["model", "other", "--weights=1,3", "--normalize"], "given", &[0.25, 0.75]),
        (&["--partition", "p=model,other", "--partition", "q=third"], "uniform", &[0.25, 0.25, 0.5]),
        (&["--partition", "p=model,other", "--partition", "q=third", "--weights", "units"], "units", &[1.0 / 3.0; 3]),
        (&["other", "third", "--seed", "model", "--lambda", "1.4"], "uniform", &[1.0 - 1.4, 0.7, 0.7]),
        (&["third", "--seed", "third", "--lambda", "-1"], "uniform", &[2.0, -1.0]),
    ];
    for (args, scheme, weights) in cases {
        let written = stockpot(dir.path(), &[&["merge", "--json", "--out", "merged"], args].concat()).json();
        let of_file = eval(&["merged"]).json();
        assert!(of_file.get("merge").is_none(), "{of_file}");
        let paths = args.iter().take_while(|a| !a.starts_with('-')).copied().collect::<Vec<_>>();
        let mut scored = args[paths.len()..].to_vec();
        let joined = paths.join(",");
        if !paths.is_empty() {
            scored.extend(["--merge", &joined]);
        }
        let in_memory = eval(&scored).json();
        assert_eq!(in_memory["domains"], of_file["domains"], "{args:?}");
        let merge = &in_memory["merge"];
        assert_eq!(merge["scheme"], scheme, "{args:?}");
        assert_eq!(merge["members"].as_array().expect("members").len(), weights.len(), "{args:?}");
        for (member, weight) in merge["members"].as_array().expect("members").iter().zip(weights) {
            assert_eq!(member["weight"].as_f64(), Some(*weight), "{args:?}: {member}");
        }
        for field in ["scheme", "normalized", "members", "partitions", "scaled"] {
            assert_eq!(merge.get(field), written.get(field), "{args:?}: {field}");
        }
    }
    // Weights given with the paths.
    let given = eval(&["--merge", "model=0.25,third=0.75"]).json();
    assert_eq!(
        (&given["model"], &given["merge"]["scheme"]),
        (&"merge of model=0.25,third=0.75".into(), &"given".into())
    );
    let scaled = eval(&["--merge", "model=1,third=3", "--normalize", "--seed", "other", "--lambda", "0.5"]).json();
    let weights: Vec<f64> =
        scaled["merge"]["members"].as_array().expect("members").iter().map(|m| m["weight"].as_f64().unwrap()).collect();
    assert_eq!(weights, [0.5, 0.125, 0.375]);
}

/// A safetensors file of this header and `data` bytes.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0u8; data]);
    bytes
}

#[test]
fn corrupt_and_malicious_checkpoints_are_refused() {
    let dir = trained();
    let path = dir.path().join("model/model.safetensors");
    let whole = fs::read(&path).expect("weights");
    let entry = |name: &str, from: usize, to: usize| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[{from},{to}]}}")
    };
    let mut endless = whole.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut nan = whole.clone();
    let last = nan.len() - 4;
    nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: [(Vec<u8>, &[&str]); 8] = [
        (whole[..whole.len() - 100].to_vec(), &["tensor `", "is outside the file", "it may have been cut short"]),
        (whole[..5].to_vec(), &["this is not a safetensors file", "a file of 5 bytes"]),
        (endless, &["this is not a safetensors file", "a header length of 18446744073709551615"]),
        (safetensors("{broken", 0), &["the header of this safetensors file cannot be read"]),
        (
            safetensors(&format!("{{{},{}}}", entry("a", 0, 8), entry("b", 4, 12)), 12),
            &["tensor `b`", "shares bytes with the one before"],
        ),
        (
            safetensors(&format!("{{{}}}", entry("a", 0, usize::MAX)), 8),
            &["tensor `a`", "the header's entry for this tensor is wrong"],
        ),
        (
            safetensors(&format!("{{{}}}", entry("a", 0, 8)), 8),
            &["tensor `model.embed_tokens.weight`", "this tensor is missing"],
        ),
        (nan, &["tensor `", "not finite"]),
    ];
    for (bytes, parts) in cases {
        fs::write(&path, bytes).expect("weights");
        let merged = stockpot(dir.path(), &["merge", "--out", "merged", "model"]);
        merged.fails(1, &[&["model.safetensors"], parts].concat());
        assert!(!dir.path().join("merged").exists());
    }
    let eval = || stockpot(dir.path(), &["eval", "model", "--data", "x=letters.jsonl", "--device", "cpu"]);
    // A model with a non-finite weight has no score.
    eval().fails(1, &["not finite"]);
    fs::write(&path, &whole[..whole.len() - 100]).expect("weights");
    eval().fails(1, &["model.safetensors", "is outside the file"]);
    fs::write(&path, &whole).expect("weights");
    eval().done();
    let config = dir.path().join("model/config.json");
    let text = fs::read_to_string(&config).expect("a config");
    fs::write(&config, text.replace("\"silu\"", "\"gelu\"")).expect("a config");
    eval().fails(1, &["model/config.json", "`hidden_act`", "silu", "gelu"]);
}

/// `m0` in bf16 and `m1` in f32, of 11.6M parameters: 46 MB in f32, 23 MB in bf16.
fn write_checkpoints(directory: &Path) {
    let config = Config {
        architecture: Architecture::Llama,
        width: 128,
        layers: 8,
        heads: 2,
        kv_heads: 2,
        head_width: 64,
        feed_forward: 384,
        vocabulary: 38_000,
        context: 32,
        tied: false,
        rope_base: 10000.0,
        norm_epsilon: 1e-6,
        init_std: 0.02,
        eos: 0,
    };
    for (i, dtype) in [StorageDType::Bf16, StorageDType::F32].into_iter().enumerate() {
        let path = directory.join(format!("m{i}"));
        fs::create_dir(&path).unwrap();
        write_model(&path, &config, &initial_weights(&config, i as u64), dtype, None).unwrap();
    }
}

/// The merge runs under a memory limit smaller than one model. (Mapped files are in the page cache,
/// which the system can reclaim.)
#[test]
fn two_eight_and_sixty_four_checkpoints_fit_in_the_same_memory() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoints(dir.path());
    // The other directories are hard links.
    for i in 2..64 {
        let (from, to) = (dir.path().join(format!("m{}", i % 2)), dir.path().join(format!("m{i}")));
        fs::create_dir(&to).unwrap();
        for file in ["config.json", "model.safetensors"] {
            fs::hard_link(from.join(file), to.join(file)).unwrap();
        }
    }
    let merge = |count: usize, kib: u64| {
        let names: Vec<String> = (0..count).map(|i| format!("m{i}")).collect();
        let command = format!(
            "ulimit -d {kib} && exec '{}' merge --threads 2 --dtype bf16 --out out{count} {}",
            env!("CARGO_BIN_EXE_stockpot"),
            names.join(" ")
        );
        Command::new("sh").args(["-c", &command]).current_dir(dir.path()).output().unwrap()
    };
    for count in [2, 8, 64] {
        let done = merge(count, LIMIT_KIB);
        assert!(done.status.success(), "{count} checkpoints: {}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(!merge(2, 1024).status.success(), "the limit limits nothing here");
}

/// Limit on private memory: the program, two threads' stacks (2 MiB each) and buffers. One model
/// takes 46 MB in f32.
const LIMIT_KIB: u64 = 24 << 10;

/// At any moment, the merge is either complete, or fails with the file's name and leaves nothing
/// behind. It never dies from a signal.
#[test]
fn a_file_truncated_during_a_merge_is_an_error_or_too_late() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoints(dir.path());
    let path = dir.path().join("m1/model.safetensors");
    let whole = fs::read(&path).unwrap();
    let (mut refused, mut done) = (0, 0);
    for round in 0..30 {
        fs::write(&path, &whole).unwrap();
        let mut merge = Command::new(env!("CARGO_BIN_EXE_stockpot"));
        merge.args(["merge", "--threads", "2", "--out", "out", "m0", "m1"]).current_dir(dir.path());
        let child = merge.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 2));
        fs::File::options().write(true).open(&path).unwrap().set_len(whole.len() as u64 / 3).unwrap();
        let ended = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&ended.stderr);
        match ended.status.code() {
            Some(0) => {
                done += 1;
                assert_eq!(fs::metadata(dir.path().join("out/model.safetensors")).unwrap().len(), whole.len() as u64);
                fs::remove_dir_all(dir.path().join("out")).unwrap();
            }
            Some(1) => {
                refused += 1;
                assert!(message.contains("m1/model.safetensors"), "{message}");
                assert!(!dir.path().join("out").exists(), "{message}");
            }
            _ => panic!("round {round}: {:?}, {message}", ended.status),
        }
    }
    assert!(refused > 0, "{done} merges were done before the file was cut");
}
