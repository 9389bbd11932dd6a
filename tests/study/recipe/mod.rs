//! src/recipe: errors of a recipe that contradicts itself, the windows of a training, and a recipe
//! from a search to its training.

mod export;

use crate::binary::stockpot;
use crate::runs::fresh;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stockpot::engine::data::{Shard, Stream, Tokenizer, windows_in};
use stockpot::recipe::MixtureRecipe;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/export").join(name)
}

/// Reads the fixture's recipe with `from` replaced by `to`.
fn changed(from: &str, to: &str) -> Result<MixtureRecipe, String> {
    let text = fs::read_to_string(fixture("recipe.toml")).expect("a recipe");
    assert!(text.contains(from), "`{from}` is not in the recipe");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("recipe.toml");
    fs::write(&path, text.replacen(from, to, 1)).expect("a file");
    MixtureRecipe::read(&path).map_err(|e| e.to_string())
}

#[test]
fn a_recipe_that_contradicts_itself_is_refused() {
    changed("study", "study").expect("the recipe itself");
    let cases: [(&str, &str, &[&str]); 18] = [
        ("weight = 0.3", "weigth = 0.3", &["recipe.toml:", "unknown field `weigth`", "did you mean `weight`?"]),
        ("weight = 0.3", "weight = \"much\"", &["recipe.toml:", "weight = \"much\""]),
        ("weight = 0.3", "weight = -0.3", &["`weight` of partition `law` is out of range", "above 0", "-0.3"]),
        ("weight = 0.3", "weight = 0.0", &["`weight` of partition `law` is out of range"]),
        ("weight = 0.3", "weight = nan", &["`weight` of partition `law` is out of range", "NaN"]),
        ("weight = 0.3", "weight = inf", &["`weight` of partition `law` is out of range"]),
        ("weight = 0.3", "weight = 0.31", &["recipe.toml: the weights of the recipe do not sum to 1", "got: 1.01"]),
        ("weight = 0.3\n", "", &["missing field `weight`"]),
        ("weight_low = 0.1", "weight_low = 0.8", &["`weight_low` of partition `law`", "at most `weight_high`"]),
        ("weight_high = 0.75", "weight_high = 7.5", &["`weight_high` of partition", "between 0 and 1", "7.5"]),
        ("name = \"law\"", "name = \"law-eu\"", &["two partitions are named `law-eu`"]),
        ("name = \"law\"", "name = \" \"", &["`name` of [[partition]] 2 is empty"]),
        (
            "\ntokens = 6000",
            "\ntokens = 6001",
            &["`tokens` of partition `law` is not its share", "6000: 0.3 of", "6001"],
        ),
        ("\ntokens = 6000", "", &["`tokens` of partition `law` is not its share", "got: nothing"]),
        ("tokens = 20000\n", "", &["is given, but not the recipe's `tokens`"]),
        ("tokens = 20000", "tokens = 0", &["`tokens` of the recipe is 0"]),
        ("epochs = 1.2", "epochs = 7.2", &["`epochs` of partition `law` does not follow", "6000 tokens of 4927"]),
        ("shard = \"shards/1\"", "shard = \"\"", &["partition `law`", "an empty one"]),
    ];
    for (from, to, parts) in cases {
        let error = changed(from, to).expect_err(to);
        for part in parts {
            assert!(error.contains(part), "{from} -> {to}: no `{part}` in\n{error}");
        }
    }
    let text = fs::read_to_string(fixture("recipe.toml")).expect("a recipe");
    let none =
        text.split("[[partition]]").next().expect("the head").replace("[expected]", "partition = []\n[expected]");
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("r.toml"), none).expect("a file");
    let error = MixtureRecipe::read(&dir.path().join("r.toml")).expect_err("no partition").to_string();
    assert!(error.contains("r.toml: the recipe has no [[partition]]"), "{error}");
}

#[test]
fn a_written_recipe_reads_back_and_tokens_sum_to_the_recipes() {
    let mut recipe = changed("study", "study").expect("a recipe");
    let dir = tempfile::tempdir().expect("a directory");
    recipe.directory = dir.path().to_path_buf();
    for tokens in [1, 7, 1_000_003, 15_000_000_000_000] {
        recipe.set_tokens(Some(tokens));
        assert_eq!(recipe.partition.iter().map(|p| p.tokens.expect("known")).sum::<u64>(), tokens);
        recipe.write().expect("written");
        assert_eq!(MixtureRecipe::read(&recipe.path()).expect("readable"), recipe);
    }
    recipe.set_tokens(None);
    recipe.partition[0].shard = None;
    recipe.write().expect("written");
    assert_eq!(MixtureRecipe::read(&recipe.path()).expect("readable"), recipe);
}

/// The fixture's recipe on three shards of 10, 50 and 100 windows of 8 tokens, with these weights.
fn on_shards(dir: &Path, weights: [f64; 3]) -> (MixtureRecipe, Vec<Arc<Shard>>) {
    let mut recipe = changed("study", "study").expect("a recipe");
    recipe.partition.truncate(3);
    recipe.directory = dir.to_path_buf();
    let text = "a bc def ghij klmno pqr st u the of and ".repeat(20);
    let tokenizer = Tokenizer::train([text].into_iter(), 258).expect("a tokenizer");
    for (i, windows) in [10u32, 50, 100].into_iter().enumerate() {
        let p = &mut recipe.partition[i];
        let path = dir.join(p.shard.as_ref().expect("a shard"));
        fs::create_dir_all(path.parent().expect("shards")).expect("a directory");
        let document: Vec<u32> = (0..8 * windows).map(|t| 1 + (t + i as u32) % 200).collect();
        let shard = Shard::write(&path, &tokenizer, |shard| shard.add_tokens(&document, 1)).expect("a shard");
        (p.weight, p.available_tokens) = (weights[i], shard.tokens_len());
    }
    let shards = recipe.open_shards().expect("three shards");
    (recipe, shards)
}

/// The windows of each partition in the order of the stream.
fn by_partition(stream: &Stream) -> BTreeMap<usize, Vec<u64>> {
    let mut found: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    (0..stream.len()).for_each(|k| {
        let (partition, window) = stream.window(k);
        found.entry(partition).or_default().push(window);
    });
    found
}

#[test]
fn partitions_give_windows_by_weight_and_whole_epochs_in_new_orders() {
    let dir = tempfile::tempdir().expect("a directory");
    let (recipe, shards) = on_shards(dir.path(), [0.7, 0.2, 0.1]);
    let windows = recipe.windows(101);
    assert_eq!(windows, [71, 20, 10]);
    let stream = recipe.stream(&shards, &windows, 8, 3).expect("a stream");
    let found = by_partition(&stream);
    assert_eq!(found.values().map(|w| w.len() as u64).collect::<Vec<_>>(), windows);
    // Seven epochs of the ten windows, and one window more.
    let epochs: Vec<&[u64]> = found[&0].chunks(10).collect();
    for epoch in &epochs[..7] {
        let mut sorted = epoch.to_vec();
        sorted.sort();
        assert_eq!(sorted, (0..10).collect::<Vec<u64>>());
    }
    assert!((1..7).all(|e| epochs[e] != epochs[e - 1]), "each epoch has a new order");
    let mut once = found[&1].clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), 20, "no window is repeated before all others were read");
    // Mixed over the whole run: each third has the partitions about by weight.
    for third in 0..3 {
        let first = (third * 33..third * 33 + 33).filter(|k| stream.window(*k).0 == 0).count();
        assert!((16..=30).contains(&first), "{first} of 33");
    }
    let again = recipe.stream(&shards, &windows, 8, 3).expect("a stream");
    assert!((0..101).all(|k| again.window(k) == stream.window(k)));
    let other = recipe.stream(&shards, &windows, 8, 4).expect("a stream");
    assert!((0..101).any(|k| other.window(k) != stream.window(k)));
    let plan = recipe.plan(&shards, &windows, 8).join("\n");
    assert!(plan.contains("568 tokens, 7.10 epochs") && plan.contains("is repeated 7.10 times, more than"), "{plan}");
    // A partition without a window is left out.
    assert_eq!(by_partition(&recipe.stream(&shards, &[5, 0, 5], 8, 3).expect("a stream")).len(), 2);
}

#[test]
fn steps_follow_from_tokens_or_are_given() {
    let mut recipe = changed("study", "study").expect("a recipe");
    assert_eq!(recipe.steps(0, 4, 16).ok(), Some(313));
    assert_eq!(recipe.steps(313, 4, 16).ok(), Some(313));
    let error = recipe.steps(312, 4, 16).expect_err("another length").to_string();
    for part in ["313 steps: 20000 tokens of the recipe, 4 * 16 a step", "312 steps: 19968 tokens"] {
        assert!(error.contains(part), "{error}");
    }
    recipe.set_tokens(None);
    assert_eq!(recipe.steps(5, 4, 16).ok(), Some(5));
    assert!(recipe.steps(0, 4, 16).expect_err("no length").to_string().contains("search again with --tokens"));
}

#[test]
fn missing_text_is_named_and_a_moved_recipe_is_recognized() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut recipe, _) = on_shards(dir.path(), [0.5, 0.3, 0.2]);
    let error = |recipe: &MixtureRecipe| recipe.open_shards().expect_err("missing").to_string();
    fs::rename(dir.path().join("shards/1"), dir.path().join("elsewhere")).expect("a rename");
    let text = error(&recipe);
    assert!(
        text.contains("shards/1: the text of partition `law` is missing") && text.contains("until tokens"),
        "{text}"
    );
    recipe.partition[1].shard = Some("elsewhere".into());
    recipe.open_shards().expect("a path within the recipe's directory");
    recipe.partition[1].available_tokens += 1;
    assert!(error(&recipe).contains("the shard of partition `law` is not the recipe's"));
    recipe.partition[1].shard = None;
    assert!(error(&recipe).contains("partition `law` has no `shard`"));
    let other = tempfile::tempdir().expect("a directory");
    recipe.directory = other.path().to_path_buf();
    let text = error(&recipe);
    assert!(
        text.contains("the recipe is not in its study's directory") && text.contains("move the recipe back"),
        "{text}"
    );
    let text = recipe.tokenizer_path().expect_err("moved").to_string();
    assert!(text.contains("tokenizers/none.json: the tokenizer of the recipe is not here"), "{text}");
}

/// From a search to the final training: the recipe is readable, its text is on disk, and the seed is
/// trained on it.
#[test]
fn a_search_writes_a_recipe_that_its_seed_is_trained_on() {
    let dir = fresh();
    let at = |name: &str| dir.path().join(name);
    let search = ["search", "study.toml", "--out", "runs/deep/out", "--device", "cpu", "--tokens", "3000"];
    stockpot(dir.path(), &[&search[..], &["--max-epochs", "9", "--max", "music=0.6"]].concat()).done();
    let recipe = MixtureRecipe::read(&at("runs/deep/out/recipe.toml")).expect("a recipe");
    assert!(recipe.partition.len() > 1);
    assert_eq!(recipe.partition.iter().map(|p| p.tokens.expect("known")).sum::<u64>(), 3000);
    let shards = recipe.open_shards().expect("the text of all partitions");
    for (p, shard) in recipe.partition.iter().zip(&shards) {
        assert_eq!(p.files, [format!("../../../{}.jsonl", p.name)]);
        assert!(recipe.directory.join(&p.files[0]).exists());
        assert!(windows_in(shard.tokens_len(), 16) > 0);
    }
    let models = fs::read_dir(at("runs/deep/out/models")).expect("models").map(|e| e.expect("an entry").path());
    let seed = models.into_iter().find(|m| m.join("optimizer.safetensors").exists()).expect("the seed");
    fs::write(at("train.toml"), "[training]\nbatch = 4\nlearning_rate = 1e-3\n").expect("settings");
    let seed = seed.to_string_lossy().into_owned();
    let train = ["train", "--recipe", "runs/deep/out/recipe.toml", "--config", "train.toml", "--init", &seed];
    let trained = stockpot(dir.path(), &[&train[..], &["--out", "final", "--device", "cpu"]].concat()).done();
    for p in &recipe.partition {
        assert!(trained.stderr.contains(&format!("{:.4}", p.weight)), "{}", trained.stderr);
    }
    // 3,000 tokens in steps of 4 * 16.
    assert_eq!(fs::read_to_string(at("final/metrics.jsonl")).expect("metrics").lines().count(), 47);
    // The Python file names the same text.
    let export = ["export", "runs/deep/out/recipe.toml", "--for", "datasets", "--out", "mixture.py"];
    let notes = stockpot(dir.path(), &export).done();
    assert_eq!(notes.stdout, "");
    assert!(notes.stderr.contains("held-out documents"), "{}", notes.stderr);
    let text = fs::read_to_string(at("mixture.py")).expect("a file");
    for p in &recipe.partition {
        let shard = at("runs/deep/out").join(p.shard.as_ref().expect("a shard"));
        assert!(text.contains(&format!("{:?}, {:?}, {:?}", p.name, p.weight, shard.to_string_lossy())), "{text}");
    }
}
