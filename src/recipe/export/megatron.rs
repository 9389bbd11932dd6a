//! Megatron-LM (github.com/NVIDIA/Megatron-LM at d98e8a6): the blend that `--data-args-path` names,
//! `WEIGHT PREFIX` of each source (`megatron/training/utils/common_utils.py` splits the file at
//! white space). A prefix has two files (`megatron/core/datasets/indexed_dataset.py`): `.bin`, raw
//! tokens, which the `tokens.bin` of a shard is, and `.idx`, which [`index`] makes.

use super::{ExportedSource, MixtureRecipe, decimal};
use crate::engine::data::{Shard, TokenType};
use crate::error::{Error, Result};
use crate::files;

pub(super) fn export(recipe: &MixtureRecipe, sources: &[ExportedSource], notes: &mut Vec<String>) -> Result<String> {
    notes.push("Megatron holds out a part of its data: give --split 100,0,0, the shards are training text.".into());
    notes.push(match recipe.tokens {
        Some(tokens) => format!("Set --train-samples to {tokens} / --seq-length; partitions are repeated as needed."),
        None => "The recipe has no tokens; partitions are repeated as --train-samples needs.".into(),
    });
    notes.push(
        "Each prefix needs tokens.idx beside tokens.bin: stockpot export --for megatron writes those that are missing."
            .into(),
    );
    let mut text = String::new();
    for source in sources {
        let prefix = format!("{}/tokens", source.shard);
        if prefix.contains(char::is_whitespace) {
            return Err(Error::usage("Megatron's blend cannot contain a path with white space")
                .at(&prefix)
                .fix("move the study's directory to a path without white space"));
        }
        text += &format!("{} {prefix}\n", decimal(source.weight));
    }
    Ok(text)
}

impl MixtureRecipe {
    /// Writes Megatron's `tokens.idx` beside the `tokens.bin` of each shard, where it is missing.
    pub fn write_megatron_indices(&self) -> Result<()> {
        for shard in self.open_shards()? {
            let path = shard.directory().join("tokens.idx");
            if !path.exists() {
                let index = index(&shard)?;
                files::write_atomic(&path, |f| f.write_all(&index))?;
            }
        }
        Ok(())
    }
}

/// The `.idx` of a shard: magic, version, type of the tokens, two counts, then the length and the
/// first byte of each document, and the documents' borders in the list of lengths.
fn index(shard: &Shard) -> Result<Vec<u8>> {
    let (code, width) = match shard.info().dtype {
        TokenType::U16 => (8u8, 2),
        // Megatron has no u32; a vocabulary fits its i32.
        TokenType::U32 => (4, 4),
    };
    let documents = shard.documents();
    let mut bytes = b"MMIDIDX\x00\x00".to_vec();
    bytes.extend(1u64.to_le_bytes());
    bytes.push(code);
    bytes.extend(documents.to_le_bytes());
    bytes.extend((documents + 1).to_le_bytes());
    for i in 0..documents {
        let tokens = shard.document(i);
        // With the EOS.
        let length = i32::try_from(tokens.end + 1 - tokens.start).map_err(|_| {
            Error::input("a document is too long for Megatron's index")
                .at(shard.directory())
                .expected(format!("at most {} tokens", i32::MAX))
                .got(format!("{} in document {i}", tokens.end + 1 - tokens.start))
        })?;
        bytes.extend(length.to_le_bytes());
    }
    for i in 0..documents {
        bytes.extend((shard.document(i).start * width).to_le_bytes());
    }
    for i in 0..=documents {
        bytes.extend(i.to_le_bytes());
    }
    Ok(bytes)
}
