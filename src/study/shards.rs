//! A study's shards: decontaminated training documents, and the documents that are scored. Each
//! shard is written to a temporary directory and renamed to the hash of its content.

use super::store::{Store, WRITING};
use crate::analysis::DomainKind;
use crate::engine::data::{
    Contamination, Decontaminator, Document, PartitionTable, Shard, ShardWriter, Split, Tokenizer, for_each_document,
};
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Number of documents filtered and encoded together.
const BATCH: usize = 4096;

/// A shard, named by its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardRef {
    /// The first 16 hexadecimal digits of its content's hash; its name under `shards/`.
    pub hash: String,
    /// Documents in it.
    pub documents: u64,
    /// Tokens, including EOS.
    pub tokens: u64,
    /// Bytes (UTF-8) of the documents' text.
    pub bytes: u64,
}

/// One evaluation set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Domain {
    /// The partition or OOD set that the text is from.
    pub name: String,
    /// ID: held-out text of a partition. OOD: a set that is never trained on.
    pub kind: DomainKind,
    /// The documents that are scored.
    pub shard: ShardRef,
}

/// A training document dropped by decontamination, or a held-out document that is not scored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dropped {
    /// The partition, or `seed`.
    pub partition: String,
    /// The text shared with an evaluation document.
    #[serde(flatten)]
    pub why: Contamination,
}

/// Decontamination counts of one partition's training documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cleaned {
    /// The partition, or `seed`.
    pub partition: String,
    /// Documents before decontamination.
    pub documents: u64,
    /// Documents dropped.
    pub dropped_documents: u64,
    /// Bytes (UTF-8) of the text dropped.
    pub dropped_bytes: u64,
}

/// The documents of a domain with the lowest hashes of ids. Adding documents thus leaves the choice
/// among the existing ones in the same order.
pub struct Candidates {
    /// The domain's name.
    pub name: String,
    /// ID: held-out text of a partition. OOD: a set that is never trained on.
    pub kind: DomainKind,
    most: usize,
    /// By hash of the id, id, and hash of the text, since two documents may have the same id.
    by_hash: BTreeMap<([u8; 32], String, [u8; 32]), Document>,
}

impl Candidates {
    /// No candidates yet; at most `most` are kept.
    pub fn new(name: &str, kind: DomainKind, most: usize) -> Candidates {
        Candidates { name: name.to_string(), kind, most, by_hash: BTreeMap::new() }
    }
    /// Keeps the document unless `most` others have lower hashes.
    pub fn offer(&mut self, document: Document) {
        let hash = *blake3::hash(document.id.as_bytes()).as_bytes();
        let text = *blake3::hash(document.text.as_bytes()).as_bytes();
        self.by_hash.insert((hash, document.id.clone(), text), document);
        if self.by_hash.len() > self.most {
            self.by_hash.pop_last();
        }
    }
}

/// Writes shards and keeps count.
pub struct Writer<'a> {
    store: &'a Store,
    decontaminator: Option<Decontaminator>,
    /// Sizes of the shards written so far.
    pub table: PartitionTable,
    /// Decontamination counts of each source's training documents.
    pub cleaned: Vec<Cleaned>,
    /// Every training document dropped, with the reason.
    pub dropped: Vec<Dropped>,
}

impl<'a> Writer<'a> {
    /// Writes into `store`; without a decontaminator every document is clean.
    pub fn new(store: &'a Store, decontaminator: Option<Decontaminator>) -> Writer<'a> {
        Writer { store, decontaminator, table: PartitionTable::default(), cleaned: vec![], dropped: vec![] }
    }

    /// Whether a training document shares no text with evaluation documents.
    pub fn is_clean(&self, document: &Document) -> bool {
        self.decontaminator.as_ref().is_none_or(|d| d.check(document).is_none())
    }

    /// Removes training documents that share text with this held-out document from all shards
    /// written from now on.
    pub fn protect(&mut self, domain: &str, document: &Document) {
        if let Some(d) = &mut self.decontaminator {
            d.add(domain, document);
        }
    }

    /// Writes the shard of the documents that `wanted` accepts; for training, only those that share
    /// no text with evaluation documents.
    pub fn training_shard(
        &mut self,
        name: &str,
        files: &[PathBuf],
        tokenizer: &Tokenizer,
        wanted: impl Fn(&Document) -> bool,
        split: Split,
    ) -> Result<ShardRef> {
        let (decontaminator, dropped) = (&self.decontaminator, &mut self.dropped);
        let decontaminator = decontaminator.as_ref().filter(|_| split == Split::Train);
        let partition = name.to_string();
        let mut cleaned = Cleaned { partition, documents: 0, dropped_documents: 0, dropped_bytes: 0 };
        let shard = self.store.write_shard(name, tokenizer, |shard| {
            let mut batch = Vec::new();
            let mut flush = |batch: &mut Vec<Document>| -> Result<()> {
                let documents = std::mem::take(batch);
                let bytes = |documents: &[Document]| documents.iter().map(|d| d.text.len() as u64).sum::<u64>();
                let before = bytes(&documents);
                cleaned.documents += documents.len() as u64;
                let (kept, left_out) = match decontaminator {
                    Some(d) => d.filter(documents),
                    None => (documents, vec![]),
                };
                cleaned.dropped_documents += left_out.len() as u64;
                cleaned.dropped_bytes += before - bytes(&kept);
                dropped.extend(left_out.into_iter().map(|why| Dropped { partition: name.to_string(), why }));
                kept.into_iter().try_for_each(|document| shard.add(document))
            };
            for_each_document(files, |document| {
                if wanted(&document) {
                    batch.push(document);
                }
                if batch.len() >= BATCH { flush(&mut batch) } else { Ok(()) }
            })?;
            flush(&mut batch)?;
            if cleaned.documents == cleaned.dropped_documents {
                let error = Error::input(format!("`{name}` has no {split} documents"))
                    .expected("at least one document after the split and decontamination");
                return Err(match cleaned.dropped_documents {
                    0 => error.fix("add documents, change `data.validation` and `data.test`, or leave it out"),
                    n => error
                        .got(format!("{n} documents, all dropped because they share text with evaluation documents"))
                        .fix("remove the shared text from one of the two sources, or leave it out"),
                });
            }
            Ok(())
        })?;
        self.table.add(name, split, shard.info());
        if split == Split::Train {
            self.cleaned.push(cleaned);
        }
        Ok(shard_ref(&shard))
    }

    /// Writes the shard of a domain: whole documents until they contain `tokens` tokens.
    pub fn domain(&mut self, candidates: Candidates, tokens: u64, tokenizer: &Tokenizer) -> Result<Domain> {
        let name = candidates.name;
        if candidates.by_hash.is_empty() {
            return Err(Error::input(format!("`{name}` has no documents to score"))
                .expected("at least one held-out document")
                .fix("add documents, or raise `data.test`"));
        }
        let shard = self.store.write_shard(&name, tokenizer, |shard| {
            let mut taken = 0;
            for document in candidates.by_hash.into_values() {
                if taken >= tokens {
                    break;
                }
                let encoded = tokenizer.encode(&document.text)?;
                taken += encoded.len() as u64;
                shard.add_tokens(&encoded, document.text.len() as u64)?;
            }
            if taken == 0 {
                return Err(Error::input(format!("`{name}` has no text to score"))
                    .got("held-out documents whose `text` is empty")
                    .fix("check its files"));
            }
            Ok(())
        })?;
        self.table.add(&name, Split::Test, shard.info());
        Ok(Domain { name, kind: candidates.kind, shard: shard_ref(&shard) })
    }
}

impl Store {
    /// Writes a shard and names it by its content.
    fn write_shard(
        &self,
        name: &str,
        tokenizer: &Tokenizer,
        fill: impl FnOnce(&mut ShardWriter) -> Result<()>,
    ) -> Result<Shard> {
        let temporary = self.shards().join(format!("{WRITING}{}", std::process::id()));
        let shard =
            Shard::write(&temporary, tokenizer, fill).map_err(|e| if e.has_place() { e } else { e.at(name) })?;
        let path = self.shard(&shard_ref(&shard).hash);
        drop(shard);
        if path.exists() {
            files::remove_directory(&temporary)?;
        } else {
            std::fs::rename(&temporary, &path).map_err(|e| Error::io("rename a shard to", &path, &e))?;
        }
        Shard::open(&path)
    }
}

fn shard_ref(shard: &Shard) -> ShardRef {
    let info = shard.info();
    let hash = info.content[..16.min(info.content.len())].to_string();
    ShardRef { hash, documents: info.documents, tokens: info.tokens, bytes: info.bytes }
}
