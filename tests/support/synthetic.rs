//! Synthetic studies for the tests of the report: [`study`] has the basics, [`rich`] every
//! experiment, [`large`] the size of a real study. The values are invented; only the statistics of
//! mixtures are computed from them.
use std::collections::BTreeMap;
use stockpot::analysis::*;

pub const PARTITIONS: [&str; 8] =
    ["chemistry", "law", "mathematics", "physics", "poetry", "rust", "scripture", "speeches"];
pub const OOD: [&str; 3] = ["licenses", "shakespeare", "weather"];

/// Between -1 and 1, different for each `i`.
pub fn irregular(i: usize) -> f64 {
    ((i * 7919 + 131) % 1009) as f64 / 504.5 - 1.0
}

pub fn score(perplexity: f64, tokens: u64) -> Score {
    let nats = perplexity.ln() * tokens as f64;
    let bytes = tokens * 4;
    let bits_per_byte = nats / (bytes as f64 * std::f64::consts::LN_2);
    Score { nats: Some(nats), tokens: Some(tokens), bytes: Some(bytes), perplexity, bits_per_byte }
}

fn average(scores: &DomainScores, names: &[&str]) -> Score {
    let mean = |f: fn(&Score) -> f64| names.iter().map(|n| f(&scores[*n])).sum::<f64>() / names.len() as f64;
    Score { perplexity: mean(|s| s.perplexity), bits_per_byte: mean(|s| s.bits_per_byte), ..Default::default() }
}

/// Scores of one model: lower on its own members, nearly equal on "weather". `noise` is a proxy's
/// error.
fn scores(members: &[usize], noise: f64, salt: usize) -> DomainScores {
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
pub fn mixtures() -> Vec<MixtureInfo> {
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

pub fn study() -> Report {
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
            document_tokens: Vec::new(),
        })
        .collect();
    let mixtures = mixtures();
    let correlations = correlations(&mixtures, &domains, 1);
    Report {
        study: "quickstart".into(),
        version: "0.1.0".into(),
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
            left_out: BTreeMap::from([("law".to_string(), 2)]),
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

/// The proxies that [`rich`] adds to those of `study`, each with its error.
const MORE_PROXIES: [(&str, f64); 5] =
    [("micro", 1.5), ("macro_of_merges", 2.5), ("scaled", 0.4), ("law", 3.0), ("ridge", 4.0)];

fn partition_index(name: &str) -> usize {
    PARTITIONS.iter().position(|p| *p == name).unwrap()
}

fn field_of(domain: &str) -> Option<&'static str> {
    match domain {
        "chemistry" | "mathematics" | "physics" => Some("science"),
        "poetry" | "scripture" | "speeches" => Some("letters"),
        _ => None,
    }
}

fn with_fields(mut scores: DomainScores) -> DomainScores {
    for field in ["science", "letters"] {
        let names: Vec<&str> = PARTITIONS.into_iter().filter(|p| field_of(p) == Some(field)).collect();
        scores.insert(format!("field:{field}"), average(&scores, &names));
    }
    scores
}

/// `study` with content in every field of the report.
pub fn rich() -> Report {
    let mut report = study();
    for domain in &mut report.domains {
        domain.field = field_of(&domain.name).map(String::from);
    }
    for (i, m) in report.mixtures.iter_mut().enumerate() {
        let members: Vec<usize> = m.members.keys().map(|n| partition_index(n)).collect();
        for (j, (proxy, noise)) in MORE_PROXIES.iter().enumerate() {
            m.scores.insert(proxy.to_string(), scores(&members, *noise, 9000 + 700 * j + i * 97));
        }
        m.scores = std::mem::take(&mut m.scores).into_iter().map(|(k, v)| (k, with_fields(v))).collect();
        m.target = [("seq", 0.0, 3), ("merged", 1.0, 4000), ("ind", 5.0, 4400)]
            .map(|(model, noise, salt)| (model.to_string(), with_fields(scores(&members, noise + 0.5, salt + i))))
            .into();
        m.tokens = 100_000 * members.len() as u64;
        m.available_tokens = m.tokens * 3;
    }
    let average = |name: &str| DomainInfo { name: name.into(), ..report.domains[0].clone() };
    let names: Vec<DomainInfo> =
        ["field:science", "field:letters"].map(average).into_iter().chain(report.domains.clone()).collect();
    report.correlations = correlations(&report.mixtures, &names, 1);
    report.answers = answers(&report.mixtures, &report.correlations);
    report.noise = noise();
    report.picking = ["ood", "id", "law"].map(|domain| picking("pairs", domain)).into_iter().collect();
    report.picking.push(picking("triples", "ood"));
    report.scaled = ["ood", "id", "law"].map(scan).into_iter().collect();
    report.laws = laws();
    report.segments = segments();
    report.cross_scale = Some(cross_scale(&report.correlations));
    report.reuse = Some(Reuse {
        reused: PARTITIONS.iter().take(7).map(|p| format!("module {p}")).collect(),
        trained: vec!["module speeches".into()],
        reused_flops: 2.4e13,
        trained_flops: 3.1e12,
        reused_scores: 420,
        made_scores: 60,
        text: "The changed study trained 1 model and reused 7, 89% of the FLOPs.".into(),
    });
    report.trainings = trainings();
    report.cost.stages = ["seed", "modules", "seq", "scoring"]
        .map(|stage| StageCost { stage: stage.into(), models: 8, tokens: 3_400_000, flops: 8.5e12 })
        .into();
    report.cost.curves = (2..=20).map(cost_point).collect();
    report.spent = Some(Spent {
        stages: ["seed", "modules", "seq", "scoring"]
            .map(|stage| SpentStage { stage: stage.into(), planned_hours: Some(0.61), hours: 0.75, flops: 8.5e12 })
            .into(),
        modular_hours: Some(0.811),
        naive_hours: Some(2.917),
    });
    report
}

fn noise() -> Vec<Noise> {
    let one = |(i, domain): (usize, &str)| Noise {
        group: "pairs".into(),
        domain: domain.into(),
        n: 6,
        repeats: 3,
        seq_mean: Some(44.1 + i as f64),
        within: Some(0.21),
        between: Some(0.93),
        reliability: Some(0.951),
        ceiling: Some(0.975),
        ceiling_low: Some(0.91),
        ceiling_high: Some(0.99),
        pearson_between_repeats: Some(0.94),
        pearson_merged_across_repeats: (i > 0).then_some(0.87),
        not_defined: if i > 0 {
            BTreeMap::new()
        } else {
            BTreeMap::from([("pearson_merged_across_repeats".into(), "not defined: modules were trained once".into())])
        },
        text: "Retraining moves perplexity by 0.21, mixtures differ by 0.93. Noise therefore caps r at about 0.975."
            .into(),
    };
    ["ood", "id", "law"].into_iter().enumerate().map(one).collect()
}

fn picking(group: &str, domain: &str) -> SelectionQuality {
    let row = |by: &str, share: f64| SelectionQualityRow {
        by: by.into(),
        n: 23,
        pearson: (by != "random").then_some(1.0 - share),
        decision_accuracy: Some(1.0 - share / 2.0),
        regret_at: (1..=10).map(|k| 0.08 * share / k as f64).collect(),
        pearson_low: (by != "random").then_some(0.9 - share),
        pearson_high: (by != "random").then_some(1.0 - share / 2.0),
    };
    let all = [("merged", 0.2), ("ind", 0.5), ("micro", 0.25), ("macro_of_merges", 0.3), ("scaled", 0.1), ("law", 0.6)];
    let rows = all.into_iter().chain([("ridge", 0.7), ("largest", 0.55), ("random", 1.0)]);
    SelectionQuality {
        group: group.into(),
        domain: domain.into(),
        rows: rows.map(|(by, share)| row(by, share)).collect(),
        warning: (domain == "id")
            .then(|| "MIXING LAW picks worse than always taking the mixture with the most text.".into()),
    }
}

fn scan(domain: &str) -> ScaledScan {
    let point = |i: u32| {
        let lambda = 0.8 + 0.1 * f64::from(i);
        let r = 0.8 - 0.9 * (lambda - 1.4).powi(2);
        let (low, high) = (Some(r - 0.2), Some((r + 0.1).min(1.0)));
        let log_error = (lambda - 1.5).abs() / 5.0;
        ScaledPoint { lambda, pearson: Some(r), pearson_low: low, pearson_high: high, log_error }
    };
    ScaledScan {
        group: "pairs".into(),
        domain: domain.into(),
        n: 23,
        points: (0..=12).map(point).collect(),
        lambda: Some(1.4),
        calibrated: true,
        pearson: Some(0.78),
        pearson_low: Some(0.52),
        pearson_high: Some(0.9),
        gain: Some(0.21),
        gain_low: Some(0.02),
        gain_high: Some(0.4),
        not_defined: BTreeMap::new(),
        text: "Scaling helps here: r rises by 0.210, and the interval of the gain is above zero.".into(),
    }
}

fn laws() -> Vec<Law> {
    let mut list = Vec::new();
    for (f, form) in ["law", "ridge"].into_iter().enumerate() {
        for (d, domain) in PARTITIONS.iter().chain(&OOD).enumerate() {
            let t = PARTITIONS.iter().enumerate().map(|(p, name)| (name.to_string(), irregular(d * 8 + p + 100 * f)));
            list.push(Law {
                domain: domain.to_string(),
                form: form.into(),
                n: 64,
                c: 2.1,
                k: if f == 0 { 1.7 } else { 1.0 },
                t: t.collect(),
                penalty: (f == 1).then_some(0.003),
                residual: 0.0123,
                r_squared: Some(0.97),
            });
        }
    }
    list
}

fn segment(from: &str, to: &str, salt: usize) -> Segment {
    let rise = 0.03 * (1.2 + irregular(salt));
    let point = |i: usize| {
        let at = i as f64 / 10.0;
        let loss = |d: usize| 3.5 + 0.1 * d as f64 - 0.3 * at + 4.0 * rise * at * (1.0 - at);
        let all = PARTITIONS.iter().chain(&OOD).enumerate();
        SegmentPoint { at, scores: all.map(|(d, name)| (name.to_string(), score(loss(d).exp(), 4096))).collect() }
    };
    let barrier = Barrier { height: rise, at: 0.5 };
    let barriers = ["ood", "id", "members"].map(|a| (a.to_string(), barrier)).into();
    Segment { from: from.into(), to: to.into(), points: (0..=10).map(point).collect(), barriers }
}

fn segments() -> Vec<Segment> {
    let mut list: Vec<Segment> = PARTITIONS.iter().enumerate().map(|(i, p)| segment("seed", p, i)).collect();
    for (a, from) in PARTITIONS.iter().enumerate() {
        list.extend((a + 1..PARTITIONS.len()).map(|b| segment(from, PARTITIONS[b], 10 * a + b)));
    }
    list
}

fn cross_scale(correlations: &[Correlation]) -> CrossScale {
    let chosen = correlations.iter().filter(|c| c.group == "pairs" && ["ood", "id"].contains(&c.domain.as_str()));
    let renamed = |c: &Correlation| {
        let proxy = match c.proxy.as_str() {
            "micro" => "target_merged",
            "macro_of_merges" => "seq",
            other => other,
        };
        Correlation { proxy: proxy.into(), ..c.clone() }
    };
    let correlations = chosen.map(renamed).filter(|c| !["law", "ridge"].contains(&c.proxy.as_str())).collect();
    CrossScale { parameters: 1_234_567, target_parameters: 9_876_543, correlations }
}

fn training(name: String, role: &str, salt: usize) -> TrainingInfo {
    let loss = |i: usize| 3.0 + 4.0 / (1.0 + i as f64 / 12.0) + 0.05 * irregular(salt * 200 + i);
    let curve = (1..=200).map(|i| CurvePoint { step: 5 * i as u64, loss: loss(i) }).collect();
    let key = format!("{salt:016x}");
    TrainingInfo { name, role: role.into(), key, steps: 1000, tokens: 4_096_000, flops: 3.1e12, curve }
}

fn trainings() -> Vec<TrainingInfo> {
    let mut list = vec![training("seed".into(), "seed", 0)];
    list.extend(PARTITIONS.iter().enumerate().map(|(i, p)| training(format!("module {p}"), "module", i + 1)));
    list.extend((0..23).map(|i| training(format!("seq {i}"), "seq", i + 20)));
    list
}

fn cost_point(n: u64) -> CostPoint {
    let (x, module) = (n as f64, 4e12);
    let pairs = x * (x - 1.0) * module;
    let triples = pairs + x * (x - 1.0) * (x - 2.0) / 2.0 * module;
    CostPoint { partitions: n, modular: x * module, pairs, triples, subsets: x / 2.0 * 2f64.powf(x) * module }
}

/// 18 domains, 50 mixtures of 12 partitions, 6 proxies.
pub fn large() -> Report {
    let mut report = rich();
    let partitions: Vec<String> = (0..12).map(|i| format!("partition-{i:02}")).collect();
    let domain = |i: usize| DomainInfo {
        name: if i < 12 { partitions[i].clone() } else { format!("elsewhere-{i}") },
        kind: if i < 12 { DomainKind::Id } else { DomainKind::Ood },
        field: None,
        ..report.domains[0].clone()
    };
    let domains: Vec<DomainInfo> = (0..18).map(domain).collect();
    let scores = |salt: usize| -> DomainScores {
        let names = domains.iter().map(|d| d.name.clone()).chain(AVERAGES.map(String::from));
        names.enumerate().map(|(d, name)| (name, score(40.0 + 9.0 * irregular(salt + 37 * d), 4096))).collect()
    };
    let models = ["seq", "merged", "ind", "micro", "scaled", "law", "ridge"];
    let mixture = |i: usize| {
        let members = [i % 12, (i + 1 + i / 12) % 12];
        MixtureInfo {
            id: members.map(|m| partitions[m].as_str()).join("+"),
            group: if i < 30 { "pairs" } else { "more" }.into(),
            members: members.map(|m| (partitions[m].clone(), 0.5)).into(),
            scores: models.iter().enumerate().map(|(j, m)| (m.to_string(), scores(1000 * j + i))).collect(),
            ..MixtureInfo::default()
        }
    };
    report.mixtures = (0..50).map(mixture).collect();
    report.correlations = correlations(&report.mixtures, &domains, 1);
    report.answers = answers(&report.mixtures, &report.correlations);
    report.domains = domains;
    report
}
