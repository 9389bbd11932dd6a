//! One run at a time in a study's directory.

use crate::error::{Error, Kind, Result};
use crate::files;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

/// Held while it lives; the operating system lets go of it when the process ends, however it ends.
pub struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(root: &Path) -> Result<Lock> {
        files::create_directory(root)?;
        let path = root.join("study.lock");
        let io = |e: &std::io::Error| Error::io("lock", &path, e);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| io(&e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy; the refusal stands without it.
                let _ = file.read_to_string(&mut holder);
                return Err(Error::new(Kind::Io, "another run works in this directory")
                    .at(root)
                    .got(format!("a lock held by process {}", holder.trim()))
                    .fix("wait for it, stop it, or choose another --out"));
            }
            Err(TryLockError::Error(e)) => return Err(io(&e)),
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(|e| io(&e))?;
        Ok(Lock { _file: file })
    }
}
