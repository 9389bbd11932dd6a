//! scores.csv.

use super::interchange::{report, score, scores};
use crate::synthetic::study;
use std::collections::BTreeMap;

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
fn scores_csv_has_repeats_the_larger_model_and_scaled_merges() {
    let mut report = report();
    report.mixtures.truncate(1);
    let first = &mut report.mixtures[0];
    first.scores.insert("scaled".into(), scores(19.0));
    first.repeats = vec![
        BTreeMap::from([("seq".into(), scores(20.5)), ("merged".into(), scores(21.5))]),
        BTreeMap::from([("seq".into(), scores(20.75))]),
    ];
    first.target = BTreeMap::from([("seq".into(), scores(10.0)), ("merged".into(), scores(11.0))]);
    first.by_lambda = vec![(1.0, scores(21.0)), (1.4, scores(20.25))];
    first.scores.get_mut("seq").unwrap().insert("field:all fields".into(), score(20.875, 10));
    let csv = report.to_csv();
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(header[..5], ["mixture", "group", "model", "domain", "kind"]);
    assert_eq!((header[8], header[10], header.len()), ("perplexity", "repeat", 11));
    // One row of each on "law", whose perplexity is the base and a quarter.
    let on_law: Vec<String> = csv
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|cells| cells[3] == "law")
        .map(|cells| format!("{} {} {}", cells[2], cells[10], cells[8]))
        .collect();
    let expected = [
        "seq 0 20.25",
        "merged 0 21.25",
        "ind 0 22.25",
        "scaled 0 19.25",
        "seq 1 20.75",
        "merged 1 21.75",
        "seq 2 21",
        "target_seq 0 10.25",
        "target_merged 0 11.25",
        "scaled@1 0 21.25",
        "scaled@1.4 0 20.5",
    ];
    assert_eq!(on_law, expected);
    // All have three domains and "ood".
    assert_eq!(csv.lines().count(), 1 + expected.len() * 4 + 1);
    assert_eq!(csv.matches("seq,field:all fields,average,").count(), 1);
}
