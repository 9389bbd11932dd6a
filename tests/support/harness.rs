//! Runs one op on any device with every operand between sentinels: only outputs may be written,
//! inputs must not change, and every element of an output is written (it holds NaN before).

use half::bf16;
use stockpot::engine::device::{Buffer, DType, Device, Matrix};
use stockpot::engine::ops::Op;

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
    pub buffer: Buffer,
    rows: usize,
    cols: usize,
    stride: usize,
    pub role: Role,
    /// The buffer's elements as uploaded.
    before: Vec<f64>,
}

pub struct Harness {
    pub device: Device,
    /// Elements between the end of a row and the start of the next.
    gap: usize,
    /// Operands of the next op.
    pub tensors: Vec<Tensor>,
    /// If set, every f32 operand begins at its first element, so all of them overlap.
    pub shared: Option<Buffer>,
}

impl Harness {
    pub fn new(device: Device, gap: usize) -> Harness {
        Harness { device, gap, tensors: Vec::new(), shared: None }
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
        // A vector has no gaps: it is one row.
        let stride = cols + if rows > 1 { self.gap } else { 0 };
        let mut before = vec![SENTINEL; 2 * GUARD + rows * stride];
        for (r, row) in values.chunks(cols).enumerate() {
            row.iter().enumerate().for_each(|(c, &x)| before[GUARD + r * stride + c] = x);
        }
        let buffer = self.device.alloc(dtype, before.len()).expect("memory");
        match dtype {
            DType::Bf16 => {
                let bits: Vec<bf16> = before.iter().map(|&x| bf16::from_f32(x as f32)).collect();
                self.device.upload(&buffer, &bits).expect("upload");
                before.iter_mut().zip(bits).for_each(|(x, bits)| *x = bits.to_f64());
            }
            DType::F64 => self.device.upload(&buffer, &before).expect("upload"),
            _ => {
                let narrow: Vec<f32> = before.iter().map(|&x| x as f32).collect();
                self.device.upload(&buffer, &narrow).expect("upload");
                before.iter_mut().zip(narrow).for_each(|(x, narrow)| *x = narrow.into());
            }
        }
        let matrix = buffer.slice(GUARD..GUARD + rows * stride).matrix(rows, stride).col_range(0..cols);
        self.tensors.push(Tensor { name, buffer, rows, cols, stride, role, before });
        matrix
    }

    /// All elements of a buffer of f64, f32 or bf16.
    fn read(&mut self, buffer: &Buffer) -> Vec<f64> {
        match buffer.dtype() {
            DType::Bf16 => {
                self.device.to_vec::<bf16>(buffer).expect("download").into_iter().map(bf16::to_f64).collect()
            }
            DType::F64 => self.device.to_vec(buffer).expect("download"),
            _ => self.device.to_vec::<f32>(buffer).expect("download").into_iter().map(f64::from).collect(),
        }
    }

    /// Runs the op and returns its outputs in the order of declaration.
    pub fn run(&mut self, op: &dyn Op) -> Vec<(&'static str, Vec<f64>)> {
        self.try_run(op).expect("an op that changes only its outputs")
    }
    /// As `run`; an error if the device reports one, or if anything except an output changed.
    pub fn try_run(&mut self, op: &dyn Op) -> Result<Vec<(&'static str, Vec<f64>)>, String> {
        self.device.run(op).map_err(|e| e.to_string())?;
        let mut outputs = Vec::new();
        for t in &std::mem::take(&mut self.tensors) {
            let after = self.read(&t.buffer);
            let mut values = Vec::new();
            for (i, (before, after)) in t.before.iter().zip(&after).enumerate() {
                let inside = (GUARD..GUARD + t.rows * t.stride).contains(&i) && (i - GUARD) % t.stride < t.cols;
                if inside && t.role == Role::Output {
                    values.push(*after);
                } else if before.to_bits() != after.to_bits() {
                    return Err(format!("{}: `{}` changed at {i}", op.name(), t.name));
                }
            }
            if t.role == Role::Output {
                outputs.push((t.name, values));
            }
        }
        Ok(outputs)
    }
}
