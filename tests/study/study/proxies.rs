//! Proxies: a larger model, scaled merges, sampled merges, segments.

use super::{eval_merge, mixture, model, rows, run, set, study};
use crate::binary::stockpot;
use crate::studies::{PARTITIONS, study_toml};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

const TARGET: &str = "\n[target]\nmixtures = 2\nmodules = true\n\n[target.model]\npreset = \"tiny\"\nwidth = 32\n\
    layers = 1\nheads = 2\nfeed_forward = 48\ncontext = 16\n\n[target.seed.training]\nsteps = 40\nbatch = 4\n\
    learning_rate = 3e-3\n\n[target.module.training]\nsteps = 20\nbatch = 4\nlearning_rate = 3e-4\n";

#[test]
fn a_larger_model_is_predicted_by_the_small_pool() {
    let plain = study(|s| s);
    let before = run(&plain);
    let dir = study(|s| s + TARGET);
    let report = run(&dir);
    // The small model's results are the same as without a larger one.
    assert_eq!(before["mixtures"][0]["scores"], report["mixtures"][0]["scores"]);
    let with_target = rows(&report["mixtures"]).iter().filter(|m| m.get("target").is_some());
    assert_eq!(with_target.count(), 2);
    let seq = rows(&report["mixtures"]).iter().find(|m| m.get("target").is_some()).expect("a mixture of the target");
    let id = seq["id"].as_str().expect("an id");
    let target = model(&report, &format!("target seq {id}"));
    let said = stockpot(dir.path(), &["eval", &target, "--data", "letters=letters.jsonl", "--json", "--device", "cpu"]);
    assert_eq!(said.json()["domains"][0]["nats"], seq["target"]["seq"]["letters"]["nats"]);
    for proxy in ["merged", "ind"] {
        assert!(seq["target"][proxy]["letters"]["perplexity"].as_f64().is_some());
    }
    assert!(report["cross_scale"]["target_parameters"].as_u64() > report["cross_scale"]["parameters"].as_u64());
    let proxies: BTreeSet<&str> =
        rows(&report["cross_scale"]["correlations"]).iter().map(|c| c["proxy"].as_str().expect("a proxy")).collect();
    assert_eq!(proxies, BTreeSet::from(["merged", "ind", "seq", "target_merged", "target_ind"]));
}

#[test]
fn scaled_and_sampled_merges_and_segments_have_the_scores_of_eval() {
    let probes =
        "\n[proxies]\nlambdas = [0.5, 1.0, 1.5]\nlambda = 1.5\nlaws = 12\n\n[connectivity]\npairs = 1\npoints = 5\n";
    let dir = study(|s| s + probes);
    let report = run(&dir);
    let at = |name: &str, weight: f64| (model(&report, name), weight);
    let mixed = mixture(&report, "law+music");
    let (seed, modules) = (model(&report, "seed"), [at("module law", 0.5), at("module music", 0.5)]);
    let scaled = eval_merge(&dir, &modules, &["--seed", &seed, "--lambda", "1.5"]);
    assert_eq!(mixed["scores"]["scaled"]["letters"]["nats"], scaled);
    let csv = fs::read_to_string(dir.path().join("out/scores.csv")).expect("scores.csv");
    assert!(csv.lines().any(|l| l.starts_with("law+music,pairs,scaled@0.5,letters,")), "{csv}");

    assert_eq!(rows(&report["samples"]).len(), 12);
    let sample = &report["samples"][3];
    let members = sample["members"].as_object().expect("members");
    let terms: Vec<(String, f64)> =
        members.iter().map(|(name, w)| at(&format!("module {name}"), w.as_f64().expect("a weight"))).collect();
    assert_eq!(sample["scores"]["letters"]["nats"], eval_merge(&dir, &terms, &[]));
    assert_eq!(rows(&report["laws"]).len(), 2 * 4, "two laws for each of four domains");

    // One pair of modules, and the seed to each of them.
    let segments = rows(&report["segments"]);
    assert_eq!(segments.len(), 3);
    let between = &segments[0];
    let (from, to) = (between["from"].as_str().expect("a name"), between["to"].as_str().expect("a name"));
    let points = rows(&between["points"]);
    let places: Vec<f64> = points.iter().map(|p| p["at"].as_f64().expect("a place")).collect();
    assert_eq!(places, [0.0, 0.25, 0.5, 0.75, 1.0]);
    let terms = [at(&format!("module {from}"), 0.75), at(&format!("module {to}"), 0.25)];
    assert_eq!(points[1]["scores"]["letters"]["nats"], eval_merge(&dir, &terms, &[]));
    let end = eval_merge(&dir, &[at(&format!("module {to}"), 1.0)], &[]);
    assert_eq!(points[4]["scores"]["letters"]["nats"], end);
    assert!(between["barriers"]["letters"]["height"].as_f64().is_some());
    assert!(segments[1..].iter().all(|s| s["from"] == "seed"));
}

/// The given seed has a longer context than its modules. No weight depends on the context, so
/// scaled merges and segments are made.
#[test]
fn a_seed_with_a_longer_context_works_in_scaled_merges_and_segments() {
    let dir = study(|s| s);
    let seed = model(&run(&dir), "seed");
    let settings = study_toml(&PARTITIONS);
    let tables = &settings[settings.find("[[partition]]").expect("partitions")..];
    set(
        dir.path(),
        format!(
            "name = \"given\"\n[data]\ntest = 0.2\n[seed]\ncheckpoint = \"{seed}\"\ncontext = 8\n\
             [module.training]\nsteps = 5\nbatch = 4\nlearning_rate = 3e-4\n[mixtures]\npairs = \"all\"\n\
             [proxies]\nlambdas = [1.4]\n[connectivity]\npairs = 1\npoints = 3\n{tables}"
        ),
    );
    stockpot(dir.path(), &["run", "study.toml", "--device", "cpu", "--out", "given"]).done();
    let said = fs::read_to_string(dir.path().join("given/report.json")).expect("a report");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(rows(&said["segments"]).len(), 3);
    assert!(fs::read_to_string(dir.path().join("given/scores.csv")).expect("scores").contains("scaled@1.4"));
}
