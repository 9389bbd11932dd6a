//! `stockpot train`: outputs that exist or are being written; trainings on a recipe.

use crate::binary::{command, stockpot};
use crate::checkpoints::{TRAIN, prepared, write_settings, write_tokenizer};
use crate::texts::{MODEL, documents, write_jsonl};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

pub const ON_RECIPE: [&str; 9] =
    ["train", "--recipe", "recipe.toml", "--config", "train.toml", "--device", "cpu", "--out", "model"];

/// A directory with the shards of two partitions, a recipe of 8,000 tokens of them, and settings
/// without a length.
pub fn with_recipe() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("tokenizers")).expect("a directory");
    write_tokenizer(&at("tokenizers/own.json"));
    let mut text = "study = \"small\"\nstudy_hash = \"0\"\nobjective = \"ood\"\nbudget = 4\nlambda = 1.0\n\
                    tokens = 8000\ntokenizer = \"tokenizers/own.json\"\n\n[expected]\nmerged = 1.0\nnatural = 1.1\n"
        .to_string();
    // Law has fewer tokens than its share.
    for (topic, (name, weight, count)) in (2..).zip([("law", 0.8, 30), ("music", 0.2, 40)]) {
        write_jsonl(&at(&format!("{name}.jsonl")), &documents(name, topic, count));
        let out = format!("shards/{name}");
        let file = format!("{name}.jsonl");
        let tokenize = ["tokenize", &file, "--tokenizer", "tokenizers/own.json", "--out", &out, "--json"];
        fs::create_dir_all(at("shards")).expect("a directory");
        let tokens = stockpot(dir.path(), &tokenize).json()["tokens"].clone();
        text += &format!(
            "\n[[partition]]\nname = \"{name}\"\nweight = {weight}\nweight_low = 0.1\nweight_high = 0.9\n\
             determined = true\navailable_tokens = {tokens}\ntokens = {}\nshard = \"{out}\"\nfiles = [\"{file}\"]\n",
            (8000.0 * weight) as u64
        );
    }
    fs::write(at("recipe.toml"), text).expect("a recipe");
    let training = "[training]\nbatch = 4\nlearning_rate = 2e-3\nschedule = \"cosine\"\n";
    fs::write(at("train.toml"), format!("checkpoint_every = 7\nrandom_seed = 3\n[model]\n{MODEL}\n{training}"))
        .expect("settings");
    dir
}

/// A file with `from` replaced.
fn replace(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a file");
    assert!(text.contains(from), "`{from}` is not in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).expect("a file");
}

#[test]
fn a_training_on_a_recipe_has_its_length_and_says_how_partitions_are_repeated() {
    let dir = with_recipe();
    let done = stockpot(dir.path(), &ON_RECIPE).done();
    // 125 steps of 4 * 16 tokens, 500 windows.
    assert_eq!(fs::read_to_string(dir.path().join("model/metrics.jsonl")).expect("metrics").lines().count(), 125);
    for part in
        ["mixture of the study `small`, best for ood", "law    0.8000  6400 tokens, ", "music  0.2000  1600 tokens"]
    {
        assert!(done.stderr.contains(part), "no `{part}` in\n{}", done.stderr);
    }
    let again = with_recipe();
    replace(&again.path().join("train.toml"), "[training]\n", "[training]\nsteps = 125\n");
    stockpot(again.path(), &ON_RECIPE).done();
    let weights = |dir: &TempDir| fs::read(dir.path().join("model/model.safetensors")).expect("weights");
    assert!(weights(&again) == weights(&dir), "the same steps, given or from the tokens");
}

#[test]
fn a_training_on_a_recipe_refuses_what_contradicts_it() {
    let dir = with_recipe();
    let at = |name: &str| dir.path().join(name);
    let (settings, recipe) =
        (fs::read(at("train.toml")).expect("settings"), fs::read(at("recipe.toml")).expect("a recipe"));
    write_other_tokenizer(&at("other.json"));
    let cases: [(&str, &str, &str, i32, &[&str]); 9] = [
        ("train.toml", "[model]", "files = [\"law.jsonl\"]\n[model]", 2, &["--recipe has its own text"]),
        ("train.toml", "[model]", "shards = [\"shards/law\"]\n[model]", 2, &["remove `files` and `shards`"]),
        (
            "train.toml",
            "[training]\n",
            "[training]\nsteps = 100\n",
            2,
            &["train.toml: `training.steps`", "125 steps", "100 steps"],
        ),
        ("train.toml", "batch = 4", "batch = 0", 2, &["train.toml: `training.batch` is out of range"]),
        (
            "train.toml",
            "[model]",
            "tokenizer = \"other.json\"\n[model]",
            1,
            &[
                "the shard of partition `law` was made with a different tokenizer",
                "stockpot tokenize",
                "stockpot export",
            ],
        ),
        ("recipe.toml", "weight = 0.8", "weight = 0.7", 2, &["recipe.toml: the weights of the recipe do not sum to 1"]),
        (
            "recipe.toml",
            "shards/music",
            "shards/absent",
            1,
            &["shards/absent: the text of partition `music` is missing"],
        ),
        (
            "recipe.toml",
            "own.json",
            "absent.json",
            1,
            &["tokenizers/absent.json: the tokenizer of the recipe is missing"],
        ),
        ("recipe.toml", "lambda", "lamda", 2, &["recipe.toml:5: unknown field `lamda`", "did you mean `lambda`?"]),
    ];
    for (file, from, to, code, parts) in cases {
        replace(&at(file), from, to);
        stockpot(dir.path(), &ON_RECIPE).fails(code, parts);
        fs::write(at("train.toml"), &settings).expect("settings");
        fs::write(at("recipe.toml"), &recipe).expect("a recipe");
        assert!(!at("model").exists() && !at("model.partial").exists());
    }
    // Elsewhere, the recipe does not find its text.
    fs::create_dir(at("moved")).expect("a directory");
    fs::copy(at("recipe.toml"), at("moved/recipe.toml")).expect("a copy");
    let moved = ON_RECIPE.map(|arg| if arg == "recipe.toml" { "moved/recipe.toml" } else { arg });
    stockpot(dir.path(), &moved).fails(1, &["the recipe is not in its study's directory", "move the recipe back"]);
    // Without a recipe, the length is needed.
    replace(&at("train.toml"), "[model]", "tokenizer = \"tokenizers/own.json\"\nfiles = [\"law.jsonl\"]\n[model]");
    stockpot(dir.path(), &TRAIN).fails(2, &["train.toml: `training.steps` is out of range", "at least 1 step"]);
}

/// As many tokens with the same EOS, but learned from other text.
fn write_other_tokenizer(path: &Path) {
    let texts = documents("other", 7, 60).into_iter().map(|(_, text)| text);
    stockpot::engine::data::Tokenizer::train(texts, 300).and_then(|t| t.save(path)).expect("a tokenizer");
}

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
