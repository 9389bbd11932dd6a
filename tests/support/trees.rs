//! Whole directories, compared file by file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every file below `root` by its relative path, with its bytes; directories end in `/`.
/// `study.lock`, which holds a process id, and timings are left out.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(directory).expect("a directory that can be listed") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            if path.is_dir() {
                found.insert(name + "/", vec![]);
                visit(root, &path, found);
            } else if !["study.lock", "clock.jsonl", "cost.json"].contains(&name.as_str()) {
                let bytes = fs::read(&path).expect("a file that can be read");
                found.insert(name.clone(), if name.ends_with("report.html") { without_clock(bytes) } else { bytes });
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(root, root, &mut found);
    found
}

/// A page without its section of hours.
fn without_clock(page: Vec<u8>) -> Vec<u8> {
    let page = String::from_utf8(page).expect("a page is text");
    match page.split_once("<section id=\"clock\">") {
        Some((before, rest)) => {
            let (_, after) = rest.split_once("</section>").expect("the section ends");
            format!("{before}{after}").into_bytes()
        }
        None => page.into_bytes(),
    }
}

/// Asserts equal names and equal bytes; the message names the files, not their content.
#[track_caller]
pub fn assert_same_tree(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) {
    let names = |t: &BTreeMap<String, Vec<u8>>| t.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    let differing: Vec<&String> = a.iter().filter(|(name, bytes)| b[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "these files differ: {differing:?}");
}
