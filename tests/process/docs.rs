//! The documents: their links, the length of README.md, and words that the project avoids.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the repository with one of these endings, except build outputs.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" && path != root().join("runs") {
            files(&path, endings, found);
        } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

fn all(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    files(root(), endings, &mut found);
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("UTF-8 text"))).collect()
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a document, and its links and images.
fn anchors_and_links(text: &str) -> (BTreeSet<String>, Vec<String>) {
    let (mut anchors, mut links, mut heading) = (BTreeSet::new(), vec![], None::<String>);
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { level, .. }) if level <= HeadingLevel::H6 => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => anchors.extend(heading.take().map(|text| anchor(&text))),
            Event::Text(text) | Event::Code(text) => heading.iter_mut().for_each(|heading| heading.push_str(&text)),
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => links.push(dest_url.to_string()),
            _ => {}
        }
    }
    (anchors, links)
}

/// Faults of the relative links of a document: no such file, or no such heading.
fn broken_links(path: &Path, text: &str) -> Vec<String> {
    let folder = path.parent().expect("a folder");
    let fault = |link: &str| -> Option<String> {
        if link.contains("://") || link.starts_with("mailto:") {
            return None;
        }
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { path.to_path_buf() } else { folder.join(file) };
        if !target.exists() {
            return Some(format!("{}: no file {link}", path.display()));
        }
        let own = || fs::read_to_string(&target).expect("UTF-8 text");
        let known = || anchors_and_links(&if file.is_empty() { text.to_string() } else { own() }).0;
        (!heading.is_empty() && !known().contains(heading)).then(|| format!("{}: no heading {link}", path.display()))
    };
    anchors_and_links(text).1.iter().filter_map(|link| fault(link)).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let documents = all(&[".md"]);
    assert!(documents.len() > 15, "{}", documents.len());
    let faults: Vec<String> = documents.iter().flat_map(|(path, text)| broken_links(path, text)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let path = root().join("README.md");
    let wrong = "# A `b` c\n[x](nowhere.md) [y](#a-b-c) [z](#a-b) ![w](docs/no.svg) [v](docs/gpu.md#no)";
    assert_eq!(broken_links(&path, wrong).len(), 4, "a broken link passes");
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("SUMMARY.md");
    let (_, links) = anchors_and_links(&summary);
    let mut pages = vec![];
    files(&root().join("docs"), &[".md"], &mut pages);
    for page in pages.iter().filter_map(|page| page.file_name()?.to_str()).filter(|name| *name != "SUMMARY.md") {
        assert!(links.iter().any(|link| link == page), "docs/{page} is not in docs/SUMMARY.md");
    }
}

#[test]
fn readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).expect("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: at most 150, the rest belongs into docs/");
}

/// Words that this project once used in senses of its own, with a plain word for each.
const AVOIDED: [(&str, &str); 8] = [
    ("anew", "again"),
    ("aside", "side stream, temporary file, deferred"),
    ("alike", "equal"),
    ("whoever", "the caller"),
    ("nobody", "no one"),
    ("goes on", "resumes, continues"),
    ("of use", "reusable"),
    ("but for", "except"),
];

fn avoided(text: &str) -> Vec<String> {
    let mut found = vec![];
    for (number, line) in text.lines().enumerate() {
        let words: Vec<String> =
            line.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
        let spaced = format!(" {} ", words.join(" "));
        for (word, plain) in AVOIDED.iter().filter(|(word, _)| spaced.contains(&format!(" {word} "))) {
            found.push(format!("line {}: `{word}`: use {plain}", number + 1));
        }
    }
    found
}

#[test]
fn words_are_plain() {
    let endings = [".rs", ".cu", ".cuh", ".cpp", ".h", ".md", ".toml", ".sh", ".py", ".jinja"];
    let here = Path::new(file!()).file_name();
    let mut faults = vec![];
    for (path, text) in all(&endings) {
        if path.file_name() != here && !path.starts_with(root().join("tests/fixtures")) {
            faults.extend(avoided(&text).into_iter().map(|fault| format!("{}: {fault}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(avoided("It goes\non. It goes on, an `aside`.").len(), 2);
}
