//! Runs one op on any device with every operand between sentinels: nothing but the operand may be written, inputs stay
//! as they are, and every element of an output is written (it holds NaN before).

use stockpot::device::{Buffer, DType, Device, Matrix};
use stockpot::ops::Op;

/// Elements before the first row and after the last.
const GUARD: usize = 16;
const SENTINEL: f32 = -777.25;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Input,
    Output,
}

struct Tensor {
    name: &'static str,
    buffer: Buffer,
    rows: usize,
    cols: usize,
    stride: usize,
    role: Role,
    /// The buffer's bits as uploaded.
    before: Vec<f32>,
}

pub struct Lab {
    pub device: Device,
    /// Elements between the end of a row and the start of the next.
    gap: usize,
    tensors: Vec<Tensor>,
    /// When set, every f32 operand begins at its first element: all of them overlap.
    shared: Option<Buffer>,
}

impl Lab {
    pub fn new(device: Device, gap: usize) -> Lab {
        Lab { device, gap, tensors: Vec::new(), shared: None }
    }
    /// A lab in which all operands of an op overlap.
    pub fn overlapping(mut device: Device) -> Lab {
        let shared = device.alloc(DType::F32, 1 << 22).expect("memory");
        Lab { shared: Some(shared), ..Lab::new(device, 0) }
    }
    pub fn input(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64]) -> Matrix {
        self.tensor(name, rows, cols, values, Role::Input)
    }
    pub fn output(&mut self, name: &'static str, rows: usize, cols: usize) -> Matrix {
        self.tensor(name, rows, cols, &vec![f64::NAN; rows * cols], Role::Output)
    }
    /// An operand that is read and written.
    pub fn update(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64]) -> Matrix {
        self.tensor(name, rows, cols, values, Role::Output)
    }
    pub fn tokens(&mut self, values: &[u32]) -> Matrix {
        let buffer = self.device.alloc(DType::U32, values.len()).expect("memory");
        self.device.upload(&buffer, values).expect("upload");
        buffer.vector()
    }

    fn tensor(&mut self, name: &'static str, rows: usize, cols: usize, values: &[f64], role: Role) -> Matrix {
        assert_eq!(values.len(), rows * cols);
        if let Some(shared) = &self.shared {
            return shared.matrix(rows, cols);
        }
        // A vector has no gaps: it is one row.
        let stride = cols + if rows > 1 { self.gap } else { 0 };
        let mut before = vec![SENTINEL; 2 * GUARD + rows * stride];
        for (r, row) in values.chunks(cols).enumerate() {
            row.iter().enumerate().for_each(|(c, &x)| before[GUARD + r * stride + c] = x as f32);
        }
        let buffer = self.device.alloc(DType::F32, before.len()).expect("memory");
        self.device.upload(&buffer, &before).expect("upload");
        let matrix = buffer.slice(GUARD..GUARD + rows * stride).matrix(rows, stride).col_range(0..cols);
        self.tensors.push(Tensor { name, buffer, rows, cols, stride, role, before });
        matrix
    }

    /// Runs the op and gives back what its outputs hold, in the order in which they were declared.
    pub fn run(&mut self, op: &dyn Op) -> Vec<(&'static str, Vec<f32>)> {
        self.device.run(op).expect("the op runs");
        let mut outputs = Vec::new();
        for t in &self.tensors {
            let after: Vec<f32> = self.device.to_vec(&t.buffer).expect("download");
            let mut values = Vec::new();
            for (i, (before, after)) in t.before.iter().zip(&after).enumerate() {
                let inside = (GUARD..GUARD + t.rows * t.stride).contains(&i) && (i - GUARD) % t.stride < t.cols;
                if inside && t.role == Role::Output {
                    values.push(*after);
                } else {
                    assert_eq!(before.to_bits(), after.to_bits(), "{}: `{}` changed at {i}", op.name(), t.name);
                }
            }
            if t.role == Role::Output {
                outputs.push((t.name, values));
            }
        }
        outputs
    }
}
