//! A study's model sizes: the small model, and the larger model that it should predict.

use super::settings::Study;
use crate::engine::checkpoint;
use crate::engine::data::Tokenizer;
use crate::engine::model::Config;
use crate::engine::train::Settings;
use crate::error::{Error, Result};
use std::path::Path;

/// One of a study's model sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scale {
    /// The model whose modules are merged.
    Small,
    /// The larger model of `[target]`.
    Target,
}

impl Scale {
    /// Prefix of the names of its stages, trainings and merges.
    pub fn prefix(self) -> &'static str {
        match self {
            Scale::Small => "",
            Scale::Target => "target ",
        }
    }
}

/// One model size with the settings of its trainings.
#[derive(Debug, Clone)]
pub struct ScaleSettings {
    /// Which model size.
    pub scale: Scale,
    /// The model.
    pub config: Config,
    /// The seed's training; `None` if the seed is a given checkpoint.
    pub seed: Option<Settings>,
    /// The training of one base unit.
    pub module: Settings,
    /// Whether it has modules.
    pub has_modules: bool,
}

impl ScaleSettings {
    /// Training tokens of `units` base units.
    pub fn unit_tokens(&self, units: u64) -> u64 {
        units * self.module.windows() * self.config.context as u64
    }
}

impl Study {
    /// The study's model sizes, the small one first; `small` is the small model.
    pub fn scales(&self, small: &Config) -> Result<Vec<ScaleSettings>> {
        let mut scales = vec![ScaleSettings {
            scale: Scale::Small,
            config: small.clone(),
            seed: self.seed.training.clone(),
            module: self.module.training.clone(),
            has_modules: true,
        }];
        if let Some(target) = &self.target {
            scales.push(ScaleSettings {
                scale: Scale::Target,
                config: target.model.config(small.vocabulary, small.eos)?,
                seed: Some(target.seed.training.clone()),
                module: target.module.training.clone(),
                has_modules: target.modules,
            });
        }
        Ok(scales)
    }

    /// The small model before any text is tokenized. A tokenizer that is not trained yet counts
    /// with its requested size.
    pub fn expected_config(&self) -> Result<Config> {
        if let Some(directory) = &self.seed.checkpoint {
            return self.checkpoint_config(directory);
        }
        let (model, tokenizer) = self.model_and_tokenizer()?;
        match (&tokenizer.file, tokenizer.vocabulary) {
            (Some(file), _) => {
                let tokenizer = Tokenizer::load(file, None)?;
                model.config(tokenizer.vocabulary(), tokenizer.eos())
            }
            (None, vocabulary) => model.config(vocabulary.unwrap_or(0), 0),
        }
    }

    /// The model of a given seed checkpoint, with the study's context length.
    pub fn checkpoint_config(&self, directory: &Path) -> Result<Config> {
        let mut config = checkpoint::read_config(&directory.join("config.json"))?;
        if let Some(context) = self.seed.context {
            if context == 0 || context > config.context {
                return Err(Error::usage("`seed.context` is out of range")
                    .expected(format!("between 1 and the checkpoint's {}", config.context))
                    .got(context.to_string()));
            }
            config.context = context;
        }
        Ok(config)
    }
}
