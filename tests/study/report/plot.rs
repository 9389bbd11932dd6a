//! Charts.

use super::assert_no_nan;
use crate::synthetic::{rich, study};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use stockpot::analysis::*;
use stockpot::report::plot::Scatter;

#[test]
fn standalone_plot_is_one_svg() {
    let report = study();
    let pairs: Vec<&MixtureInfo> = report.mixtures.iter().filter(|m| m.group == "pairs").collect();
    let svg = Scatter::of(&pairs, "ood", "merged").chart.standalone();
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<circle ").count(), 23);
    assert_eq!(svg.matches("<svg ").count(), svg.matches("</svg>").count());
}

/// Charts and cost.json are written as files; writing again on one thread gives equal bytes.
#[test]
fn plots_are_files() {
    let dirs = ["plots-1", "plots-2"].map(|name| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
    let report = rich();
    // Plots of an earlier report are removed.
    let stale = dirs[0].join("plots/stale.svg");
    std::fs::create_dir_all(dirs[0].join("plots")).unwrap();
    std::fs::write(&stale, "").unwrap();
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    report.write(&dirs[0]).unwrap();
    one.install(|| report.write(&dirs[1])).unwrap();
    assert!(!stale.exists(), "a plot of an earlier report remains");
    let cost: Value = serde_json::from_str(&std::fs::read_to_string(dirs[0].join("cost.json")).unwrap()).unwrap();
    assert_eq!((&cost["naive_hours"], &cost["stages"][0]["stage"]), (&2.917.into(), &"seed".into()));
    let mut seen = 0;
    for entry in std::fs::read_dir(dirs[0].join("plots")).unwrap() {
        let name = entry.unwrap().file_name();
        let bytes = dirs.clone().map(|dir| std::fs::read(dir.join("plots").join(&name)).unwrap());
        assert_eq!(bytes[0], bytes[1], "{name:?}");
        seen += 1;
    }
    let expected = "pairs-ood-merged pairs-field-science-micro all-id-ind domains-pairs scaled-pairs-ood picking-pairs-id cost \
                    segments-seed-ood segments-modules-id-above training-module cross-scale-pairs-ood-target_merged";
    for name in expected.split_whitespace() {
        assert!(dirs[0].join("plots").join(format!("{name}.svg")).exists(), "{name}.svg");
    }
    assert!(seen > 100, "{seen}");
}

/// One mixture, empty lists, values that are not finite, long names: no panic, no NaN or infinity.
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
