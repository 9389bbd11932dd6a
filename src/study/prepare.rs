//! From documents to shards: reads every source, splits the partitions, protects the evaluation documents, trains or
//! loads the tokenizer, and writes what trainings and scores read. The result is one manifest, named by the content of
//! all files and the settings; shards are named by their own content, so text that did not change keeps its shard.

use super::leftovers::WRITING;
use super::progress::Progress;
use super::settings::{Source, Study};
use super::stages::{self, Layout};
use crate::checkpoint;
use crate::data::{
    Contamination, Decontaminator, Document, PartitionTable, Shard, Split, SplitRule, Tokenizer, expand,
    for_each_document, hash_files, windows_in,
};
use crate::error::{Error, Result};
use crate::files;
use crate::model::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Raised when a change of the code changes tokens or shards.
const VERSION: u32 = 1;

/// Text of the seed that the tokenizer is trained on, at most: the first of it.
const TOKENIZER_BYTES: usize = 256 << 20;

/// Documents filtered and encoded together.
const BATCH: usize = 4096;

/// A shard by its content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardRef {
    pub hash: String,
    pub documents: u64,
    /// EOS tokens included.
    pub tokens: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Partition {
    pub name: String,
    pub train: ShardRef,
    pub validation: Option<ShardRef>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainKind {
    /// Held-out documents of a partition.
    Id,
    /// Text that is never trained on.
    Ood,
}

/// One evaluation set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Domain {
    pub name: String,
    pub kind: DomainKind,
    pub shard: ShardRef,
}

/// A training document that was left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dropped {
    /// The partition, or `seed`.
    pub partition: String,
    #[serde(flatten)]
    pub why: Contamination,
}

/// What decontamination left of one partition's training documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cleaned {
    /// The partition, or `seed`.
    pub partition: String,
    /// Before.
    pub documents: u64,
    pub dropped_documents: u64,
    pub dropped_bytes: u64,
}

/// The manifest on the disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    tokenizer: String,
    vocabulary: usize,
    eos: u32,
    seed: Option<ShardRef>,
    partitions: Vec<Partition>,
    domains: Vec<Domain>,
    table: PartitionTable,
    cleaned: Vec<Cleaned>,
    dropped: Vec<Dropped>,
}

/// What trainings and scores start from.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Name of the manifest.
    pub key: String,
    /// Hash of the tokenizer, and its name under `tokenizers/`.
    pub tokenizer: String,
    pub config: Config,
    /// Key of the given seed checkpoint.
    pub checkpoint: Option<String>,
    pub seed: Option<ShardRef>,
    pub partitions: Vec<Partition>,
    pub domains: Vec<Domain>,
    pub table: PartitionTable,
    pub cleaned: Vec<Cleaned>,
    pub dropped: Vec<Dropped>,
}

impl Prepared {
    pub fn partition(&self, name: &str) -> Result<&Partition> {
        let found = self.partitions.iter().find(|p| p.name == name);
        found.ok_or_else(|| Error::usage(format!("the study has no partition `{name}`")))
    }

    /// Tokens scored per model.
    pub fn scored_tokens(&self) -> u64 {
        self.domains.iter().map(|d| d.shard.tokens - d.shard.documents).sum()
    }

    /// The table of partitions and what was left out, for the terminal.
    pub fn summary(&self) -> String {
        let dropped = self.cleaned.iter().filter(|c| c.dropped_documents > 0);
        let each: Vec<String> =
            dropped.map(|c| format!("{} {} of {}", c.partition, c.dropped_documents, c.documents)).collect();
        let each = if each.is_empty() { "none".to_string() } else { each.join(", ") };
        format!("{}training documents dropped for sharing text with an evaluation document: {each}", self.table)
    }
}

/// Every source's files, found and hashed, and the settings that shape the shards.
struct Inputs {
    seed: Vec<PathBuf>,
    partitions: Vec<(String, Vec<PathBuf>)>,
    ood: Vec<(String, Vec<PathBuf>)>,
    rule: SplitRule,
    key: String,
}

impl Inputs {
    fn new(study: &Study) -> Result<Inputs> {
        let found = |files: &[String]| expand(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        let named = |sources: &[Source]| -> Result<Vec<(String, Vec<PathBuf>)>> {
            sources.iter().map(|s| Ok((s.name.clone(), found(&s.files)?))).collect()
        };
        let seed = if study.seed.files.is_empty() { vec![] } else { found(&study.seed.files)? };
        let (partitions, ood) = (named(&study.partition)?, named(&study.ood)?);
        let hashes = |sources: &[(String, Vec<PathBuf>)]| -> Result<Vec<(String, String)>> {
            sources.iter().map(|(name, files)| Ok((name.clone(), hash_files(files)?))).collect()
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
        let key = stages::key("data", VERSION, &(content, &study.data, &study.evaluation));
        let rule = SplitRule::new(study.data.separator.clone(), study.data.validation, study.data.test)?;
        Ok(Inputs { seed, partitions, ood, rule, key })
    }
}

/// Hash of one file, of any kind.
fn hash_file(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

/// The manifest of the study's present files and settings, if it has been made.
pub fn find(study: &Study, layout: &Layout) -> Result<Option<Prepared>> {
    found(study, layout, &Inputs::new(study)?.key)
}

fn found(study: &Study, layout: &Layout, key: &str) -> Result<Option<Prepared>> {
    let path = manifest_path(layout, key);
    if !path.exists() {
        return Ok(None);
    }
    let parsed = serde_json::from_str(&files::read_to_string(&path)?);
    let manifest: Manifest = parsed
        .map_err(|e| Error::input(format!("not a manifest: {e}")).at(&path).fix("remove this file and run again"))?;
    with_model(study, key, manifest).map(Some)
}

fn manifest_path(layout: &Layout, key: &str) -> PathBuf {
    layout.data().join(format!("{key}.json"))
}

/// Makes the manifest and its shards, or finds them.
pub fn prepare(study: &Study, layout: &Layout, progress: &Progress) -> Result<Prepared> {
    let inputs = Inputs::new(study)?;
    if let Some(prepared) = found(study, layout, &inputs.key)? {
        // Batch and context are not in the manifest's name: they may be others than when it was made.
        check_budgets(study, &prepared, progress)?;
        return Ok(prepared);
    }
    let sources = 1 + inputs.partitions.len() + inputs.ood.len();
    let task = progress.task("tokens", 2 * sources as u64);
    let mut step = 0;
    let mut tell = |what: &str| {
        task.update(step, what);
        step += 1;
    };

    let mut decontaminator =
        (study.data.decontaminate > 0).then(|| Decontaminator::new(study.data.decontaminate)).transpose()?;
    let mut candidates: Vec<Candidates> = Vec::new();
    for (kind, sources) in [(DomainKind::Id, &inputs.partitions), (DomainKind::Ood, &inputs.ood)] {
        for (name, files) in sources {
            tell(name);
            let mut domain = Candidates::new(name, kind, study.evaluation.documents);
            for_each_document(files, |document| {
                let held_out = kind == DomainKind::Ood || inputs.rule.split(&document.id) != Split::Train;
                if let (true, Some(d)) = (held_out, &mut decontaminator) {
                    d.add(name, &document);
                }
                if kind == DomainKind::Ood || inputs.rule.split(&document.id) == Split::Test {
                    domain.offer(document);
                }
                Ok(())
            })?;
            candidates.push(domain);
        }
    }
    let mut writer =
        Writer { layout, decontaminator, table: PartitionTable::default(), cleaned: vec![], dropped: vec![] };
    tell("tokenizer");
    let tokenizer = tokenizer(study, &inputs, &mut writer)?;
    tokenizer.save(&layout.root.join("tokenizers").join(format!("{}.json", tokenizer.hash())))?;
    tell("seed");
    let seed = match inputs.seed.is_empty() {
        true => None,
        false => Some(writer.training_shard("seed", &inputs.seed, &tokenizer, |_| true, Split::Train)?),
    };
    let (rule, mut partitions) = (&inputs.rule, Vec::new());
    for (name, files) in &inputs.partitions {
        tell(name);
        let is = |split| move |d: &Document| rule.split(&d.id) == split;
        let train = writer.training_shard(name, files, &tokenizer, is(Split::Train), Split::Train)?;
        let validation = match study.data.validation > 0.0 {
            true => Some(writer.training_shard(name, files, &tokenizer, is(Split::Validation), Split::Validation)?),
            false => None,
        };
        partitions.push(Partition { name: name.clone(), train, validation });
    }
    let mut domains = Vec::new();
    for domain in candidates {
        tell(&domain.name);
        domains.push(writer.domain(domain, study.evaluation.tokens, &tokenizer)?);
    }
    let Writer { table, cleaned, dropped, .. } = writer;
    let manifest = Manifest {
        tokenizer: tokenizer.hash(),
        vocabulary: tokenizer.vocabulary(),
        eos: tokenizer.eos(),
        seed,
        partitions,
        domains,
        table,
        cleaned,
        dropped,
    };
    let json = serde_json::to_vec_pretty(&manifest).expect("a struct of strings and numbers");
    let prepared = with_model(study, &inputs.key, manifest)?;
    check_budgets(study, &prepared, progress)?;
    files::write_atomic(&manifest_path(layout, &inputs.key), |f| f.write_all(&json))?;
    task.finish("documents read, split, cleaned of evaluation text and encoded");
    Ok(prepared)
}

fn with_model(study: &Study, key: &str, m: Manifest) -> Result<Prepared> {
    let (config, checkpoint) = match &study.seed.checkpoint {
        Some(directory) => {
            let config = checkpoint_config(study, directory)?;
            if m.vocabulary > config.vocabulary {
                return Err(Error::input("the tokenizer has more tokens than the seed model")
                    .at(directory)
                    .expected(format!("at most {}", config.vocabulary))
                    .got(m.vocabulary.to_string()));
            }
            (config, Some(stages::checkpoint_key(directory)?))
        }
        None => (study.model_and_tokenizer()?.0.config(m.vocabulary, m.eos)?, None),
    };
    Ok(Prepared {
        key: key.to_string(),
        tokenizer: m.tokenizer,
        config,
        checkpoint,
        seed: m.seed,
        partitions: m.partitions,
        domains: m.domains,
        table: m.table,
        cleaned: m.cleaned,
        dropped: m.dropped,
    })
}

/// The model of a given seed checkpoint, at the study's context length.
pub fn checkpoint_config(study: &Study, directory: &Path) -> Result<Config> {
    let mut config = checkpoint::read_config(&directory.join("config.json"))?;
    if let Some(context) = study.seed.context {
        if context == 0 || context > config.context {
            return Err(Error::usage("`seed.context` is out of range")
                .expected(format!("between 1 and the checkpoint's {}", config.context))
                .got(context.to_string()));
        }
        config.context = context;
    }
    Ok(config)
}

/// The tokenizer of the study: the seed checkpoint's, a given file, or one trained on the seed's text.
fn tokenizer(study: &Study, inputs: &Inputs, writer: &mut Writer) -> Result<Tokenizer> {
    if let Some(directory) = &study.seed.checkpoint {
        return Tokenizer::load(&directory.join("tokenizer.json"), None);
    }
    let (_, settings) = study.model_and_tokenizer()?;
    if let Some(file) = &settings.file {
        return Tokenizer::load(file, None);
    }
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for_each_document(&inputs.seed, |document| {
        if bytes < TOKENIZER_BYTES && writer.decontaminator.as_ref().is_none_or(|d| d.check(&document).is_none()) {
            bytes += document.text.len();
            texts.push(document.text);
        }
        Ok(())
    })?;
    Tokenizer::train(texts.into_iter(), settings.vocabulary.unwrap_or(0))
}

/// The documents of a domain with the lowest hashes of their ids, so that which ones are scored does not change when
/// others are added.
struct Candidates {
    name: String,
    kind: DomainKind,
    most: usize,
    /// By hash of the id, id, and hash of the text: two documents may have one id.
    by_hash: BTreeMap<([u8; 32], String, [u8; 32]), Document>,
}

impl Candidates {
    fn new(name: &str, kind: DomainKind, most: usize) -> Candidates {
        Candidates { name: name.to_string(), kind, most, by_hash: BTreeMap::new() }
    }
    fn offer(&mut self, document: Document) {
        let hash = *blake3::hash(document.id.as_bytes()).as_bytes();
        let text = *blake3::hash(document.text.as_bytes()).as_bytes();
        self.by_hash.insert((hash, document.id.clone(), text), document);
        if self.by_hash.len() > self.most {
            self.by_hash.pop_last();
        }
    }
}

/// Writes shards and keeps the books.
struct Writer<'a> {
    layout: &'a Layout,
    decontaminator: Option<Decontaminator>,
    table: PartitionTable,
    cleaned: Vec<Cleaned>,
    dropped: Vec<Dropped>,
}

impl Writer<'_> {
    /// The shard of those documents that `wanted` takes and, for training, that share nothing with evaluation.
    fn training_shard(
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
        let shard = self.layout.write_shard(name, tokenizer, |shard| {
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
                return Err(Error::input(format!("`{name}` has no {split} documents"))
                    .expected("at least one document after the split and decontamination")
                    .fix("add documents, change `data.validation` and `data.test`, or leave it out"));
            }
            Ok(())
        })?;
        self.table.add(name, split, shard.info());
        if split == Split::Train {
            self.cleaned.push(cleaned);
        }
        Ok(shard_ref(&shard))
    }

    /// The shard of a domain: whole documents until they hold `tokens` tokens.
    fn domain(&mut self, candidates: Candidates, tokens: u64, tokenizer: &Tokenizer) -> Result<Domain> {
        let name = candidates.name;
        if candidates.by_hash.is_empty() {
            return Err(Error::input(format!("`{name}` has no documents to score"))
                .expected("at least one held-out document")
                .fix("add documents, or raise `data.test`"));
        }
        let shard = self.layout.write_shard(&name, tokenizer, |shard| {
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

impl Layout {
    /// Writes a shard and puts it under the name of its content.
    fn write_shard(
        &self,
        name: &str,
        tokenizer: &Tokenizer,
        fill: impl FnOnce(&mut crate::data::ShardWriter) -> Result<()>,
    ) -> Result<Shard> {
        let aside = self.shards().join(format!("{WRITING}{}", std::process::id()));
        let shard = Shard::write(&aside, tokenizer, fill).map_err(|e| if e.has_place() { e } else { e.at(name) })?;
        let place = self.shard(&shard_ref(&shard));
        drop(shard);
        if place.exists() {
            files::remove_directory(&aside)?;
        } else {
            std::fs::rename(&aside, &place).map_err(|e| Error::io("rename a shard to", &place, &e))?;
        }
        Shard::open(&place)
    }
}

fn shard_ref(shard: &Shard) -> ShardRef {
    let info = shard.info();
    let hash = info.content[..16.min(info.content.len())].to_string();
    ShardRef { hash, documents: info.documents, tokens: info.tokens, bytes: info.bytes }
}

/// Refuses partitions that cannot fill a batch, and says how often text is repeated.
fn check_budgets(study: &Study, prepared: &Prepared, progress: &Progress) -> Result<()> {
    let context = prepared.config.context;
    let module = &study.module.training;
    let seed = study.seed.training.as_ref().zip(prepared.seed.as_ref()).map(|(s, shard)| ("seed", shard, s));
    let modules = prepared.partitions.iter().map(|p| (p.name.as_str(), &p.train, module));
    for (name, shard, settings) in modules.chain(seed) {
        let windows = windows_in(shard.tokens, context);
        if windows < settings.batch as u64 {
            return Err(Error::input(format!("`{name}` is smaller than one batch"))
                .expected(format!("{} windows of {context} tokens", settings.batch))
                .got(format!("{} training tokens, {windows} windows", shard.tokens))
                .fix("add documents, lower the batch or the context, or leave the partition out"));
        }
        let epochs = settings.windows() as f64 / windows as f64;
        if epochs > 1.0 {
            progress.line(&format!("{name}: its text is used {epochs:.1} times over"));
        }
    }
    Ok(())
}
