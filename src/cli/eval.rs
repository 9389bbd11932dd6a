//! `eval`: perplexity of a checkpoint or of a merge on named sets of documents.

use super::{DeviceArg, split_once, weighted};
use crate::data::{Shard, ShardWriter, Tokenizer, expand, for_each_document};
use crate::error::{Error, Kind, Result};
use crate::eval::{self, DomainScore};
use crate::files;
use crate::merge;
use crate::model::{Activations, Model};
use crate::study::Progress;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Eval {
    /// A checkpoint directory
    #[arg(value_name = "CKPT", required_unless_present = "merge", conflicts_with = "merge")]
    checkpoint: Option<PathBuf>,
    /// Score the average of these instead, merged in memory
    #[arg(long, value_name = "CKPT=WEIGHT,...", value_delimiter = ',')]
    merge: Option<Vec<String>>,
    /// A domain's name and its documents; can be given many times, and many patterns can follow
    #[arg(long, value_name = "NAME=FILES", required = true, num_args = 1..)]
    data: Vec<String>,
    /// Shorter windows than the model's context
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Serialize)]
struct Scores {
    model: String,
    domains: Vec<Domain>,
    macro_perplexity: f64,
}

#[derive(Serialize)]
struct Domain {
    name: String,
    #[serde(flatten)]
    score: DomainScore,
    perplexity: f64,
    bits_per_byte: f64,
}

impl Eval {
    pub fn run(&self) -> Result<()> {
        let place = self.device.place()?;
        let (pool, mixture) = self.merged()?;
        let mut config = pool.config().clone();
        if let Some(context) = self.context {
            if context == 0 || context > config.context {
                return Err(Error::usage("--context is out of range").expected(format!("1 to {}", config.context)));
            }
            config.context = context;
        }
        let first = pool.checkpoints()[0].directory();
        let tokenizer = Tokenizer::load(&first.join("tokenizer.json"), None)?;
        if tokenizer.vocabulary() > config.vocabulary {
            return Err(Error::input("the tokenizer has more tokens than the model")
                .at(first)
                .expected(format!("at most {}", config.vocabulary))
                .got(tokenizer.vocabulary().to_string())
                .fix("take the tokenizer.json that belongs to the weights"));
        }
        let domains = self.domains()?;
        let mut device = place.open()?;
        let model = Model::without_weights(&mut device, &config)?;
        let rows = eval::rows(config.context, device.compute_dtype());
        let acts = Activations::for_evaluation(&mut device, &config, rows)?;
        let (mixtures, set_aside) = ([mixture], merge::memory_set_aside(&device));
        merge::Merger::new(&mut device, &pool, &mixtures, set_aside)?.load(&mut device, 0, &model)?;
        let progress = Progress::new();
        let mut scores = Scores { model: self.name(), domains: vec![], macro_perplexity: 0.0 };
        for (name, files) in domains {
            let shard = Scratch::shard(&name, &files, &tokenizer)?;
            let task = progress.task(&name, 100);
            let score = eval::score(&mut device, &model, &acts, &shard.shard, &mut |_, done, windows| {
                task.update(100 * done / windows, "% of the windows");
            });
            let score = score.map_err(|e| if e.has_place() { e } else { e.at(format!("--data {name}")) })?;
            let (perplexity, bits_per_byte) = (score.perplexity(), score.bits_per_byte());
            task.finish(&format!("perplexity {perplexity:.3}"));
            scores.domains.push(Domain { name, score, perplexity, bits_per_byte });
        }
        scores.macro_perplexity =
            scores.domains.iter().map(|d| d.perplexity).sum::<f64>() / scores.domains.len() as f64;
        super::print(self.json, &scores, || scores.to_text())
    }

    /// What is scored: one checkpoint, or several with their weights.
    fn merged(&self) -> Result<(merge::Pool, merge::Mixture)> {
        let members: Vec<(PathBuf, f64)> = match (&self.merge, &self.checkpoint) {
            (Some(merge), _) => merge.iter().map(|m| weighted(m)).collect::<Result<_>>()?,
            (None, Some(directory)) => vec![(directory.clone(), 1.0)],
            (None, None) => return Err(Error::usage("name a checkpoint, or --merge CKPT=WEIGHT,...")),
        };
        merge::Pool::of_one(&members)
    }

    fn name(&self) -> String {
        match (&self.merge, &self.checkpoint) {
            (Some(merge), _) => format!("merge of {}", merge.join(",")),
            (None, checkpoint) => checkpoint.as_deref().unwrap_or(Path::new("")).display().to_string(),
        }
    }

    /// `NAME=FILES` begins a domain; a value without a name is one more pattern of it.
    fn domains(&self) -> Result<Vec<(String, Vec<PathBuf>)>> {
        let mut domains: Vec<(String, Vec<PathBuf>)> = Vec::new();
        for text in &self.data {
            match (text.contains('='), domains.last_mut()) {
                (false, Some((_, patterns))) => patterns.push(text.into()),
                _ => {
                    let (name, pattern) = split_once(text, "NAME=FILES")?;
                    domains.push((name, vec![pattern.into()]));
                }
            }
        }
        domains.into_iter().map(|(name, patterns)| Ok((name, expand(&patterns)?))).collect()
    }
}

impl Scores {
    fn to_text(&self) -> String {
        let mut text = format!(
            "{}\n{:24} {:>9} {:>11} {:>12} {:>13}\n",
            self.model, "domain", "documents", "tokens", "perplexity", "bits per byte"
        );
        for d in &self.domains {
            let (score, name) = (&d.score, &d.name);
            text += &format!(
                "{name:24} {:>9} {:>11} {:>12.4} {:>13.4}\n",
                score.documents, score.tokens, d.perplexity, d.bits_per_byte
            );
        }
        text + &format!("{:24} {:>9} {:>11} {:>12.4}", "macro average", "", "", self.macro_perplexity)
    }
}

/// A shard in a directory of its own that goes when it is dropped.
struct Scratch {
    shard: Shard,
    directory: PathBuf,
}

impl Scratch {
    fn shard(name: &str, files: &[PathBuf], tokenizer: &Tokenizer) -> Result<Scratch> {
        let directory = std::env::temp_dir().join(format!("stockpot-eval-{}", std::process::id()));
        let mut documents = 0u64;
        let shard = Shard::write(&directory, tokenizer, |shard: &mut ShardWriter| {
            documents = for_each_document(files, |d| shard.add(d))?;
            if documents == 0 {
                return Err(Error::new(Kind::Input, format!("`{name}` has no documents")).fix("check its files"));
            }
            Ok(())
        })?;
        Ok(Scratch { shard, directory })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-over scratch is no reason to fail.
        let _ = files::remove_directory(&self.directory);
    }
}
