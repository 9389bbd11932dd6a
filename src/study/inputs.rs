//! The files of a study's sources: found and hashed, and which of their documents each source takes.

use super::filter::Selection;
use super::settings::{Source, Study};
use super::store::key;
use crate::analysis::DomainKind;
use crate::engine::data::{Document, Split, SplitRule, expand, hash_files};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Raised when a change of the code changes tokens or shards.
const DATA_VERSION: u32 = 2;

/// A partition's or domain's files, and which of their documents are its own.
pub struct SourceInput {
    /// The source's name in the study file.
    pub name: String,
    /// The files found, sorted by path.
    pub files: Vec<PathBuf>,
    /// Which of their documents it takes.
    pub selection: Selection,
    /// A partition (ID), or a domain that is never trained on (OOD).
    pub kind: DomainKind,
    /// Came after what stands before it was trained.
    pub late: bool,
}

/// Every source's files, found and hashed, and the settings that shape the shards.
pub struct StudyInputs {
    /// Files of the seed's text; none where the seed is a given checkpoint.
    pub seed: Vec<PathBuf>,
    /// In the order of the study file.
    pub partitions: Vec<SourceInput>,
    /// In the order of the study file.
    pub ood: Vec<SourceInput>,
    /// Which of a partition's documents are held out.
    pub rule: SplitRule,
    /// Names the manifest: over the content of all files and the settings that shape the shards.
    pub key: String,
}

impl StudyInputs {
    /// Finds and hashes all files; a pattern that finds none, or a file that cannot be read, is an
    /// error.
    pub fn new(study: &Study) -> Result<StudyInputs> {
        let found = |files: &[String]| expand(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        let input = |s: &Source, kind: DomainKind| {
            let selection = Selection { field: study.data.year.clone(), years: s.years, only: s.only.clone() };
            // Without decontamination nothing is dropped, now or later.
            let late = s.late && study.data.decontaminate > 0;
            Ok(SourceInput { name: s.name.clone(), files: found(&s.files)?, selection, kind, late })
        };
        let named =
            |sources: &[Source], kind| sources.iter().map(|s| input(s, kind)).collect::<Result<Vec<SourceInput>>>();
        let seed = if study.seed.files.is_empty() { vec![] } else { found(&study.seed.files)? };
        let (partitions, ood) = (named(&study.partition, DomainKind::Id)?, named(&study.ood, DomainKind::Ood)?);
        let mut known = BTreeMap::new();
        let mut hashes = |inputs: &[SourceInput]| -> Result<Vec<(String, String)>> {
            let mut hash = |files: &Vec<PathBuf>| -> Result<String> {
                // Partitions by years share their files.
                if !known.contains_key(files) {
                    known.insert(files.clone(), hash_files(files)?);
                }
                Ok(known[files].clone())
            };
            inputs.iter().map(|i| Ok((i.name.clone(), hash(&i.files)?))).collect()
        };
        let tokenizer = match (&study.seed.checkpoint, &study.tokenizer) {
            (Some(directory), _) => hash_file(&directory.join("tokenizer.json"))?,
            (None, Some(t)) => match &t.file {
                Some(file) => hash_file(file)?,
                None => format!("{:?}", t.vocabulary),
            },
            (None, None) => String::new(),
        };
        let content = (hash_files(&seed)?, hashes(&partitions)?, hashes(&ood)?, tokenizer);
        let selections: Vec<(&Selection, bool)> =
            partitions.iter().chain(&ood).map(|i| (&i.selection, i.late)).collect();
        let key = key("data", DATA_VERSION, &(content, &study.data, &study.evaluation, selections));
        let rule = SplitRule::new(study.data.separator.clone(), study.data.validation, study.data.test)?;
        Ok(StudyInputs { seed, partitions, ood, rule, key })
    }

    /// Every source but the seed.
    pub fn all(&self) -> impl Iterator<Item = &SourceInput> {
        self.partitions.iter().chain(&self.ood)
    }

    /// Nothing of an OOD source is trained on, so all of it is held out and may be scored.
    pub fn split(&self, input: &SourceInput, document: &Document) -> Split {
        if input.kind == DomainKind::Ood { Split::Test } else { self.rule.split(&document.id) }
    }
}

/// Hash of one file, of any kind.
fn hash_file(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
