//! A study small enough to run in a second.

use crate::texts::{MODEL, documents, write_jsonl};
use std::fs;
use std::path::Path;

/// The partitions of [`write_study`].
pub const PARTITIONS: [&str; 3] = ["law", "music", "physics"];

/// Writes the text of a study of three partitions and one OOD domain to `directory`, and
/// `study.toml`.
pub fn write_study(directory: &Path) {
    write_jsonl(&directory.join("general.jsonl"), &documents("general", 1, 60));
    for (topic, name) in (2..).zip(PARTITIONS) {
        write_jsonl(&directory.join(format!("{name}.jsonl")), &documents(name, topic, 40));
    }
    // In the order in which a study scores them, so that `eval` computes exactly the same sums.
    let mut letters = documents("letters", 9, 12);
    letters.sort_by_key(|(id, _)| (*blake3::hash(id.as_bytes()).as_bytes(), id.clone()));
    write_jsonl(&directory.join("letters.jsonl"), &letters);
    fs::write(directory.join("study.toml"), study_toml(&PARTITIONS)).expect("a file that can be written");
}

/// The settings of [`write_study`], with its partitions in this order.
pub fn study_toml(partitions: &[&str]) -> String {
    let tables: String = partitions
        .iter()
        .map(|name| format!("\n[[partition]]\nname = \"{name}\"\nfiles = [\"{name}.jsonl\"]\n"))
        .collect();
    format!(
        "name = \"small\"\ncheckpoint_every = 10\n\n[model]\n{MODEL}\n[tokenizer]\nvocabulary = 300\n\n\
         [data]\ntest = 0.2\n\n[seed]\nfiles = [\"general.jsonl\"]\n\n\
         [seed.training]\nsteps = 60\nbatch = 4\nlearning_rate = 3e-3\nschedule = \"cosine\"\nwarmup_steps = 5\n\n\
         [module.training]\nsteps = 25\nbatch = 4\nlearning_rate = 3e-4\n\n\
         [mixtures]\npairs = \"all\"\n{tables}\n[[ood]]\nname = \"letters\"\nfiles = [\"letters.jsonl\"]\n"
    )
}
