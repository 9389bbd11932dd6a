//! Exported recipes, against the files that each trainer's own code has read
//! (tests/fixtures/export/make.py): the same bytes, and the weights and paths that were read.

use super::fixture;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use stockpot::engine::data::Shard;
use stockpot::recipe::{MixtureRecipe, TrainerForm};

const FORMS: [(TrainerForm, &str); 5] = [
    (TrainerForm::OlmoCore, "olmo-core.yaml"),
    (TrainerForm::Megatron, "megatron.txt"),
    (TrainerForm::Litgpt, "litgpt_mixture.py"),
    (TrainerForm::Regmix, "regmix.yaml"),
    (TrainerForm::Datasets, "datasets_mixture.py"),
];

fn recipe() -> MixtureRecipe {
    let mut recipe = MixtureRecipe::read(&fixture("recipe.toml")).expect("a recipe");
    recipe.directory = "/data/study".into();
    recipe
}

fn read(form: &str) -> Value {
    let all: Value = serde_json::from_str(&fs::read_to_string(fixture("read.json")).expect("a file")).expect("JSON");
    all[form].clone()
}

#[test]
fn each_form_has_the_bytes_that_its_trainer_has_read() {
    for (form, name) in FORMS {
        let exported = recipe().export(form).expect("a form");
        let expected = fs::read_to_string(fixture(name)).expect("a fixture");
        assert_eq!(exported.text, expected, "{name}: run tests/fixtures/export/make.py if the change is intended");
    }
}

#[test]
fn the_trainers_have_read_the_recipe() {
    let recipe = recipe();
    let weights = recipe.weights();
    let names: Vec<&str> = recipe.partition.iter().map(|p| p.name.as_str()).collect();
    let shards: Vec<String> = (0..4).map(|i| format!("/data/study/shards/{i}")).collect();

    let olmo = read("olmo-core");
    for (i, source) in olmo["sources"].as_array().expect("sources").iter().enumerate() {
        let repeated = recipe.partition[i].epochs.expect("tokens are known").max(1.0);
        assert_eq!((&source[0], &source[1]), (&json!(names[i]), &json!(weights[i])));
        assert_eq!(source[2], json!([format!("{}/tokens.bin", shards[i])]));
        let most = source[3].as_f64().expect("a ratio");
        assert!(most >= repeated && most < repeated + 0.03, "{most} for {repeated} epochs");
    }
    // Rounded up to whole steps of 64 tokens in windows of 16; the reader's own rounding.
    for (taken, p) in olmo["tokens"].as_array().expect("tokens").iter().zip(&recipe.partition) {
        let (taken, wanted) = (taken.as_i64().expect("tokens"), p.tokens.expect("known") as i64);
        assert!((taken - wanted).abs() <= 32, "{}: {taken} of {wanted}", p.name);
    }

    let megatron = read("megatron");
    assert_eq!(megatron["weights"], json!(weights));
    let prefixes: Vec<String> = shards.iter().map(|shard| format!("{shard}/tokens")).collect();
    assert_eq!(megatron["prefixes"], json!(prefixes));
    for (documents, p) in megatron["documents"].as_array().expect("documents").iter().zip(&recipe.partition) {
        assert_eq!(documents[1], p.available_tokens);
    }

    let litgpt = read("litgpt");
    assert_eq!(litgpt["windows"], json!(recipe.windows(20_000 / 16)));
    assert_eq!(litgpt["command_line"]["init_args"]["tokens"], 20_000);

    let regmix: Vec<Value> = names.iter().zip(&weights).map(|(n, w)| json!([format!("train_{n}"), w])).collect();
    assert_eq!(read("regmix")["train"], json!(regmix));

    // Drawn at random: within four standard deviations.
    for (drawn, weight) in read("datasets")["windows"].as_array().expect("windows").iter().zip(&weights) {
        let (drawn, n) = (drawn.as_f64().expect("windows"), 1250.0);
        assert!((drawn - n * weight).abs() <= 4.0 * (n * weight * (1.0 - weight)).sqrt() + 1.0, "{drawn} for {weight}");
    }
}

/// What a form cannot express is said.
#[test]
fn notes_name_what_is_not_expressed() {
    for (form, name) in FORMS {
        let exported = recipe().export(form).expect("a form");
        let notes = exported.notes.join("\n");
        assert!(notes.contains("The weight of law is not determined: mixtures with 0.100 to 0.750"), "{notes}");
        if form != TrainerForm::Megatron {
            let comments: Vec<&str> = exported.text.lines().filter_map(|line| line.strip_prefix("# ")).collect();
            assert!(exported.notes.iter().all(|note| comments.contains(&note.as_str())), "{name}");
        }
    }
    let notes = |recipe: &MixtureRecipe, form| recipe.export(form).expect("a form").notes.join("\n");
    assert!(notes(&recipe(), TrainerForm::Regmix).contains("whose name law-eu begins with"));
    let mut endless = recipe();
    endless.set_tokens(None);
    for (form, _) in FORMS {
        assert!(notes(&endless, form).contains("The recipe has no tokens"), "{form:?}");
    }
}

/// Weights that sum to 1 only within 1e-6 would be refused by numpy.
#[test]
fn weights_sum_to_one_for_the_reader() {
    let mut recipe = recipe();
    recipe.partition.truncate(3);
    recipe.partition.iter_mut().for_each(|p| p.weight = 0.333333);
    let exported = recipe.export(TrainerForm::Megatron).expect("a form");
    assert!(exported.notes[0].contains("sum to 0.999999"), "{:?}", exported.notes);
    let sum: f64 =
        exported.text.lines().map(|l| l.split(' ').next().expect("a weight").parse::<f64>().expect("f64")).sum();
    assert!((sum - 1.0).abs() < 1e-12);
}

#[test]
fn a_path_with_a_space_has_no_blend() {
    let mut recipe = recipe();
    recipe.directory = "/data/my study".into();
    let error = recipe.export(TrainerForm::Megatron).expect_err("a space").to_string();
    assert!(error.contains("/data/my study/shards/0/tokens: Megatron's blend cannot contain"), "{error}");
}

/// The index of a shard is that which Megatron read the documents by.
#[test]
fn megatrons_index_is_written_beside_the_tokens() {
    let dir = tempfile::tempdir().expect("a directory");
    let shard = dir.path().join("shards/3");
    fs::create_dir_all(&shard).expect("a directory");
    for name in ["tokens.bin", "documents.bin", "bytes.bin", "shard.json"] {
        fs::copy(fixture(&format!("shard/{name}")), shard.join(name)).expect("a copy");
    }
    let mut recipe = recipe();
    recipe.directory = dir.path().to_path_buf();
    recipe.partition.drain(..3);
    recipe.write_megatron_indices().expect("an index");
    assert_eq!(fs::read(shard.join("tokens.idx")).ok(), fs::read(fixture("shard/tokens.idx")).ok());
    let opened = Shard::open(Path::new(&shard)).expect("still a shard");
    let documents = &read("megatron")["documents"][3];
    let last = [opened.document_tokens(opened.documents() - 1), vec![0]].concat();
    assert_eq!(*documents, json!([opened.documents(), opened.tokens_len(), last]));
}
