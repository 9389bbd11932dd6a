//! Filters by year or other metadata: the documents that a partition or domain takes from its
//! files.

use crate::engine::data::{Document, for_each_document};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The documents that a partition or domain takes from its files: those that meet all conditions.
#[derive(Debug, Clone, Serialize)]
pub struct Selection {
    /// The metadata field with a document's year or date.
    pub field: String,
    /// First and last year.
    pub years: Option<[i64; 2]>,
    /// Required values of metadata fields.
    pub only: BTreeMap<String, serde_json::Value>,
}

/// Counts of a selection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Selected {
    /// The partition or domain.
    pub name: String,
    /// Documents in its files.
    pub documents: u64,
    /// Documents selected.
    pub taken: u64,
    /// Documents left out because they have no year.
    pub without_year: u64,
}

impl Selection {
    /// Whether there is no condition, so every document is taken.
    pub fn takes_all(&self) -> bool {
        self.years.is_none() && self.only.is_empty()
    }

    /// Whether the document meets all conditions. A document without a year is in no range of
    /// years.
    pub fn takes(&self, document: &Document) -> bool {
        let year = |[from, to]: [i64; 2]| document.year(&self.field).is_some_and(|year| (from..=to).contains(&year));
        self.years.is_none_or(year) && self.only.iter().all(|(key, value)| document.matches(key, value))
    }

    /// Reads `files` and counts the documents taken for the source `name`; taking none is an error.
    pub fn count(&self, name: &str, files: &[PathBuf]) -> Result<Selected> {
        let mut selected = Selected { name: name.into(), documents: 0, taken: 0, without_year: 0 };
        for_each_document(files, |document| {
            selected.documents += 1;
            selected.taken += u64::from(self.takes(&document));
            selected.without_year += u64::from(self.years.is_some() && document.year(&self.field).is_none());
            Ok(())
        })?;
        if selected.taken == 0 {
            return Err(Error::input(format!(
                "`{name}` selects none of the {} documents in its files",
                selected.documents
            ))
            .expected("a document that meets `years` and `where`")
            .got(format!("{} without a year in `{}`", selected.without_year, self.field))
            .fix("correct `years`, `where` or `data.year` (the field with a document's year)"));
        }
        Ok(selected)
    }
}

impl fmt::Display for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of the {} documents in its files", self.name, self.taken, self.documents)?;
        if self.without_year > 0 { write!(f, ", {} without a year", self.without_year) } else { Ok(()) }
    }
}
