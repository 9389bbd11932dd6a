//! No two types of the program have the same name, so a name has one definition.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const EXCEPTIONS: &[&str] = &[];

#[test]
fn no_type_name_occurs_twice() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in sources(&root.join("src")) {
        let text = fs::read_to_string(&path).expect("a source file");
        for (line, name) in type_names(&text) {
            let place = path.strip_prefix(root).unwrap_or(&path).display();
            places.entry(name).or_default().push(format!("{place}:{line}"));
        }
    }
    assert!(places.len() > 100, "found only {:?}", places.keys());
    let twice = |name: &str| places.get(name).is_some_and(|places| places.len() > 1);
    let stale: Vec<_> = EXCEPTIONS.iter().filter(|name| !twice(name)).collect();
    assert!(stale.is_empty(), "no longer found twice: {stale:?}");
    places.retain(|name, places| places.len() > 1 && !EXCEPTIONS.contains(&&**name));
    assert!(places.is_empty(), "types of one name: {places:#?}");
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let of = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => Vec::from_iter(path.extension().is_some_and(|e| e == "rs").then_some(path)),
    };
    let mut list: Vec<PathBuf> = entries.flat_map(of).collect();
    list.sort();
    list
}

/// Structs, enums, traits, unions and type aliases outside `#[cfg(test)]`, with their lines.
/// Associated types do not count. Relies on rustfmt: an item ends at the first `}` as far from the
/// margin as its first line, or in its first line.
fn type_names(text: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    // The last lines of the current tests and of the innermost impl or trait.
    let (mut tests, mut body): (Option<String>, Option<String>) = (None, None);
    let mut is_test = false;
    for (i, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let end = format!("{}}}", &line[..line.len() - code.len()]);
        if let Some(end) = &tests {
            if line == end {
                tests = None;
            }
            continue;
        }
        if body.as_deref() == Some(line) {
            body = None;
        }
        if code.starts_with("#[cfg(test)]") {
            is_test = true;
            continue;
        }
        if is_test {
            // Other attributes may follow.
            is_test = code.starts_with("#[");
            if line.ends_with('{') {
                tests = Some(end);
            }
            continue;
        }
        let item = without_visibility(code);
        let (keyword, rest) = item.split_once(' ').unwrap_or((item, ""));
        let is_type = match keyword {
            "struct" | "enum" | "trait" | "union" => true,
            "type" => body.is_none(),
            _ => false,
        };
        if is_type {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            names.push((i + 1, name));
        }
        let opens = keyword == "trait" || keyword.starts_with("impl") || item.starts_with("unsafe impl");
        if opens && !line.ends_with('}') && !line.ends_with(';') {
            body = Some(end);
        }
    }
    names
}

/// `code` after `pub`, `pub(super)`, ...
fn without_visibility(code: &str) -> &str {
    let Some(rest) = code.strip_prefix("pub") else { return code };
    match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((_, rest)) => rest.trim_start(),
        None => rest.trim_start(),
    }
}

#[test]
fn names_are_found_where_types_are_defined() {
    let text = "pub struct A;\n\
                pub(super) enum B<'a> {\n    C(D),\n}\n\
                impl Iterator for A {\n    type Item = u8;\n    fn next(&mut self) -> Option<u8> {\n        None\n    }\n}\n\
                trait E {\n    type F;\n}\n\
                fn f() {\n    type G = u8;\n}\n\
                #[cfg(test)]\nstruct H;\n\
                #[cfg(test)]\n#[allow(unused)]\nmod tests {\n    struct A;\n}\n\
                type I = u8;\n";
    let names: Vec<String> = type_names(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["A", "B", "E", "G", "I"]);
}
