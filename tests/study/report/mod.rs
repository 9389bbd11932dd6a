//! report.json, report.html, scores.csv and the terminal text of a made-up study: field names, numbers, words, escapes.

mod browser;
mod interchange;

use crate::synthetic::{large, rich, score, study};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use stockpot::analysis::*;
use stockpot::report::plot::Scatter;

/// Cells of one CSV record, by RFC 4180.
fn csv_records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cell.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
            }
            other => cell.push(other),
        }
    }
    assert!(record.is_empty() && cell.is_empty() && !quoted, "the file ends with a record");
    records
}

/// All texts of a report, each with its name.
fn forms(report: &Report) -> [(&'static str, String); 4] {
    [
        ("report.json", report.to_json()),
        ("report.html", report.to_html()),
        ("scores.csv", report.to_csv()),
        ("text", report.to_text()),
    ]
}

fn assert_no_nan(report: &Report) {
    for (name, text) in forms(report) {
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            assert!(!["nan", "inf", "infinity"].contains(&word.to_lowercase().as_str()), "{word} in {name}");
        }
    }
}

#[test]
fn writes_three_files_twice_the_same() {
    // Kept under target/tmp, to be looked at.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    study().write(&dir).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let again = study();
    for (name, text) in &forms(&again)[..3] {
        assert_eq!(read(name), *text, "{name}");
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(study), again);
    assert_no_nan(&again);
}

#[test]
fn json_has_the_fields_of_the_design() {
    let json: Value = serde_json::from_str(&study().to_json()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let has = |value: &Value, names: &[&str]| {
        let keys = keys(value);
        names.iter().for_each(|n| assert!(keys.iter().any(|k| k == n), "{n} is missing among {keys:?}"));
    };
    assert_eq!(json["study"], "quickstart");
    has(&json, &["study", "domains", "mixtures", "correlations", "cost"]);
    assert_eq!(keys(&json["domains"][0]), ["name", "kind", "documents", "tokens", "bytes"]);
    assert_eq!((&json["domains"][0]["kind"], &json["domains"][8]["kind"]), (&"id".into(), &"ood".into()));
    let mixture = &json["mixtures"][0];
    assert_eq!(keys(mixture), ["id", "group", "members", "tokens", "available_tokens", "scores"]);
    assert_eq!(mixture["members"], serde_json::json!({"chemistry": 0.5, "law": 0.5}));
    assert_eq!(keys(&mixture["scores"]), ["ind", "merged", "seq"]);
    has(&mixture["scores"]["seq"]["law"], &["nats", "tokens", "perplexity"]);
    assert_eq!(keys(&mixture["scores"]["seq"]["ood"]), ["perplexity", "bits_per_byte"]);
    has(
        &json["correlations"][0],
        &[
            "group",
            "domain",
            "proxy",
            "n",
            "pearson",
            "pearson_low",
            "pearson_high",
            "spearman",
            "kendall",
            "regret_at_1",
            "decision_accuracy",
        ],
    );
    has(&json["cost"], &["modular_flops", "naive_flops"]);
}

#[test]
fn correlations_cover_groups_domains_and_proxies() {
    let report = study();
    // pairs, triples and all; three averages and eleven domains; merged and ind.
    assert_eq!(report.correlations.len(), 3 * 14 * 2);
    let find = |group: &str, domain: &str, proxy: &str| {
        let all = &report.correlations;
        all.iter().find(|c| c.group == group && c.domain == domain && c.proxy == proxy).unwrap()
    };
    // Every fifth of 28 pairs has no SEQ.
    assert_eq!((find("pairs", "ood", "merged").n, find("triples", "ood", "merged").n), (23, 6));
    assert_eq!(find("all", "ood", "merged").n, 29);
    let (merged, ind) = (find("pairs", "law", "merged"), find("pairs", "law", "ind"));
    assert!(merged.pearson > ind.pearson);
    let (low, r, high) = (merged.pearson_low.unwrap(), merged.pearson.unwrap(), merged.pearson_high.unwrap());
    assert!(low < r && r < high);
    assert_eq!(merged.bootstrap_replicates, Some(2000));
    assert!(merged.not_defined.is_empty());
    assert!(merged.pearson_bits_per_byte.unwrap() > 0.9);
    assert!(find("pairs", "weather", "merged").hardly_differs && !merged.hardly_differs);
}

#[test]
fn the_answer_comes_first_and_says_how_sure() {
    let report = study();
    let titles: Vec<_> = report.answers.iter().map(|a| (a.group.as_str(), a.domain.as_str())).collect();
    assert_eq!(titles, [("pairs", "ood"), ("pairs", "id"), ("triples", "ood"), ("triples", "id")]);
    let answer = &report.answers[0];
    let lowest = |model: &str| {
        let pairs = report.mixtures.iter().filter(|m| m.group == "pairs" && m.score(model, "ood").is_some());
        let perplexity = |m: &&MixtureInfo| m.score(model, "ood").unwrap().perplexity;
        pairs.min_by(|a, b| perplexity(a).total_cmp(&perplexity(b))).unwrap().id.clone()
    };
    assert_eq!(answer.best_by_proxy.mixture, lowest("merged"));
    assert_eq!(answer.best_by_seq.as_ref().unwrap().mixture, lowest("seq"));
    assert!(answer.text.starts_with(&format!("{} is best by MERGED", lowest("merged"))), "{}", answer.text);
    assert!(answer.confidence.contains("Over 23 mixtures") && answer.confidence.contains("95% interval"));
    assert!(answer.confidence.contains("IND reaches r = "));
    let text = report.to_text();
    let (answer, table) = (text.find(&answer.text).unwrap(), text.find("Correlation with SEQ").unwrap());
    assert!(answer < table);
    assert!(text.contains("These mixtures hardly differ here (spread below 1%), so a low r says little: weather."));
}

#[test]
fn a_wrong_or_untrained_choice_is_said() {
    let mut report = study();
    let best = report.answers[0].best_by_proxy.mixture.clone();
    let text = |report: &Report| {
        let correlations = correlations(&report.mixtures, &report.domains, 1);
        answers(&report.mixtures, &correlations)[0].text.clone()
    };
    let other = report.mixtures.iter_mut().find(|m| m.id == "law+rust").unwrap();
    other.scores.get_mut("merged").unwrap().get_mut("ood").unwrap().perplexity = 60.0;
    // 67.31 against 64.70 by SEQ.
    let wrong = text(&report);
    assert!(wrong.starts_with("law+rust is best by MERGED (perplexity 60.00); "), "{wrong}");
    assert!(
        wrong.ends_with(&format!(
            "{best} is best by SEQ (perplexity 64.70). Choosing by MERGED costs 4.0% of SEQ's perplexity."
        )),
        "{wrong}"
    );
    report.mixtures.iter_mut().find(|m| m.id == "law+rust").unwrap().scores.remove("seq");
    let untrained = text(&report);
    assert!(untrained.contains("(perplexity 60.00), and was not trained; "), "{untrained}");
    assert!(untrained.ends_with("Among these, choosing by MERGED costs 0% of SEQ's perplexity."), "{untrained}");
}

/// Untrained, constant and diverged: words and nulls, never NaN.
#[test]
fn what_is_not_defined_is_said_in_words() {
    let mut report = study();
    for m in &mut report.mixtures {
        m.group = "pairs".into();
        m.scores.remove("seq");
    }
    let retake = |report: &mut Report| {
        report.correlations = correlations(&report.mixtures, &report.domains, 1);
        report.answers = answers(&report.mixtures, &report.correlations);
        assert_no_nan(report);
    };
    retake(&mut report);
    assert!(report.answers[0].text.contains("No mixture of this group was trained, so the choice is untested."));
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    let first = &json["correlations"][0];
    assert_eq!((&first["n"], &first["pearson"]), (&0.into(), &Value::Null));
    let reason = "not defined: mixtures scored both ways: 0; needed: at least 3";
    assert_eq!(first["not_defined"]["pearson"], reason);
    assert!(report.to_text().contains(reason));

    let flat = score(20.0, 10);
    for m in &mut report.mixtures {
        m.scores.insert("seq".into(), BTreeMap::from([("ood".into(), flat), ("law".into(), flat)]));
    }
    let diverged = Score { perplexity: f64::INFINITY, bits_per_byte: f64::NAN, ..Default::default() };
    report.mixtures[3].scores.get_mut("merged").unwrap().insert("law".into(), diverged);
    report.cost = Cost::default();
    retake(&mut report);
    assert!(report.answers[0].confidence.contains("not defined: SEQ's scores are all equal"));
    assert!(report.answers[0].confidence.contains("These mixtures hardly differ here"));
    assert!(report.to_html().contains("1 of 34 points not drawn"));
    let empty = Report::default();
    assert_no_nan(&empty);
    assert!(empty.to_html().contains("No mixture has been scored yet."));
}

#[test]
fn html_escapes_names_and_fetches_nothing() {
    let hostile = "<script>alert('x')</script>&\"\u{1b}[31m";
    let mut report = study();
    report.study = hostile.into();
    report.settings = format!("# </pre>{hostile}");
    report.hashes.insert(hostile.into(), hostile.into());
    report.partitions[0].name = hostile.into();
    report.domains[0].name = hostile.into();
    report.decontamination.as_mut().unwrap().examples[0].shared = hostile.into();
    for m in &mut report.mixtures {
        m.id = format!("{}{hostile}", m.id);
        m.group = hostile.into();
        for scores in m.scores.values_mut() {
            let score = scores.remove("chemistry").unwrap();
            scores.insert(hostile.into(), score);
        }
    }
    report.correlations = correlations(&report.mixtures, &report.domains, 1);
    report.answers = answers(&report.mixtures, &report.correlations);
    let html = report.to_html();
    assert_eq!(html.matches("<script").count(), 1, "markup from a name");
    assert!(!html.contains("</pre><script") && html.matches("</script>").count() == 1, "markup from a name");
    assert!(html.matches("&lt;script&gt;").count() > 30);
    for outside in ["<link", "<iframe", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.replace("http-equiv", "").contains("http"), "an address");
    assert!(!report.to_text().contains('\u{1b}'), "a name drives the terminal");
}

#[test]
fn html_draws_a_point_per_mixture_and_a_panel_per_proxy() {
    let html = study().to_html();
    // Of pairs, triples and all the averages, of the first two each of 11 domains, too; and r by domain of all three.
    let panels = |group: &str| {
        html.matches(&format!("<p>{group}: r = ")).count() + html.matches(&format!("<p>{group}: r not")).count()
    };
    assert_eq!((panels("MERGED"), panels("IND")), (3 * 3 + 2 * 11, 3 * 3 + 2 * 11));
    assert_eq!(html.matches("<svg ").count(), 2 * (3 * 3 + 2 * 11) + 3);
    let points = html.matches(": MERGED ").count()
        - html.matches(": MERGED r = ").count()
        - html.matches(": MERGED r not").count();
    assert_eq!(points, (23 + 6) * 14 + 29 * 3);
    assert!(html.contains("<title>chemistry+law: MERGED "));
}

#[test]
fn csv_reads_back() {
    let mut report = study();
    let odd = "a,\"b\"\nc";
    report.mixtures[1].id = odd.into();
    report.mixtures[2].scores.get_mut("ind").unwrap().get_mut("law").unwrap().perplexity = f64::NAN;
    let records = csv_records(&report.to_csv());
    let header = "mixture,group,model,domain,kind,nats,tokens,bytes,perplexity,bits_per_byte,repeat";
    assert_eq!(records[0].join(","), header);
    let mut seen = 0;
    for m in &report.mixtures {
        for (model, scores) in &m.scores {
            for (domain, score) in scores {
                let same = |r: &&Vec<String>| r[0] == m.id && r[2] == *model && r[3] == *domain;
                let record = records.iter().find(same).unwrap_or_else(|| panic!("{} {model} {domain}", m.id));
                let info = report.domains.iter().find(|d| d.name == *domain);
                assert_eq!(record[1], m.group);
                assert_eq!(record[4], info.map_or("average", |d| d.kind.name()));
                assert_eq!(record[5].parse().ok(), score.nats);
                assert_eq!(record[6].parse().ok(), score.tokens);
                assert_eq!(record[7].parse().ok(), score.bytes);
                assert_eq!(record[8].parse().ok(), Some(score.perplexity).filter(|p| p.is_finite()));
                assert_eq!(record[9].parse().ok(), Some(score.bits_per_byte));
                assert_eq!(record[10], "0");
                seen += 1;
            }
        }
    }
    assert_eq!(records.len(), seen + 1, "a record per score");
}

#[test]
fn standalone_plot_is_one_svg() {
    let report = study();
    let pairs: Vec<&MixtureInfo> = report.mixtures.iter().filter(|m| m.group == "pairs").collect();
    let svg = Scatter::of(&pairs, "ood", "merged").chart.standalone(true);
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<circle ").count(), 23);
    assert_eq!(svg.matches("<svg ").count(), svg.matches("</svg>").count());
}

/// Every section stands, and every clock value in one element alone.
#[test]
fn every_experiment_has_its_place() {
    let report = rich();
    let html = report.to_html();
    let ids =
        "proxies picking noise scaled scales laws segments plots mixtures cost clock training data reuse settings";
    for id in ids.split(' ') {
        assert_eq!(html.matches(&format!("<section id=\"{id}\">")).count(), 1, "{id}");
    }
    for words in [
        "MACRO OF MERGES",
        "MICRO-MERGED",
        "MIXING LAW",
        "MERGED (larger model)",
        "field science",
        "noise ceiling",
        "Warning:</strong> MIXING LAW picks worse",
        "each subset, 2ⁿ",
        "The small model has 1,234,567 parameters, the larger one 9,876,543.",
        "A dash in OOD average: not defined: modules were trained once.",
        "law: 2 held-out documents are not scored, since training text that was there before has theirs.",
    ] {
        assert!(html.contains(words), "{words}");
    }
    assert!(html.find("class=\"answer\"") < html.find("<section"), "the answer comes first");
    let cut = |html: &str| {
        let start = html.find("<section id=\"clock\">")?;
        let end = start + html[start..].find("</section>")? + "</section>\n".len();
        Some((html[start..end].to_string(), format!("{}{}", &html[..start], &html[end..])))
    };
    let (clock, without) = cut(&html).unwrap();
    assert!(clock.contains("48.7 min") && clock.contains("2.9 h"));
    assert_eq!(without, Report { spent: None, ..report.clone() }.to_html(), "a clock outside of its section");
    assert!(cut(&Report { spent: None, ..report }.to_html()).is_none());
}

#[test]
fn the_terminal_has_the_sentences() {
    let text = rich().to_text();
    for words in [
        "Warning: MIXING LAW picks worse than always taking the mixture of the most text.",
        "no proxy can be expected above r = 0.975",
        "Scaling helps: r rises by 0.210",
        "Cost: 3.40e13 FLOPs with a training per partition, 9.10e13 with a training per mixture (2.7 times as much).",
        "The changed study trained 1 model",
        "Correlation with SEQ of the larger model: pairs",
        "Choosing, pairs: OOD average",
        "Fields and domains are in report.html.",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(text.lines().count() < 250, "{} lines", text.lines().count());
}

/// Charts as files of both kinds, and the hours beside them; equal bytes when written again, on one thread.
#[test]
fn plots_are_files_of_both_kinds() {
    let dirs = ["plots-1", "plots-2"].map(|name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    let report = rich();
    // What an earlier report left is replaced.
    let stale = dirs[0].join("plots/stale.svg");
    std::fs::create_dir_all(dirs[0].join("plots")).unwrap();
    std::fs::write(&stale, "").unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    report.write(&dirs[0]).unwrap();
    one.install(|| report.write(&dirs[1])).unwrap();
    assert!(!stale.exists(), "a plot of an earlier report stays");
    let cost: Value = serde_json::from_str(&std::fs::read_to_string(dirs[0].join("cost.json")).unwrap()).unwrap();
    assert_eq!((&cost["naive_hours"], &cost["stages"][0]["stage"]), (&2.917.into(), &"seed".into()));
    let mut seen = 0;
    for entry in std::fs::read_dir(dirs[0].join("plots")).unwrap() {
        let name = entry.unwrap().file_name();
        let bytes = dirs.clone().map(|dir| std::fs::read(dir.join("plots").join(&name)).unwrap());
        assert_eq!(bytes[0], bytes[1], "{name:?}");
        if name.to_str().unwrap().ends_with(".png") {
            assert_eq!(bytes[0][..8], *b"\x89PNG\r\n\x1a\n");
            // Width in pixels: twice that of the chart.
            assert_eq!(bytes[0][16..20], 840u32.to_be_bytes());
        }
        seen += 1;
    }
    let expected = "pairs-ood-merged pairs-field-science-micro all-id-ind domains-pairs scaled-pairs-ood picking-pairs-id cost \
                    segments-seed-ood segments-modules-id-above training-module cross-scale-pairs-ood-target_merged";
    for name in expected.split_whitespace() {
        for kind in ["svg", "png"] {
            assert!(dirs[0].join("plots").join(format!("{name}.{kind}")).exists(), "{name}.{kind}");
        }
    }
    assert!(seen > 200 && seen % 2 == 0, "{seen}");
}

/// Two PNGs that differ only in a title have different pixels: letters are drawn, without any font of the machine.
#[test]
fn letters_are_in_the_png() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("letters");
    let png = |partitions: &str| {
        let mut report = Report { cost: rich().cost, ..Report::default() };
        report.trainings = vec![TrainingInfo { name: partitions.into(), ..rich().trainings[1].clone() }];
        report.write(&dir).unwrap();
        std::fs::read(dir.join("plots/training-module.png")).unwrap()
    };
    assert_ne!(png("module law"), png("module lav"));
}

#[test]
fn a_large_study_stays_a_page() {
    let html = large().to_html();
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    assert!(html.matches("<svg ").count() > 200);
    assert!(!html.contains("to keep the page small"));
    // Ten times as many mixtures: fewer proxies are drawn for single domains, and that is said.
    let mut report = large();
    report.mixtures = (0..10).flat_map(|_| report.mixtures.clone()).collect();
    let html = report.to_html();
    assert!(html.contains("Drawn for 3 of 6 proxies, to keep the page small; scores.csv has all."));
    assert!(html.len() < 11_000_000, "{} bytes", html.len());
}

/// One mixture, empty lists, values that are not finite, long names: no panic, nothing that is no number.
#[test]
fn odd_values_are_drawn_or_left_out() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("odd");
    let long = "many words ".repeat(60) + &"x".repeat(600);
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, f64::MAX, f64::MIN_POSITIVE];
    for (i, value) in bad.into_iter().enumerate() {
        let mut report = rich();
        report.mixtures.truncate(1 + i);
        for scores in report.mixtures.iter_mut().flat_map(|m| m.scores.values_mut().chain(m.target.values_mut())) {
            scores.values_mut().take(4).for_each(|s| s.perplexity = value);
        }
        report.mixtures[0].id = long.clone();
        report.mixtures[0].group = format!("../{long}");
        report.domains[0].name = long.clone();
        report.correlations = correlations(&report.mixtures, &report.domains, 1);
        report.answers = answers(&report.mixtures, &report.correlations);
        report.scaled[0].points[1] =
            ScaledPoint { lambda: value, pearson: Some(value), log_error: value, ..Default::default() };
        report.scaled[1].points.clear();
        report.picking[0].rows[0].regret_at = vec![value];
        report.picking[1].rows.clear();
        report.laws[0] =
            Law { domain: long.clone(), form: "law".into(), c: value, k: value, residual: value, ..Law::default() };
        report.laws[0].t = BTreeMap::from([(long.clone(), value)]);
        report.segments[0].points.truncate(1);
        report.segments[1].points.clear();
        report.segments[2].points[3].scores.values_mut().for_each(|s| s.perplexity = value);
        report.segments[3].barriers.insert("ood".into(), Barrier { height: value, at: value });
        report.segments[4].from = long.clone();
        report.cost.curves[0] =
            CostPoint { partitions: 2, modular: value, pairs: value, triples: value, subsets: value };
        report.cost.modular_flops = value;
        report.trainings[0].curve[0].loss = value;
        report.trainings[1] = TrainingInfo { name: long.clone(), role: "module".into(), ..TrainingInfo::default() };
        report.noise[0].ceiling = Some(value);
        report.noise[1] = Noise::default();
        report.spent.as_mut().unwrap().naive_hours = Some(value);
        assert_no_nan(&report);
        if i % 3 == 0 {
            report.write(&dir).unwrap();
        }
    }
    Report::default().write(&dir).unwrap();
}
