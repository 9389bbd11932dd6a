//! Decontamination by shared n-grams.

use super::{document, on_threads, refused};
use std::collections::BTreeSet;
use stockpot::engine::data::*;

fn words(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_shared_ngram_drops_the_document_and_says_why() {
    let mut evaluation = Decontaminator::new(DEFAULT_NGRAM).unwrap();
    evaluation.add("law", &document("law-0", &words(0..40)));
    evaluation.add("law", &document("law-1", &words(20..60)));
    let hidden = format!("Before.\n{}; after", words(27..40).to_uppercase().replace(' ', ",\t--"));
    let mut copied = document("copied", &hidden);
    copied.source = Some("web".into());
    let twelve = document("twelve", &format!("x {} y {}", words(0..12), words(13..25)));
    let (kept, dropped) = evaluation.filter(vec![twelve, copied, document("other", &words(60..99))]);
    assert_eq!(kept.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(), ["twelve", "other"]);
    let reason = Contamination {
        id: "copied".into(),
        source: Some("web".into()),
        ngram: words(27..40),
        domain: "law".into(),
        evaluation_id: "law-0".into(),
    };
    assert_eq!(dropped, [reason]);
    // Words 45..58 are only in the second document; n-grams do not cross from one document into the
    // next.
    assert_eq!(evaluation.check(&document("t", &words(45..58))).unwrap().evaluation_id, "law-1");
    assert_eq!(evaluation.check(&document("t", &format!("{} {}", words(34..40), words(20..27)))), None);
    refused(Decontaminator::new(0), &["n-gram"]);
}

#[test]
fn short_evaluation_documents_are_matched_as_a_whole() {
    let mut evaluation = Decontaminator::new(8).unwrap();
    evaluation.add("qa", &document("seven", "What is the capital of France? Paris"));
    evaluation.add("qa", &document("two", "See also:"));
    evaluation.add("qa", &document("none", "-- * --"));
    let hit = |text: &str| evaluation.check(&document("t", text)).map(|c| c.evaluation_id);
    assert_eq!(hit("Q: what is THE capital of france? paris. Q: next").as_deref(), Some("seven"));
    assert_eq!(hit("what is the capital of france? lyon"), None);
    assert_eq!(hit("paris"), None);
    assert_eq!(hit("see also the notes"), None, "two words inside a text prove nothing");
    assert_eq!(hit("SEE ALSO").as_deref(), Some("two"));
    assert_eq!(hit("* * *"), None);
    assert_eq!(hit(""), None);
}

/// Against the definition: the sets of n-grams as text.
#[test]
fn decontamination_agrees_with_plain_sets() {
    let texts = |seed: u8, count: usize, length: usize| -> Vec<Document> {
        let word = |i: usize, j: usize| blake3::hash(&[seed, i as u8, j as u8]).as_bytes()[0] % 3;
        let text = |i| (0..length).map(|j| format!("v{}", word(i, j))).collect::<Vec<_>>().join(" ");
        (0..count).map(|i| document(&format!("{seed}-{i}"), &text(i))).collect()
    };
    let (training, held_out) = (texts(1, 60, 30), texts(2, 10, 40));
    let n = 8;
    let ngrams = |d: &Document| -> BTreeSet<String> {
        d.text.split(' ').collect::<Vec<_>>().windows(n).map(|w| w.join(" ")).collect()
    };
    let known: BTreeSet<String> = held_out.iter().flat_map(&ngrams).collect();
    let expected: Vec<&str> =
        training.iter().filter(|d| !ngrams(d).is_disjoint(&known)).map(|d| d.id.as_str()).collect();
    assert!(expected.len() > 10 && expected.len() < 60, "{} of 60: the case says little", expected.len());
    let mut evaluation = Decontaminator::new(n).unwrap();
    held_out.iter().for_each(|d| evaluation.add("e", d));
    let run = |threads| on_threads(threads, || evaluation.filter(training.clone()));
    let (kept, dropped) = run(1);
    assert_eq!(dropped.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(kept.len() + dropped.len(), training.len());
    assert!(dropped.iter().all(|c| known.contains(&c.ngram)));
    assert!(run(2) == (kept.clone(), dropped.clone()) && run(7) == (kept, dropped));
}
