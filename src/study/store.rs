//! A study's directory: paths of results, the keys that name them, and removal of what killed runs
//! left.

use crate::engine::train;
use crate::error::Result;
use crate::files;
use serde::Serialize;
use std::path::PathBuf;

/// Hash of the stage's name, its version and its inputs: sixteen hexadecimal digits.
pub fn key(stage: &str, version: u32, inputs: &impl Serialize) -> String {
    let json = serde_json::to_vec(inputs).expect("inputs are plain structs");
    let mut hasher = blake3::Hasher::new();
    hasher.update(stage.as_bytes()).update(&[0]).update(&version.to_le_bytes()).update(&json);
    hasher.finalize().to_hex()[..16].to_string()
}

/// A study's directory.
#[derive(Debug, Clone)]
pub struct Store {
    /// Its path.
    pub root: PathBuf,
}

impl Store {
    /// The directory of manifests, `<key>.json` each.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }
    /// The directory of shards.
    pub fn shards(&self) -> PathBuf {
        self.root.join("shards")
    }
    /// A shard's directory, by the hash of its content.
    pub fn shard(&self, hash: &str) -> PathBuf {
        self.shards().join(hash)
    }
    /// A tokenizer's file, by its hash.
    pub fn tokenizer(&self, hash: &str) -> PathBuf {
        self.root.join("tokenizers").join(format!("{hash}.json"))
    }
    /// The directory of checkpoints, including those of unfinished trainings.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }
    /// The checkpoint directory of a training; it exists once the training is finished.
    pub fn model(&self, key: &str) -> PathBuf {
        self.models().join(key)
    }
    /// The directory of scores.
    pub fn scores(&self) -> PathBuf {
        self.root.join("scores")
    }
    /// The file of one model's score on one domain.
    pub fn score(&self, key: &str) -> PathBuf {
        self.scores().join(format!("{key}.json"))
    }
    /// The file of one merge's losses and gradients.
    pub fn gradient(&self, key: &str) -> PathBuf {
        self.root.join("gradients").join(format!("{key}.json"))
    }
    /// The file of times; see `clock.rs`.
    pub fn clock(&self) -> PathBuf {
        self.root.join("clock.jsonl")
    }
    /// The directory of training metrics for TensorBoard.
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }
    /// The file of results that existed when a study was first run; see `history.rs`.
    pub fn history(&self) -> PathBuf {
        self.root.join("history.json")
    }
    /// The kind of device that the last run here used, in one or two words; `cpu` if there was no
    /// run.
    pub fn device(&self) -> Result<String> {
        let path = self.device_path();
        if path.exists() { Ok(files::read_to_string(&path)?.trim().to_string()) } else { Ok("cpu".into()) }
    }
    /// Records the kind of device that is used from now on.
    pub fn set_device(&self, name: &str) -> Result<()> {
        files::write_atomic(&self.device_path(), |f| writeln!(f, "{name}"))
    }
    fn device_path(&self) -> PathBuf {
        self.root.join("device")
    }
    /// The directories that a run creates.
    pub fn directories(&self) -> [PathBuf; 6] {
        ["data", "shards", "tokenizers", "models", "scores", "gradients"].map(|d| self.root.join(d))
    }

    /// Removes what killed runs left, so that a study ends with the same files however often it was
    /// killed. Called with the study's lock held. Partial checkpoints of unfinished trainings are
    /// kept: a run resumes from them, with these settings or with earlier ones that the user may
    /// restore.
    pub fn remove_leftovers(&self) -> Result<()> {
        let report = [self.root.clone(), self.root.join("plots")];
        let mut curves = Vec::new();
        if self.tensorboard().exists() {
            curves.extend(files::names_in(&self.tensorboard())?.iter().map(|name| self.tensorboard().join(name)));
        }
        for directory in self.directories().iter().chain(&report).chain(&curves).filter(|d| d.is_dir()) {
            files::remove_abandoned(directory, |_| true)?;
        }
        let shards = self.shards();
        for name in files::names_in(&shards)?.iter().filter(|name| name.starts_with(WRITING)) {
            files::remove_directory(&shards.join(name))?;
        }
        let models = self.models();
        for name in files::names_in(&models)?.iter().filter_map(|name| name.strip_suffix(".old")) {
            files::recover_directory(&models.join(name))?;
        }
        for name in files::names_in(&models)? {
            let model = models.join(&name);
            // Killed between the finished checkpoint and the removal of the last partial one.
            if train::partial_path(&model).exists() {
                files::remove_directory(&train::partial_path(&model))?;
            }
        }
        Ok(())
    }
}

/// Prefix of a shard's temporary name, used until its content, and so its name, is known.
pub const WRITING: &str = "writing.";
