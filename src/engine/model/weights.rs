//! A model on a device: its parameters in one arena, and the constants its ops share.

use super::config::Config;
use super::params::Table;
use crate::engine::device::{Buffer, DType, Device, Matrix};
use crate::engine::ops::merge::Merge;
use crate::engine::ops::rope_table;
use crate::error::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use std::ops::Range;

/// Weights that [`Model::load`] uploads at a time: 4 MiB. A multiple of the elements of a vector.
const UPLOADED: usize = 1 << 20;

/// Parameters on a device. [`Model::losses`] is the forward pass, `accumulate_gradient` the
/// backward pass.
pub struct Model {
    /// Checked when the model was made.
    pub config: Config,
    /// The layout of `master` and `compute`.
    pub table: Table,
    /// (P) f32
    pub master: Buffer,
    /// (P) in the device's compute type: the master weights themselves if that is f32
    pub compute: Buffer,
    /// (T, D) f32, see [`rope_table`]
    pub(super) rope: Buffer,
}

impl Model {
    /// Puts `weights` (P, in the order of the table) on the device.
    pub fn new(device: &mut Device, config: &Config, weights: &[f32]) -> Result<Model> {
        let model = Model::without_weights(device, config)?;
        model.load(device, weights)?;
        Ok(model)
    }

    /// A model with memory for its weights, which are loaded later.
    pub fn without_weights(device: &mut Device, config: &Config) -> Result<Model> {
        config.check()?;
        config.check_for(device.compute_dtype())?;
        let table = Table::new(config);
        let master = device.alloc(DType::F32, table.len)?;
        let compute = match device.compute_dtype() {
            DType::F32 => master.clone(),
            dtype => device.alloc(dtype, table.len)?,
        };
        let angles = rope_table(config.context, config.head_width, config.rope_base);
        let rope = device.alloc(DType::F32, angles.len())?;
        device.upload(&rope, &angles)?;
        Ok(Model { config: config.clone(), table, master, compute, rope })
    }

    /// Replaces all weights. They are copied to the device once, in f32; the copy in its compute type
    /// is made there, as that of a merge of one checkpoint.
    pub fn load(&self, device: &mut Device, weights: &[f32]) -> Result<()> {
        assert_eq!(weights.len(), self.table.len, "weights of another model");
        if self.compute.dtype() == DType::F32 {
            return device.upload(&self.master, weights);
        }
        let uploaded = device.alloc(DType::F32, UPLOADED.min(weights.len()))?;
        // New memory is zero: the only row.
        let (row, weight) = (device.alloc(DType::U32, 1)?, device.alloc(DType::F64, 1)?);
        device.upload(&weight, &[1f64])?;
        for (i, part) in weights.chunks(UPLOADED).enumerate() {
            device.upload(&uploaded, part)?;
            let range = i * UPLOADED..i * UPLOADED + part.len();
            device.run(&Merge {
                pool: uploaded.matrix(1, part.len()),
                rows: row.vector(),
                weights: weight.vector(),
                out: self.master.slice(range.clone()).vector(),
                copy: Some(self.compute.slice(range).vector()),
            })?;
        }
        Ok(())
    }

    /// A (rows, cols) weight, as its products read it.
    pub(super) fn weight(&self, range: &Range<usize>, rows: usize, cols: usize) -> Matrix {
        self.compute.slice(range.clone()).matrix(rows, cols)
    }
    /// A norm's weight, (1, width) f32: bf16 would lose its small steps around 1.
    pub(super) fn norm(&self, range: &Range<usize>) -> Matrix {
        self.master.slice(range.clone()).vector()
    }
}

/// Initial weights (P): normal with standard deviation `init_std`, the two products that write to
/// the residual stream divided by sqrt(2L) (GPT-2's scheme, which the paper's models use), norms 1.
/// The same seed gives the same bits.
pub fn initial_weights(config: &Config, seed: u64) -> Vec<f32> {
    let table = Table::new(config);
    let mut weights = vec![0.0; table.len];
    for (stream, parameter) in table.parameters.iter().enumerate() {
        let values = &mut weights[parameter.range()];
        if parameter.shape.len() == 1 {
            values.fill(1.0);
            continue;
        }
        let writes_residual = parameter.name.contains(".o_proj.") || parameter.name.contains(".down_proj.");
        let std = if writes_residual { config.init_std / (2.0 * config.layers as f64).sqrt() } else { config.init_std };
        let normal = Normal::new(0.0, std).expect("init_std was checked to be finite and not negative");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        values.fill_with(|| normal.sample(&mut rng) as f32);
    }
    weights
}
