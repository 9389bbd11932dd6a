//! Searches of small studies, against scores of all mixtures: the best are found under each
//! constraint, what is not determined is named, and nothing is computed twice.

use super::{each, json, set, study};
use crate::binary::stockpot;
use crate::texts::{documents, random, write_jsonl};
use crate::trees::{assert_same_tree, tree};
use rand_chacha::rand_core::RngCore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use stockpot::analysis::statistics::correlation::spearman;
use tempfile::TempDir;

const SEARCH: [&str; 6] = ["search", "study.toml", "--out", "out", "--device", "cpu"];

fn search(dir: &TempDir, options: &[&str]) -> Value {
    stockpot(dir.path(), &[&SEARCH[..], options, &["--json"]].concat()).json()
}

/// A study of these topics as partitions and two OOD sets, one of which mixes two of the topics.
fn topics(topics: &[u64], extra: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    write_jsonl(&dir.path().join("general.jsonl"), &documents("general", 1, 60));
    let mut tables = String::new();
    for topic in topics {
        let name = format!("p{topic:02}");
        write_jsonl(&dir.path().join(format!("{name}.jsonl")), &documents(&name, *topic, 40));
        tables += &format!("\n[[partition]]\nname = \"{name}\"\nfiles = [\"{name}.jsonl\"]\n");
    }
    let both = [documents("x", 2, 20), documents("y", 3, 20), documents("z", 4, 6)].concat();
    // Other documents than those that are trained on.
    let both: Vec<(String, String)> =
        both.into_iter().map(|(id, text)| (id, text.replace("the ", "of the "))).collect();
    write_jsonl(&dir.path().join("both.jsonl"), &both);
    write_jsonl(&dir.path().join("letters.jsonl"), &documents("letters", 9, 12));
    let settings = crate::studies::study_toml(&[]);
    let settings = settings.replace("[mixtures]\npairs = \"all\"\n", "").replace("decontaminate = 13", "");
    let settings = settings.replace("[data]\n", "[data]\ndecontaminate = 0\n");
    // Modules near the seed, as the method needs them.
    let settings = settings.replace("learning_rate = 3e-4", "learning_rate = 1e-4");
    let ood = "\n[[ood]]\nname = \"both\"\nfiles = [\"both.jsonl\"]\n";
    set(dir.path(), settings + &tables + ood + extra);
    dir
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

fn weights(candidate: &Value) -> Vec<f64> {
    each(&candidate["weights"]).map(number).collect()
}

fn of_kind<'a>(report: &'a Value, kind: &str) -> Vec<&'a Value> {
    each(&report["outcome"]["candidates"]).filter(|c| c["kind"] == kind).collect()
}

fn best(report: &Value) -> &Value {
    &report["outcome"]["candidates"][report["outcome"]["best"].as_u64().expect("a place") as usize]
}

/// Every subset with equal weights, as an option.
fn all_subsets(names: &[String]) -> Vec<String> {
    let one = |members: u32| {
        let weight = 1.0 / f64::from(members.count_ones());
        let inside = (0..names.len()).filter(|i| members >> i & 1 == 1);
        inside.map(|i| format!("{}={weight}", names[i])).collect::<Vec<_>>().join(",")
    };
    (1..1u32 << names.len()).map(one).collect()
}

/// All 1,023 subsets of ten partitions are scored by real merges; a search that sees only a few
/// gradients finds the best of them, under each constraint.
#[test]
fn the_best_of_all_1023_subsets_is_found_under_every_constraint() {
    let dir = topics(&[2, 3, 4, 5, 6, 7, 8, 10, 11, 12], "");
    let names: Vec<String> = [2, 3, 4, 5, 6, 7, 8, 10, 11, 12].map(|topic| format!("p{topic:02}")).to_vec();
    let all = all_subsets(&names);
    let asked: Vec<&str> = all.iter().flat_map(|mixture| ["--mixture", mixture.as_str()]).collect();
    let report = search(&dir, &asked);
    let truth = of_kind(&report, "asked");
    assert_eq!(truth.len(), 1023);
    let (predicted, real): (Vec<f64>, Vec<f64>) =
        truth.iter().map(|c| (number(&c["predicted"]), number(&c["merged"]))).unzip();
    let order = spearman(&predicted, &real).expect("they vary");
    assert!(order > 0.999, "Spearman's correlation of predicted and real order is {order}");

    let sum = |w: &[f64], members: &[usize]| members.iter().map(|&i| w[i]).sum::<f64>();
    type Allowed<'a> = Box<dyn Fn(&[f64]) -> bool + 'a>;
    let sets: Vec<(&[&str], Allowed)> = vec![
        (&[], Box::new(|_| true)),
        (&["--at-most", "3"], Box::new(|w| w.iter().filter(|w| **w > 0.0).count() <= 3)),
        (&["--max", "p02=0.3", "--max", "p03=0.3"], Box::new(|w| w[0] <= 0.3 + 1e-9 && w[1] <= 0.3 + 1e-9)),
        (
            &["--min", "p07=0.2", "--at-most", "4"],
            Box::new(|w| w[5] >= 0.2 - 1e-9 && w.iter().filter(|w| **w > 0.0).count() <= 4),
        ),
        (
            &["--group", "p02+p03=0..0.4", "--group", "p05+p06=0.2..1"],
            Box::new(|w| sum(w, &[0, 1]) <= 0.4 + 1e-9 && sum(w, &[3, 4]) >= 0.2 - 1e-9),
        ),
        (&["--fix", "p04=0.25"], Box::new(|w| (w[2] - 0.25).abs() < 1e-9)),
    ];
    for (options, allowed) in sets {
        let report = search(&dir, options);
        let feasible = truth.iter().filter(|c| allowed(&weights(c)));
        let mut sorted: Vec<&Value> = feasible.copied().collect();
        sorted.sort_by(|a, b| number(&a["merged"]).total_cmp(&number(&b["merged"])));
        let subsets = of_kind(&report, "subset");
        assert!(subsets.iter().all(|c| allowed(&weights(c))), "{options:?}");
        let (found, expected) = (number(&subsets[0]["merged"]), number(&sorted[0]["merged"]));
        // The first, unless the form cannot tell it from one that is as good.
        let error = number(&report["outcome"]["expansions"][0]["target"]["rms"]);
        assert!(found <= expected + error, "{options:?}: {found}, but {} has {expected}", sorted[0]["name"]);
        let listed = subsets.iter().map(|c| number(&c["merged"])).fold(f64::INFINITY, f64::min);
        assert!(listed <= expected + 1e-12, "{options:?}: the best is not among those listed");
        let best = best(&report);
        assert!(allowed(&weights(best)) && best["feasible"] == true, "{options:?}: {best}");
        assert!(number(&best["merged"]) <= expected + 1e-9, "{options:?}: weights are worse than a subset");
    }
}

/// Predictions on 200 random mixtures of all sizes, against real merges.
#[test]
fn the_form_predicts_random_merges() {
    let dir = topics(&[2, 3, 4, 5, 6], "\n[search]\nobjective = \"id\"\nheld_out = 200\n");
    let report = search(&dir, &[]);
    let chosen = each(&report["outcome"]["expansions"]).find(|e| e["chosen"] == true).expect("a form");
    let error = &chosen["target"];
    assert_eq!(error["n"], 200);
    let all = &report["outcome"]["expansions"];
    assert!(number(&error["pearson"]) > 0.999, "{all:#}");
    assert!(number(&error["rms"]) < 0.05 * number(&error["deviation"]), "{all:#}");
}

#[test]
fn equal_partitions_are_not_determined_and_noise_gets_its_floor() {
    let dir = topics(&[2, 3, 5], "\n[search]\nobjective = { p02 = 1, p03 = 1 }\n");
    // A copy of a partition, and text of words in random order from all topics.
    fs::copy(dir.path().join("p02.jsonl"), dir.path().join("copy.jsonl")).expect("a copy");
    let mut draw = random(5);
    let mut noise = documents("noise", 77, 40);
    for (_, text) in &mut noise {
        *text = (0..60).map(|_| format!("{:x}", draw.next_u32())).collect::<Vec<_>>().join(" ");
    }
    write_jsonl(&dir.path().join("noise.jsonl"), &noise);
    let path = dir.path().join("study.toml");
    let tables =
        ["copy", "noise"].map(|name| format!("\n[[partition]]\nname = \"{name}\"\nfiles = [\"{name}.jsonl\"]\n"));
    fs::write(&path, fs::read_to_string(&path).expect("settings") + &tables.concat()).expect("written");
    let report = search(&dir, &["--min", "noise=0.03"]);
    let names: Vec<&str> = each(&report["outcome"]["partitions"]).map(|n| n.as_str().expect("a name")).collect();
    let place = |name: &str| names.iter().position(|n| *n == name).expect("a partition");
    let w = weights(best(&report));
    assert!((w[place("noise")] - 0.03).abs() < 1e-6, "{names:?} {w:?}");
    let undetermined: Vec<u64> =
        each(&report["outcome"]["undetermined"]).map(|i| i.as_u64().expect("a place")).collect();
    for name in ["p02", "copy"] {
        assert!(undetermined.contains(&(place(name) as u64)), "{name}: {undetermined:?} of {names:?}, {w:?}");
        let range = &report["outcome"]["ranges"][place(name)];
        assert!(number(&range["min"]) < 0.01, "{range}");
    }
    assert!(!undetermined.contains(&(place("noise") as u64)), "{undetermined:?} of {names:?}, {w:?}");
    // Few documents leave p03 a range, but not all of it: without p03, one of the two domains is lost.
    let width = |name: &str| {
        let range = &report["outcome"]["ranges"][place(name)];
        number(&range["max"]) - number(&range["min"])
    };
    assert!(width("p03") < width("p02") && width("p03") < width("copy"), "{}", report["outcome"]["ranges"]);
}

#[test]
fn a_search_again_computes_nothing_and_threads_change_nothing() {
    let dirs = ["1", "2", "7"].map(|threads| {
        let dir = study(|settings| settings);
        stockpot(dir.path(), &[&SEARCH[..], &["--threads", threads]].concat()).done();
        (tree(&dir.path().join("out")), dir)
    });
    assert_same_tree(&dirs[0].0, &dirs[1].0);
    assert_same_tree(&dirs[0].0, &dirs[2].0);
    let (before, dir) = &dirs[0];
    let said = stockpot(dir.path(), &SEARCH).done().stderr;
    assert!(!said.contains("gradients:") && !said.contains("scoring:"), "{said}");
    assert_same_tree(before, &tree(&dir.path().join("out")));
}

/// SEQ runs of one budget calibrate lambda, whatever the mixture; predictions are written before
/// the mixtures that verify them are trained.
#[test]
fn seq_runs_of_the_budget_calibrate_and_verify() {
    let dir = study(|settings| settings + "\n[search]\nbudget = 2\ncalibrate = 3\n");
    stockpot(dir.path(), &["run", "study.toml", "--out", "out", "--device", "cpu"]).done();
    let report = super::report(&dir);
    let of_budget: Vec<&Value> = each(&report["mixtures"]).filter(|m| m["group"] == "budget 2").collect();
    let tokens: Vec<u64> = of_budget.iter().map(|m| m["tokens"].as_u64().expect("tokens")).collect();
    // Two modules of 25 steps of 4 windows of 16 tokens, whatever the number of partitions.
    assert_eq!(tokens, [3200; 3]);
    let found = search(&dir, &[]);
    // With the three pairs, which have that budget too.
    assert_eq!(found["calibration"]["n"], 6);
    assert!(
        found["lambda_calibrated"] == true && number(&found["calibration"]["pearson"]) > 0.5,
        "{}",
        found["calibration"]
    );
    assert_eq!(found["outcome"]["lambda"], found["calibration"]["lambda"]);
    assert!(found["verification"].as_array().expect("a list").is_empty());

    let verified = search(&dir, &["--verify", "3"]);
    let list = verified["verification"].as_array().expect("a list");
    assert_eq!(list.len(), 3);
    assert_eq!((&list[0]["name"], &list[1]["name"]), (&"best".into(), &"natural".into()));
    let kept = json(&dir.path().join("out/predictions.json"));
    for (v, kept) in list.iter().zip(each(&kept)) {
        assert!(number(&v["seq"]) > 0.0 && kept.get("seq").is_none());
        assert_eq!((&v["merged"], &v["members"]), (&kept["merged"], &kept["members"]));
        let weights: BTreeMap<String, f64> = serde_json::from_value(v["members"].clone()).expect("weights");
        assert!((weights.values().sum::<f64>() - 1.0).abs() < 1e-9);
    }
    assert_eq!(number(&list[0]["merged"]), number(&best(&found)["merged"]));
    assert_eq!(verified["calibration"]["n"].as_u64().expect("a number"), 9, "{}", verified["calibration"]);
    // Again: the list is long enough.
    let again = search(&dir, &["--verify", "3"]);
    assert_eq!(again["verification"], verified["verification"]);
    assert!(fs::read_to_string(dir.path().join("out/recipe.toml")).expect("a recipe").contains("weight_low"));
}

#[test]
fn limits_and_second_objectives_hold_for_real_merges() {
    let dir = topics(&[2, 3, 4, 5], "");
    let report = search(&dir, &["--objective", "both", "--no-worse", "0.002", "--against", "id", "--units", "8"]);
    let natural = report["outcome"]["natural_losses"].clone();
    let losses = best(&report)["losses"].clone();
    for (loss, natural) in each(&losses).zip(each(&natural)) {
        assert!(number(loss) <= number(natural) * 1.002 + 1e-5, "{losses} {natural}");
    }
    assert_eq!(best(&report)["feasible"], true);
    let none_worse = search(&dir, &["--objective", "both", "--no-worse", "0"]);
    for (loss, natural) in each(&best(&none_worse)["losses"]).zip(each(&natural)) {
        assert!(number(loss) <= number(natural) + 1.1e-5, "{}", best(&none_worse));
    }
    let front = of_kind(&report, "front");
    assert_eq!(front.len(), 9);
    let ends = [&front[0], &front[8]].map(|c| (number(&c["merged"]), number(&c["against"])));
    assert!(ends[0].0 <= ends[1].0 + 1e-6 && ends[1].1 <= ends[0].1 + 1e-6, "{ends:?}");
    let units = of_kind(&report, "units");
    assert!(weights(units[0]).iter().all(|w| (w * 8.0 - (w * 8.0).round()).abs() < 1e-9));
    assert!(!of_kind(&report, "unconstrained").is_empty());
    // The pull towards the natural mixture shortens the way to it.
    let path: Vec<f64> = of_kind(&report, "path").iter().map(|c| number(&c["divergence"])).collect();
    assert!(path.windows(2).all(|pair| pair[1] <= pair[0] + 1e-6), "{path:?}");
    let worst = search(&dir, &["--objective", "id", "--worst"]);
    let largest = |c: &Value| each(&c["losses"]).map(number).fold(0.0, f64::max);
    let mean = search(&dir, &["--objective", "id"]);
    assert!(largest(best(&worst)) <= largest(best(&mean)) + 1e-6);
}

#[test]
fn a_single_partition_has_an_answer_and_is_verified() {
    let dir = topics(&[2], "\n[search]\nbudget = 1\n");
    let report = search(&dir, &["--verify", "3"]);
    assert_eq!(weights(best(&report)), [1.0]);
    let list = report["verification"].as_array().expect("a list");
    assert!(list.len() == 1 && number(&list[0]["seq"]) > 0.0, "{list:?}");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let dir = study(|settings| settings);
    let refused = |options: &[&str], parts: &[&str]| {
        stockpot(dir.path(), &[&SEARCH[..], options].concat()).fails(2, parts);
    };
    refused(&["--max", "law=0.2", "--max", "music=0.2", "--max", "physics=0.2"], &["0.6", "0.4000 of the mixture"]);
    refused(&["--tokens", "10000000", "--max-epochs", "1"], &["tokens", "are missing", "max_epochs"]);
    refused(&["--min", "lwa=0.2"], &["`lwa`", "law, music, physics"]);
    refused(&["--fix", "law=1.5"], &["`law`", "1.5"]);
    refused(&["--min", "law=0.6", "--min", "music=0.6"], &["0.2000 of the mixture", "too much"]);
    refused(&["--tokens", "1000000", "--fix", "law=0.9"], &["`law`", "max_epochs", "tokens too many"]);
    refused(&["--objective", "poetry"], &["`poetry`", "letters"]);
    refused(&["--group", "law+music=0.9..0.1"], &["law+music", "0.9 to 0.1"]);
    refused(&["--group", "law+music=0..0.5", "--group", "law=0..0.1"], &["`law`", "two groups"]);
    refused(&["--mixture", "law=0.5"], &["sum to 1"]);
    refused(&["--mixture", "poetry=1"], &["`poetry`"]);
    refused(&["--max-epochs", "2"], &["--tokens"]);
    refused(&["--at-most", "0"], &["at_most"]);
    refused(&["--lambda", "0"], &["search.lambda"]);
    assert!(!Path::new(&dir.path().join("out/models")).read_dir().is_ok_and(|mut list| list.next().is_some()));
}

/// A partition added to a finished search needs its module and one gradient towards it, besides
/// those at the best weights; the answer is that of a search from the start, and the recipe before
/// is reported.
#[test]
fn a_new_partition_needs_one_module_and_one_gradient() {
    let extra = "\n[search]\nbudget = 2\ncalibrate = 4\n";
    let dir = topics(&[3, 4, 5, 6, 7], extra);
    stockpot(dir.path(), &["run", "study.toml", "--out", "out", "--device", "cpu"]).done();
    let before = json(&dir.path().join("out/search.json"));
    // The OOD set "both" is mostly of topic 2.
    write_jsonl(&dir.path().join("new.jsonl"), &documents("new", 2, 40));
    let text = fs::read_to_string(dir.path().join("study.toml")).expect("a study");
    set(dir.path(), text + "\n[[partition]]\nname = \"new\"\nfiles = [\"new.jsonl\"]\nlate = true\n");
    let added = stockpot(dir.path(), &[&SEARCH[..], &["--json"]].concat()).done();
    let trained: Vec<&str> = added.stderr.lines().filter(|line| line.contains(" steps, loss")).collect();
    assert!(trained.len() == 1 && trained[0].starts_with("module new"), "{trained:?}");
    let computed = |said: &str| -> Vec<u64> {
        let lines = said.lines().filter_map(|line| line.strip_prefix("gradients: "));
        lines.map(|line| line.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")).collect()
    };
    let rounds = computed(&added.stderr);
    assert!(rounds.iter().all(|count| *count == 1) && rounds.len() <= 7, "{rounds:?}");
    let report: Value = serde_json::from_str(&added.stdout).expect("JSON");
    assert_eq!(report["outcome"]["lambda"], before["outcome"]["lambda"], "the calibration is kept");
    assert_eq!(report["calibration"]["n"], before["calibration"]["n"]);
    let old = &report["summary"]["before"];
    assert_eq!(old["added"], serde_json::json!(["new"]));
    assert_eq!(number(&old["merged"]), number(&best(&before)["merged"]));
    assert!(added.stderr.contains("one for each partition"), "{}", added.stderr);

    // The continued forms know the new partition, and the answer is that of a search from the start.
    let form = |report: &Value| {
        let all =
            each(&report["outcome"]["expansions"]).find(|e| e["merges"] == "held-out merges" && e["chosen"] == true);
        let error = &all.expect("a form")["target"];
        (number(&error["rms"]), number(&error["deviation"]))
    };
    let (rms, deviation) = form(&report);
    assert!(rms < 0.05 * deviation, "{rms} of {deviation}");
    fs::remove_file(dir.path().join("out/search.json")).expect("the search");
    let whole = search(&dir, &[]);
    assert!(rms < 5.0 * form(&whole).0 + 1e-6, "{rms} and {:?}", form(&whole));
    let (continued, whole) = (number(&best(&report)["merged"]), number(&best(&whole)["merged"]));
    assert!((continued - whole).abs() < 1e-4, "{continued} and {whole}");
}

/// The report has what the search found, in at most ten lines with the recipe; a few documents give
/// a warning, and no winner is declared.
#[test]
fn a_run_ends_with_the_answer_of_a_search() {
    let dir = study(|settings| settings);
    stockpot(dir.path(), &["run", "study.toml", "--out", "out", "--device", "cpu"]).done();
    let report = super::report(&dir);
    let found = json(&dir.path().join("out/search.json"));
    assert_eq!(report["search"], found["summary"]);
    let lines: Vec<&str> = each(&report["search"]["lines"]).filter_map(Value::as_str).collect();
    assert!(lines[0].starts_with("Train on ") && lines.len() <= 9, "{lines:?}");
    let few = each(&found["outcome"]["confidence"]["documents"]).any(|n| n.as_u64() < Some(30));
    assert!(few && lines[1].contains("no winner is declared"), "{lines:?}");
    let probabilities: f64 =
        each(&found["outcome"]["confidence"]["estimates"]).map(|e| number(&e["probability_best"])).sum();
    assert!((probabilities - 1.0).abs() < 1e-9);
    // Every module's effect on every domain.
    let effects = &report["search"]["effects"];
    let domains = report["domains"].as_array().expect("domains").len();
    assert!(each(effects).all(|e| e["change"].as_object().expect("domains").len() == domains));
    // Other models: the search no longer belongs to the report.
    let text = fs::read_to_string(dir.path().join("study.toml")).expect("a study");
    set(dir.path(), text.replace("learning_rate = 3e-4", "learning_rate = 2e-4"));
    stockpot(dir.path(), &["run", "study.toml", "--out", "out", "--device", "cpu", "--until", "scores"]).done();
    stockpot(dir.path(), &["report", "study.toml", "--out", "out"]).done();
    assert!(super::report(&dir).get("search").is_none());
}
