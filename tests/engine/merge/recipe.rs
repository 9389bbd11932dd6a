//! mergekit's recipes: the averages are mergekit's own, one at a time and several in one pass;
//! every recipe that would mean something else here is refused by field and line.

use crate::binary::stockpot;
use crate::checkpoints::copy_directory;
use crate::trees::{assert_same_tree, tree};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mergekit")
}

/// A recipe of `tests/fixtures/mergekit`: its models and weights repeated, and the type of its
/// output.
struct Case {
    name: &'static str,
    models: &'static [(&'static str, f64)],
    normalize: bool,
    dtype: Dtype,
}

const CASES: [Case; 5] = [
    Case {
        name: "normalized",
        models: &[("llama-a", 1.0), ("llama-b", 2.0), ("llama-c", 0.3)],
        normalize: true,
        dtype: Dtype::F32,
    },
    Case {
        name: "scaled",
        models: &[("llama-c", -0.4), ("llama-a", 0.7), ("llama-b", 0.7)],
        normalize: false,
        dtype: Dtype::F32,
    },
    Case { name: "narrowed", models: &[("llama-a", 0.1), ("llama-b", 0.9)], normalize: true, dtype: Dtype::BF16 },
    Case {
        name: "bf16",
        models: &[("olmo2-a", 1.0), ("olmo2-b", 1.0), ("olmo2-c", 1.0)],
        normalize: true,
        dtype: Dtype::BF16,
    },
    Case { name: "widened", models: &[("olmo2-b", 0.25), ("olmo2-a", 0.75)], normalize: false, dtype: Dtype::F32 },
];

/// A stored tensor, its numbers exactly.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn tensors(directory: &Path) -> BTreeMap<String, Stored> {
    let bytes = fs::read(directory.join("model.safetensors")).expect("weights");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let stored = |(name, view): (String, safetensors::tensor::TensorView)| {
        let values = match view.dtype() {
            Dtype::F32 => view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            Dtype::BF16 => view.data().chunks(2).map(|b| bf16(u16::from_le_bytes(b.try_into().unwrap()))).collect(),
            other => panic!("{name} is {other:?}"),
        };
        (name, Stored { dtype: view.dtype(), shape: view.shape().to_vec(), values })
    };
    file.tensors().into_iter().map(stored).collect()
}

fn bf16(bits: u16) -> f64 {
    half::bf16::from_bits(bits).to_f64()
}

/// The value of the type that is nearest to `x`, ties to even: for bf16 the nearest of three
/// neighbours, whose distances f64 holds exactly, whatever `from_f64` does.
fn rounded(x: f64, dtype: Dtype) -> f64 {
    if dtype == Dtype::F32 {
        return f64::from(x as f32);
    }
    let guess = half::bf16::from_f64(x).to_bits();
    let neighbours = [guess.wrapping_sub(1), guess, guess.wrapping_add(1)];
    let near = |bits: &u16| (bf16(*bits) - x).abs();
    let finite = neighbours.into_iter().filter(|bits| bf16(*bits).is_finite());
    bf16(finite.min_by(|a, b| near(a).total_cmp(&near(b)).then((a & 1).cmp(&(b & 1)))).expect("a number"))
}

/// Ours is the f64 average rounded once, in every bit. mergekit sums in f32 (u = 2^-24): each
/// weight is rounded, then K fused multiply-adds, then the sum of K weights by which it divides,
/// then the division, so to first order it is within (2K + 2) u S R, where S = sum |w x| / |sum w|
/// and R = sum |w| / |sum w|; 2K + 4 leaves room for the second order. Where it stores bf16 another
/// half unit of bf16 comes on top: 2^-8 of the number.
#[test]
fn averages_are_those_of_mergekit() {
    let out = tempfile::tempdir().expect("a directory");
    for case in &CASES {
        let name = case.name;
        let to = out.path().join(name);
        let recipe = format!("{name}.yaml");
        let args = ["merge", "--out", to.to_str().unwrap(), &recipe, "--json"];
        let report = stockpot(&fixtures(), &args).json();
        assert_eq!((&report["recipe"], &report["normalized"]), (&recipe.into(), &case.normalize.into()), "{name}");

        let (ours, theirs) = (tensors(&to), tensors(&fixtures().join("expected").join(name)));
        assert!(ours.keys().eq(theirs.keys()), "{name}: {:?} against {:?}", ours.keys(), theirs.keys());
        let models: Vec<_> = case.models.iter().map(|(m, _)| tensors(&fixtures().join("models").join(m))).collect();
        let given: Vec<f64> = case.models.iter().map(|m| m.1).collect();
        let total: f64 = if case.normalize { given.iter().sum() } else { 1.0 };
        let weights: Vec<f64> = given.iter().map(|w| w / total).collect();
        let k = weights.len() as f64;
        let spread: f64 = weights.iter().map(|w| w.abs()).sum();
        for (tensor, ours) in &ours {
            let theirs = &theirs[tensor];
            assert_eq!((ours.dtype, &ours.shape), (case.dtype, &theirs.shape), "{name} {tensor}");
            assert_eq!(ours.dtype, theirs.dtype, "{name} {tensor}");
            for (i, (&ours, &theirs)) in ours.values.iter().zip(&theirs.values).enumerate() {
                let terms: Vec<f64> =
                    models.iter().zip(&weights).map(|(model, w)| w * model[tensor].values[i]).collect();
                let exact: f64 = terms.iter().sum();
                assert_eq!(ours.to_bits(), rounded(exact, case.dtype).to_bits(), "{name} {tensor} {i}");
                let sum = (2.0 * k + 4.0) * 2f64.powi(-24) * spread * terms.iter().map(|t| t.abs()).sum::<f64>();
                let stored = if case.dtype == Dtype::BF16 { 2f64.powi(-8) * (exact.abs() + sum) } else { 0.0 };
                let difference = (theirs - exact).abs();
                assert!(difference <= sum + stored, "{name} {tensor} {i}: {theirs} is {difference:e} from {exact}");
            }
        }
        let config = fs::read_to_string(to.join("config.json")).expect("a config");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        assert_eq!(config["dtype"], if case.dtype == Dtype::F32 { "float32" } else { "bfloat16" }, "{name}");
    }
}

/// The tree of each recipe's output when merged alone, under the recipe's name.
fn alone(recipes: &[&str], out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for recipe in recipes {
        let to = out.join("alone");
        stockpot(&fixtures(), &["merge", "--out", to.to_str().unwrap(), recipe]).done();
        let name = recipe.strip_suffix(".yaml").expect("a recipe");
        all.insert(format!("{name}/"), Vec::new());
        all.extend(tree(&to).into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
    }
    all
}

#[test]
fn recipes_in_one_pass_give_the_bytes_of_each_alone_and_share_checkpoints() {
    let dir = tempfile::tempdir().expect("a directory");
    // a b c; c a b; a b: each is read once, whatever the order in the recipes.
    let recipes = ["normalized.yaml", "scaled.yaml", "narrowed.yaml"];
    let to = dir.path().join("runs/together");
    let args = ["merge", "--json", "--out", to.to_str().unwrap(), recipes[0], recipes[1], recipes[2]];
    let report = stockpot(&fixtures(), &args).json();
    assert_eq!(report["bytes_read"], 3 * 2560 * 4);
    assert_eq!(report["merges"][2]["bytes_read"], 2 * 2560 * 4);
    assert_eq!(report["merges"][1]["out"], to.join("scaled").to_str().unwrap());
    assert_same_tree(&tree(&to), &alone(&recipes, dir.path()));

    // Other paths to the same checkpoints: all are opened once.
    let links = dir.path().join("links");
    fs::create_dir(&links).expect("a directory");
    for name in ["llama-a", "llama-b"] {
        std::os::unix::fs::symlink(fixtures().join("models").join(name), links.join(name)).expect("a link");
    }
    let recipe = |name: &str, models: &str| {
        let text = format!("merge_method: linear\nmodels: [{models}]\nparameters: {{weight: 1}}\n");
        fs::write(dir.path().join(name), text).expect("a recipe");
    };
    let a = fixtures().join("models/llama-a");
    recipe("first.yaml", &format!("{{model: {}}}, {{model: links/llama-b}}", a.display()));
    recipe("second.yml", "{model: ./links/../links/llama-a}, {model: links/llama-b}");
    let two = stockpot(dir.path(), &["merge", "--json", "--out", "two", "first.yaml", "second.yml"]).json();
    assert_eq!(two["bytes_read"], 2 * 2560 * 4);
    let weights = |name: &str| fs::read(dir.path().join("two").join(name).join("model.safetensors")).expect("weights");
    assert_eq!(weights("first"), weights("second"));
}

#[test]
fn several_outputs_are_each_whole_or_absent_and_replace_only_merges() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = |recipes: &[&str]| {
        stockpot(&fixtures(), &[&["merge", "--out", dir.path().join("out").to_str().unwrap()], recipes].concat())
    };
    // Models that are not compatible.
    run(&["normalized.yaml", "bf16.yaml"]).fails(1, &["models/olmo2-a", "models/llama-a", "tensor"]);
    assert!(!dir.path().join("out").exists());
    let said = run(&["normalized.yaml", "scaled.yaml"]).done();
    let first = format!("merged 3 checkpoints into {}", dir.path().join("out/normalized").display());
    assert_eq!(said.stdout.lines().next(), Some(first.as_str()));
    run(&["normalized.yaml", "narrowed.yaml"]).done();
    let before = tree(dir.path());
    assert_eq!(before.keys().filter(|name| name.ends_with("merge.json")).count(), 3);
    // A merge cannot contain other merges, which would be lost when it is replaced.
    let inside = dir.path().join("out/scaled");
    let args = ["merge", "--out", inside.to_str().unwrap(), "normalized.yaml", "narrowed.yaml"];
    stockpot(&fixtures(), &args).fails(2, &["out/scaled: this directory is itself a merge", "--out"]);
    // If one output may not be replaced, none is written.
    fs::remove_file(dir.path().join("out/scaled/merge.json")).expect("a file");
    fs::remove_dir_all(dir.path().join("out/normalized")).expect("a directory");
    run(&["normalized.yaml", "scaled.yaml"]).fails(2, &["out/scaled: the output of a merge exists", "earlier merge"]);
    assert!(!dir.path().join("out/normalized").exists());
    assert!(fs::read_dir(dir.path().join("out")).expect("a directory").count() == 2, "no temporary files are left");
}

/// A directory with llama-a and llama-b, for recipes.
fn workplace() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["a", "b"] {
        copy_directory(&fixtures().join(format!("models/llama-{name}")), &dir.path().join(name));
    }
    dir
}

const PLAIN: &str = "merge_method: linear\nmodels:\n  - model: a\n    parameters: {weight: 0.5}\n  - model: b\n    \
                     parameters: {weight: 0.5}\n";

#[test]
fn invalid_recipes_are_refused_by_field_and_line() {
    let dir = workplace();
    fs::create_dir(dir.path().join("a+b")).expect("a directory");
    let both = |text: &str| format!("{PLAIN}{text}");
    let with = |from: &str, to: &str| {
        assert!(PLAIN.contains(from), "{from}");
        PLAIN.replacen(from, to, 1)
    };
    let cases: Vec<(String, &[&str])> = vec![
        // mergekit's features that are not supported here
        (with("linear", "slerp"), &["r.yaml:1: merge_method `slerp` is not supported", "expected: linear"]),
        (both("slices: [{sources: []}]\n"), &["r.yaml:7: `slices` is not supported", "whole models"]),
        (both("modules: {}\n"), &["r.yaml:7: `modules` is not supported"]),
        (both("tokenizer: {source: union}\n"), &["r.yaml:7: `tokenizer` is not supported", "copied"]),
        (both("chat_template: auto\n"), &["r.yaml:7: `chat_template` is not supported"]),
        (both("base_model: c\n"), &["r.yaml:7: `base_model` c is not supported here: it is not one of the models"]),
        (both("tokenizer_source: c\n"), &["r.yaml:7: `tokenizer_source: c`", "base, union or one of `models`"]),
        (with("model: b", "model: b+lora"), &["r.yaml:5: `b+lora`", "LoRA", "is not supported"]),
        (with("model: b", "model: a+b"), &["r.yaml:5: `a+b`", "LoRA"]),
        (with("model: b", "model: b@main"), &["r.yaml:5: `b@main`", "revision", "a local directory"]),
        (
            with("model: b", "model: allenai/OLMo-2-0425-1B"),
            &["r.yaml:5: the model allenai/OLMo-2-0425-1B does not exist", "a local directory", "working directory"],
        ),
        (with("model: b", "model: {path: b}"), &["r.yaml:5: `model` is not a string", "got: a mapping"]),
        (with("weight: 0.5}\n  -", "weight: [0.1, 0.9]}\n  -"), &["r.yaml:4: `weight`", "gradients", "got: a list"]),
        (
            with("{weight: 0.5}\n  -", "{weight: [{filter: mlp, value: 1}, 0.5]}\n  -"),
            &["r.yaml:4: `weight`", "filters", "not supported"],
        ),
        (with("{weight: 0.5}\n  -", "{weight: {value: 1}}\n  -"), &["r.yaml:4: `weight`", "got: a mapping"]),
        (with("{weight", "{density: 0.3, weight"), &["r.yaml:4: `parameters` has no field `density`"]),
        (with("{weight", "{normalize: true, weight"), &["r.yaml:4: `parameters` has no field `normalize` here"]),
        (both("parameters: {int8_mask: true}\n"), &["r.yaml:7: `parameters` has no field `int8_mask`"]),
        (both("dtype: float64\n"), &["r.yaml:7: `dtype: float64` is not supported", "bfloat16"]),
        (both("dtype: float32\nout_dtype: int8\n"), &["r.yaml:8: `out_dtype: int8`"]),
        // fields that mergekit ignores
        (
            both("merge_methd: ties\n"),
            &["r.yaml:7: a recipe has no field `merge_methd`", "did you mean `merge_method`?"],
        ),
        (with("- model: b", "- weight: 1\n    model: b"), &["r.yaml:5: a model has no field `weight` here"]),
        (both("<<: {dtype: float32}\n"), &["r.yaml:7: a recipe has no field `<<`"]),
        // errors in mergekit too
        (with("merge_method: linear\n", ""), &["r.yaml: missing field `merge_method`"]),
        ("merge_method: linear\n".into(), &["r.yaml: missing field `models`"]),
        ("merge_method: linear\nmodels: []\n".into(), &["r.yaml:2: `models` is empty"]),
        ("merge_method: linear\nmodels: a\n".into(), &["r.yaml:2: `models` must be a list", "got: the string \"a\""]),
        (
            "merge_method: linear\nmodels: [a]\n".into(),
            &["r.yaml:2: a model must be a mapping", "got: the string \"a\""],
        ),
        ("merge_method: linear\nmodels: [{parameters: {}}]\n".into(), &["r.yaml:2: missing field `model`"]),
        (with("    parameters: {weight: 0.5}\n  -", "  -"), &["r.yaml:3: the model a has no `weight`", "top level"]),
        (with("model: b", "model: a"), &["r.yaml:5: the model a is listed twice", "the sum of its weights"]),
        (with("weight: 0.5", "weight: half"), &["r.yaml:4: `weight` is not a finite number", "\"half\""]),
        (with("weight: 0.5", "weight: .nan"), &["r.yaml:4: `weight` is not a finite number", "got: NaN"]),
        (with("weight: 0.5", "weight: !w 0.5"), &["r.yaml:4: `weight` is not a finite number", "the tag"]),
        (
            both("parameters: {normalize: yes}\n"),
            &["r.yaml:7: `normalize` is not a boolean", "true or false", "\"yes\""],
        ),
        (
            with("weight: 0.5", "weight: 0.6") + "parameters: {normalize: false}\n",
            &["r.yaml:2: the weights of a merge must sum to 1", "got: 1.1", "leave `normalize` at true"],
        ),
        (with("weight: 0.5", "weight: -0.5"), &["r.yaml:2: these weights cannot be normalized", "a sum of 0"]),
        (both("models: []\n"), &["r.yaml:7: this is not YAML", "duplicated key"]),
        (with("{weight: 0.5}", "{weight: 0.5"), &["r.yaml:", "this is not YAML"]),
        (both("---\nmerge_method: linear\n"), &["r.yaml:", "one YAML document", "got: 2 documents"]),
        (String::new(), &["r.yaml:1: a recipe must be one YAML document", "got: 0 documents"]),
        ("- linear\n".into(), &["r.yaml:1: a recipe must be a mapping of fields", "got: a list"]),
        ("1: linear\n".into(), &["r.yaml:1: the keys of a recipe must be strings", "got: 1"]),
    ];
    for (text, parts) in cases {
        fs::write(dir.path().join("r.yaml"), &text).expect("a recipe");
        let said = stockpot(dir.path(), &["merge", "--out", "out", "r.yaml"]);
        assert_eq!(said.code, Some(2), "{text}\n{}", said.stderr);
        said.fails(2, parts);
        assert!(!dir.path().join("out").exists(), "{text}");
    }
    fs::write(dir.path().join("r.yaml"), PLAIN.as_bytes()).expect("a recipe");
    stockpot(dir.path(), &["merge", "--out", "out", "absent.yaml"]).fails(1, &["absent.yaml: cannot read"]);
    stockpot(dir.path(), &["merge", "--out", "out", "r.yaml", "a"]).fails(2, &["recipes and checkpoints"]);
    for option in
        [&["--weights", "tokens"][..], &["--normalize"], &["--dtype", "bf16"], &["--seed", "a", "--lambda", "2"]]
    {
        let said = stockpot(dir.path(), &[&["merge", "--out", "out", "r.yaml"], option].concat());
        said.fails(2, &[option[0], "cannot be given with a recipe"]);
    }
    fs::create_dir(dir.path().join("sub")).expect("a directory");
    fs::copy(dir.path().join("r.yaml"), dir.path().join("sub/r.yml")).expect("a copy");
    stockpot(dir.path(), &["merge", "--out", "out", "r.yaml", "sub/r.yml"])
        .fails(2, &["sub/r.yml: two recipes would be written to one directory", "out/r"]);
    // A small recipe that expands without bound.
    let mut bomb = String::from("x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for i in 1..12 {
        bomb += &format!("x{i}: &x{i} [{}]\n", vec![format!("*x{}", i - 1); 9].join(", "));
    }
    fs::write(dir.path().join("r.yaml"), bomb).expect("a recipe");
    stockpot(dir.path(), &["merge", "--out", "out", "r.yaml"]).fails(2, &["r.yaml:", "this is not YAML"]);
}

#[test]
fn fields_that_change_nothing_are_accepted() {
    let dir = workplace();
    let merge = |text: &str| {
        fs::write(dir.path().join("r.yaml"), text).expect("a recipe");
        stockpot(dir.path(), &["merge", "--out", "out", "--json", "r.yaml"])
    };
    merge(PLAIN).json();
    let plain = fs::read(dir.path().join("out/model.safetensors")).expect("weights");
    for more in [
        "slices: null\nmodules:\ntokenizer: ~\n",
        "tokenizer_source: union\n",
        "tokenizer_source: b\nbase_model: a\n",
        "dtype: torch.float32\n",
        "out_dtype: float32\ndtype: bfloat16\n",
        "parameters: {weight: 7, normalize: True}\n",
        "base_model:\nparameters:\n",
    ] {
        merge(&format!("{PLAIN}{more}")).json();
        assert!(fs::read(dir.path().join("out/model.safetensors")).expect("weights") == plain, "{more}");
    }
    let anchored =
        "merge_method: linear\nmodels:\n- {model: a, parameters: &p {weight: 0.5}}\n- {model: b, parameters: *p}\n";
    merge(anchored).json();
    assert!(fs::read(dir.path().join("out/model.safetensors")).expect("weights") == plain, "{anchored}");

    // Config and tokenizer come from the base model, whichever it is.
    let config = dir.path().join("b/config.json");
    let text = fs::read_to_string(&config).expect("a config").replacen('{', "{\n  \"_name_or_path\": \"b\",", 1);
    fs::write(&config, text).expect("a config");
    let named = || fs::read_to_string(dir.path().join("out/config.json")).expect("a config").contains("_name_or_path");
    merge(PLAIN).json();
    assert!(!named());
    merge(&format!("{PLAIN}base_model: b\n")).json();
    assert!(named());

    // A tokenizer that mergekit would build, or whose length it would truncate embeddings to.
    let tokenizer = dir.path().join("b/tokenizer.json");
    let text = fs::read_to_string(&tokenizer).expect("a tokenizer");
    fs::write(&tokenizer, format!("{text}\n")).expect("a tokenizer");
    merge(PLAIN).json();
    merge(&format!("{PLAIN}tokenizer_source: union\n"))
        .fails(2, &["r.yaml:7: `tokenizer_source: union`", "b/tokenizer.json differs from a/tokenizer.json"]);
    let shorter = text.replace("      \"w36\": 36\n", "").replace("\"w35\": 35,", "\"w35\": 35");
    assert_ne!(shorter, text);
    for name in ["a", "b"] {
        fs::write(dir.path().join(name).join("tokenizer.json"), &shorter).expect("a tokenizer");
    }
    merge(PLAIN).json();
    merge(&format!("{PLAIN}tokenizer_source: base\n"))
        .fails(2, &["r.yaml:7:", "37 rows to the tokenizer's 36 tokens", "remove the line"]);
}
