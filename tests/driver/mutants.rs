//! The bugs of mutants.toml, which mutants.py plants in src/ one at a time: each must still be a
//! change of the source.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutants {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// In src/engine/.
    file: String,
    from: String,
    to: String,
}

#[test]
fn every_mutant_is_a_change_of_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/driver/mutants.toml")).expect("the mutants");
    let Mutants { mutant } = toml::from_str(&text).expect("TOML");
    assert!(mutant.len() >= 40, "{} mutants", mutant.len());
    let names: BTreeSet<&str> = mutant.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names.len(), mutant.len(), "names are unique");
    for Mutant { name, file, from, to } in &mutant {
        let source = fs::read_to_string(root.join("src/engine").join(file)).expect("a source file");
        assert_eq!(source.matches(from.as_str()).count(), 1, "{name}: its text in {file}");
        assert_ne!(from, to, "{name}");
    }
}
