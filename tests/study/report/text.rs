//! The terminal's text.

use crate::synthetic::rich;

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
