//! `stockpot run`: wrong documents and settings. One message says what happened, where, and what to
//! do. The exit code is 2 for the command line and settings, 1 otherwise. Nothing panics.

use crate::binary::{Outcome, stockpot};
use crate::runs::fresh;
use crate::studies::{PARTITIONS, study_toml};
use std::fs;
use std::io::Write;
use tempfile::TempDir;

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
    // The bad file is in a later partition: the first one's text is read before it.
    let cases: [(&str, &[&str]); 12] = [
        ("cut.jsonl.gz", &["cut.jsonl.gz:", "the gzip file is cut off", "`gzip -t` checks it"]),
        ("cut.jsonl.zst", &["cut.jsonl.zst:", "the zstd file is cut off", "`zstd -t` checks it"]),
        ("broken.jsonl", &["broken.jsonl:7: not valid JSON", "one JSON object per line", "column"]),
        ("list.jsonl", &["list.jsonl:2: not a JSON object", "an array"]),
        ("textless.jsonl", &["textless.jsonl:3: the document has no `text`", "a string field \"text\""]),
        ("number.jsonl", &["number.jsonl:4: `text` is not a string", "a number"]),
        ("latin.jsonl", &["latin.jsonl:41: the text is not valid UTF-8", "iconv"]),
        ("empty.jsonl", &["empty.jsonl: there are no documents", "an empty file"]),
        ("nothing", &["nothing: no documents found here", "check the path or pattern"]),
        ("law.csv", &["law.csv: this kind of file is not supported", ".jsonl.zst"]),
        ("absent.jsonl", &["absent.jsonl: no such file or directory", "check the path"]),
        ("absent/*.jsonl", &["absent/*.jsonl: no documents found here", "check the path or pattern"]),
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
    // Also if the text was already tokenized with a smaller batch.
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
