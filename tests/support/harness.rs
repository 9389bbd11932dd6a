//! Runs one op on any device with every operand between sentinels: only outputs may be written,
//! inputs must not change, and every element of an output is written (it holds NaN before).

use half::bf16;
use stockpot::engine::device::{Buffer, DType, Device, Matrix};
use stockpot::engine::ops::Op;
use stockpot::error::Result;

/// Elements before the first row and after the last.
const GUARD: usize = 16;
/// Exact in bf16 too.
const SENTINEL: f64 = -776.0;

#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Input,
    Output,
}

pub struct Tensor {
    pub name: &'static str,
    pub role: Role,
    /// At least one.
    pub runs: Vec<Run>,
}

/// Consecutive elements of a buffer: rows with their gaps, between sentinels.
pub struct Run {
    pub part: Buffer,
    /// As uploaded.
    before: Vec<f64>,
    /// Whether an element belongs to the operand.
    inside: Vec<bool>,
}

/// Elements between the rows of an operand that is spread: whole vectors, less than 2^32.
const APART: usize = (1 << 31) + 8;

pub struct Harness {
    pub device: Device,
    gap: usize,
    /// The operand, by the number of those before it, that begins 8 bytes after a 16-byte boundary.
    pub shifted: Option<usize>,
    /// The operand whose rows are so far apart that the third begins after 2^32 elements.
    pub spread: Option<usize>,
    /// Operands of the next op.
    pub tensors: Vec<Tensor>,
    /// If set, every f32 operand begins at its first element, so all of them overlap.
    pub shared: Option<Buffer>,
}

impl Harness {
    /// If `gap` is not 0, it is the number of elements between the rows of the first operand; each
    /// further one has a vector of 8 more, so that no two strides are equal.
    pub fn new(device: Device, gap: usize) -> Harness {
        Harness { device, gap, shifted: None, spread: None, tensors: Vec::new(), shared: None }
    }
    /// The values as stored in an operand of the device's compute dtype; expected results are
    /// computed from these.
    pub fn rounded(&self, values: Vec<f64>) -> Vec<f64> {
        match self.device.compute_dtype() {
            // By way of f32: `from_f64` (half 2.7) drops the lower bits first, which turns some
            // values into ties.
            DType::Bf16 => values.iter().map(|&x| bf16::from_f32(x as f32).to_f64()).collect(),
            _ => values,
        }
    }
    /// An operand of the device's compute dtype that is read.
    pub fn input(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64]) -> Matrix {
        self.tensor(name, (rows, cols), values, Role::Input, self.device.compute_dtype())
    }
    /// An operand of the device's compute dtype that is written.
    pub fn output(&mut self, name: &'static str, rows: usize, cols: usize) -> Matrix {
        self.tensor(name, (rows, cols), &vec![f64::NAN; rows * cols], Role::Output, self.device.compute_dtype())
    }
    /// An operand of the device's compute dtype that is read and written.
    pub fn update(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64]) -> Matrix {
        self.tensor(name, (rows, cols), values, Role::Output, self.device.compute_dtype())
    }
    /// As `input`, f32 on every device.
    pub fn input_f32(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64]) -> Matrix {
        self.tensor(name, (rows, cols), values, Role::Input, DType::F32)
    }
    /// As `output`, f32 on every device.
    pub fn output_f32(&mut self, name: &'static str, rows: usize, cols: usize) -> Matrix {
        self.tensor(name, (rows, cols), &vec![f64::NAN; rows * cols], Role::Output, DType::F32)
    }
    /// As `update`, f32 on every device.
    pub fn update_f32(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64]) -> Matrix {
        self.tensor(name, (rows, cols), values, Role::Output, DType::F32)
    }
    /// As `output`, f64 on every device.
    pub fn output_f64(&mut self, name: &'static str, rows: usize, cols: usize) -> Matrix {
        self.tensor(name, (rows, cols), &vec![f64::NAN; rows * cols], Role::Output, DType::F64)
    }
    /// As `update`, f64 on every device.
    pub fn update_f64(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64]) -> Matrix {
        self.tensor(name, (rows, cols), values, Role::Output, DType::F64)
    }
    /// An f64 operand that is read.
    pub fn input_f64(&mut self, values: &[f64]) -> Matrix {
        let buffer = self.device.alloc(DType::F64, values.len()).expect("memory");
        self.device.upload(&buffer, values).expect("upload");
        buffer.vector()
    }
    /// Temporary memory for the kernels.
    pub fn scratch(&mut self, dtype: DType, rows: usize, cols: usize) -> Matrix {
        self.device.alloc(dtype, rows * cols).expect("memory").matrix(rows, cols)
    }
    pub fn tokens(&mut self, values: &[u32]) -> Matrix {
        let buffer = self.device.alloc(DType::U32, values.len()).expect("memory");
        self.device.upload(&buffer, values).expect("upload");
        buffer.vector()
    }

    fn tensor(
        &mut self,
        name: &'static str,
        (rows, cols): (usize, usize),
        values: &[f64],
        role: Role,
        dtype: DType,
    ) -> Matrix {
        assert_eq!(values.len(), rows * cols);
        if let (Some(shared), DType::F32) = (&self.shared, dtype) {
            return shared.matrix(rows, cols);
        }
        let number = self.tensors.len();
        let gap = if self.gap == 0 { 0 } else { self.gap + 8 * number };
        // A vector has no gaps: it is one row.
        let stride = match rows {
            0 | 1 => cols,
            _ if self.spread == Some(number) => APART,
            _ => cols + gap,
        };
        let start = GUARD + if self.shifted == Some(number) { 8 / dtype.bytes() } else { 0 };
        let buffer = self.device.alloc(dtype, start + rows * stride + GUARD).expect("memory");
        // Rows that are spread are a run each.
        let rows_of_run = if stride == APART { 1 } else { rows.max(1) };
        let runs = values.chunks((rows_of_run * cols).max(1)).enumerate();
        let runs = runs.map(|(i, values)| {
            let (first, rows) = (i * rows_of_run * stride, values.len().div_ceil(cols));
            let (mut before, mut inside) = (vec![], vec![]);
            let mut add = |x: f64, n: usize, is_inside: bool| {
                before.resize(before.len() + n, x);
                inside.resize(before.len(), is_inside);
            };
            add(SENTINEL, if i == 0 { start } else { GUARD }, false);
            for (r, row) in values.chunks(cols).enumerate() {
                row.iter().for_each(|&x| add(x, 1, true));
                add(SENTINEL, if r + 1 < rows || stride != APART { stride - cols } else { 0 }, false);
            }
            add(SENTINEL, GUARD, false);
            let from = if i == 0 { 0 } else { start + first - GUARD };
            Run { part: buffer.slice(from..from + before.len()), before, inside }
        });
        let mut runs: Vec<Run> = runs.collect();
        runs.iter_mut().for_each(|run| self.upload(run));
        let matrix = buffer.slice(start..start + rows * stride).matrix(rows, stride).col_range(0..cols);
        self.tensors.push(Tensor { name, role, runs });
        matrix
    }

    /// Uploads a run and notes how its elements are rounded.
    fn upload(&mut self, run: &mut Run) {
        match run.part.dtype() {
            DType::Bf16 => {
                let bits: Vec<bf16> = run.before.iter().map(|&x| bf16::from_f32(x as f32)).collect();
                self.device.upload(&run.part, &bits).expect("upload");
                run.before.iter_mut().zip(bits).for_each(|(x, bits)| *x = bits.to_f64());
            }
            DType::F64 => self.device.upload(&run.part, &run.before).expect("upload"),
            _ => {
                let narrow: Vec<f32> = run.before.iter().map(|&x| x as f32).collect();
                self.device.upload(&run.part, &narrow).expect("upload");
                run.before.iter_mut().zip(narrow).for_each(|(x, narrow)| *x = narrow.into());
            }
        }
    }

    /// All elements of a buffer of f64, f32 or bf16.
    fn read(&mut self, buffer: &Buffer) -> Result<Vec<f64>> {
        Ok(match buffer.dtype() {
            DType::Bf16 => self.device.to_vec::<bf16>(buffer)?.into_iter().map(bf16::to_f64).collect(),
            DType::F64 => self.device.to_vec(buffer)?,
            _ => self.device.to_vec::<f32>(buffer)?.into_iter().map(f64::from).collect(),
        })
    }

    /// Runs the op and returns its outputs in the order of declaration.
    pub fn run(&mut self, op: &dyn Op) -> Vec<(&'static str, Vec<f64>)> {
        self.try_run(op).expect("an op that changes only its outputs")
    }
    /// As `run`; an error if the device reports one, or if anything except an output changed.
    pub fn try_run(&mut self, op: &dyn Op) -> std::result::Result<Vec<(&'static str, Vec<f64>)>, String> {
        self.device.run(op).map_err(|e| e.to_string())?;
        let mut outputs = Vec::new();
        for t in &std::mem::take(&mut self.tensors) {
            let mut values = Vec::new();
            for run in &t.runs {
                let after = self.read(&run.part).map_err(|e| e.to_string())?;
                for (i, (before, after)) in run.before.iter().zip(&after).enumerate() {
                    if run.inside[i] && t.role == Role::Output {
                        values.push(*after);
                    } else if before.to_bits() != after.to_bits() {
                        return Err(format!("{}: `{}` changed at {i}", op.name(), t.name));
                    }
                }
            }
            if t.role == Role::Output {
                outputs.push((t.name, values));
            }
        }
        Ok(outputs)
    }
}
