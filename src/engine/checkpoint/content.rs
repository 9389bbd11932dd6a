//! Content hashes of checkpoints.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// A content hash that identifies a checkpoint made elsewhere: sixteen hexadecimal digits over its
/// `.safetensors` and `.json` files.
pub fn content_key(directory: &Path) -> Result<String> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(|e| Error::io("read the directory", directory, &e))?;
    names.retain(|p| p.extension().is_some_and(|e| e == "safetensors" || e == "json"));
    names.sort();
    let mut hasher = blake3::Hasher::new();
    for path in names {
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes()).update(&[0]);
        std::fs::File::open(&path)
            .and_then(|f| hasher.update_reader(f).map(|_| ()))
            .map_err(|e| Error::io("read", &path, &e))?;
    }
    Ok(hasher.finalize().to_hex()[..16].to_string())
}
