//! The layers of ARCHITECTURE.md: the modules that each module of src may use. Each path of each
//! source is checked against one table; code that only tests compile is exempt, except in the
//! engine.

mod paths;

use paths::{Path, Tests, paths};
use std::collections::BTreeSet;
use std::fs;

/// A module of src and the modules that it may use, besides itself and the utilities.
struct Layer {
    name: &'static str,
    may_use: &'static [&'static str],
}

const fn layer(name: &'static str, may_use: &'static [&'static str]) -> Layer {
    Layer { name, may_use }
}

/// The highest first: each uses only what is below it. Outside of the engine, `engine` is all of
/// it.
const LAYERS: [Layer; 16] = [
    layer("main", &["cli"]),
    layer("cli", &["bench", "study", "recipe", "search", "report", "analysis", "engine"]),
    layer("bench", &["report", "analysis", "engine"]),
    layer("study", &["recipe", "search", "report", "analysis", "engine"]),
    layer("recipe", &["engine"]),
    layer("search", &["analysis", "engine"]),
    layer("report", &["analysis", "engine"]),
    layer("analysis", &["engine"]),
    layer(
        "engine::eval",
        &["engine::merge", "engine::checkpoint", "engine::data", "engine::model", "engine::ops", "engine::device"],
    ),
    layer("engine::train", &["engine::checkpoint", "engine::data", "engine::model", "engine::ops", "engine::device"]),
    layer("engine::merge", &["engine::checkpoint", "engine::data", "engine::model", "engine::ops", "engine::device"]),
    layer("engine::checkpoint", &["engine::model", "engine::ops", "engine::device"]),
    layer("engine::data", &["engine::ops", "engine::device"]),
    layer("engine::model", &["engine::ops", "engine::device"]),
    layer("engine::ops", &["engine::device"]),
    layer("engine::device", &[]),
];

/// Modules that every layer may use. Of these, each uses only what is below it.
const UTILITIES: [Layer; 6] = [
    layer("settings_file", &["files", "error"]),
    layer("lock", &["files", "error"]),
    layer("files", &["error"]),
    layer("progress", &[]),
    layer("apportion", &[]),
    layer("error", &[]),
];

/// Modules that the engine must not use, not even in tests.
const ABOVE_THE_ENGINE: [&str; 8] = ["study", "recipe", "analysis", "report", "cli", "bench", "search", "cluster"];

fn find(table: &'static [Layer], name: &str) -> Option<&'static Layer> {
    table.iter().find(|layer| layer.name == name)
}

/// The module that the table has a row for: `engine::ops` of `engine::ops::gemm::Gemm`.
fn unit(segments: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    match names[..] {
        ["engine", inner, ..] => format!("engine::{inner}"),
        [name, ..] => name.into(),
        [] => "the whole crate".into(),
    }
}

/// Whether `from` may use `to`, both rows of the table; from outside of it, the engine is one
/// module.
fn may_use(from: &str, to: &str) -> bool {
    let rows = find(&LAYERS, from).map(|layer| (layer, true)).or(find(&UTILITIES, from).map(|layer| (layer, false)));
    let Some((layer, above_utilities)) = rows else { return false };
    let to_name = if from.starts_with("engine::") { to } else { to.split("::").next().unwrap_or(to) };
    from == to || layer.may_use.contains(&to_name) || above_utilities && find(&UTILITIES, to).is_some()
}

/// The arrows of a source that are not in the table, each as `file:line: from -> to`.
fn forbidden(file: &str, source: &str, module: &[&str]) -> Vec<String> {
    let from = unit(module);
    let arrow = |path: Path| {
        let to = unit(&path.segments);
        (!may_use(&from, &to)).then(|| format!("{file}:{}: {from} -> {to} (`{path}`)", path.line))
    };
    paths(source, module, Tests::PassOver).into_iter().filter_map(arrow).collect()
}

/// The paths of a source of the engine that lead out of it, upwards.
fn upward(file: &str, source: &str, module: &[&str]) -> Vec<String> {
    let out = |path: &Path| match path.segments.first() {
        Some(name) => name == "*" || ABOVE_THE_ENGINE.contains(&name.as_str()),
        None => true,
    };
    let found = paths(source, module, Tests::Read).into_iter().filter(out);
    found.map(|path| format!("{file}:{}: `{path}`", path.line)).collect()
}

/// A file of src: its path from the repository, its text and its module.
struct Source {
    file: String,
    text: String,
    module: Vec<String>,
}

fn sources() -> Vec<Source> {
    fn visit(folder: &std::path::Path, module: &[String], found: &mut Vec<Source>) {
        let mut entries: Vec<_> = fs::read_dir(folder).expect("src").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let inner = [module, std::slice::from_ref(&name)].concat();
            if path.is_dir() {
                visit(&path, &inner, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
                let file = path.strip_prefix(root).expect("below the root").display().to_string();
                let module = if ["mod", "lib"].contains(&name.as_str()) { module.to_vec() } else { inner };
                found.push(Source { file, text: fs::read_to_string(&path).expect("a source"), module });
            }
        }
    }
    let mut found = Vec::new();
    visit(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut found);
    assert!(found.len() > 100, "{} sources", found.len());
    found
}

fn names(module: &[String]) -> Vec<&str> {
    module.iter().map(String::as_str).collect()
}

#[test]
fn the_engine_uses_nothing_of_the_storeys_above() {
    let engine = sources().into_iter().filter(|s| s.module.first().is_some_and(|name| name == "engine"));
    let found: Vec<String> = engine.flat_map(|s| upward(&s.file, &s.text, &names(&s.module))).collect();
    assert!(found.is_empty(), "the engine knows no study:\n{}", found.join("\n"));
}

#[test]
fn layers_use_only_what_is_below_them() {
    let found: Vec<String> = sources().iter().flat_map(|s| forbidden(&s.file, &s.text, &names(&s.module))).collect();
    assert!(found.is_empty(), "arrows that are not in the table of layers:\n{}", found.join("\n"));
}

/// Files (a folder with its `mod.rs` is one) that use each other, directly or indirectly; arrows
/// are pairs of them.
fn circles(arrows: &BTreeSet<(String, String)>) -> BTreeSet<String> {
    let mut reached = arrows.clone();
    loop {
        let further = reached.iter().flat_map(|(from, by)| {
            arrows.iter().filter(move |(next, _)| next == by).map(move |(_, to)| (from.clone(), to.clone()))
        });
        let all: BTreeSet<_> = reached.iter().cloned().chain(further).collect();
        if all.len() == reached.len() {
            return reached.into_iter().filter(|(from, to)| from == to).map(|(from, _)| from).collect();
        }
        reached = all;
    }
}

#[test]
fn no_two_files_of_a_layer_use_each_other() {
    let sources = sources();
    // The layer's own file holds only what it makes public.
    let file = |segments: &[String]| {
        let depth = if segments.first().is_some_and(|name| name == "engine") { 3 } else { 2 };
        let name = segments.get(..depth)?.join("::");
        sources.iter().any(|s| s.module.get(..depth).is_some_and(|m| m.join("::") == name)).then_some(name)
    };
    let mut arrows = BTreeSet::new();
    for source in &sources {
        let Some(from) = file(&source.module) else { continue };
        for path in paths(&source.text, &names(&source.module), Tests::PassOver) {
            arrows.extend(file(&path.segments).filter(|to| *to != from).map(|to| (from.clone(), to)));
        }
    }
    assert!(arrows.len() > 150, "only {} arrows", arrows.len());
    assert_eq!(circles(&arrows), BTreeSet::new());
    let planted = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")].map(|(a, b)| (a.to_string(), b.to_string()));
    assert_eq!(circles(&planted.into()), ["a", "b", "c"].map(String::from).into());
}

#[test]
fn the_table_has_every_module_and_points_downwards() {
    // The two roots of modules, lib.rs and engine/mod.rs, hold nothing else.
    let mut modules: Vec<String> = sources()
        .iter()
        .map(|s| unit(&s.module))
        .filter(|m| !["the whole crate", "engine"].contains(&m.as_str()))
        .collect();
    modules.sort();
    modules.dedup();
    let mut rows: Vec<&str> = LAYERS.iter().chain(&UTILITIES).map(|layer| layer.name).collect();
    for (i, layer) in LAYERS.iter().enumerate() {
        for below in layer.may_use {
            let is_below = |row: &Layer| row.name == *below || *below == "engine" && row.name.starts_with("engine::");
            assert!(LAYERS[i + 1..].iter().any(is_below), "{} -> {below} points upwards", layer.name);
        }
    }
    for (i, layer) in UTILITIES.iter().enumerate() {
        assert!(layer.may_use.iter().all(|below| UTILITIES[i + 1..].iter().any(|row| row.name == *below)));
    }
    rows.sort();
    assert_eq!(modules, rows);
}

#[test]
fn planted_arrows_are_found() {
    let file = "src/engine/train/run.rs";
    let in_train = |source: &str| forbidden(file, source, &["engine", "train", "run"]);
    assert_eq!(
        in_train("use crate::error::Result;\nuse crate::{files, study::Study};"),
        ["src/engine/train/run.rs:2: engine::train -> study (`crate::study::Study`)"]
    );
    for (source, to) in [
        ("use super::super::merge::Pool;", "engine::merge"),
        ("use crate::engine::{device::Device, eval};", "engine::eval"),
        ("super::super::super::report::text()", "report"),
        ("use crate::engine;", "engine"),
        ("use crate::engine::*;", "engine::*"),
        ("use crate::*;", "*"),
        ("use crate as all;", "the whole crate"),
        ("crate::newcomer::x()", "newcomer"),
    ] {
        let found = in_train(source);
        assert!(found.len() == 1 && found[0].contains(&format!("engine::train -> {to} (")), "{source}: {found:?}");
        assert_eq!(
            upward(file, source, &["engine", "train", "run"]).is_empty(),
            !["report", "*", "the whole crate"].contains(&to)
        );
    }
    let right = "use crate::engine::data::Shard;\nuse crate::progress::Progress;\nuse super::settings;\nuse crate::engine::ops::*;";
    assert_eq!(in_train(right), [""; 0]);
    let test = "#[cfg(test)]\nmod tests {\n    use crate::study::Study;\n}";
    assert_eq!((in_train(test).len(), upward(file, test, &["engine", "train", "run"]).len()), (0, 1));
    for (module, source, count) in [
        (&["analysis", "noise"][..], "use crate::report::Report;", 1),
        (&["report"], "use crate::analysis::*; use crate::engine::train::Metrics; use crate::study::x;", 1),
        (&["study", "run"], "use super::super::cli; use crate::bench; use crate::engine; use crate::report::html;", 2),
        (&["files"], "use crate::error::Result; use crate::engine::data; use crate::lock::Lock;", 2),
        (&["error"], "use crate::files;", 1),
        (&["main"], "stockpot::cli::main(); stockpot::progress::say(); stockpot::study::run()", 1),
        (&["newcomer"], "use crate::error::Result;", 1),
    ] {
        let found = forbidden("x", source, module);
        assert_eq!(found.len(), count, "{module:?}: {found:?}");
    }
}
