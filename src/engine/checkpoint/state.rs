//! State that resuming a training needs besides the weights: AdamW's moments in
//! `optimizer.safetensors` and the trainer's counters in `trainer.json`.

use super::layout::{TensorLayout, Wanted};
use super::tensors::{self, TensorFile};
use super::write::write_json;
use crate::engine::model::Table;
use crate::engine::ops::dtype_convert::{StorageDType, first_not_finite};
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const OPTIMIZER: &str = "optimizer.safetensors";
const TRAINER: &str = "trainer.json";

/// AdamW's moments, both (P) in the layout of the model's [`Table`]. Stored in f32 as
/// `exp_avg.<parameter>` and `exp_avg_sq.<parameter>`, the names of PyTorch's optimizer state.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState {
    /// First moment
    pub m: Vec<f32>,
    /// Second moment, not negative
    pub v: Vec<f32>,
}

impl OptimizerState {
    /// The moments before the first update: zeros, (P) each.
    pub fn zeros(table: &Table) -> OptimizerState {
        OptimizerState { m: vec![0.0; table.len], v: vec![0.0; table.len] }
    }

    /// Writes `optimizer.safetensors` in `directory`.
    pub fn write(&self, directory: &Path, table: &Table) -> Result<()> {
        assert!(self.m.len() == table.len && self.v.len() == table.len, "one moment for each weight");
        let path = directory.join(OPTIMIZER);
        let header = tensors::header(wanted(table).map(|w| (w.name, w.shape)), StorageDType::F32);
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&path)?;
            file.write_all(&header)?;
            file.write_all(bytemuck::cast_slice(&self.m))?;
            file.write_all(bytemuck::cast_slice(&self.v))
        };
        write().map_err(|e| Error::io("write", &path, &e))
    }

    /// Reads `optimizer.safetensors` of `directory`. Refused, by tensor: one that is missing,
    /// unknown, of the wrong shape or not f32; moments that are not finite; second moments that are
    /// negative.
    pub fn read(directory: &Path, table: &Table) -> Result<OptimizerState> {
        let path = directory.join(OPTIMIZER);
        let file = TensorFile::open(&path)?;
        if let Some(t) = file.tensors().iter().find(|t| t.dtype != safetensors::Dtype::F32) {
            return Err(Error::input("moments must be stored as f32")
                .at(&path)
                .tensor(&t.name)
                .got(format!("{:?}", t.dtype)));
        }
        let layout = TensorLayout::new(directory, vec![file], wanted(table), |file, t| {
            Err(Error::input("the model has no such parameter").at(file.path()).tensor(&t.name))
        })?;
        let mut state = OptimizerState::zeros(table);
        layout.read_all(0, &mut state.m)?;
        layout.read_all(table.len, &mut state.v)?;
        for (values, first) in [(&state.m, 0), (&state.v, table.len)] {
            let bad = first_not_finite(StorageDType::F32, bytemuck::cast_slice(values));
            let bad = bad.or_else(|| if first == 0 { None } else { values.iter().position(|x| *x < 0.0) });
            if let Some(i) = bad {
                let (name, _) = layout.place(first + i);
                return Err(Error::numeric("a moment is not finite, or a second moment is negative")
                    .at(&path)
                    .tensor(name)
                    .got(values[i].to_string())
                    .fix("use an earlier checkpoint"));
            }
        }
        Ok(state)
    }
}

/// First moments of all parameters, then second moments.
fn wanted(table: &Table) -> impl Iterator<Item = Wanted<'_>> {
    ["exp_avg", "exp_avg_sq"].into_iter().flat_map(|kind| {
        table.parameters.iter().map(move |p| Wanted { name: format!("{kind}.{}", p.name), shape: &p.shape })
    })
}

/// The progress of a training. `run` belongs to the trainer, which uses it to check that it resumes
/// the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Optimizer steps done
    pub step: u64,
    /// Tokens trained on
    pub tokens: u64,
    /// JSON that only the trainer interprets: the run's identity and its updates so far.
    pub run: serde_json::Value,
}

impl TrainerState {
    /// Writes `trainer.json` in `directory`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        write_json(
            &directory.join(TRAINER),
            &serde_json::json!({"step": self.step, "tokens": self.tokens, "run": self.run}),
        )
    }

    /// Reads `trainer.json` of `directory`; refuses fields it does not know.
    pub fn read(directory: &Path) -> Result<TrainerState> {
        let path = directory.join(TRAINER);
        serde_json::from_str(&files::read_to_string(&path)?).map_err(|e| {
            Error::input("this is not a trainer's state")
                .at(&path)
                .line(e.line() as u64)
                .expected("{step, tokens, run}")
                .got(e.to_string())
        })
    }
}
