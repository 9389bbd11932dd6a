//! Atomic writes: to a temporary file, flushed to disk, then renamed, so a file is complete or
//! absent. Stockpot writes all its output this way.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Calls `write` on a buffered temporary file beside `path`, flushes the file and renames it into
/// place.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let temporary = temporary_path(path);
    let attempt = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(&temporary)?);
        write(&mut file)?;
        file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(path.parent())
    };
    attempt().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, &e)
    })
}

/// Calls `fill` on a temporary directory beside `path`, flushes every file in it and renames it
/// into place. An existing `path` is replaced only once the new directory is complete.
pub fn write_directory_atomic(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = temporary_path(path);
    let io = |e: std::io::Error| Error::io("write the directory", path, &e);
    remove_directory(&temporary)?;
    fs::create_dir_all(&temporary).map_err(io)?;
    let filled = fill(&temporary).and_then(|()| {
        for entry in fs::read_dir(&temporary).map_err(io)? {
            File::open(entry.map_err(io)?.path()).and_then(|f| f.sync_all()).map_err(io)?;
        }
        sync_directory(Some(&temporary)).map_err(io)?;
        if path.exists() {
            // A directory cannot be renamed over a non-empty one, so the old one is renamed first.
            // If the process is killed between the two renames, `recover_directory` restores it.
            let old = suffixed(path, ".old");
            remove_directory(&old)?;
            fs::rename(path, &old).map_err(io)?;
            fs::rename(&temporary, path).map_err(io)?;
            remove_directory(&old)?;
        } else {
            fs::rename(&temporary, path).map_err(io)?;
        }
        sync_directory(path.parent()).map_err(io)
    });
    if filled.is_err() {
        let _ = fs::remove_dir_all(&temporary);
    }
    filled
}

/// Undoes a replacement that was killed between its two renames (see [`write_directory_atomic`]).
pub fn recover_directory(path: &Path) -> Result<()> {
    let old = suffixed(path, ".old");
    if !old.exists() {
        return Ok(());
    }
    if path.exists() {
        return remove_directory(&old);
    }
    fs::rename(&old, path).map_err(|e| Error::io("restore the directory", path, &e))
}

/// Removes a directory with its contents. No error if it does not exist or its parent is a file.
pub fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        // If the parent is a file there is nothing to remove; the next write to this path reports
        // it.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(e) => Err(Error::io("remove", path, &e)),
        Ok(()) => Ok(()),
    }
}

/// Creates a directory and its missing parents; no error if it exists.
pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io("create the directory", path, &e))
}

/// A whole file, which must be UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))
}

fn sync_directory(path: Option<&Path>) -> std::io::Result<()> {
    match path {
        Some(p) if !p.as_os_str().is_empty() => File::open(p)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Removes temporary files and directories that killed processes left in `directory`, if `of`
/// accepts their final name. The caller holds the lock that excludes other writers of these names.
pub fn remove_abandoned(directory: &Path, of: impl Fn(&str) -> bool) -> Result<()> {
    for name in names_in(directory)? {
        let stem = name.strip_suffix(".tmp").and_then(|s| s.rsplit_once('.'));
        if stem.is_some_and(|(stem, id)| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && of(stem)) {
            remove(&directory.join(&name))?;
        }
    }
    Ok(())
}

/// The sorted names in `directory`, except those that are not UTF-8, which Stockpot never writes.
pub fn names_in(directory: &Path) -> Result<Vec<String>> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>();
    let names = read().map_err(|e| Error::io("list", directory, &e))?;
    let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Removes a file or a directory.
fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => remove_directory(path),
        Ok(_) => fs::remove_file(path).map_err(|e| Error::io("remove", path, &e)),
        Err(e) => Err(Error::io("remove", path, &e)),
    }
}

/// The temporary path for `path`, unique per process. Files left by a killed process are removed by
/// [`remove_abandoned`].
fn temporary_path(path: &Path) -> PathBuf {
    suffixed(path, &format!(".{}.tmp", std::process::id()))
}

/// `path` with `suffix` at the end of its name.
pub fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}
