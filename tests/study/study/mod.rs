//! src/study, run as the binary on text of 46 words per topic. Numbers are compared with those of
//! the other commands on the same checkpoints. Killed studies: tests/process/kills.rs.

mod history;
mod mixtures;
mod plan;
mod prepare;
mod proxies;
mod report;
mod run;
mod score;
mod search;
mod settings;
mod status;

use crate::binary::stockpot;
use crate::runs::RUN;
use crate::studies::{PARTITIONS, study_toml, write_study};
use crate::texts::{documents, write_jsonl};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn report(dir: &TempDir) -> Value {
    json(&dir.path().join("out/report.json"))
}

fn each(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array().expect("a list").iter()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// The study of [`write_study`] with changed settings.
fn study(change: impl FnOnce(String) -> String) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_study(dir.path());
    // Enough for three base units.
    write_jsonl(&dir.path().join("law.jsonl"), &documents("law", 2, 120));
    set(dir.path(), change(study_toml(&PARTITIONS)));
    dir
}

fn set(dir: &Path, settings: String) {
    fs::write(dir.join("study.toml"), settings).expect("a file that can be written");
}

fn run(dir: &TempDir) -> Value {
    stockpot(dir.path(), &RUN).done();
    report(dir)
}

fn rows(list: &Value) -> &Vec<Value> {
    list.as_array().expect("a list")
}

fn mixture<'a>(report: &'a Value, id: &str) -> &'a Value {
    rows(&report["mixtures"]).iter().find(|m| m["id"] == id).unwrap_or_else(|| panic!("no mixture {id}"))
}

/// The directory of a model, from the hashes of the report.
fn model(report: &Value, name: &str) -> String {
    let key = report["hashes"][name].as_str().unwrap_or_else(|| panic!("no hash of {name}"));
    format!("out/models/{key}")
}

/// The nats of a merge on `letters`, by `eval --merge`.
fn eval_merge(dir: &TempDir, terms: &[(String, f64)], options: &[&str]) -> f64 {
    let terms: Vec<String> = terms.iter().map(|(path, weight)| format!("{path}={weight}")).collect();
    let merge = terms.join(",");
    let args = ["eval", "--merge", &merge, "--data", "letters=letters.jsonl", "--json", "--device", "cpu"];
    let said = stockpot(dir.path(), &[&args[..], options].concat()).json();
    said["domains"][0]["nats"].as_f64().expect("nats")
}

fn trainer(dir: &TempDir, model: &str) -> Value {
    let text = fs::read_to_string(dir.path().join(model).join("trainer.json")).expect("trainer.json");
    serde_json::from_str(&text).expect("JSON")
}
