//! Whole trainings by `stockpot train`: the same bits on any number of threads and for any division
//! of a batch. tests/process/kills.rs tests interrupted trainings.

use crate::binary::stockpot;
use crate::checkpoints::{TRAIN, names, prepared, train, write_settings};
use crate::trees::{assert_same_tree, tree};
use std::fs;
use stockpot::engine::checkpoint::{OptimizerState, Reader, TrainerState};
use stockpot::engine::train::{Metrics, read_metrics};

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
fn recomputed_activations_change_no_bit_of_a_checkpoint() {
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
    // ln 300 = 5.7 at the start; on text of 46 words the loss is soon far below it.
    assert!((mean(&rows[..3]) - 300f64.ln()).abs() < 0.2, "{}", mean(&rows[..3]));
    assert!(mean(&rows[117..]) < 4.8, "{}", mean(&rows[117..]));
}

#[test]
fn init_continues_from_weights_and_moments() {
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
    // The same text in the same order: the second training begins where the first one ended, far
    // below ln 300.
    assert!(second[0].loss < first[0].loss - 0.5, "{} after {}", second[0].loss, first[0].loss);
    let updates = |name: &str| TrainerState::read(&dir.path().join(name)).expect("a state").run["updates"].as_u64();
    assert_eq!((updates("first"), updates("second")), (Some(30), Some(60)));

    // The same weights without their moments take a different path.
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

    train(dir.path(), "first.toml", "x", &["--init", "first"]).fails(2, &["first.toml", "remove [model]"]);
    train(dir.path(), "second.toml", "x", &[]).fails(2, &["second.toml", "[model] is missing"]);
    train(dir.path(), "second.toml", "x", &["--init", "nowhere"]).fails(1, &["nowhere/config.json"]);
    assert!(!names(dir.path()).iter().any(|name| name.starts_with('x')), "{:?}", names(dir.path()));
}

/// The mean gradient of a batch does not depend on how many windows a pass holds, up to rounding:
/// sums of f32 in another order, over 20 steps of AdamW.
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
