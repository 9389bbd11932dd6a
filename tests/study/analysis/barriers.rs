//! Barriers of known heights.

use super::{analysed, members, near, pairs, scores};
use stockpot::analysis::*;

#[test]
fn barriers_are_heights_above_the_line_between_the_ends() {
    // In nats: a line, plus an arch of height 0.1 (d + 1) at the middle for partitions, and below 0
    // for OOD.
    let loss = |at: f64, d: usize| {
        let arch = if d < 6 { 0.1 * (d + 1) as f64 } else { -0.2 };
        3.0 + 0.5 * d as f64 + at * (0.3 - 0.1 * d as f64) + arch * 4.0 * at * (1.0 - at)
    };
    let of = |at: f64| SegmentPoint { at, scores: scores(&members(&[0, 2]), |d| loss(at, d).exp()) };
    let segment = |points: &[f64]| Segment {
        from: "astronomy".into(),
        to: "chess".into(),
        points: points.iter().map(|at| of(*at)).collect(),
        ..Segment::default()
    };
    let found = |segment: Segment| {
        let report = analysed(Report { segments: vec![segment], ..pairs() });
        report.segments[0].barriers.clone()
    };
    let barriers = found(segment(&[0.0, 0.25, 0.5, 0.75, 1.0]));
    let height = |name: &str| barriers[name].height;
    near(height("astronomy"), 0.1, "astronomy");
    near(height("folklore"), 0.6, "folklore");
    near(height("id"), 0.35, "mean of 0.1 to 0.6");
    near(height("members"), 0.2, "mean of 0.1 and 0.3");
    near(height("field:games"), 0.05, "mean of 0.3 and -0.2");
    // Below the line at every inner point; the outer ones are nearest to it.
    near(height("ood"), -0.15, "ood");
    assert_eq!((barriers["id"].at, barriers["ood"].at), (0.5, 0.25));
    assert!(found(segment(&[0.0, 0.5])).is_empty(), "an end is missing");
    assert!(found(segment(&[0.0, 1.0])).is_empty(), "nothing inside");
    let mut diverged = segment(&[0.0, 0.5, 1.0]);
    diverged.points[1].scores.get_mut("botany").unwrap().perplexity = f64::INFINITY;
    let barriers = found(diverged);
    assert!(!barriers.contains_key("botany") && !barriers.contains_key("id") && barriers.contains_key("ood"));
}
