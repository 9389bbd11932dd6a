//! Train, validation and test by a hash of the id.

use super::refused;
use std::collections::{BTreeMap, BTreeSet};
use stockpot::engine::data::*;

#[test]
fn a_split_depends_on_the_id_alone() {
    let rule = SplitRule::new(None, 0.1, 0.05).unwrap();
    let count = |split| (0..20_000).filter(|i| rule.split(&format!("doc-{i}")) == split).count();
    // 20,000 draws: a standard deviation is 42 for validation and 31 for test; five of them are
    // allowed.
    assert!(count(Split::Validation).abs_diff(2000) < 212, "{}", count(Split::Validation));
    assert!(count(Split::Test).abs_diff(1000) < 154, "{}", count(Split::Test));
    // A larger validation share takes documents from training only.
    let larger = SplitRule::new(None, 0.3, 0.05).unwrap();
    for id in (0..2000).map(|i| i.to_string()) {
        let (before, after) = (rule.split(&id), larger.split(&id));
        assert!(before == after || (before, after) == (Split::Train, Split::Validation), "{id}");
    }
    // Fixed for good: a change here would move documents of existing studies.
    let rule = SplitRule::new(None, 0.3, 0.3).unwrap();
    // The second letters of train, validation and test distinguish them.
    let known: String = (0..12).map(|i| rule.split(&format!("id{i}")).to_string().remove(1)).collect();
    assert_eq!(known, "arereereeeer");
}

#[test]
fn added_documents_do_not_move_existing_ones() {
    let rule = SplitRule::new(Some("#".into()), 0.2, 0.2).unwrap();
    let split_all =
        |ids: &[String]| -> BTreeMap<String, Split> { ids.iter().map(|id| (id.clone(), rule.split(id))).collect() };
    let old: Vec<String> = (0..300).map(|i| format!("{i}#{}", i % 3)).collect();
    let more: Vec<String> = (300..400).map(|i| format!("{i}#0")).chain(old.iter().rev().cloned()).collect();
    let (before, after) = (split_all(&old), split_all(&more));
    assert_eq!(after.len(), 400);
    assert!(before.iter().all(|(id, split)| after[id] == *split));
}

#[test]
fn pieces_of_one_original_stay_together() {
    let rule = SplitRule::new(Some("#".into()), 0.4, 0.3).unwrap();
    let whole = SplitRule::new(None, 0.4, 0.3).unwrap();
    let mut seen = BTreeSet::new();
    for original in (0..50).map(|i| format!("book/{i}")) {
        let split = rule.split(&original);
        assert_eq!(split, whole.split(&original));
        assert!((0..20).all(|piece| rule.split(&format!("{original}#{piece}#x")) == split));
        seen.insert(split);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn impossible_shares_are_refused() {
    for (validation, test) in [(-0.1, 0.1), (1.0, 0.0), (0.0, f64::NAN), (0.5, 0.5)] {
        assert_eq!(refused(SplitRule::new(None, validation, test), &["expected"]).exit_code(), 2);
    }
    refused(SplitRule::new(Some(String::new()), 0.1, 0.1), &["separator"]);
    let none = SplitRule::new(None, 0.0, 0.0).unwrap();
    assert!((0..100).all(|i| none.split(&i.to_string()) == Split::Train));
}
