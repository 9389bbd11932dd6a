//! `stockpot train`, as users run it: killed anywhere and on any number of threads it ends in the same files, and a
//! training goes on only from what belongs to it.

use crate::common::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use stockpot::engine::checkpoint::{OptimizerState, Reader, TrainerState};
use stockpot::engine::train::{Metrics, partial_steps, read_metrics};
use tempfile::TempDir;

/// A directory with text, a tokenizer and `train.toml` of 120 steps of 4 windows; `extra` goes into its [training].
fn prepared(extra: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 40));
    write_jsonl(&dir.path().join("music.jsonl"), &documents("music", 3, 40));
    write_tokenizer(&dir.path().join("tokenizer.json"));
    write_settings(dir.path(), "train.toml", 120, extra);
    dir
}

fn write_settings(dir: &Path, name: &str, steps: u64, extra: &str) {
    let text = format!(
        "files = [\"law.jsonl\", \"music.jsonl\"]\ntokenizer = \"tokenizer.json\"\n\
         checkpoint_every = 7\nrandom_seed = 3\n\n\
         [model]\n{MODEL}\n[training]\nsteps = {steps}\nbatch = 4\nlearning_rate = 2e-3\nschedule = \"cosine\"\n{extra}"
    );
    fs::write(dir.join(name), text).expect("a settings file");
}

const TRAIN: [&str; 7] = ["train", "--config", "train.toml", "--device", "cpu", "--out", "model"];

/// Trains in `dir` to `out`; further arguments follow.
fn train(dir: &Path, config: &str, out: &str, more: &[&str]) -> Outcome {
    let args = ["train", "--config", config, "--device", "cpu", "--out", out];
    stockpot(dir, &[&args, more].concat())
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect()
}

/// Killed soon after its first partial checkpoint, whose steps are returned.
fn killed_midway(dir: &Path) -> u64 {
    let mut child = command(dir, &TRAIN).stderr(Stdio::null()).spawn().expect("the binary starts");
    let steps = loop {
        if let Some(steps) = partial_steps(&dir.join("model")).expect("a checkpoint that can be read") {
            break steps;
        }
        assert!(child.try_wait().expect("a child can be asked").is_none(), "it ended before it was ever midway");
        std::thread::sleep(Duration::from_millis(1));
    };
    child.kill().expect("killed");
    child.wait().expect("waited for");
    assert!(!dir.join("model").exists(), "it ended before it was killed");
    partial_steps(&dir.join("model")).expect("a checkpoint that can be read").unwrap_or(steps)
}

#[test]
fn a_training_killed_at_random_moments_ends_in_the_same_files() {
    let (reference, killed) = (prepared(""), prepared(""));
    let (_, takes) = timed(|| stockpot(reference.path(), &TRAIN).done());
    let (mut steps_seen, mut met) = (BTreeSet::new(), 0);
    // From nothing again and again, so that early and late moments are both met.
    for seed in 11.. {
        let _ = fs::remove_dir_all(killed.path().join("model"));
        met += kill_often(killed.path(), &TRAIN, takes, seed, || {
            steps_seen.extend(partial_steps(&killed.path().join("model")).expect("readable at any moment"));
        });
        if killed.path().join("model").exists() {
            // Killed after the last rename, perhaps before it had cleaned up: the next run does, and has nothing to train.
            stockpot(killed.path(), &TRAIN).fails(2, &["exists already"]);
        } else {
            stockpot(killed.path(), &TRAIN).done();
        }
        assert_same_tree(&tree(killed.path()), &tree(reference.path()));
        if met >= 6 && steps_seen.len() >= 2 {
            break;
        }
        assert!(seed < 30, "only {met} kills met the training at work, after steps {steps_seen:?}");
    }
}

#[test]
fn a_run_that_was_killed_goes_on_from_its_checkpoint_and_leaves_nothing_behind() {
    let dir = prepared("");
    let before = names(dir.path());
    let steps = killed_midway(dir.path());
    assert_eq!(steps % 7, 0);
    // A mark in the rows of the steps that were done shows that they are not done again.
    let metrics = dir.path().join("model.partial/metrics.jsonl");
    let rows = fs::read_to_string(&metrics).expect("metrics");
    let marked = rows.replacen("{\"step\":1,\"loss\":", "{\"step\":1,\"loss\":1", 1);
    assert_ne!(rows, marked);
    fs::write(&metrics, &marked).expect("metrics");
    // What a kill in the middle of a write leaves, of this training and of another.
    fs::create_dir(dir.path().join("model.1.tmp")).expect("a directory");
    fs::create_dir_all(dir.path().join("model.partial.22.tmp")).expect("a directory");
    fs::create_dir(dir.path().join("model.tokens.old")).expect("a directory");
    fs::create_dir(dir.path().join("other.333.tmp")).expect("a directory");
    stockpot(dir.path(), &TRAIN).done();
    let finished = fs::read_to_string(dir.path().join("model/metrics.jsonl")).expect("metrics");
    assert!(finished.starts_with(marked.lines().next().expect("a row")), "the training began anew");
    assert_eq!(finished.lines().count(), 120);
    let after: BTreeSet<String> = names(dir.path()).difference(&before).cloned().collect();
    assert_eq!(after, BTreeSet::from(["model".to_string(), "other.333.tmp".to_string()]));
}

#[test]
fn what_a_run_killed_after_its_last_rename_left_goes_and_a_stranger_stays() {
    let dir = prepared("");
    killed_midway(dir.path());
    let partial = dir.path().join("model.partial");
    let kept = dir.path().join("kept");
    copy_directory(&partial, &kept);
    stockpot(dir.path(), &TRAIN).done();
    let finished = tree(dir.path());
    copy_directory(&kept, &partial);
    fs::create_dir(dir.path().join("model.tokens")).expect("a directory");
    fs::write(dir.path().join("model.lock"), "1").expect("a lock nobody holds");
    stockpot(dir.path(), &TRAIN).fails(2, &["exists already"]);
    assert_same_tree(&tree(dir.path()), &finished);
    copy_directory(&kept, &partial);
    let state = fs::read_to_string(partial.join("trainer.json")).expect("a state");
    fs::write(partial.join("trainer.json"), state.replacen("random_seed\\\":", "random_seed\\\":1", 1))
        .expect("a state");
    stockpot(dir.path(), &TRAIN).fails(2, &["exists already"]);
    assert!(partial.exists(), "the work of another training is not thrown away");
}

#[test]
fn a_checkpoint_killed_between_its_two_renames_is_put_back() {
    let (reference, dir) = (prepared(""), prepared(""));
    stockpot(reference.path(), &TRAIN).done();
    killed_midway(dir.path());
    fs::rename(dir.path().join("model.partial"), dir.path().join("model.partial.old")).expect("a rename");
    assert!(partial_steps(&dir.path().join("model")).expect("readable").is_some());
    stockpot(dir.path(), &TRAIN).done();
    assert_same_tree(&tree(dir.path()), &tree(reference.path()));
}

#[test]
fn threads_and_the_steps_between_checkpoints_do_not_change_a_bit() {
    // A batch wide enough for several chunks of work in every op.
    let dir = prepared("micro_batch = 4\n");
    for threads in ["1", "2", "7"] {
        train(dir.path(), "train.toml", &format!("on-{threads}"), &["--threads", threads]).done();
    }
    let one = tree(&dir.path().join("on-1"));
    assert!(one["model.safetensors"].len() > 40_000);
    assert_same_tree(&one, &tree(&dir.path().join("on-2")));
    assert_same_tree(&one, &tree(&dir.path().join("on-7")));
    let text = fs::read_to_string(dir.path().join("train.toml")).expect("settings");
    fs::write(dir.path().join("rarely.toml"), text.replace("checkpoint_every = 7", "checkpoint_every = 1000"))
        .expect("settings");
    train(dir.path(), "rarely.toml", "rarely", &[]).done();
    assert_same_tree(&one, &tree(&dir.path().join("rarely")));
}

#[test]
fn activations_computed_again_change_no_bit_of_a_checkpoint() {
    let dir = prepared("");
    stockpot(dir.path(), &TRAIN).done();
    let text = fs::read_to_string(dir.path().join("train.toml")).expect("settings");
    let again = text.replace("[training]", "[training]\nrecompute = true");
    assert_ne!(text, again);
    fs::write(dir.path().join("again.toml"), again).expect("settings");
    train(dir.path(), "again.toml", "again", &[]).done();
    assert_same_tree(&tree(&dir.path().join("model")), &tree(&dir.path().join("again")));
}

#[test]
fn a_checkpoint_opens_with_its_moments_and_tokenizer() {
    let dir = prepared("");
    let said = stockpot(dir.path(), &TRAIN).done();
    assert!(said.stderr.contains("checkpoint: model"), "{}", said.stderr);
    assert!(said.stdout.is_empty(), "a training has no result to print:\n{}", said.stdout);
    let out = dir.path().join("model");
    let reader = Reader::open(&out).expect("a checkpoint");
    assert_eq!((reader.config().width, reader.config().layers, reader.config().vocabulary), (16, 1, 300));
    reader.check_finite().expect("finite weights");
    let moments = OptimizerState::read(&out, reader.table()).expect("moments");
    assert!(moments.m.iter().any(|m| *m != 0.0) && moments.v.iter().all(|v| *v >= 0.0));
    let state = TrainerState::read(&out).expect("a state");
    assert_eq!((state.step, state.tokens), (120, 120 * 4 * 16));
    assert_eq!(fs::read(out.join("tokenizer.json")).ok(), fs::read(dir.path().join("tokenizer.json")).ok());
    let rows = read_metrics(&out).expect("metrics");
    assert_eq!(rows.iter().map(|r| r.step).collect::<Vec<_>>(), (1..=120).collect::<Vec<_>>());
    let mean = |rows: &[Metrics]| rows.iter().map(|r| r.loss).sum::<f64>() / rows.len() as f64;
    // ln 300 = 5.7 at the start; text of 46 words is far below it soon.
    assert!((mean(&rows[..3]) - 300f64.ln()).abs() < 0.2, "{}", mean(&rows[..3]));
    assert!(mean(&rows[117..]) < 4.8, "{}", mean(&rows[117..]));
}

#[test]
fn init_goes_on_from_weights_and_moments() {
    let dir = prepared("");
    write_settings(dir.path(), "first.toml", 30, "");
    train(dir.path(), "first.toml", "first", &[]).done();
    let text = fs::read_to_string(dir.path().join("first.toml")).expect("settings");
    let (head, training) =
        (text.split("[model]").next().unwrap_or_default(), text.split("[training]").nth(1).unwrap_or_default());
    fs::write(dir.path().join("second.toml"), format!("{head}[training]{training}")).expect("settings");

    train(dir.path(), "second.toml", "second", &["--init", "first"]).done();
    let first = read_metrics(&dir.path().join("first")).expect("metrics");
    let second = read_metrics(&dir.path().join("second")).expect("metrics");
    // The same text in the same order: the second training begins where the first one ended, far below ln 300.
    assert!(second[0].loss < first[0].loss - 0.5, "{} after {}", second[0].loss, first[0].loss);
    let updates = |name: &str| TrainerState::read(&dir.path().join(name)).expect("a state").run["updates"].as_u64();
    assert_eq!((updates("first"), updates("second")), (Some(30), Some(60)));

    // The same weights without their moments take another way.
    fs::create_dir(dir.path().join("bare")).expect("a directory");
    for (name, bytes) in tree(&dir.path().join("first")).iter().filter(|(name, _)| *name != "optimizer.safetensors") {
        fs::write(dir.path().join("bare").join(name), bytes).expect("a copy");
    }
    let said = train(dir.path(), "second.toml", "third", &["--init", "bare"]).done();
    assert!(said.stderr.contains("bare: no optimizer state; the moments start at zero"), "{}", said.stderr);
    let third = read_metrics(&dir.path().join("third")).expect("metrics");
    assert_eq!(third[0].loss, second[0].loss);
    assert_eq!(third[0].grad_norm, second[0].grad_norm);
    assert_ne!(third[29].loss, second[29].loss);

    train(dir.path(), "first.toml", "x", &["--init", "first"]).fails(2, &["first.toml", "leave [model] out"]);
    train(dir.path(), "second.toml", "x", &[]).fails(2, &["second.toml", "[model] is missing"]);
    train(dir.path(), "second.toml", "x", &["--init", "nowhere"]).fails(1, &["nowhere/config.json"]);
    assert!(!names(dir.path()).iter().any(|name| name.starts_with('x')), "{:?}", names(dir.path()));
}

/// The mean gradient of a batch does not depend on how many windows a pass holds, up to rounding: sums of f32 in
/// another order, over 20 steps of AdamW.
#[test]
fn gradient_accumulation_is_the_same_training() {
    let dir = prepared("");
    let mut losses = Vec::new();
    for micro in [4, 2, 1] {
        let name = format!("micro-{micro}");
        write_settings(dir.path(), "train.toml", 20, &format!("micro_batch = {micro}\n"));
        train(dir.path(), "train.toml", &name, &[]).done();
        losses.push(read_metrics(&dir.path().join(name)).expect("metrics"));
    }
    for accumulated in &losses[1..] {
        for (a, b) in accumulated.iter().zip(&losses[0]) {
            assert!((a.loss - b.loss).abs() < 1e-4 * b.loss, "step {}: {} and {}", a.step, a.loss, b.loss);
            assert!((a.grad_norm - b.grad_norm).abs() < 1e-3 * b.grad_norm, "step {}", a.step);
        }
    }
    write_settings(dir.path(), "train.toml", 20, "micro_batch = 3\n");
    train(dir.path(), "train.toml", "x", &[])
        .fails(2, &["train.toml", "training.micro_batch", "a divisor of the batch of 4"]);
}

#[test]
fn shards_are_the_same_text_as_files() {
    let dir = prepared("");
    stockpot(dir.path(), &TRAIN).done();
    let tokenize = ["tokenize", "law.jsonl", "music.jsonl", "--tokenizer", "tokenizer.json", "--out", "shard"];
    stockpot(dir.path(), &tokenize).done();
    let text = fs::read_to_string(dir.path().join("train.toml")).expect("settings");
    let text = text.replace("files = [\"law.jsonl\", \"music.jsonl\"]", "shards = [\"shard\"]");
    fs::write(dir.path().join("shards.toml"), text).expect("settings");
    train(dir.path(), "shards.toml", "from-shards", &[]).done();
    assert_same_tree(&tree(&dir.path().join("from-shards")), &tree(&dir.path().join("model")));
}

#[test]
fn an_output_that_exists_is_refused() {
    let dir = prepared("");
    fs::create_dir(dir.path().join("model")).expect("a directory");
    fs::write(dir.path().join("model/mine.txt"), "mine").expect("a file");
    stockpot(dir.path(), &TRAIN).fails(2, &["model: the output exists already", "choose another --out"]);
    assert_eq!(fs::read_to_string(dir.path().join("model/mine.txt")).ok().as_deref(), Some("mine"));
}

#[test]
fn a_partial_checkpoint_of_other_settings_or_text_is_kept_and_not_resumed() {
    let dir = prepared("");
    let steps = killed_midway(dir.path());
    let partial = tree(&dir.path().join("model.partial"));
    let settings = fs::read_to_string(dir.path().join("train.toml")).expect("settings");
    let of_other = "model.partial: the partial checkpoint is of other settings or other data";

    fs::write(dir.path().join("train.toml"), settings.replace("2e-3", "1e-3")).expect("settings");
    stockpot(dir.path(), &TRAIN)
        .fails(2, &[of_other, "a training with training.learning_rate = 0.002", "remove model.partial"]);
    fs::write(dir.path().join("train.toml"), settings.replace("random_seed = 3", "random_seed = 4")).expect("settings");
    stockpot(dir.path(), &TRAIN).fails(2, &[of_other, "random_seed = 3"]);
    fs::write(dir.path().join("train.toml"), &settings).expect("settings");
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 41));
    stockpot(dir.path(), &TRAIN).fails(2, &[of_other, "text = ["]);
    assert_same_tree(&tree(&dir.path().join("model.partial")), &partial);

    // With the text and settings of before it goes on, from any directory and with another rate of checkpoints.
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 40));
    fs::write(dir.path().join("train.toml"), settings.replace("checkpoint_every = 7", "checkpoint_every = 50"))
        .expect("settings");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    train(elsewhere.path(), &path("train.toml"), &path("model"), &[]).done();
    assert!(steps < 120 && !dir.path().join("model.partial").exists());
}

#[test]
fn a_damaged_partial_checkpoint_is_refused_with_the_way_out() {
    let dir = prepared("");
    killed_midway(dir.path());
    truncate(&dir.path().join("model.partial/optimizer.safetensors"), 100);
    stockpot(dir.path(), &TRAIN)
        .fails(1, &["model.partial/optimizer.safetensors", "remove model.partial to train from the start"]);
    fs::write(dir.path().join("model.partial/trainer.json"), "{").expect("a file");
    stockpot(dir.path(), &TRAIN)
        .fails(1, &["model.partial/trainer.json:1", "remove model.partial to train from the start"]);
    fs::remove_dir_all(dir.path().join("model.partial")).expect("removed as told");
    stockpot(dir.path(), &TRAIN).done();
}

#[test]
fn two_trainings_to_one_checkpoint_do_not_meet() {
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
    second.fails(1, &["model: another training writes this checkpoint", &format!("process {holder}")]);
}
