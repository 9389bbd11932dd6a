//! report.json, report.html, scores.csv and the terminal text of a made-up study: field names, numbers, words, escapes.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use stockpot::report::plot::Scatter;
use stockpot::report::*;

const PARTITIONS: [&str; 8] = ["chemistry", "law", "mathematics", "physics", "poetry", "rust", "scripture", "speeches"];
const OOD: [&str; 3] = ["licenses", "shakespeare", "weather"];

/// Between -1 and 1, different for each `i`.
fn irregular(i: usize) -> f64 {
    ((i * 7919 + 131) % 1009) as f64 / 504.5 - 1.0
}

fn score(perplexity: f64, tokens: u64) -> Score {
    let nats = perplexity.ln() * tokens as f64;
    let bytes = tokens * 4;
    let bits_per_byte = nats / (bytes as f64 * std::f64::consts::LN_2);
    Score { nats: Some(nats), tokens: Some(tokens), bytes: Some(bytes), perplexity, bits_per_byte }
}

fn average(scores: &BTreeMap<String, Score>, names: &[&str]) -> Score {
    let mean = |f: fn(&Score) -> f64| names.iter().map(|n| f(&scores[*n])).sum::<f64>() / names.len() as f64;
    Score { perplexity: mean(|s| s.perplexity), bits_per_byte: mean(|s| s.bits_per_byte), ..Default::default() }
}

/// Scores of one model: lower on its own members; on "weather" all alike; `noise` sets a proxy apart from SEQ.
fn scores(members: &[usize], noise: f64, salt: usize) -> BTreeMap<String, Score> {
    let mut scores = BTreeMap::new();
    for (d, name) in PARTITIONS.iter().chain(&OOD).enumerate() {
        let help: f64 = members.iter().map(|&m| if m == d { 6.0 } else { 4.0 * irregular(d * 31 + m) }).sum();
        let range = if *name == "weather" { 0.02 } else { 1.0 };
        let perplexity = 40.0 + 3.0 * d as f64 - range * (help + noise * irregular(salt + d * 17));
        scores.insert(name.to_string(), score(perplexity, 4096 + d as u64));
    }
    let own: Vec<&str> = members.iter().map(|&m| PARTITIONS[m]).collect();
    let averages =
        [("id", average(&scores, &PARTITIONS)), ("ood", average(&scores, &OOD)), ("members", average(&scores, &own))];
    scores.extend(averages.map(|(name, score)| (name.to_string(), score)));
    scores
}

fn mixture(group: &str, members: &[usize], trained: bool, salt: usize) -> MixtureInfo {
    let names: Vec<&str> = members.iter().map(|&m| PARTITIONS[m]).collect();
    let mut by_model = BTreeMap::from([
        ("merged".to_string(), scores(members, 1.0, 1000 + salt)),
        ("ind".to_string(), scores(members, 5.0, 5000 + salt)),
    ]);
    if trained {
        by_model.insert("seq".to_string(), scores(members, 0.0, 0));
    }
    MixtureInfo {
        id: names.join("+"),
        group: group.into(),
        members: names.iter().map(|n| (n.to_string(), 1.0 / names.len() as f64)).collect(),
        scores: by_model,
        ..MixtureInfo::default()
    }
}

/// All pairs and six triples of eight partitions; every fifth pair was not trained.
fn mixtures() -> Vec<MixtureInfo> {
    let mut list = Vec::new();
    for a in 0..8 {
        for b in a + 1..8 {
            list.push(mixture("pairs", &[a, b], list.len() % 5 != 4, list.len() * 97));
        }
    }
    for a in 0..6 {
        list.push(mixture("triples", &[a, a + 1, a + 2], true, (50 + a) * 97));
    }
    list
}

fn size(n: u64) -> Size {
    Size { documents: n, tokens: n * 311, bytes: n * 1301 }
}

fn study() -> Report {
    let kinds =
        PARTITIONS.map(|name| (name, DomainKind::Id)).into_iter().chain(OOD.map(|name| (name, DomainKind::Ood)));
    let domains: Vec<DomainInfo> = kinds
        .map(|(name, kind)| DomainInfo {
            name: name.into(),
            kind,
            field: None,
            documents: 40,
            tokens: 4096,
            bytes: 16384,
        })
        .collect();
    let mixtures = mixtures();
    let correlations = correlations(&mixtures, &domains, 1);
    Report {
        study: "quickstart".into(),
        version: "0.1.0".into(),
        generated: Some("2026-01-02".into()),
        device: Some("cpu, 2 threads".into()),
        answers: answers(&mixtures, &correlations),
        cost: Cost { modular_flops: 3.4e13, naive_flops: 9.1e13, ..Cost::default() },
        partitions: PARTITIONS
            .iter()
            .zip(1000..)
            .map(|(name, n)| PartitionInfo {
                name: name.to_string(),
                train: size(n),
                validation: size(n / 20),
                test: size(n / 20),
            })
            .collect(),
        decontamination: Some(Decontamination {
            ngram: 13,
            partitions: vec![DecontaminatedPartition {
                name: "poetry".into(),
                documents: 1004,
                dropped_documents: 3,
                dropped_bytes: 3912,
            }],
            examples: vec![Overlap {
                partition: "poetry".into(),
                document: "poetry-17".into(),
                domain: "shakespeare".into(),
                evaluation_document: "sonnet-18".into(),
                shared: "shall i compare thee to a summer's day thou art more lovely and more".into(),
            }],
        }),
        settings: "[study]\nname = \"quickstart\"\nseed = 1\n".into(),
        hashes: BTreeMap::from([("seed".into(), "0f3a…".into()), ("tokenizer".into(), "77b1…".into())]),
        mixtures,
        domains,
        correlations,
        ..Report::default()
    }
}

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
    assert!(!html.contains("<script") && !html.contains("</pre><"), "markup from a name");
    assert!(html.matches("&lt;script&gt;").count() > 30);
    for outside in ["<link", "<iframe", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    let addresses = html.matches("http").count();
    assert_eq!(addresses, html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count(), "only the name of SVG");
    assert!(!report.to_text().contains('\u{1b}'), "a name drives the terminal");
}

#[test]
fn html_draws_a_point_per_mixture_and_a_panel_per_proxy() {
    let html = study().to_html();
    // pairs, triples and all; 14 domains; merged and ind.
    assert_eq!(html.matches("<svg ").count(), 3 * 14 * 2);
    assert_eq!(html.matches("<circle ").count(), (23 + 6 + 29) * 14 * 2);
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
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scatter.svg");
    Scatter::of(&pairs, "ood", "merged", 0).write_svg(&path).unwrap();
    let svg = std::fs::read_to_string(&path).unwrap();
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<circle ").count(), 23);
    assert_eq!(svg.matches("<svg ").count(), svg.matches("</svg>").count());
}
