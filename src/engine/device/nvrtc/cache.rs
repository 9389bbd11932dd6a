//! The disk cache of compiled kernels. An entry is named by the hash of its inputs and starts with
//! a checksum of its content, so a damaged entry is compiled again. Entries are written atomically,
//! so any number of processes may share the directory. A failed write costs time but never ends the
//! run.

use super::Compiled;
use crate::error::Result;
use crate::files;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Changed when the format of an entry changes.
const FORMAT: &[u8] = b"stockpot cubin 1\n";
const CHECKSUM: usize = 32;

/// Everything that a CUBIN depends on.
pub(super) struct Key<'a> {
    pub source: &'a str,
    /// (name, text)
    pub headers: &'a [(&'a str, &'a str)],
    /// Including the kernel, its defines and the architecture.
    pub options: &'a [String],
    /// NVRTC's version and build.
    pub nvrtc: &'a str,
}

impl Key<'_> {
    fn name(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(FORMAT);
        let headers = self.headers.iter().flat_map(|(name, text)| [*name, *text]);
        let options = self.options.iter().map(String::as_str);
        for part in [self.nvrtc, self.source].into_iter().chain(headers).chain(["options"]).chain(options) {
            // Prefixed by its length, so that no two lists of parts give the same bytes.
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        format!("{}.cubin", hash.finalize().to_hex())
    }
}

/// `STOCKPOT_CACHE`, else `stockpot` in `XDG_CACHE_HOME`, else in `~/.cache`. `None` when none of
/// these is set.
pub fn directory() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("STOCKPOT_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("stockpot")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/stockpot")))
}

/// The entry of `key`, created by `make` if missing.
pub(super) fn get_or_make(key: &Key, make: impl FnOnce() -> Result<Compiled>) -> Result<Compiled> {
    let Some(directory) = directory() else { return make() };
    let path = directory.join(key.name());
    if let Some(compiled) = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes)) {
        return Ok(compiled);
    }
    let compiled = make()?;
    let _ = store(&path, &encode(&compiled));
    Ok(compiled)
}

fn store(path: &Path, entry: &[u8]) -> Result<()> {
    // Writers in one process use the same temporary name, so they take turns.
    static WRITING: Mutex<()> = Mutex::new(());
    let _turn = WRITING.lock();
    files::create_directory(path.parent().expect("an entry is in the cache's directory"))?;
    files::write_atomic(path, |file| file.write_all(entry))
}

/// The format, a checksum of what follows, the length of the log (u64), the log, the CUBIN.
fn encode(compiled: &Compiled) -> Vec<u8> {
    let log = compiled.log.as_bytes();
    let content = [&(log.len() as u64).to_le_bytes(), log, &compiled.cubin].concat();
    [FORMAT, blake3::hash(&content).as_bytes(), &content].concat()
}

fn decode(entry: &[u8]) -> Option<Compiled> {
    let (checksum, content) = entry.strip_prefix(FORMAT)?.split_at_checked(CHECKSUM)?;
    if blake3::hash(content).as_bytes() != checksum {
        return None;
    }
    let (len, rest) = content.split_at_checked(8)?;
    let (log, cubin) = rest.split_at_checked(u64::from_le_bytes(len.try_into().ok()?) as usize)?;
    Some(Compiled { log: String::from_utf8(log.to_vec()).ok()?, cubin: cubin.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_or_changed_entry_is_none() {
        let compiled = Compiled { cubin: vec![1, 2, 3, 0, 255], log: "ptxas info: zero spills".into() };
        let entry = encode(&compiled);
        assert_eq!(decode(&entry), Some(compiled));
        for len in 0..entry.len() {
            assert_eq!(decode(&entry[..len]), None, "cut to {len} bytes");
        }
        for i in 0..entry.len() {
            let mut damaged = entry.clone();
            damaged[i] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {i} changed");
        }
    }

    #[test]
    fn a_name_depends_on_every_part() {
        let options = |o: &[&str]| o.iter().map(|o| o.to_string()).collect::<Vec<_>>();
        let (one, two, other) = (options(&["-DA=1", "-DB=2"]), options(&["-DA=1-DB=2"]), options(&["-DA=1", "-DB=3"]));
        let headers: [(&str, &str); 1] = [("a.cuh", "x")];
        let key = |source, headers, options, nvrtc| Key { source, headers, options, nvrtc }.name();
        let names = [
            key("s", &headers, &one, "13.2"),
            key("t", &headers, &one, "13.2"),
            key("s", &[("a.cuh", "y")], &one, "13.2"),
            key("s", &[("b.cuh", "x")], &one, "13.2"),
            key("s", &headers, &two, "13.2"),
            key("s", &headers, &other, "13.2"),
            key("s", &headers, &one, "12.8"),
        ];
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
