//! Paths in a recipe, relative to its directory.

use std::path::{Component, Path, PathBuf};

/// `path`, a file, directory or pattern, as seen from `directory`; absolute if the two have nothing
/// in common. Links to directories on the way are resolved, because `..` after a link leads
/// elsewhere; `path` itself may be a link.
pub fn relative_to(path: &Path, directory: &Path) -> PathBuf {
    let path = absolute(path);
    let path = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => resolved(parent).join(name),
        _ => path,
    };
    let directory = resolved(directory);
    let common = path.components().zip(directory.components()).take_while(|(a, b)| a == b).count();
    if !path.components().take(common).any(|c| matches!(c, Component::Normal(_))) {
        return path;
    }
    let up = directory.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The absolute path. Links in its longest part that exists are resolved.
fn resolved(path: &Path) -> PathBuf {
    let path = absolute(path);
    for existing in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (existing.canonicalize(), path.strip_prefix(existing)) {
            return real.components().chain(rest.components()).collect();
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn paths_lead_from_the_directory_to_the_file() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("runs/a")).expect("a directory");
        fs::create_dir_all(at("text")).expect("a directory");
        fs::write(at("text/law.txt"), "law").expect("a file");
        let seen = |path: &str, directory: &str| relative_to(&at(path), &at(directory));
        assert_eq!(seen("text/law.txt", "runs/a"), Path::new("../../text/law.txt"));
        assert_eq!(seen("runs/a/x.txt", "runs/a"), Path::new("x.txt"));
        assert_eq!(seen("text/law-*.jsonl", "text"), Path::new("law-*.jsonl"));
        assert_eq!(relative_to(Path::new("/absent/x"), &at("runs")), Path::new("/absent/x"));
        std::os::unix::fs::symlink(at("text/law.txt"), at("text/linked.jsonl")).expect("a link");
        assert_eq!(seen("text/linked.jsonl", "runs"), Path::new("../text/linked.jsonl"));
        // A name without a directory is in the current one.
        let here = std::env::current_dir().expect("a directory").canonicalize().expect("a directory");
        assert_eq!(relative_to(Path::new("x"), &here.join("runs/a")), Path::new("../../x"));
        // A link to the directory of runs: the path leads out of the real directory.
        std::os::unix::fs::symlink(at("runs"), at("text/link")).expect("a link");
        let path = at("text/link/a").join(seen("text/law.txt", "text/link/a"));
        assert_eq!(fs::read_to_string(path).expect("the file"), "law");
    }
}
