//! `stockpot export`: where the text and the notes go, and wrong command lines. The forms themselves:
//! tests/study/recipe/export.rs.

use crate::binary::stockpot;
use crate::train::with_recipe;
use crate::trees::{assert_same_tree, tree};
use std::fs;

const FORMS: [&str; 5] = ["olmo-core", "megatron", "litgpt", "regmix", "datasets"];

#[test]
fn text_goes_to_stdout_or_to_a_file_and_notes_to_stderr() {
    let dir = with_recipe();
    // Megatron's index of each shard is the only file that is made.
    stockpot(dir.path(), &["export", "recipe.toml", "--for", "megatron"]).done();
    for shard in ["law", "music"] {
        assert!(dir.path().join(format!("shards/{shard}/tokens.idx")).exists());
    }
    let before = tree(dir.path());
    for form in FORMS {
        let printed = stockpot(dir.path(), &["export", "recipe.toml", "--for", form]).done();
        assert!(printed.stderr.lines().count() >= 2, "{form}: {}", printed.stderr);
        assert_same_tree(&tree(dir.path()), &before);
        let written = stockpot(dir.path(), &["export", "recipe.toml", "--for", form, "--out", "file"]).done();
        assert_eq!((written.stdout.as_str(), &written.stderr), ("", &printed.stderr));
        assert_eq!(fs::read_to_string(dir.path().join("file")).expect("a file"), printed.stdout);
        fs::remove_file(dir.path().join("file")).expect("removed");
    }
    // Paths are absolute, because the trainer runs elsewhere.
    let printed = stockpot(dir.path(), &["export", "recipe.toml", "--for", "megatron"]).done().stdout;
    let prefix = dir.path().canonicalize().expect("a path").join("shards/law/tokens");
    assert!(printed.starts_with(&format!("0.8 {}\n", prefix.display())), "{printed}");
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let dir = with_recipe();
    stockpot(dir.path(), &["export", "recipe.toml"]).fails(2, &["--for <TRAINER>"]);
    stockpot(dir.path(), &["export", "recipe.toml", "--for", "keras"]).fails(2, &["olmo-core, megatron, litgpt"]);
    stockpot(dir.path(), &["export", "absent.toml", "--for", "regmix"]).fails(1, &["absent.toml: cannot read"]);
    fs::rename(dir.path().join("shards/law"), dir.path().join("law")).expect("a rename");
    stockpot(dir.path(), &["export", "recipe.toml", "--for", "regmix"])
        .fails(1, &["shards/law: the text of partition `law` is missing"]);
}
