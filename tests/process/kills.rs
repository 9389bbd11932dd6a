//! Trainings and studies killed at seeded random moments and at each critical step. They end with
//! the same files, resume only from their own checkpoints, and leave nothing behind.

use crate::binary::{command, stockpot};
use crate::checkpoints::{TRAIN, copy_directory, names, prepared, train};
use crate::runs::{RUN, finished, fresh};
use crate::texts::{documents, random, write_jsonl};
use crate::train::{ON_RECIPE, with_recipe};
use crate::trees::{assert_same_tree, tree};
use rand_chacha::rand_core::RngCore;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use stockpot::engine::train::partial_steps;

/// Starts the binary and kills it by SIGKILL after `delay`. Returns whether it was still running.
fn kill_after(directory: &Path, args: &[&str], delay: Duration) -> bool {
    let mut command = command(directory, args);
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    std::thread::sleep(delay);
    let at_work = child.try_wait().expect("a child can be asked").is_none();
    child.kill().expect("a child can be killed");
    let status = child.wait().expect("a child can be waited for");
    at_work && !status.success()
}

/// Kills the command up to eight times, at moments within `longest` drawn from `seed`, until a run
/// ends by itself. Each run resumes from the last one's files; `after_kill` is called in between.
/// Returns the number of kills that hit a running process.
fn kill_often(directory: &Path, args: &[&str], longest: Duration, seed: u64, mut after_kill: impl FnMut()) -> usize {
    let mut random = random(seed);
    for met in 0..8 {
        let share = random.next_u32() as f64 / u32::MAX as f64;
        if !kill_after(directory, args, longest.mul_f64(share)) {
            return met;
        }
        after_kill();
    }
    8
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (work(), start.elapsed())
}

/// Removes the last `by` bytes of a file.
fn truncate(path: &Path, by: u64) {
    let file = File::options().write(true).open(path).expect("a file");
    let length = file.metadata().expect("a file's length").len();
    file.set_len(length.saturating_sub(by)).expect("a file that can be cut");
}

/// Kills a training soon after its first partial checkpoint and returns that checkpoint's steps.
fn killed_midway(dir: &Path) -> u64 {
    killed_midway_of(dir, &TRAIN)
}

fn killed_midway_of(dir: &Path, args: &[&str]) -> u64 {
    let mut child = command(dir, args).stderr(Stdio::null()).spawn().expect("the binary starts");
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
    // Starts from nothing in each round, so that early and late moments both occur.
    for seed in 11.. {
        let _ = fs::remove_dir_all(killed.path().join("model"));
        met += kill_often(killed.path(), &TRAIN, takes, seed, || {
            steps_seen.extend(partial_steps(&killed.path().join("model")).expect("readable at any moment"));
        });
        if killed.path().join("model").exists() {
            // Killed after the last rename, perhaps before it cleaned up. The next run cleans up
            // and has nothing to train.
            stockpot(killed.path(), &TRAIN).fails(2, &["already exists"]);
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

/// Killed and resumed, on one thread and on two: the same files. A recipe of other weights or other
/// text does not resume it.
#[test]
fn a_killed_training_on_a_recipe_ends_in_the_same_files() {
    let (reference, dir) = (with_recipe(), with_recipe());
    stockpot(reference.path(), &[&ON_RECIPE[..], &["--threads", "1"]].concat()).done();
    let two = [&ON_RECIPE[..], &["--threads", "2"]].concat();
    let steps = killed_midway_of(dir.path(), &two);
    assert!(steps > 0 && steps < 125 && steps.is_multiple_of(7), "{steps}");
    let recipe = fs::read_to_string(dir.path().join("recipe.toml")).expect("a recipe");
    let other = recipe.replace("weight = 0.8", "weight = 0.75").replace("weight = 0.2", "weight = 0.25");
    let other = other.replace("tokens = 6400", "tokens = 6000").replace("tokens = 1600", "tokens = 2000");
    fs::write(dir.path().join("recipe.toml"), other).expect("a recipe");
    stockpot(dir.path(), &two).fails(2, &["was made with other settings or other data", "weights = [0.8,0.2]"]);
    fs::write(
        dir.path().join("recipe.toml"),
        recipe.replace("shards/music", "shards/law").replace(
            &format!("available_tokens = {}", tokens_of(dir.path(), "music")),
            &format!("available_tokens = {}", tokens_of(dir.path(), "law")),
        ),
    )
    .expect("a recipe");
    stockpot(dir.path(), &two).fails(2, &["was made with other settings or other data", "text = ["]);
    fs::write(dir.path().join("recipe.toml"), recipe).expect("a recipe");
    stockpot(dir.path(), &two).done();
    assert_same_tree(&tree(dir.path()), &tree(reference.path()));
}

/// Tokens of a shard of [`with_recipe`].
fn tokens_of(dir: &Path, partition: &str) -> u64 {
    stockpot::engine::data::Shard::open(&dir.join("shards").join(partition)).expect("a shard").tokens_len()
}

#[test]
fn a_killed_run_resumes_from_its_checkpoint_and_leaves_nothing_behind() {
    let dir = prepared("");
    let before = names(dir.path());
    let steps = killed_midway(dir.path());
    assert_eq!(steps % 7, 0);
    // A mark in the first row shows that the finished steps are not done again.
    let metrics = dir.path().join("model.partial/metrics.jsonl");
    let rows = fs::read_to_string(&metrics).expect("metrics");
    let marked = rows.replacen("{\"step\":1,\"loss\":", "{\"step\":1,\"loss\":1", 1);
    assert_ne!(rows, marked);
    fs::write(&metrics, &marked).expect("metrics");
    // Files that a kill in the middle of a write leaves, of this training and of another.
    fs::create_dir(dir.path().join("model.1.tmp")).expect("a directory");
    fs::create_dir_all(dir.path().join("model.partial.22.tmp")).expect("a directory");
    fs::create_dir(dir.path().join("model.tokens.old")).expect("a directory");
    fs::create_dir(dir.path().join("other.333.tmp")).expect("a directory");
    stockpot(dir.path(), &TRAIN).done();
    let finished = fs::read_to_string(dir.path().join("model/metrics.jsonl")).expect("metrics");
    assert!(finished.starts_with(marked.lines().next().expect("a row")), "the training started over");
    assert_eq!(finished.lines().count(), 120);
    let after: BTreeSet<String> = names(dir.path()).difference(&before).cloned().collect();
    assert_eq!(after, BTreeSet::from(["model".to_string(), "other.333.tmp".to_string()]));
}

#[test]
fn leftovers_of_a_finished_training_are_removed_and_those_of_another_are_kept() {
    let dir = prepared("");
    killed_midway(dir.path());
    let partial = dir.path().join("model.partial");
    let kept = dir.path().join("kept");
    copy_directory(&partial, &kept);
    stockpot(dir.path(), &TRAIN).done();
    let finished = tree(dir.path());
    copy_directory(&kept, &partial);
    fs::create_dir(dir.path().join("model.tokens")).expect("a directory");
    fs::write(dir.path().join("model.lock"), "1").expect("a lock that no process holds");
    stockpot(dir.path(), &TRAIN).fails(2, &["already exists"]);
    assert_same_tree(&tree(dir.path()), &finished);
    copy_directory(&kept, &partial);
    let state = fs::read_to_string(partial.join("trainer.json")).expect("a state");
    fs::write(partial.join("trainer.json"), state.replacen("random_seed\\\":", "random_seed\\\":1", 1))
        .expect("a state");
    stockpot(dir.path(), &TRAIN).fails(2, &["already exists"]);
    assert!(partial.exists(), "the partial checkpoint of another training was removed");
}

#[test]
fn a_partial_checkpoint_killed_between_its_two_renames_is_restored() {
    let (reference, dir) = (prepared(""), prepared(""));
    stockpot(reference.path(), &TRAIN).done();
    killed_midway(dir.path());
    fs::rename(dir.path().join("model.partial"), dir.path().join("model.partial.old")).expect("a rename");
    assert!(partial_steps(&dir.path().join("model")).expect("readable").is_some());
    stockpot(dir.path(), &TRAIN).done();
    assert_same_tree(&tree(dir.path()), &tree(reference.path()));
}

#[test]
fn a_partial_checkpoint_of_different_settings_or_text_is_kept_and_not_resumed() {
    let dir = prepared("");
    let steps = killed_midway(dir.path());
    let partial = tree(&dir.path().join("model.partial"));
    let settings = fs::read_to_string(dir.path().join("train.toml")).expect("settings");
    let of_other = "model.partial: the partial checkpoint was made with other settings or other data";

    fs::write(dir.path().join("train.toml"), settings.replace("2e-3", "1e-3")).expect("settings");
    stockpot(dir.path(), &TRAIN)
        .fails(2, &[of_other, "a training with training.learning_rate = 0.002", "remove model.partial"]);
    fs::write(dir.path().join("train.toml"), settings.replace("random_seed = 3", "random_seed = 4")).expect("settings");
    stockpot(dir.path(), &TRAIN).fails(2, &[of_other, "random_seed = 3"]);
    fs::write(dir.path().join("train.toml"), &settings).expect("settings");
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 41));
    stockpot(dir.path(), &TRAIN).fails(2, &[of_other, "text = ["]);
    assert_same_tree(&tree(&dir.path().join("model.partial")), &partial);

    // With the original text and settings it resumes, from any directory and with a different
    // `checkpoint_every`.
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 40));
    fs::write(dir.path().join("train.toml"), settings.replace("checkpoint_every = 7", "checkpoint_every = 50"))
        .expect("settings");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    train(elsewhere.path(), &path("train.toml"), &path("model"), &[]).done();
    assert!(steps < 120 && !dir.path().join("model.partial").exists());
}

#[test]
fn a_damaged_partial_checkpoint_is_refused_with_a_fix() {
    let dir = prepared("");
    killed_midway(dir.path());
    truncate(&dir.path().join("model.partial/optimizer.safetensors"), 100);
    stockpot(dir.path(), &TRAIN)
        .fails(1, &["model.partial/optimizer.safetensors", "remove model.partial to train from the start"]);
    fs::write(dir.path().join("model.partial/trainer.json"), "{").expect("a file");
    stockpot(dir.path(), &TRAIN)
        .fails(1, &["model.partial/trainer.json:1", "remove model.partial to train from the start"]);
    fs::remove_dir_all(dir.path().join("model.partial")).expect("removed as the message says");
    stockpot(dir.path(), &TRAIN).done();
}

#[test]
fn a_study_killed_at_random_moments_ends_in_the_same_files() {
    let (reference, killed) = (fresh(), fresh());
    let (_, takes) = timed(|| stockpot(reference.path(), &RUN).done());
    let expected = tree(&reference.path().join("out"));
    let (mut met, mut seen) = (0, BTreeSet::new());
    for seed in 21.. {
        let _ = fs::remove_dir_all(killed.path().join("out"));
        met += kill_often(killed.path(), &RUN, takes.mul_f64(0.6), seed, || {
            let out = killed.path().join("out");
            if out.exists() {
                seen.extend(tree(&out).keys().map(|name| stage_of(name)));
            }
        });
        stockpot(killed.path(), &RUN).done();
        assert_same_tree(&tree(&killed.path().join("out")), &expected);
        // The kills must be spread over the study.
        if met >= 8 && ["shards", "models", "scores"].iter().all(|stage| seen.contains(&format!("{stage}/"))) {
            break;
        }
        assert!(seed < 40, "only {met} kills met the study at work, with {seen:?}");
    }
}

/// The top directory of a path inside one, else the file's name.
fn stage_of(name: &str) -> String {
    match name.split_once('/') {
        Some((directory, inside)) if !inside.is_empty() => format!("{directory}/"),
        _ => name.to_string(),
    }
}

/// Every kind of leftover of a kill, created by hand, because the moments that leave them are hard
/// to hit.
#[test]
fn leftovers_of_killed_runs_are_removed_and_other_files_are_kept() {
    let dir = finished();
    let out = dir.path().join("out");
    let expected = tree(&out);
    let model = fs::read_dir(out.join("models")).expect("models").next().expect("a model").expect("an entry").path();
    let leave = |path: std::path::PathBuf| {
        fs::create_dir_all(&path).expect("a directory");
        fs::write(path.join("part"), "part").expect("a file");
    };
    leave(out.join("shards/writing.99"));
    leave(out.join("shards/writing.99.99.tmp"));
    leave(out.join("models/0123456789abcdef.99.tmp"));
    // Killed between the finished model and the removal of its partial checkpoint, and between two
    // renames.
    leave(model.with_extension("partial"));
    leave(model.with_extension("partial.old"));
    leave(model.with_extension("partial.99.tmp"));
    for file in ["report.json.99.tmp", "data/x.json.99.tmp", "scores/x.json.99.tmp", "tokenizers/x.json.99.tmp"] {
        fs::write(out.join(file), "part").expect("a file");
    }
    stockpot(dir.path(), &RUN).done();
    assert_same_tree(&tree(&out), &expected);
    // A partial checkpoint of other settings is kept, since the user may return to them.
    leave(out.join("models/0123456789abcdef.partial"));
    fs::write(out.join("notes.tmp"), "mine").expect("a file");
    stockpot(dir.path(), &RUN).done();
    assert!(out.join("models/0123456789abcdef.partial/part").exists() && out.join("notes.tmp").exists());
}
