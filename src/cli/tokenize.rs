//! `tokenize`: documents to a shard.

use crate::engine::data::{Document, Shard, Tokenizer, expand, for_each_document};
use crate::error::Result;
use crate::progress::Progress;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `tokenize`.
#[derive(Args)]
pub struct TokenizeArgs {
    /// Files, directories or patterns of .jsonl, .jsonl.gz, .jsonl.zst and .txt
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The tokenizer's file
    #[arg(long, value_name = "tokenizer.json")]
    tokenizer: PathBuf,
    /// Directory of the new shard
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TokenizeArgs {
    /// Writes the documents as a shard and prints its size.
    pub fn run(&self) -> Result<()> {
        let tokenizer = Tokenizer::load(&self.tokenizer, None)?;
        let files = expand(&self.files)?;
        let progress = Progress::new();
        let task = progress.task("tokenize", 0);
        let mut documents = 0;
        let shard = Shard::write(&self.out, &tokenizer, |shard| {
            let add = |document: Document| {
                documents += 1;
                task.update(documents, "documents");
                shard.add(document)
            };
            for_each_document(&files, add).map(|_| ())
        })?;
        task.finish("documents encoded");
        let info = shard.info();
        super::print(self.json, info, || {
            let per_token = info.bytes as f64 / info.tokens as f64;
            format!(
                "{} documents, {} tokens, {} bytes, {per_token:.2} bytes per token",
                info.documents, info.tokens, info.bytes
            )
        })
    }
}
