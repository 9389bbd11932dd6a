//! `stockpot plan` compared with the run.

use super::{report, study};
use crate::binary::stockpot;
use crate::runs::RUN;
use serde_json::Value;
use std::fs;

/// Settings with base units, repeats, scaled and sampled merges, segments and a larger model.
fn everything(settings: String) -> String {
    settings
        .replace("files = [\"law.jsonl\"]\n", "files = [\"law.jsonl\"]\nunits = 3\n")
        .replace("[mixtures]\n", "[mixtures]\nrepeats = 2\nrepeated = 1\n")
        + "\n[proxies]\nlambdas = [1.0, 1.5]\nlaws = 12\n\n[connectivity]\npairs = 2\npoints = 5\n\
           \n[target]\nmixtures = 2\nmodules = true\n\n[target.model]\npreset = \"tiny\"\nwidth = 32\nlayers = 1\nheads = 2\n\
           feed_forward = 48\ncontext = 16\n\n[target.seed.training]\nsteps = 10\nbatch = 4\nlearning_rate = 3e-3\n\
           \n[target.module.training]\nsteps = 5\nbatch = 4\nlearning_rate = 3e-4\n"
}

/// The plan sums the same tasks that a run does. It is made before any text is read, yet the run
/// trains and scores exactly those models.
#[test]
fn a_plan_counts_what_a_run_does() {
    let dir = study(everything);
    let plan = stockpot(dir.path(), &["plan", "study.toml", "--json"]).json();
    // Without the search, whose merges are no tasks of the graph.
    stockpot(dir.path(), &[&RUN[..], &["--until", "scores"]].concat()).done();
    stockpot(dir.path(), &["report", "study.toml", "--out", "out"]).done();
    let (report, stages) = (report(&dir), plan["cost"]["stages"].as_array().expect("stages"));
    let made = report["cost"]["stages"].as_array().expect("stages");
    let names = |list: &[Value]| list.iter().map(|s| s["stage"].to_string()).collect::<Vec<_>>();
    assert_eq!(names(stages), names(made));
    assert_eq!(stages.len(), 8, "four of each model size");
    let mut models = (0, 0);
    for (planned, made) in stages.iter().zip(made) {
        let is_scoring = planned["stage"].as_str().is_some_and(|name| name.ends_with("scoring"));
        assert_eq!(planned["models"], made["models"], "{}", planned["stage"]);
        let count = planned["models"].as_u64().expect("a number");
        if is_scoring {
            // The amount of scored text is known only after tokenization.
            models.1 += count;
        } else {
            assert_eq!((&planned["tokens"], &planned["flops"]), (&made["tokens"], &made["flops"]));
            models.0 += count;
        }
    }
    let directories = fs::read_dir(dir.path().join("out/models")).expect("models").count() as u64;
    assert_eq!(directories, models.0, "trained");
    let status = stockpot(dir.path(), &["status", "study.toml", "--json", "--out", "out"]).json();
    assert_eq!(status["trainings"].as_array().map(|list| list.len() as u64), Some(models.0));
    assert_eq!(status["scores"].as_u64(), Some(4 * models.1), "each model on four domains");
    assert_eq!(fs::read_dir(dir.path().join("out/scores")).expect("scores").count() as u64, 4 * models.1);
    assert!(plan["search"]["models"].as_u64() > Some(0), "{}", plan["search"]);
    for key in ["naive_flops", "target_naive_flops"] {
        assert_eq!(plan["cost"][key], report["cost"][key], "{key}");
    }
}
