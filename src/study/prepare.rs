//! From documents to shards: reads every source, splits the partitions, protects the evaluation documents, trains or
//! loads the tokenizer, and writes what trainings and scores read. The result is one manifest, named by the content of
//! all files and the settings; shards are named by their own content, so text that did not change keeps its shard.

use super::filter::{Selected, Selection};
use super::late;
use super::layout::{Layout, key};
use super::plan::target_config;
use super::settings::{Source, Study};
use super::shards::{Candidates, Cleaned, Domain, Dropped, ShardRef, Writer};
use crate::analysis::DomainKind;
use crate::engine::checkpoint::{self, content_key};
use crate::engine::data::{
    Decontaminator, Document, PartitionTable, Split, SplitRule, Tokenizer, expand, for_each_document, hash_files,
    windows_in,
};
use crate::engine::model::Config;
use crate::engine::train::Settings;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Raised when a change of the code changes tokens or shards.
const VERSION: u32 = 1;

/// Text of the seed that the tokenizer is trained on, at most: the first of it.
const TOKENIZER_BYTES: usize = 256 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Partition {
    pub name: String,
    pub train: ShardRef,
    pub validation: Option<ShardRef>,
}

/// What the documents became; on the disk as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Hash of the tokenizer, and its name under `tokenizers/`.
    pub tokenizer: String,
    pub vocabulary: usize,
    pub eos: u32,
    pub seed: Option<ShardRef>,
    pub partitions: Vec<Partition>,
    pub domains: Vec<Domain>,
    pub table: PartitionTable,
    pub cleaned: Vec<Cleaned>,
    pub dropped: Vec<Dropped>,
    /// Held-out documents of sources that came late and whose text was in that of others: not scored, each with the
    /// training document that has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Dropped>,
    /// Of partitions and domains that take a part of their files' documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<Selected>,
}

/// What trainings and scores start from.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Name of the manifest.
    pub key: String,
    pub config: Config,
    /// Key of the given seed checkpoint.
    pub checkpoint: Option<String>,
    pub manifest: Manifest,
}

impl Prepared {
    pub fn partition(&self, name: &str) -> Result<&Partition> {
        let found = self.manifest.partitions.iter().find(|p| p.name == name);
        found.ok_or_else(|| Error::usage(format!("the study has no partition `{name}`")))
    }

    /// Tokens scored per model.
    pub fn scored_tokens(&self) -> u64 {
        self.manifest.domains.iter().map(|d| d.shard.tokens - d.shard.documents).sum()
    }

    /// How many held-out documents of each late source are not scored.
    pub fn left_out(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        self.manifest.left_out.iter().for_each(|l| *counts.entry(l.why.domain.clone()).or_default() += 1);
        counts
    }

    /// The table of partitions and what was left out, for the terminal.
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
                "held-out documents not scored, since earlier sources have text of theirs: {}\n",
                left_out.join(", ")
            ),
        };
        format!(
            "{table}{selected}{left_out}training documents dropped for sharing text with an evaluation document: {each}\n\
             (each with its reason in data/{}.json)",
            self.key
        )
    }
}

/// A partition's or domain's files, and which of their documents are its own.
pub(super) struct Input {
    pub name: String,
    pub files: Vec<PathBuf>,
    pub selection: Selection,
    pub kind: DomainKind,
    /// Came after what stands before it was trained.
    pub late: bool,
}

/// Every source's files, found and hashed, and the settings that shape the shards.
pub(super) struct Inputs {
    pub seed: Vec<PathBuf>,
    partitions: Vec<Input>,
    ood: Vec<Input>,
    rule: SplitRule,
    key: String,
}

impl Inputs {
    fn new(study: &Study) -> Result<Inputs> {
        let found = |files: &[String]| expand(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        let input = |s: &Source, kind: DomainKind| {
            let selection = Selection { field: study.data.year.clone(), years: s.years, only: s.only.clone() };
            // Without decontamination nothing is dropped, now or later.
            let late = s.late && study.data.decontaminate > 0;
            Ok(Input { name: s.name.clone(), files: found(&s.files)?, selection, kind, late })
        };
        let named = |sources: &[Source], kind| sources.iter().map(|s| input(s, kind)).collect::<Result<Vec<Input>>>();
        let seed = if study.seed.files.is_empty() { vec![] } else { found(&study.seed.files)? };
        let (partitions, ood) = (named(&study.partition, DomainKind::Id)?, named(&study.ood, DomainKind::Ood)?);
        let mut known = BTreeMap::new();
        let mut hashes = |inputs: &[Input]| -> Result<Vec<(String, String)>> {
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
        let selections: Vec<(&String, &Selection)> = partitions
            .iter()
            .chain(&ood)
            .map(|i| (&i.name, &i.selection))
            .filter(|(_, selection)| !selection.takes_all())
            .collect();
        let late: Vec<&String> = partitions.iter().chain(&ood).filter(|i| i.late).map(|i| &i.name).collect();
        // Without these, the name is as it was before there were any.
        let key = match (selections.is_empty(), late.is_empty()) {
            (true, true) => key("data", VERSION, &(content, &study.data, &study.evaluation)),
            (false, true) => key("data", VERSION, &(content, &study.data, &study.evaluation, selections)),
            (_, false) => key("data", VERSION, &(content, &study.data, &study.evaluation, selections, late)),
        };
        let rule = SplitRule::new(study.data.separator.clone(), study.data.validation, study.data.test)?;
        Ok(Inputs { seed, partitions, ood, rule, key })
    }

    /// Every source but the seed.
    pub fn all(&self) -> impl Iterator<Item = &Input> {
        self.partitions.iter().chain(&self.ood)
    }

    /// Nothing of an OOD source is trained on, so all of it is held out and may be scored.
    pub fn split(&self, input: &Input, document: &Document) -> Split {
        if input.kind == DomainKind::Ood { Split::Test } else { self.rule.split(&document.id) }
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
    let task = progress.task("tokens", 2 * (inputs.partitions.len() + inputs.ood.len()) as u64 + 1);
    let mut step = 0;
    let mut tell = |what: &str| {
        task.update(step, what);
        step += 1;
    };
    let (decontaminator, mut held_out) = held_out(study, &inputs, &mut tell)?;
    let mut writer = Writer::new(layout, decontaminator);
    tell("seed");
    let tokenizer = tokenizer(study, &inputs, &writer)?;
    tokenizer.save(&layout.tokenizer(&tokenizer.hash()))?;
    let seed = match inputs.seed.is_empty() {
        true => None,
        false => Some(writer.training_shard("seed", &inputs.seed, &tokenizer, |_| true, Split::Train)?),
    };
    let selected = selected(&inputs)?;
    // Those that came late come last, whatever their place in the file; then all take their places.
    let (mut partitions, mut left_out) = (BTreeMap::new(), Vec::new());
    for input in inputs.all().filter(|i| !i.late).chain(inputs.all().filter(|i| i.late)) {
        if input.late {
            let (candidates, shared) = late::held_out(study, &inputs, input, &mut writer)?;
            held_out.insert(input.name.clone(), candidates);
            left_out.extend(shared);
        }
        if input.kind == DomainKind::Id {
            tell(&input.name);
            partitions.insert(&input.name, partition(study, &inputs, input, &tokenizer, &mut writer)?);
        }
    }
    let partitions = inputs.partitions.iter().filter_map(|i| partitions.remove(&i.name)).collect();
    let mut domains = Vec::new();
    for domain in inputs.all().filter_map(|i| held_out.remove(&i.name)) {
        tell(&domain.name);
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
    files::write_atomic(&manifest_path(layout, &inputs.key), |f| f.write_all(&json))?;
    task.finish("documents read, split, cleaned of evaluation text and encoded");
    Ok(prepared)
}

/// Reads every source that did not come late once: which documents are scored, by source, and the n-grams of all that are
/// held out.
fn held_out(
    study: &Study,
    inputs: &Inputs,
    tell: &mut impl FnMut(&str),
) -> Result<(Option<Decontaminator>, BTreeMap<String, Candidates>)> {
    let n = study.data.decontaminate;
    let mut decontaminator = (n > 0).then(|| Decontaminator::new(n)).transpose()?;
    let mut domains = BTreeMap::new();
    for input in inputs.all().filter(|i| !i.late) {
        tell(&input.name);
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

/// How many documents each selection takes, and how many have no year. Refuses one that takes nothing.
fn selected(inputs: &Inputs) -> Result<Vec<Selected>> {
    let mut all = Vec::new();
    for Input { name, files, selection, .. } in inputs.all() {
        if !selection.takes_all() {
            all.push(selection.count(name, files)?);
        }
    }
    Ok(all)
}

/// The shards of a partition.
fn partition(
    study: &Study,
    inputs: &Inputs,
    input: &Input,
    tokenizer: &Tokenizer,
    writer: &mut Writer,
) -> Result<Partition> {
    let Input { name, files, selection, .. } = input;
    let mut shard = |split| {
        let is_in_split = |d: &Document| selection.takes(d) && inputs.rule.split(&d.id) == split;
        writer.training_shard(name, files, tokenizer, is_in_split, split)
    };
    let train = shard(Split::Train)?;
    let validation = (study.data.validation > 0.0).then(|| shard(Split::Validation)).transpose()?;
    Ok(Partition { name: name.clone(), train, validation })
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
            (config, Some(content_key(directory)?))
        }
        None => (study.model_and_tokenizer()?.0.config(m.vocabulary, m.eos)?, None),
    };
    Ok(Prepared { key: key.to_string(), config, checkpoint, manifest: m })
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
fn tokenizer(study: &Study, inputs: &Inputs, writer: &Writer) -> Result<Tokenizer> {
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

/// Refuses partitions that cannot fill a batch or hold their base units, and says how often text is repeated.
fn check_budgets(study: &Study, prepared: &Prepared, progress: &Progress) -> Result<()> {
    let config = &prepared.config;
    check_scale(study, prepared, config, study.seed.training.as_ref(), &study.module.training, progress)?;
    let m = &prepared.manifest;
    if let Some((target, config)) = study.target.as_ref().zip(target_config(study, m.vocabulary, m.eos)?) {
        progress.line("the larger model:");
        let (seed, module) = (&target.seed.training, &target.module.training);
        check_scale(study, prepared, &config, Some(seed), module, progress)?;
    }
    Ok(())
}

fn check_scale(
    study: &Study,
    prepared: &Prepared,
    config: &Config,
    seed: Option<&Settings>,
    module: &Settings,
    progress: &Progress,
) -> Result<()> {
    let context = config.context;
    let seed = seed.zip(prepared.manifest.seed.as_ref()).map(|(s, shard)| ("seed", shard, s, 1));
    let modules = prepared.manifest.partitions.iter();
    let modules = modules.map(|p| (p.name.as_str(), &p.train, module, study.units(&p.name)));
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
                .fix("ask for fewer `units`, lower `module.training.steps`, or add documents"));
        }
        let epochs = needed as f64 / windows as f64;
        if epochs > 1.0 {
            progress.line(&format!("{name}: its text is used {epochs:.1} times over"));
        }
    }
    Ok(())
}
