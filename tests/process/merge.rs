//! Merges as processes: held to a limit on memory, and with files that are cut short under them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use stockpot::engine::checkpoint::{StorageDType, write_model};
use stockpot::engine::model::{Architecture, Config, initial_weights};

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

/// The system holds the merge to less memory than one model takes. (Mapped files are the page cache's, which the system
/// takes back when it needs to.)
#[test]
fn two_eight_and_sixty_four_checkpoints_fit_in_the_same_memory() {
    let dir = tempfile::tempdir().unwrap();
    write_checkpoints(dir.path());
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

/// Whenever it happens: the merge is whole, or it is refused by the file's name and leaves nothing behind. It never
/// ends by a signal.
#[test]
fn a_file_cut_short_at_any_moment_is_an_error_or_too_late() {
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
