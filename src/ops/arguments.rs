//! What the launches of all ops share: operands first, in the order of `operands()`, then scalars. A stride counts
//! elements; a count or stride above u32 is a bug in the caller, because no model of this project has one.

use super::Op;
use crate::device::{Arg, DType, Launch, Matrix};

/// How a kernel is compiled and laid out over the device.
pub struct Layout {
    /// Blocks along x, y and z; an empty axis still gets one block, which finds no work.
    pub grid: [usize; 3],
    pub block: u32,
    pub defines: Vec<(&'static str, String)>,
}

/// The launch of the kernel `op.name()` in `kernels/<file>.cu`. Shared memory is static, so 0 bytes are asked for.
pub fn launch(op: &dyn Op, file: &'static str, layout: Layout, scalars: Vec<Arg>) -> Launch {
    let operands = op.operands();
    let matrices = operands.iter().map(|(m, _)| Arg::Matrix(m.clone()));
    Launch {
        file,
        kernel: op.name(),
        defines: layout.defines,
        grid: layout.grid.map(|blocks| count(blocks.max(1))),
        block: layout.block,
        shared_bytes: 0,
        args: matrices.chain(scalars).collect(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a kernel's counts and strides fit 32 bits")
}

pub fn number(n: usize) -> Arg {
    Arg::U32(count(n))
}

pub fn stride(m: &Matrix) -> Arg {
    number(m.stride())
}

/// The name of an operand's element type in CUDA C++.
pub fn type_of(m: &Matrix) -> String {
    match m.dtype() {
        DType::F32 => "float",
        DType::Bf16 => "__nv_bfloat16",
        DType::U32 => "unsigned",
    }
    .into()
}

pub fn flag(on: bool) -> String {
    u32::from(on).to_string()
}

/// Panics unless `m` is `rows` x `cols`: the caller's bug, found before any memory is touched.
pub fn expect_shape(what: &str, m: &Matrix, rows: usize, cols: usize) {
    assert!((m.rows(), m.cols()) == (rows, cols), "{what} is {} x {}, expected {rows} x {cols}", m.rows(), m.cols());
}
