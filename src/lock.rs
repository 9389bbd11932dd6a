//! File locks: one run at a time in a study's directory, one training at a time per checkpoint.

use crate::error::{Error, Kind, Result};
use crate::files;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Held until dropped; the operating system releases it when the process ends, however it ends.
pub struct Lock {
    _file: File,
    /// Lock file to remove with the lock.
    remove: Option<PathBuf>,
}

impl Lock {
    /// Locks the study in `root`, a directory that is created if missing.
    pub fn take(root: &Path) -> Result<Lock> {
        files::create_directory(root)?;
        let file = lock(&root.join("study.lock"), "another run is using this directory", root)?;
        Ok(Lock { _file: file, remove: None })
    }

    /// Locks the checkpoint `out` for one training: a lock file beside it, removed when the lock is
    /// released.
    pub fn beside(out: &Path) -> Result<Lock> {
        if let Some(parent) = out.parent() {
            files::create_directory(parent).map_err(|e| e.at(out))?;
        }
        let path = files::suffixed(out, ".lock");
        let file = lock(&path, "another training is writing this checkpoint", out)?;
        Ok(Lock { _file: file, remove: Some(path) })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.remove {
            // A leftover lock file does no harm.
            let _ = fs::remove_file(path);
        }
    }
}

fn lock(path: &Path, refusal: &str, place: &Path) -> Result<File> {
    let io = |e: &std::io::Error| Error::io("lock", path, e);
    loop {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(|e| io(&e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The holder's process id is only informative, so a failed read is ignored.
                let _ = file.read_to_string(&mut holder);
                return Err(Error::new(Kind::Io, refusal)
                    .at(place)
                    .got(format!("a lock held by process {}", holder.trim()))
                    .fix("wait for it, stop it, or choose another --out"));
            }
            Err(TryLockError::Error(e)) => return Err(io(&e)),
        }
        // The previous holder may have removed the file after it was opened here; then the lock is
        // on a deleted file.
        let current = fs::metadata(path).map(|m| m.ino()).ok();
        if current == Some(file.metadata().map_err(|e| io(&e))?.ino()) {
            file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(|e| io(&e))?;
            return Ok(file);
        }
    }
}
