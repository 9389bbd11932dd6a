//! `stockpot eval`.

use crate::binary::{command, stockpot};
use crate::texts::documents;
use crate::trained;
use std::fs;
use std::process::Stdio;

/// The second domain is a pipe that gets its text only after the first domain's row was read. It is
/// given as a pattern, because a plain name must be a file.
#[test]
fn eval_prints_a_row_as_soon_as_it_is_scored() {
    use std::io::{BufRead, BufReader};
    let dir = trained();
    let pipe = dir.path().join("late.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let args = ["eval", "model", "--data", "first=letters.jsonl", "--data", "late=lat*.jsonl", "--device", "cpu"];
    let mut child =
        command(dir.path(), &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    let (rows, read) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || lines.try_for_each(|line| rows.send(line)));
    let next = || read.recv_timeout(std::time::Duration::from_secs(60));
    let before: Vec<String> = std::iter::from_fn(|| next().ok()).take(3).collect();
    let is_there = before.get(2).is_some_and(|row| row.starts_with("first "));
    if !is_there {
        child.kill().expect("a child");
    }
    assert!(is_there && before[0] == "model" && before[1].starts_with("domain "), "{before:?}");
    fs::copy(dir.path().join("law.jsonl"), &pipe).expect("the pipe takes text");
    let after: Vec<String> = std::iter::from_fn(|| next().ok()).collect();
    assert!(after.len() == 2 && after[0].starts_with("late ") && after[1].starts_with("macro average "), "{after:?}");
    assert!(child.wait().expect("a child").success());
    reader.join().expect("a thread").expect("rows that are read");
}

#[test]
fn invalid_evaluations_are_refused() {
    let dir = trained();
    let eval = |args: &[&str]| stockpot(dir.path(), &[&["eval"], args, &["--device", "cpu"]].concat());
    let data = ["--data", "x=letters.jsonl"];
    eval(&["absent", data[0], data[1]]).fails(1, &["absent/config.json: cannot read"]);
    eval(&["model", "--data", "letters.jsonl"])
        .fails(2, &["`letters.jsonl` is not NAME=FILES", "such as --data law=x.jsonl"]);
    eval(&["model", "--data", "x=absent.jsonl"]).fails(1, &["absent.jsonl: no such file"]);
    eval(&["--merge", "model=0.5,model=0.6", data[0], data[1]]).fails(2, &["must sum to 1", "got: 1.1"]);
    eval(&["--merge", "model=0.5,model", data[0], data[1]]).fails(2, &["`model` is not CKPT=WEIGHT", "`model=0.5`"]);
    eval(&["--merge", "model=0.5,model=0.5", "--weights", "uniform", data[0], data[1]])
        .fails(2, &["weights are given twice", "--weights uniform and --merge"]);
    eval(&["--merge", "model,model", "--weights", "0.7", data[0], data[1]]).fails(2, &["does not match", "2 weights"]);
    eval(&["--merge", "model", "--partition", "p=model", data[0], data[1]]).fails(2, &["cannot be used with"]);
    eval(&["model", "--weights", "uniform", data[0], data[1]])
        .fails(2, &["--weights applies only to a merge", "--merge"]);
    eval(&["model", "--seed", "model", "--lambda", "2", data[0], data[1]])
        .fails(2, &["--seed applies only to a merge"]);
    eval(&["model", data[0], data[1], "--context", "17"]).fails(2, &["--context is out of range", "1 to 16"]);
    fs::write(dir.path().join("blank.jsonl"), "{\"text\": \"\"}\n").expect("a file");
    eval(&["model", "--data", "x=blank.jsonl"]).fails(1, &["--data x", "there is no text to score"]);

    let bigger = documents("general", 1, 60).into_iter().map(|(_, text)| text);
    let bigger = stockpot::engine::data::Tokenizer::train(bigger, 320).expect("a tokenizer");
    bigger.save(&dir.path().join("model/tokenizer.json")).expect("a file");
    eval(&["model", data[0], data[1]]).fails(
        1,
        &[
            "model: the tokenizer has more tokens than the model",
            "at most 300",
            "got: 320",
            "fix: use the tokenizer.json",
        ],
    );
    fs::write(dir.path().join("model/tokenizer.json"), "{}").expect("a file");
    eval(&["model", data[0], data[1]]).fails(1, &["model/tokenizer.json: this tokenizer cannot be read"]);
}
