//! All weights of a checkpoint, for a model of known config.

use super::Reader;
use crate::engine::model::Config;
use crate::error::{Error, Result};
use std::path::Path;

/// The weights of a checkpoint of the model `config`.
pub fn read_weights(dir: &Path, config: &Config) -> Result<Vec<f32>> {
    let reader = Reader::open(dir)?;
    expect_same_model(config, reader.config(), dir)?;
    let mut weights = vec![0.0; reader.table().len];
    reader.read_weights(&mut weights)?;
    Ok(weights)
}

/// Refuses a checkpoint with other shapes or mathematics; only the context may differ.
fn expect_same_model(config: &Config, found: &Config, dir: &Path) -> Result<()> {
    if *config == (Config { context: config.context, ..found.clone() }) {
        return Ok(());
    }
    Err(Error::input("this checkpoint belongs to a different model")
        .at(dir)
        .expected(format!("{config:?}"))
        .got(format!("{found:?}")))
}
