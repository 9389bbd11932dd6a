//! Partitions by time or by any other metadata: which documents of its files a partition or domain takes.

use crate::engine::data::{Document, for_each_document};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Which documents of its files a partition or domain takes: those that meet all conditions.
#[derive(Debug, Clone, Serialize)]
pub struct Selection {
    /// The field of the metadata that holds a document's year or date.
    pub field: String,
    /// First and last year.
    pub years: Option<[i64; 2]>,
    /// Values that the metadata must have.
    pub only: BTreeMap<String, serde_json::Value>,
}

/// What a selection took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Selected {
    /// The partition or domain
    pub name: String,
    /// Documents of its files.
    pub documents: u64,
    /// Those of them that it takes.
    pub taken: u64,
    /// Left out for want of a year.
    pub without_year: u64,
}

impl Selection {
    /// Whether there is no condition, so that every document is taken.
    pub fn takes_all(&self) -> bool {
        self.years.is_none() && self.only.is_empty()
    }

    /// A document without a year is in no range of years.
    pub fn takes(&self, document: &Document) -> bool {
        let year = |[from, to]: [i64; 2]| document.year(&self.field).is_some_and(|year| (from..=to).contains(&year));
        self.years.is_none_or(year) && self.only.iter().all(|(key, value)| document.matches(key, value))
    }

    /// Reads `files` and counts what is taken for the source `name`; nothing at all is an error.
    pub fn count(&self, name: &str, files: &[PathBuf]) -> Result<Selected> {
        let mut selected = Selected { name: name.into(), documents: 0, taken: 0, without_year: 0 };
        for_each_document(files, |document| {
            selected.documents += 1;
            selected.taken += u64::from(self.takes(&document));
            selected.without_year += u64::from(self.years.is_some() && document.year(&self.field).is_none());
            Ok(())
        })?;
        if selected.taken == 0 {
            return Err(Error::input(format!("`{name}` takes none of its files' {} documents", selected.documents))
                .expected("a document with the metadata that `years` and `where` ask for")
                .got(format!("{} without a year in `{}`", selected.without_year, self.field))
                .fix("correct `years`, `where`, or `data.year`, the field that holds a document's year"));
        }
        Ok(selected)
    }
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of its files' {} documents", self.name, self.taken, self.documents)?;
        if self.without_year > 0 { write!(f, ", {} have no year", self.without_year) } else { Ok(()) }
    }
}
