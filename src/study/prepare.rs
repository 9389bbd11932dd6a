//! Documents to shards: reads every source, splits the partitions, decontaminates training text,
//! trains or loads the tokenizer, and writes the shards that trainings and scorings read. The
//! result is one manifest, named by the content of all files and the settings. Shards are named by
//! their own content, so unchanged text keeps its shard.

use super::filter::Selected;
use super::inputs::{SourceInput, StudyInputs};
use super::late;
use super::scale::ScaleSettings;
use super::settings::{Source, Study};
use super::shards::{Candidates, Cleaned, Domain, Dropped, ShardRef, Writer};
use super::store::Store;
use crate::analysis::DomainKind;
use crate::engine::checkpoint::content_key;
use crate::engine::data::{Decontaminator, Document, PartitionTable, Split, Tokenizer, for_each_document, windows_in};
use crate::engine::model::Config;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The tokenizer is trained on at most this many bytes of seed text, from its start.
const TOKENIZER_BYTES: usize = 256 << 20;

/// The shards of one partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartitionShards {
    /// The partition.
    pub name: String,
    /// Training text, after decontamination.
    pub train: ShardRef,
    /// Validation text; `None` if `data.validation` is 0.
    pub validation: Option<ShardRef>,
}

/// The manifest: all shards of a study. Stored as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Hash of the tokenizer; its name under `tokenizers/`.
    pub tokenizer: String,
    /// Tokens of the tokenizer.
    pub vocabulary: usize,
    /// The token that ends a document.
    pub eos: u32,
    /// The seed's text; `None` if the seed is a given checkpoint.
    pub seed: Option<ShardRef>,
    /// In the order of the study file.
    pub partitions: Vec<PartitionShards>,
    /// Held-out text of the partitions, then the OOD sets.
    pub domains: Vec<Domain>,
    /// Sizes of all text by source and split.
    pub table: PartitionTable,
    /// Decontamination counts of the training documents of each partition and the seed.
    pub cleaned: Vec<Cleaned>,
    /// Every training document that decontamination dropped, with the reason.
    pub dropped: Vec<Dropped>,
    /// Held-out documents of late sources that overlap earlier training text: not scored, each with
    /// the training document that contains the text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Dropped>,
    /// Counts of the partitions and domains that take only a part of their files' documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<Selected>,
}

/// The inputs of trainings and scorings.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Name of the manifest.
    pub key: String,
    /// The small model.
    pub config: Config,
    /// Key of the given seed checkpoint.
    pub checkpoint: Option<String>,
    /// The shards and the tokenizer.
    pub manifest: Manifest,
}

impl Prepared {
    /// The inputs that can be predicted from a study's settings before any text is read. Shards are
    /// named by their source and are empty; domains have `evaluation.tokens` tokens, or none if
    /// that is not set.
    pub fn expected(study: &Study) -> Result<Prepared> {
        let shard = |name: &str, tokens: u64| ShardRef { hash: name.into(), documents: 0, tokens, bytes: 0 };
        let scored = Some(study.evaluation.tokens).filter(|bound| *bound < u64::MAX).unwrap_or(0);
        let domain = |kind| move |s: &Source| Domain { name: s.name.clone(), kind, shard: shard(&s.name, scored) };
        let partition =
            |s: &Source| PartitionShards { name: s.name.clone(), train: shard(&s.name, 0), validation: None };
        let config = study.expected_config()?;
        let manifest = Manifest {
            tokenizer: String::new(),
            vocabulary: config.vocabulary,
            eos: config.eos,
            seed: study.seed.checkpoint.is_none().then(|| shard("seed", 0)),
            partitions: study.partition.iter().map(partition).collect(),
            domains: (study.partition.iter().map(domain(DomainKind::Id)))
                .chain(study.ood.iter().map(domain(DomainKind::Ood)))
                .collect(),
            table: PartitionTable::default(),
            cleaned: vec![],
            dropped: vec![],
            left_out: vec![],
            selected: vec![],
        };
        let checkpoint = study.seed.checkpoint.as_ref().map(|_| "seed".to_string());
        Ok(Prepared { key: String::new(), config, checkpoint, manifest })
    }

    /// The shards of a partition; an error if the study has no partition of this name.
    pub fn partition(&self, name: &str) -> Result<&PartitionShards> {
        let found = self.manifest.partitions.iter().find(|p| p.name == name);
        found.ok_or_else(|| Error::usage(format!("the study has no partition `{name}`")))
    }

    /// Tokens scored per model.
    pub fn scored_tokens(&self) -> u64 {
        let tokens = self.manifest.domains.iter().map(|d| d.shard.tokens - d.shard.documents);
        tokens.fold(0, u64::saturating_add)
    }

    /// Number of held-out documents of each late source that are not scored.
    pub fn left_out(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        self.manifest.left_out.iter().for_each(|l| *counts.entry(l.why.domain.clone()).or_default() += 1);
        counts
    }

    /// The table of partitions and the documents left out, for the terminal.
    pub fn summary(&self) -> String {
        let dropped = self.manifest.cleaned.iter().filter(|c| c.dropped_documents > 0);
        let each: Vec<String> =
            dropped.map(|c| format!("{} {} of {}", c.partition, c.dropped_documents, c.documents)).collect();
        let each = if each.is_empty() { "none".to_string() } else { each.join(", ") };
        let table = &self.manifest.table;
        let selected: String = self.manifest.selected.iter().map(|s| format!("{s}\n")).collect();
        let left_out: Vec<String> = self.left_out().iter().map(|(name, count)| format!("{name} {count}")).collect();
        let left_out = match left_out.is_empty() {
            true => String::new(),
            false => format!(
                "held-out documents not scored because earlier training text overlaps them: {}\n",
                left_out.join(", ")
            ),
        };
        format!(
            "{table}{selected}{left_out}training documents dropped because they share text with an evaluation \
             document: {each}\n\
             (each with its reason in data/{}.json)",
            self.key
        )
    }
}

/// The manifest of the study's current files and settings, if it exists.
pub fn find(study: &Study, store: &Store) -> Result<Option<Prepared>> {
    existing_manifest(study, store, &StudyInputs::new(study)?.key)
}

fn existing_manifest(study: &Study, store: &Store, key: &str) -> Result<Option<Prepared>> {
    let path = manifest_path(store, key);
    if !path.exists() {
        return Ok(None);
    }
    let parsed = serde_json::from_str(&files::read_to_string(&path)?);
    let manifest: Manifest = parsed
        .map_err(|e| Error::input(format!("not a manifest: {e}")).at(&path).fix("remove this file and run again"))?;
    with_model(study, key, manifest).map(Some)
}

fn manifest_path(store: &Store, key: &str) -> PathBuf {
    store.data().join(format!("{key}.json"))
}

/// Finds the manifest and its shards, or makes them.
pub fn prepare(study: &Study, store: &Store, progress: &Progress) -> Result<Prepared> {
    let inputs = StudyInputs::new(study)?;
    if let Some(prepared) = existing_manifest(study, store, &inputs.key)? {
        // Batch and context are not part of the manifest's name, so they may have changed since it
        // was made.
        check_budgets(study, &prepared, progress)?;
        return Ok(prepared);
    }
    let task = progress.task("tokens", 2 * (inputs.partitions.len() + inputs.ood.len()) as u64 + 1);
    let mut step = 0;
    let mut step_to = |what: &str| {
        task.update(step, what);
        step += 1;
    };
    let (decontaminator, mut held_out) = held_out(study, &inputs, &mut step_to)?;
    let mut writer = Writer::new(store, decontaminator);
    step_to("seed");
    let tokenizer = tokenizer(study, &inputs, &writer)?;
    tokenizer.save(&store.tokenizer(&tokenizer.hash()))?;
    let seed = match inputs.seed.is_empty() {
        true => None,
        false => Some(writer.training_shard("seed", &inputs.seed, &tokenizer, |_| true, Split::Train)?),
    };
    let selected = selected(&inputs)?;
    // Late sources come last, wherever they are in the study file; the original order is restored
    // below.
    let (mut partitions, mut left_out) = (BTreeMap::new(), Vec::new());
    for input in inputs.all().filter(|i| !i.late).chain(inputs.all().filter(|i| i.late)) {
        if input.late {
            let (candidates, shared) = late::held_out(study, &inputs, input, &mut writer)?;
            held_out.insert(input.name.clone(), candidates);
            left_out.extend(shared);
        }
        if input.kind == DomainKind::Id {
            step_to(&input.name);
            partitions.insert(&input.name, partition(study, &inputs, input, &tokenizer, &mut writer)?);
        }
    }
    let partitions = inputs.partitions.iter().filter_map(|i| partitions.remove(&i.name)).collect();
    let mut domains = Vec::new();
    for domain in inputs.all().filter_map(|i| held_out.remove(&i.name)) {
        step_to(&domain.name);
        domains.push(writer.domain(domain, study.evaluation.tokens, &tokenizer)?);
    }
    let Writer { table, cleaned, dropped, .. } = writer;
    let (vocabulary, eos) = (tokenizer.vocabulary(), tokenizer.eos());
    let tokenizer = tokenizer.hash();
    let manifest =
        Manifest { tokenizer, vocabulary, eos, seed, partitions, domains, table, cleaned, dropped, left_out, selected };
    let json = serde_json::to_vec_pretty(&manifest).expect("a struct of strings and numbers");
    let prepared = with_model(study, &inputs.key, manifest)?;
    check_budgets(study, &prepared, progress)?;
    files::write_atomic(&manifest_path(store, &inputs.key), |f| f.write_all(&json))?;
    task.finish("documents read, split, decontaminated and encoded");
    Ok(prepared)
}

/// Reads every source once, except late ones. Returns the n-grams of all held-out documents, and
/// the documents to score by source.
fn held_out(
    study: &Study,
    inputs: &StudyInputs,
    step_to: &mut impl FnMut(&str),
) -> Result<(Option<Decontaminator>, BTreeMap<String, Candidates>)> {
    let n = study.data.decontaminate;
    let mut decontaminator = (n > 0).then(|| Decontaminator::new(n)).transpose()?;
    let mut domains = BTreeMap::new();
    for input in inputs.all().filter(|i| !i.late) {
        step_to(&input.name);
        let mut domain = Candidates::new(&input.name, input.kind, study.evaluation.documents);
        for_each_document(&input.files, |document| {
            let split = inputs.split(input, &document);
            if split == Split::Train || !input.selection.takes(&document) {
                return Ok(());
            }
            if let Some(d) = &mut decontaminator {
                d.add(&input.name, &document);
            }
            if split == Split::Test {
                domain.offer(document);
            }
            Ok(())
        })?;
        domains.insert(input.name.clone(), domain);
    }
    Ok((decontaminator, domains))
}

/// The counts of each selection. A selection without documents is an error.
fn selected(inputs: &StudyInputs) -> Result<Vec<Selected>> {
    let mut all = Vec::new();
    for SourceInput { name, files, selection, .. } in inputs.all() {
        if !selection.takes_all() {
            all.push(selection.count(name, files)?);
        }
    }
    Ok(all)
}

/// The shards of a partition.
fn partition(
    study: &Study,
    inputs: &StudyInputs,
    input: &SourceInput,
    tokenizer: &Tokenizer,
    writer: &mut Writer,
) -> Result<PartitionShards> {
    let SourceInput { name, files, selection, .. } = input;
    let mut shard = |split| {
        let is_in_split = |d: &Document| selection.takes(d) && inputs.rule.split(&d.id) == split;
        writer.training_shard(name, files, tokenizer, is_in_split, split)
    };
    let train = shard(Split::Train)?;
    let validation = (study.data.validation > 0.0).then(|| shard(Split::Validation)).transpose()?;
    Ok(PartitionShards { name: name.clone(), train, validation })
}

fn with_model(study: &Study, key: &str, m: Manifest) -> Result<Prepared> {
    let (config, checkpoint) = match &study.seed.checkpoint {
        Some(directory) => {
            let config = study.checkpoint_config(directory)?;
            if m.vocabulary > config.vocabulary {
                return Err(Error::input("the tokenizer has more tokens than the seed model")
                    .at(directory)
                    .expected(format!("at most {}", config.vocabulary))
                    .got(m.vocabulary.to_string()));
            }
            (config, Some(content_key(directory)?))
        }
        None => (study.model_and_tokenizer()?.0.config(m.vocabulary, m.eos)?, None),
    };
    Ok(Prepared { key: key.to_string(), config, checkpoint, manifest: m })
}

/// The tokenizer of the study: the seed checkpoint's, a given file, or one trained on the seed's
/// text.
fn tokenizer(study: &Study, inputs: &StudyInputs, writer: &Writer) -> Result<Tokenizer> {
    if let Some(directory) = &study.seed.checkpoint {
        return Tokenizer::load(&directory.join("tokenizer.json"), None);
    }
    let (_, settings) = study.model_and_tokenizer()?;
    if let Some(file) = &settings.file {
        return Tokenizer::load(file, None);
    }
    let (mut texts, mut bytes) = (Vec::new(), 0);
    for_each_document(&inputs.seed, |document| {
        if bytes < TOKENIZER_BYTES && writer.is_clean(&document) {
            bytes += document.text.len();
            texts.push(document.text);
        }
        Ok(())
    })?;
    Tokenizer::train(texts.into_iter(), settings.vocabulary.unwrap_or(0))
}

/// Refuses partitions that cannot fill a batch or their base units, and reports text that is
/// repeated.
fn check_budgets(study: &Study, prepared: &Prepared, progress: &Progress) -> Result<()> {
    for (i, scale) in study.scales(&prepared.config)?.iter().enumerate() {
        if i > 0 {
            progress.line("the larger model:");
        }
        check_scale(study, prepared, scale, progress)?;
    }
    Ok(())
}

fn check_scale(study: &Study, prepared: &Prepared, scale: &ScaleSettings, progress: &Progress) -> Result<()> {
    let context = scale.config.context;
    let seed = scale.seed.as_ref().zip(prepared.manifest.seed.as_ref()).map(|(s, shard)| ("seed", shard, s, 1));
    let modules = prepared.manifest.partitions.iter();
    let modules = modules.map(|p| (p.name.as_str(), &p.train, &scale.module, study.units(&p.name)));
    for (name, shard, settings, units) in modules.chain(seed) {
        let windows = windows_in(shard.tokens, context);
        let had = format!("{} training tokens, {windows} windows", shard.tokens);
        if windows < settings.batch as u64 {
            return Err(Error::input(format!("`{name}` is smaller than one batch"))
                .expected(format!("{} windows of {context} tokens", settings.batch))
                .got(had)
                .fix("add documents, lower the batch or the context, or leave the partition out"));
        }
        let needed = units * settings.windows();
        if units > 1 && needed > windows {
            return Err(Error::input(format!("`{name}` is too small for {units} base units"))
                .expected(format!("{needed} windows of {context} tokens, {} for each", settings.windows()))
                .got(had)
                .fix("lower `units` or `module.training.steps`, or add documents"));
        }
        let epochs = needed as f64 / windows as f64;
        if epochs > 1.0 {
            progress.line(&format!("{name}: {epochs:.1} epochs over its text"));
        }
    }
    Ok(())
}
