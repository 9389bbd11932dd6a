//! `eval`: perplexity of a checkpoint or of a merge on named sets of documents.

use super::merge::WeightArgs;
use super::{DeviceArg, print_now, split_once};
use crate::engine::data::{Shard, ShardWriter, Tokenizer, expand, for_each_document};
use crate::engine::eval::{DomainScore, Scorer};
use crate::engine::merge::{self, Weights};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Arguments of `eval`.
#[derive(Args)]
pub struct EvalArgs {
    /// A checkpoint directory
    #[arg(
        value_name = "CKPT",
        required_unless_present_any = ["merge", "partition"],
        conflicts_with_all = ["merge", "partition"]
    )]
    checkpoint: Option<PathBuf>,
    /// Score a merge of these checkpoints, made in memory: CKPT=WEIGHT,..., or CKPT,... with
    /// --weights
    #[arg(long, value_name = "CKPT=WEIGHT,...", value_delimiter = ',', conflicts_with = "partition")]
    merge: Option<Vec<String>>,
    #[command(flatten)]
    weights: WeightArgs,
    /// A domain and its documents, such as law=law.jsonl; repeatable, and more patterns may follow
    #[arg(long, value_name = "NAME=FILES", required = true, num_args = 1..)]
    data: Vec<String>,
    /// Tokens per window [default: the model's context, which is also the maximum]
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArg,
}

#[derive(Serialize)]
struct EvalOutput {
    model: String,
    /// Weights of the merge, if a merge was scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    merge: Option<Weights>,
    domains: Vec<EvalDomain>,
    macro_perplexity: f64,
}

#[derive(Serialize)]
struct EvalDomain {
    name: String,
    #[serde(flatten)]
    score: DomainScore,
    perplexity: f64,
    bits_per_byte: f64,
}

impl EvalArgs {
    /// Scores the checkpoint or the merge on each domain. Prints a row as soon as a domain is
    /// scored, or JSON at the end.
    pub fn run(&self) -> Result<()> {
        let spec = self.device.spec()?;
        let (weights, name) = self.merged()?;
        let (pool, sums) = merge::Pool::of_sums(&[weights.terms()])?;
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
                .fix("use the tokenizer.json that belongs to these weights"));
        }
        let domains = self.domains()?;
        let mut scorer = Scorer::new(&spec, &config, Some((&pool, &sums)))?;
        scorer.load_merge(0)?;
        let progress = Progress::new();
        let merge = self.checkpoint.is_none().then_some(weights);
        let mut scores = EvalOutput { model: name, merge, domains: vec![], macro_perplexity: 0.0 };
        if !self.json {
            print_now(&scores.head())?;
        }
        for (name, files) in domains {
            let shard = TokenScratch::shard(&name, &files, &tokenizer)?;
            let task = progress.task(&name, 100);
            let score = scorer.score(&shard.shard, &mut |done, windows| {
                task.update(100 * done / windows, "% of the windows");
            });
            let score = score.map_err(|e| if e.has_place() { e } else { e.at(format!("--data {name}")) })?;
            let (perplexity, bits_per_byte) = (score.perplexity(), score.bits_per_byte());
            task.finish(&format!("perplexity {perplexity:.3}"));
            let domain = EvalDomain { name, score, perplexity, bits_per_byte };
            if !self.json {
                print_now(&domain.row())?;
            }
            scores.domains.push(domain);
        }
        scores.macro_perplexity =
            scores.domains.iter().map(|d| d.perplexity).sum::<f64>() / scores.domains.len() as f64;
        super::print(self.json, &scores, || scores.last_row())
    }

    /// Weights and name of the model to score: one checkpoint of weight 1, or a merge.
    fn merged(&self) -> Result<(Weights, String)> {
        if let Some(directory) = &self.checkpoint {
            if let Some(option) = self.weights.given() {
                return Err(Error::usage(format!("{option} applies only to a merge"))
                    .expected("--merge CKPT,...")
                    .got("one checkpoint"));
            }
            let weights = self.weights.resolve(std::slice::from_ref(directory), None)?;
            return Ok((weights, directory.display().to_string()));
        }
        let texts = self.merge.as_deref().unwrap_or_default();
        let (checkpoints, weights) = members(texts)?;
        let named = if texts.is_empty() { self.weights.partitions() } else { texts };
        Ok((self.weights.resolve(&checkpoints, weights)?, format!("merge of {}", named.join(","))))
    }

    /// `NAME=FILES` starts a domain; a value without a name is another pattern of that domain.
    fn domains(&self) -> Result<Vec<(String, Vec<PathBuf>)>> {
        let mut domains: Vec<(String, Vec<PathBuf>)> = Vec::new();
        for text in &self.data {
            match (text.contains('='), domains.last_mut()) {
                (false, Some((_, patterns))) => patterns.push(text.into()),
                _ => {
                    let (name, pattern) = split_once(text, "NAME=FILES", "--data law=x.jsonl")?;
                    domains.push((name, vec![pattern.into()]));
                }
            }
        }
        domains.into_iter().map(|(name, patterns)| Ok((name, expand(&patterns)?))).collect()
    }
}

/// Parses values that are all `CKPT=WEIGHT` or all `CKPT`.
fn members(texts: &[String]) -> Result<(Vec<PathBuf>, Option<Vec<f64>>)> {
    let weighted: Vec<Option<(PathBuf, f64)>> = texts.iter().map(|text| weighted(text)).collect();
    let Some(first) = weighted.iter().position(Option::is_some) else {
        return Ok((texts.iter().map(PathBuf::from).collect(), None));
    };
    match weighted.iter().position(Option::is_none) {
        None => Ok(weighted.into_iter().flatten().unzip()).map(|(paths, weights)| (paths, Some(weights))),
        Some(i) => Err(Error::usage(format!("`{}` is not CKPT=WEIGHT", texts[i]))
            .expected(format!("a weight for every checkpoint, as in `{}`, or --weights", texts[first]))),
    }
}

/// Parses `CKPT=WEIGHT`; the path may contain `=`.
fn weighted(text: &str) -> Option<(PathBuf, f64)> {
    let (path, weight) = text.rsplit_once('=').filter(|(path, _)| !path.is_empty())?;
    Some((path.into(), weight.trim().parse().ok()?))
}

impl EvalOutput {
    fn head(&self) -> String {
        format!(
            "{}\n{:24} {:>9} {:>11} {:>12} {:>13}",
            self.model, "domain", "documents", "tokens", "perplexity", "bits per byte"
        )
    }

    fn last_row(&self) -> String {
        format!("{:24} {:>9} {:>11} {:>12.4}", "macro average", "", "", self.macro_perplexity)
    }
}

impl EvalDomain {
    fn row(&self) -> String {
        format!(
            "{:24} {:>9} {:>11} {:>12.4} {:>13.4}",
            self.name, self.score.documents, self.score.tokens, self.perplexity, self.bits_per_byte
        )
    }
}

/// A shard in a temporary directory, which is removed on drop.
struct TokenScratch {
    shard: Shard,
    directory: PathBuf,
}

impl TokenScratch {
    fn shard(name: &str, files: &[PathBuf], tokenizer: &Tokenizer) -> Result<TokenScratch> {
        let directory = std::env::temp_dir().join(format!("stockpot-eval-{}", std::process::id()));
        let mut documents = 0u64;
        let shard = Shard::write(&directory, tokenizer, |shard: &mut ShardWriter| {
            documents = for_each_document(files, |d| shard.add(d))?;
            if documents == 0 {
                return Err(Error::new(Kind::Input, format!("`{name}` has no documents")).fix("check its files"));
            }
            Ok(())
        })?;
        Ok(TokenScratch { shard, directory })
    }
}

impl Drop for TokenScratch {
    fn drop(&mut self) {
        // A left-over temporary directory is not worth an error.
        let _ = files::remove_directory(&self.directory);
    }
}
