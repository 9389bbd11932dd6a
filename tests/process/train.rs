//! `stockpot train`: outputs that exist or are being written.

use crate::binary::{command, stockpot};
use crate::checkpoints::{TRAIN, prepared, write_settings};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn an_output_that_exists_is_refused() {
    let dir = prepared("");
    fs::create_dir(dir.path().join("model")).expect("a directory");
    fs::write(dir.path().join("model/mine.txt"), "mine").expect("a file");
    stockpot(dir.path(), &TRAIN).fails(2, &["model: the output already exists", "choose another --out"]);
    assert_eq!(fs::read_to_string(dir.path().join("model/mine.txt")).ok().as_deref(), Some("mine"));
}

#[test]
fn a_second_training_to_the_same_checkpoint_is_refused() {
    let dir = prepared("");
    write_settings(dir.path(), "train.toml", 20_000, "");
    let mut first = command(dir.path(), &TRAIN).stderr(Stdio::null()).spawn().expect("the binary starts");
    let begun = std::time::Instant::now();
    while !dir.path().join("model.partial").exists() && begun.elapsed().as_secs() < 20 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = stockpot(dir.path(), &TRAIN);
    let holder = first.id();
    first.kill().expect("killed");
    first.wait().expect("waited for");
    second.fails(1, &["model: another training is writing this checkpoint", &format!("process {holder}")]);
}
