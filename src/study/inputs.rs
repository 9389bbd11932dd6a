//! The files of a study's sources, found and hashed, and each source's selection of documents.

use super::filter::Selection;
use super::settings::{Source, Study};
use super::store::key;
use crate::analysis::DomainKind;
use crate::engine::data::{Document, Split, SplitRule, expand, hash_files};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Incremented when a code change alters tokens or shards.
const DATA_VERSION: u32 = 2;

/// The files of a partition or domain and its selection of their documents.
pub struct SourceInput {
    /// The source's name in the study file.
    pub name: String,
    /// The files found, sorted by path.
    pub files: Vec<PathBuf>,
    /// The documents that it takes from them.
    pub selection: Selection,
    /// A partition (ID), or a domain that is never trained on (OOD).
    pub kind: DomainKind,
    /// Added after the earlier sources were trained on.
    pub late: bool,
}

/// Every source's files, found and hashed, and the settings that shape the shards.
pub struct StudyInputs {
    /// Files of the seed's text; empty if the seed is a given checkpoint.
    pub seed: Vec<PathBuf>,
    /// In the order of the study file.
    pub partitions: Vec<SourceInput>,
    /// In the order of the study file.
    pub ood: Vec<SourceInput>,
    /// The rule that holds out a partition's documents.
    pub rule: SplitRule,
    /// Hash of the content of all files and the settings that shape the shards; names the manifest.
    pub key: String,
}

impl StudyInputs {
    /// Finds and hashes all files. A pattern without files, or a file that cannot be read, is an
    /// error.
    pub fn new(study: &Study) -> Result<StudyInputs> {
        let found = |files: &[String]| expand(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        let input = |s: &Source, kind: DomainKind| {
            let selection = Selection { field: study.data.year.clone(), years: s.years, only: s.only.clone() };
            // Without decontamination nothing is dropped, so `late` has no effect.
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
                // Partitions by year share their files.
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

    /// Every source except the seed.
    pub fn all(&self) -> impl Iterator<Item = &SourceInput> {
        self.partitions.iter().chain(&self.ood)
    }

    /// The split of a document. OOD sources are never trained on, so all their documents are held
    /// out and may be scored.
    pub fn split(&self, input: &SourceInput, document: &Document) -> Split {
        if input.kind == DomainKind::Ood { Split::Test } else { self.rule.split(&document.id) }
    }
}

/// Hash of one file of any kind.
fn hash_file(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
