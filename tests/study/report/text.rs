//! The report as terminal text.

use crate::synthetic::rich;

#[test]
fn terminal_text_has_the_sentences_and_wraps_long_headers() {
    let text = rich().to_text();
    for words in [
        "Warning: MIXING LAW picks worse than always taking the mixture with the most text.",
        "Noise therefore caps r at about 0.975",
        "Scaling helps here: r rises by 0.210",
        "Cost: 3.40e13 FLOPs with a training per partition, 9.10e13 with a training per mixture (2.7 times as much).",
        "The changed study trained 1 model",
        "Correlation with SEQ of the larger model: pairs",
        "Selection, pairs: OOD average",
        "Fields and domains are in report.html.",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    assert!(text.lines().count() < 270, "{} lines", text.lines().count());
    let header = text.lines().skip_while(|line| *line != "Selection, pairs: OOD average").skip(1).take(2);
    let words: Vec<Vec<&str>> = header.map(|line| line.split_whitespace().collect()).collect();
    let last = ["by", "n", "r", "95%", "accuracy", "regret@1", "regret@3", "regret@5", "regret@10"];
    assert_eq!(words, [vec!["pairwise"], last.to_vec()], "{text}");
    assert!(!text.contains("exponential of a model's mean loss"), "the glossary is in report.html only");
}
