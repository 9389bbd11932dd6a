//! A merge's own memory does not grow with the number of checkpoints: the system holds it to a limit that is less than one
//! model. (Mapped files are the page cache's, which the system takes back when it needs to.)

use std::fs;
use std::process::Command;
use stockpot::checkpoint::{StorageDType, write_model};
use stockpot::model::{Architecture, Config, initial_weights};

#[test]
fn two_eight_and_sixty_four_checkpoints_fit_in_the_same_memory() {
    let dir = tempfile::tempdir().unwrap();
    // 11.6M parameters: 46 MB in f32, 23 MB in bf16
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
        let path = dir.path().join(format!("m{i}"));
        fs::create_dir(&path).unwrap();
        write_model(&path, &config, &initial_weights(&config, i as u64), dtype, None).unwrap();
    }
    // As many directories as needed, of hard links.
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

/// Of private memory: the program's, two threads' stacks (2 MiB each) and buffers. One model takes 46 MB in f32.
const LIMIT_KIB: u64 = 24 << 10;
