//! Whatever a user can get wrong: one message that says what, where and what to do, the right exit code (2: the command
//! line or a settings file, 1: the rest), no panic, and nothing lost that was computed before.

use crate::common::*;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;

fn fresh() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_study(dir.path());
    dir
}

/// `study.toml` with `from` replaced, run.
fn run_with(dir: &TempDir, from: &str, to: &str) -> Outcome {
    let settings = study_toml(&PARTITIONS);
    assert!(settings.contains(from), "`{from}` is not in the settings");
    fs::write(dir.path().join("changed.toml"), settings.replacen(from, to, 1)).expect("settings");
    stockpot(dir.path(), &["run", "changed.toml", "--device", "cpu", "--out", "out"])
}

fn lines(dir: &TempDir, name: &str) -> Vec<String> {
    fs::read_to_string(dir.path().join(name)).expect("a file").lines().map(String::from).collect()
}

/// A small model, trained for a step: (directory that holds `model` and text, its tokenizer beside it).
fn trained() -> TempDir {
    let dir = fresh();
    write_tokenizer(&dir.path().join("tokenizer.json"));
    train_model(dir.path(), "model", MODEL);
    dir
}

fn train_model(dir: &Path, out: &str, model: &str) {
    let text = format!(
        "files = [\"law.jsonl\"]\ntokenizer = \"tokenizer.json\"\n\n[model]\n{model}\n\
         [training]\nsteps = 1\nbatch = 2\nlearning_rate = 1e-3\n"
    );
    fs::write(dir.join("train.toml"), text).expect("settings");
    stockpot(dir, &["train", "--config", "train.toml", "--device", "cpu", "--out", out]).done();
}

#[test]
fn bad_documents_are_named_by_file_and_line() {
    let dir = fresh();
    let at = |name: &str| dir.path().join(name);
    let law = fs::read(at("law.jsonl")).expect("text");
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&law).expect("gzip");
    fs::write(at("cut.jsonl.gz"), half(gzip.finish().expect("gzip"))).expect("a file");
    fs::write(at("cut.jsonl.zst"), half(zstd::encode_all(&law[..], 3).expect("zstd"))).expect("a file");
    let changed = |name: &str, line: usize, text: &str| {
        let mut lines = lines(&dir, "law.jsonl");
        lines[line - 1] = text.to_string();
        fs::write(at(name), lines.join("\n") + "\n").expect("a file");
    };
    changed("broken.jsonl", 7, "{\"id\": \"a\", \"text\": ");
    changed("list.jsonl", 2, "[1, 2]");
    changed("textless.jsonl", 3, "{\"id\": \"a\", \"txt\": \"b\"}");
    changed("number.jsonl", 4, "{\"id\": \"a\", \"text\": 5}");
    let mut latin = law.clone();
    latin.extend(b"{\"id\": \"z\", \"text\": \"caf\xe9\"}\n");
    fs::write(at("latin.jsonl"), latin).expect("a file");
    fs::write(at("empty.jsonl"), "").expect("a file");
    fs::create_dir(at("nothing")).expect("a directory");
    fs::copy(at("law.jsonl"), at("law.csv")).expect("a copy");
    // In partitions after the first one, whose text is read before.
    let cases: [(&str, &[&str]); 12] = [
        ("cut.jsonl.gz", &["cut.jsonl.gz:", "the gzip file is cut off", "`gzip -t` checks it"]),
        ("cut.jsonl.zst", &["cut.jsonl.zst:", "the zstd file is cut off", "`zstd -t` checks it"]),
        ("broken.jsonl", &["broken.jsonl:7: not valid JSON", "one JSON object a line", "column"]),
        ("list.jsonl", &["list.jsonl:2: not a JSON object", "an array"]),
        ("textless.jsonl", &["textless.jsonl:3: the document has no `text`", "a string field \"text\""]),
        ("number.jsonl", &["number.jsonl:4: `text` is not a string", "a number"]),
        ("latin.jsonl", &["latin.jsonl:41: the text is not valid UTF-8", "iconv"]),
        ("empty.jsonl", &["empty.jsonl: there is no document", "an empty file"]),
        ("nothing", &["nothing: no documents here", "check the path or pattern"]),
        ("law.csv", &["law.csv: this kind of file is not read", ".jsonl.zst"]),
        ("absent.jsonl", &["absent.jsonl: no such file or directory", "check the path"]),
        ("absent/*.jsonl", &["absent/*.jsonl: no documents here", "check the path or pattern"]),
    ];
    for (name, parts) in cases {
        run_with(&dir, "\"music.jsonl\"", &format!("\"{name}\"")).fails(1, parts);
    }
    assert!(!dir.path().join("out/data").read_dir().expect("a directory").any(|_| true), "a manifest of bad text");
}

#[test]
fn partitions_that_cannot_be_used_are_named() {
    let dir = fresh();
    run_with(&dir, "batch = 4\nlearning_rate = 3e-4", "batch = 400\nlearning_rate = 3e-4")
        .fails(1, &["`law` is smaller than one batch", "400 windows of 16 tokens", "lower the batch"]);
    // Also where the text was tokenized before, under a smaller batch.
    stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "out", "--until", "tokens"]).done();
    run_with(&dir, "batch = 4\nlearning_rate = 3e-4", "batch = 400\nlearning_rate = 3e-4")
        .fails(1, &["`law` is smaller than one batch"]);
    fs::write(dir.path().join("blank.jsonl"), "{\"id\": \"a\", \"text\": \"\"}\n").expect("a file");
    run_with(&dir, "letters.jsonl", "blank.jsonl").fails(1, &["`letters` has no text to score", "check its files"]);
    run_with(&dir, "test = 0.2", "test = 0.0").fails(1, &["`law` has no documents to score", "raise `data.test`"]);
    run_with(&dir, "vocabulary = 300", "vocabulary = 30000")
        .fails(1, &["the text is too short to learn the vocabulary from", "set the vocabulary to"]);
    fs::copy(dir.path().join("letters.jsonl"), dir.path().join("music.jsonl")).expect("a copy");
    stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "out"])
        .fails(1, &["`music` has no train documents", "decontamination"]);
}

#[test]
fn bad_settings_are_named_by_line_and_key() {
    let dir = fresh();
    let cases: [(&str, &str, &[&str]); 24] = [
        (
            "learning_rate = 3e-3",
            "lerning_rate = 3e-3",
            &["changed.toml:24: unknown field `lerning_rate`", "did you mean `learning_rate`?"],
        ),
        ("[mixtures]", "[mixtuers]", &["unknown field `mixtuers`", "did you mean `mixtures`?"]),
        ("test = 0.2", "tset = 0.2", &["unknown field `tset`", "did you mean `test`?"]),
        ("steps = 60", "steps = \"many\"", &["changed.toml:22:", "a whole number", "got: steps = \"many\""]),
        ("steps = 60", "steps = -1", &["changed.toml:22:", "a whole number", "got: steps = -1"]),
        ("learning_rate = 3e-3", "learning_rate = true", &["a number", "got: learning_rate = true"]),
        (
            "pairs = \"all\"",
            "pairs = \"some\"",
            &["expected a number of mixtures, or \"all\"", "got: pairs = \"some\""],
        ),
        ("name = \"small\"", "", &["changed.toml:", "missing field `name`"]),
        ("name = \"small\"", "name = \"small", &["changed.toml:1:"]),
        ("width = 16", "width = 17", &["changed.toml: a width of 17 cannot be cut into 2 heads"]),
        ("width = 16", "width = 20", &["changed.toml: the model's width is 20", "a multiple of 8"]),
        ("\"tiny\"", "\"tinny\"", &["changed.toml: there is no model preset `tinny`", "tiny, 30m"]),
        (
            "vocabulary = 300",
            "vocabulary = 100",
            &["changed.toml: `tokenizer.vocabulary` is too small", "at least 257"],
        ),
        ("steps = 60", "steps = 4611686018427387904", &["changed.toml: `seed.training.steps` is out of range"]),
        ("batch = 4", "batch = 0", &["changed.toml: `seed.training.batch` is out of range"]),
        ("test = 0.2", "test = 1.5", &["changed.toml: `data.validation` and `data.test`"]),
        ("test = 0.2", "test = 0.2\nseparator = \"\"", &["changed.toml: the separator of document ids is empty"]),
        ("name = \"music\"", "name = \"law\"", &["changed.toml: two partitions or domains are named `law`"]),
        ("name = \"music\"", "name = \"ood\"", &["changed.toml: `ood` has a meaning of its own in the report"]),
        ("name = \"music\"", "name = \"a+b\"", &["changed.toml: `a+b` cannot name a partition"]),
        ("[\"music.jsonl\"]", "[]", &["changed.toml: `music` names no `files`"]),
        (
            "[mixtures]",
            "[[mixture]]\nmembers = { law = 0.5, music = 0.6 }\n[mixtures]",
            &["changed.toml: the weights of the mixture of law, music do not sum to 1", "got: 1.1"],
        ),
        (
            "[mixtures]",
            "[[mixture]]\nmembers = { law = 0.5, muzik = 0.5 }\n[mixtures]",
            &["changed.toml: a [[mixture]] has the unknown partition `muzik`"],
        ),
        (
            "[mixtures]",
            "[evaluation]\ntokens = 0\n[mixtures]",
            &["changed.toml: `evaluation.documents` and `evaluation.tokens` must be at least 1"],
        ),
    ];
    for (from, to, parts) in cases {
        run_with(&dir, from, to).fails(2, parts);
    }
    assert!(!dir.path().join("out").exists(), "settings are checked before anything is made");
    stockpot(dir.path(), &["plan", "absent.toml"]).fails(1, &["absent.toml: cannot read", "check the path"]);
}

#[test]
fn merges_that_cannot_be_are_refused() {
    let dir = trained();
    train_model(dir.path(), "other", MODEL);
    train_model(dir.path(), "wide", &MODEL.replace("width = 16", "width = 32"));
    let merge = |args: &[&str]| stockpot(dir.path(), &[&["merge", "--out", "merged"], args].concat());
    merge(&["model", "other", "--weights", "0.5,0.6"])
        .fails(2, &["the weights of a merge must sum to 1", "got: 1.1, from [0.5, 0.6]", "--normalize"]);
    merge(&["model", "other", "--weights", "1.0"]).fails(2, &["--weights does not fit", "2 weights"]);
    merge(&["model", "wide"])
        .fails(1, &["wide", "tensor `model.embed_tokens.weight`", "[300, 16]", "[300, 32]", "from one seed model"]);
    merge(&["model", "absent"]).fails(1, &["absent/config.json: cannot read", "check the path"]);
    merge(&["model", "other", "--dtype", "f8"]).fails(2, &["--dtype f8 is unknown", "f32, bf16 or f16"]);
    merge(&["recipe.yaml"]).fails(1, &["recipe.yaml: cannot read", "check the path"]);
    merge(&[]).fails(2, &["CKPT|RECIPE.yaml"]);
    merge(&["model", "other", "--weights", "half"])
        .fails(2, &["--weights half is unknown", "uniform, tokens, units", "`half`, which is no number"]);
    merge(&["model", "other", "--weights", "0.5,,0.5"]).fails(2, &["--weights 0.5,,0.5 is unknown", "got: ``"]);
    merge(&["model", "other", "--weights", "inf,0.5"]).fails(2, &["a finite number", "got: inf"]);
    merge(&["--partition", "law=model,other", "--weights", "0.5,0.5"]).fails(2, &["the partitions", "1 weights"]);
    merge(&["--partition", "law"]).fails(2, &["`law` is not NAME=CKPT,..."]);
    merge(&["--partition", "law=model,,other"]).fails(2, &["`law=model,,other` is not NAME=CKPT,...", "no empty path"]);
    merge(&["--partition", "law=model", "--partition", "law=other"]).fails(2, &["two partitions are named `law`"]);
    merge(&["model", "--partition", "law=other"]).fails(2, &["cannot be used with", "--partition"]);
    merge(&["model", "--seed", "other"]).fails(2, &["--lambda"]);
    merge(&["model", "--lambda", "1.4"]).fails(2, &["--seed"]);
    merge(&["model", "--seed", "other", "--lambda", "much"]).fails(2, &["--lambda", "much"]);
    merge(&["model", "--seed", "absent", "--lambda", "1.4"]).fails(1, &["absent/config.json: cannot read"]);
    merge(&["model", "other", "--weights", "0.5,0.4", "--seed", "model", "--lambda", "2"]).fails(2, &["got: 0.9"]);
    fs::remove_file(dir.path().join("other/trainer.json")).expect("a file");
    merge(&["model", "other", "--weights", "tokens"])
        .fails(1, &["other/trainer.json: this checkpoint does not tell", "--weights 0.7,0.3"]);
    assert!(!dir.path().join("merged").exists());
    stockpot(dir.path(), &["merge", "--out", "model", "model", "other"])
        .fails(2, &["model: the output of a merge cannot be one of its inputs"]);
    stockpot(dir.path(), &["merge", "--out", "other", "model", "wide"]).fails(1, &["tensor"]);
    stockpot(dir.path(), &["merge", "--out", "wide", "model", "other"])
        .fails(2, &["wide: the output of a merge exists and is not an earlier merge"]);
    merge(&["model", "other", "--weights", "0.5,0.6", "--normalize", "--json"]).json();
    merge(&["model", "other", "--weights=-0.5,1.5"]).done();
    merge(&["model", "other", "--weights", "-0.5,1.5"]).done();
    // Nothing above an input is written over, even if it is an earlier merge.
    fs::create_dir(dir.path().join("merged/inner")).expect("a directory");
    fs::rename(dir.path().join("other"), dir.path().join("merged/inner/other")).expect("a move");
    merge(&["model", "merged/inner/other"]).fails(2, &["merged: the output of a merge cannot be one of its inputs"]);
}

/// `merge` and `eval` take the same arguments, and score the same model.
#[test]
fn a_merge_that_is_scored_is_the_merge_that_is_written() {
    let dir = trained();
    for (name, steps) in [("other", 2), ("third", 5)] {
        let training = format!("[training]\nsteps = {steps}\nbatch = 4\nlearning_rate = 1e-3\n");
        fs::write(dir.path().join("on.toml"), format!("files = [\"law.jsonl\"]\n{training}")).expect("settings");
        let args = ["train", "--config", "on.toml", "--init", "model", "--device", "cpu", "--out", name];
        stockpot(dir.path(), &args).done();
    }
    let eval = |args: &[&str]| {
        let rest = ["--data", "x=letters.jsonl", "--device", "cpu", "--json"];
        stockpot(dir.path(), &[&["eval"], args, &rest].concat())
    };
    // model: 1 step of 2 windows of 16; other: 2 of 4; third: 5 of 4: 1 to 4 to 10.
    let cases: [(&[&str], &str, &[f64]); 8] = [
        (&["model", "other", "third"], "uniform", &[1.0 / 3.0; 3]),
        (&["model", "other", "third", "--weights", "tokens"], "tokens", &[1.0 / 15.0, 4.0 / 15.0, 10.0 / 15.0]),
        (&["model", "other", "--weights", "-0.5,1.5"], "given", &[-0.5, 1.5]),
        (&["model", "other", "--weights=1,3", "--normalize"], "given", &[0.25, 0.75]),
        (&["--partition", "p=model,other", "--partition", "q=third"], "uniform", &[0.25, 0.25, 0.5]),
        (&["--partition", "p=model,other", "--partition", "q=third", "--weights", "units"], "units", &[1.0 / 3.0; 3]),
        (&["other", "third", "--seed", "model", "--lambda", "1.4"], "uniform", &[1.0 - 1.4, 0.7, 0.7]),
        (&["third", "--seed", "third", "--lambda", "-1"], "uniform", &[2.0, -1.0]),
    ];
    for (args, scheme, weights) in cases {
        let written = stockpot(dir.path(), &[&["merge", "--json", "--out", "merged"], args].concat()).json();
        let of_file = eval(&["merged"]).json();
        assert!(of_file.get("merge").is_none(), "{of_file}");
        let paths = args.iter().take_while(|a| !a.starts_with('-')).copied().collect::<Vec<_>>();
        let mut scored = args[paths.len()..].to_vec();
        let joined = paths.join(",");
        if !paths.is_empty() {
            scored.extend(["--merge", &joined]);
        }
        let in_memory = eval(&scored).json();
        assert_eq!(in_memory["domains"], of_file["domains"], "{args:?}");
        let merge = &in_memory["merge"];
        assert_eq!(merge["scheme"], scheme, "{args:?}");
        assert_eq!(merge["members"].as_array().expect("members").len(), weights.len(), "{args:?}");
        for (member, weight) in merge["members"].as_array().expect("members").iter().zip(weights) {
            assert_eq!(member["weight"].as_f64(), Some(*weight), "{args:?}: {member}");
        }
        for field in ["scheme", "normalized", "members", "partitions", "scaled"] {
            assert_eq!(merge.get(field), written.get(field), "{args:?}: {field}");
        }
    }
    // With weights beside the paths, as ever.
    let given = eval(&["--merge", "model=0.25,third=0.75"]).json();
    assert_eq!(
        (&given["model"], &given["merge"]["scheme"]),
        (&"merge of model=0.25,third=0.75".into(), &"given".into())
    );
    let scaled = eval(&["--merge", "model=1,third=3", "--normalize", "--seed", "other", "--lambda", "0.5"]).json();
    let weights: Vec<f64> =
        scaled["merge"]["members"].as_array().expect("members").iter().map(|m| m["weight"].as_f64().unwrap()).collect();
    assert_eq!(weights, [0.5, 0.125, 0.375]);
}

/// The second domain is a pipe that gets its text only after the row of the first was read (a pattern takes it, a name
/// would have to be a file).
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

/// A safetensors file of this header and `data` bytes.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0u8; data]);
    bytes
}

#[test]
fn corrupt_and_hostile_checkpoints_are_refused() {
    let dir = trained();
    let path = dir.path().join("model/model.safetensors");
    let whole = fs::read(&path).expect("weights");
    let entry = |name: &str, from: usize, to: usize| {
        format!("\"{name}\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[{from},{to}]}}")
    };
    let mut endless = whole.clone();
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut nan = whole.clone();
    let last = nan.len() - 4;
    nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    let cases: [(Vec<u8>, &[&str]); 8] = [
        (whole[..whole.len() - 100].to_vec(), &["tensor `", "lies outside the file", "it may have been cut short"]),
        (whole[..5].to_vec(), &["this is not a safetensors file", "a file of 5 bytes"]),
        (endless, &["this is not a safetensors file", "a header length of 18446744073709551615"]),
        (safetensors("{broken", 0), &["the header of this safetensors file cannot be read"]),
        (
            safetensors(&format!("{{{},{}}}", entry("a", 0, 8), entry("b", 4, 12)), 12),
            &["tensor `b`", "shares bytes with the one before"],
        ),
        (
            safetensors(&format!("{{{}}}", entry("a", 0, usize::MAX)), 8),
            &["tensor `a`", "the header describes this tensor wrongly"],
        ),
        (
            safetensors(&format!("{{{}}}", entry("a", 0, 8)), 8),
            &["tensor `model.embed_tokens.weight`", "this tensor is missing"],
        ),
        (nan, &["tensor `", "not finite"]),
    ];
    for (bytes, parts) in cases {
        fs::write(&path, bytes).expect("weights");
        let merged = stockpot(dir.path(), &["merge", "--out", "merged", "model"]);
        merged.fails(1, &[&["model.safetensors"], parts].concat());
        assert!(!dir.path().join("merged").exists());
    }
    let eval = || stockpot(dir.path(), &["eval", "model", "--data", "x=letters.jsonl", "--device", "cpu"]);
    // A model with a weight that is not finite has no score.
    eval().fails(1, &["not finite"]);
    fs::write(&path, &whole[..whole.len() - 100]).expect("weights");
    eval().fails(1, &["model.safetensors", "lies outside the file"]);
    fs::write(&path, &whole).expect("weights");
    eval().done();
    let config = dir.path().join("model/config.json");
    let text = fs::read_to_string(&config).expect("a config");
    fs::write(&config, text.replace("\"silu\"", "\"gelu\"")).expect("a config");
    eval().fails(1, &["model/config.json", "`hidden_act`", "silu", "gelu"]);
}

#[test]
fn evaluations_that_cannot_be_are_refused() {
    let dir = trained();
    let eval = |args: &[&str]| stockpot(dir.path(), &[&["eval"], args, &["--device", "cpu"]].concat());
    let data = ["--data", "x=letters.jsonl"];
    eval(&["absent", data[0], data[1]]).fails(1, &["absent/config.json: cannot read"]);
    eval(&["model", "--data", "letters.jsonl"]).fails(2, &["`letters.jsonl` is not NAME=FILES"]);
    eval(&["model", "--data", "x=absent.jsonl"]).fails(1, &["absent.jsonl: no such file"]);
    eval(&["--merge", "model=0.5,model=0.6", data[0], data[1]]).fails(2, &["must sum to 1", "got: 1.1"]);
    eval(&["--merge", "model=0.5,model", data[0], data[1]]).fails(2, &["`model` is not CKPT=WEIGHT", "`model=0.5`"]);
    eval(&["--merge", "model=0.5,model=0.5", "--weights", "uniform", data[0], data[1]])
        .fails(2, &["weights are given twice", "--weights uniform beside"]);
    eval(&["--merge", "model,model", "--weights", "0.7", data[0], data[1]]).fails(2, &["does not fit", "2 weights"]);
    eval(&["--merge", "model", "--partition", "p=model", data[0], data[1]]).fails(2, &["cannot be used with"]);
    eval(&["model", "--weights", "uniform", data[0], data[1]]).fails(2, &["--weights is about a merge", "--merge"]);
    eval(&["model", "--seed", "model", "--lambda", "2", data[0], data[1]]).fails(2, &["--seed is about a merge"]);
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
            "fix: take the tokenizer.json",
        ],
    );
    fs::write(dir.path().join("model/tokenizer.json"), "{}").expect("a file");
    eval(&["model", data[0], data[1]]).fails(1, &["model/tokenizer.json: not a tokenizer that can be read"]);
}

/// The shell's limit on file sizes stands for a full disk on every machine; where the test may mount one, a small
/// file system that fills up is tried too.
#[test]
fn a_full_disk_ends_in_one_error_and_the_run_goes_on_from_there() {
    let (dir, whole) = (fresh(), fresh());
    stockpot(whole.path(), &["run", "study.toml", "--device", "cpu", "--out", "out"]).done();
    let limited = |kib: u32, args: &str| {
        let script = format!("ulimit -f {kib}; exec '{}' {args}", env!("CARGO_BIN_EXE_stockpot"));
        Outcome::of(
            std::process::Command::new("bash").arg("-c").arg(script).current_dir(dir.path()).stdin(Stdio::null()),
        )
    };
    // Of 1 KiB blocks: no tokenizer fits, then no shard, then no checkpoint.
    for (blocks, name) in [(2, "tokenizers"), (8, "shards"), (40, "models")] {
        limited(blocks, "run study.toml --device cpu --out out")
            .fails(1, &[&format!("out/{name}"), "File too large", "ulimit -f"]);
    }
    let made = tree(&dir.path().join("out"));
    assert!(made.keys().any(|name| name.starts_with("shards/") && name.ends_with("tokens.bin")), "shards are kept");
    stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "out"]).done();
    assert_same_tree(&tree(&dir.path().join("out")), &tree(&whole.path().join("out")));
    limited(8, "merge --out merged $(ls -d out/models/* | head -2)").fails(1, &["merged", "File too large"]);
    assert!(!dir.path().join("merged").exists());

    // A device that is always full.
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let said =
        command(dir.path(), &["plan", "study.toml"]).stdout(full).stderr(Stdio::piped()).output().expect("the binary");
    let said = Outcome {
        code: said.status.code(),
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&said.stderr).into_owned(),
    };
    said.fails(1, &["stdout: cannot write to: No space left on device"]);

    let small = dir.path().join("small");
    fs::create_dir(&small).expect("a directory");
    let mount =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"]).arg(&small).output();
    if !mount.is_ok_and(|m| m.status.success()) {
        eprintln!("skipped: this user may not mount a tmpfs; the limit on file sizes was tested");
        return;
    }
    let filled = stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "small/out"]);
    std::process::Command::new("mount").args(["-o", "remount,ro"]).arg(&small).status().expect("mount");
    let read_only = stockpot(dir.path(), &["merge", "--out", "small/merged", "out/report.json"]);
    let read_only_run = stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "small/new"]);
    std::process::Command::new("umount").arg(&small).status().expect("umount");
    filled.fails(1, &["small/out/", "No space left on device", "free some space", "finished stages are kept"]);
    read_only.fails(1, &["out/report.json"]);
    read_only_run.fails(1, &["small/new", "Read-only file system", "choose another --out"]);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let dir = trained();
    // Not even root writes below a file, or in /proc.
    for out in ["law.jsonl/out", "/proc/stockpot"] {
        let failed = |args: &[&str]| stockpot(dir.path(), &[args, &["--out", out]].concat()).fails(1, &[out, "path"]);
        failed(&["run", "study.toml", "--device", "cpu"]);
        failed(&["train", "--config", "train.toml", "--device", "cpu"]);
        failed(&["merge", "model"]);
        failed(&["tokenize", "law.jsonl", "--tokenizer", "tokenizer.json"]);
    }
}

#[test]
fn what_comes_later_says_so() {
    let dir = fresh();
    let later = |args: &[&str], part: &str| stockpot(dir.path(), args).fails(2, &[part, "later version"]);
    later(&["search", "study.toml", "--objective", "ood", "--json"], "`stockpot search`");
    later(&["search"], "`stockpot search`");
    later(&["run", "study.toml", "--cluster", "slurm"], "--cluster slurm");
    // No machine has so many GPUs.
    stockpot(dir.path(), &["run", "study.toml", "--device", "cuda:999"]).fails(2, &["fix: "]);
    for device in ["gpu", "cuda:", "cuda:x", ""] {
        let run = stockpot(dir.path(), &["run", "study.toml", "--device", device]);
        run.fails(2, &["is unknown", "auto, cpu, cuda or cuda:N"]);
    }
    let auto = stockpot(dir.path(), &["run", "study.toml", "--until", "tokens"]).done();
    assert!(auto.stderr.contains("device: the CPU"), "{}", auto.stderr);
    assert!(dir.path().join("runs/small/shards").exists());
}

#[test]
fn a_wrong_command_line_gets_help() {
    let dir = fresh();
    let nothing = stockpot(dir.path(), &[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(2), ""));
    for command in
        ["run", "plan", "status", "report", "search", "tokenize", "train", "merge", "eval", "bench", "doctor"]
    {
        assert!(nothing.stderr.contains(&format!("\n  {command} ")), "no `{command}` in\n{}", nothing.stderr);
    }
    assert!(stockpot(dir.path(), &["--help"]).done().stdout.contains("Usage: stockpot"));
    assert!(stockpot(dir.path(), &["--version"]).done().stdout.starts_with("stockpot "));
    stockpot(dir.path(), &["frobnicate"]).fails(2, &["unrecognized subcommand 'frobnicate'", "--help"]);
    stockpot(dir.path(), &["run"]).fails(2, &["STUDY.toml"]);
    stockpot(dir.path(), &["run", "study.toml", "--until", "modulse"]).fails(2, &["modules"]);
    stockpot(dir.path(), &["doctor", "--threads", "0"]).fails(2, &["--threads"]);
    stockpot(dir.path(), &["eval", "--data", "x=letters.jsonl"]).fails(2, &["CKPT"]);
}

#[test]
fn doctor_and_tokenize_report() {
    let dir = trained();
    let doctor = stockpot(dir.path(), &["doctor", "--json", "--threads", "2"]).json();
    assert_eq!(doctor["threads"], 2);
    assert!(doctor["matmul_gflops"].as_f64() > Some(0.0), "{doctor}");
    assert!(stockpot(dir.path(), &["doctor"]).done().stdout.contains("cuda: "));
    let tokenize = |files: &[&str], out: &str| {
        stockpot(
            dir.path(),
            &[&["tokenize"], files, &["--tokenizer", "tokenizer.json", "--out", out, "--json"]].concat(),
        )
    };
    let info = tokenize(&["law.jsonl", "letters.jsonl"], "shard").json();
    assert_eq!((&info["documents"], &info["vocabulary"]), (&52.into(), &300.into()));
    let shard = stockpot::engine::data::Shard::open(&dir.path().join("shard")).expect("a shard");
    assert_eq!(info["tokens"], shard.tokens_len());
    // A failed tokenization leaves the shard that was there.
    let before = tree(&dir.path().join("shard"));
    fs::write(dir.path().join("bad.jsonl"), "{\"text\": 1}\n").expect("a file");
    tokenize(&["law.jsonl", "bad.jsonl"], "shard").fails(1, &["bad.jsonl:1: `text` is not a string"]);
    assert_same_tree(&tree(&dir.path().join("shard")), &before);
    stockpot(dir.path(), &["tokenize", "law.jsonl", "--tokenizer", "study.toml", "--out", "x"])
        .fails(1, &["study.toml: not a tokenizer that can be read", "a tokenizer.json"]);
}

/// `| head` closes a pipe early: no reason to panic, nor to end a run whose messages nobody reads.
#[test]
fn a_closed_pipe_is_no_panic() {
    let dir = fresh();
    let bash = |script: &str| {
        let script = format!(
            "{} ; echo \"codes ${{PIPESTATUS[*]}}\"",
            script.replace("stockpot", env!("CARGO_BIN_EXE_stockpot"))
        );
        Outcome::of(
            std::process::Command::new("bash").arg("-c").arg(script).current_dir(dir.path()).stdin(Stdio::null()),
        )
    };
    for script in
        ["stockpot plan study.toml --json | head -0", "stockpot --help | head -0", "stockpot doctor | head -0"]
    {
        let said = bash(script);
        assert!(said.stdout.ends_with("codes 0 0\n"), "{script}: {}\n{}", said.stdout, said.stderr);
        assert!(said.stderr.is_empty(), "{script}: {}", said.stderr);
    }
    let said = bash("stockpot run study.toml --out out 2>&1 | head -0");
    assert!(said.stdout.ends_with("codes 0 0\n"), "{}", said.stdout);
    assert!(dir.path().join("out/report.html").exists(), "the run went on to its end");
    let said = bash("stockpot run absent.toml 2>&1 | head -0");
    assert!(said.stdout.ends_with("codes 1 0\n"), "{}", said.stdout);
}
