//! Train, validation and test splits by a hash of the document's id. A document's split depends
//! only on its own id, so adding documents does not move existing ones.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The use that a document is assigned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Models are trained on it.
    Train,
    /// Held out of training, for choosing settings.
    Validation,
    /// Held out of training; models and merges are scored on it.
    Test,
}

impl Split {
    /// In the order of tables and reports.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        })
    }
}

/// The shares of documents that are held out, and the separator that keeps pieces of one original
/// together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitRule {
    separator: Option<String>,
    validation: f64,
    test: f64,
}

impl SplitRule {
    /// `validation` and `test` are expected shares of the documents, each at least 0, together
    /// below 1. With a `separator`, ids that agree up to its first occurrence go to the same split.
    pub fn new(separator: Option<String>, validation: f64, test: f64) -> Result<SplitRule> {
        for (name, share) in [("validation", validation), ("test", test)] {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::usage(format!("the {name} share is out of range"))
                    .expected("a number from 0 to below 1")
                    .got(share.to_string()));
            }
        }
        if validation + test >= 1.0 {
            return Err(Error::usage("validation and test leave nothing to train on")
                .expected("validation + test below 1")
                .got((validation + test).to_string()));
        }
        if separator.as_deref() == Some("") {
            return Err(Error::usage("the separator of document ids is empty")
                .fix("name the text that ends the common part, such as \"#\", or leave the separator out"));
        }
        Ok(SplitRule { separator, validation, test })
    }

    /// The split of the document `id`. Test takes the lowest hashes and validation the next, so
    /// changing the validation share does not move test documents.
    pub fn split(&self, id: &str) -> Split {
        let place = unit_hash(self.original(id));
        if place < self.test {
            Split::Test
        } else if place < self.test + self.validation {
            Split::Validation
        } else {
            Split::Train
        }
    }

    /// The part of `id` that decides: all of it, or the part before the separator.
    fn original<'a>(&self, id: &'a str) -> &'a str {
        match &self.separator {
            Some(separator) => id.split_once(separator.as_str()).map_or(id, |(original, _)| original),
            None => id,
        }
    }
}

/// A number in [0, 1), uniform over keys: the top 53 bits of the key's BLAKE3 hash, times 2^-53.
fn unit_hash(key: &str) -> f64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..8]);
    (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}
