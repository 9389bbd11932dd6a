//! Charts as PNG.

use crate::synthetic::rich;
use std::path::Path;
use stockpot::analysis::*;

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
