//! Launch arguments of all ops: operands first, in the order of `operands()`, then scalars. Strides
//! count elements; a count, stride or grid that a kernel cannot have is a bug in the caller, because
//! no model of this project has one.

use crate::engine::device::{Arg, DType, Launch, Matrix};

/// A compile-time constant of a kernel: its name and value.
pub type Define = (&'static str, String);

/// A kernel's defines, grid, block and shared memory.
#[derive(Default)]
pub struct OperandLayout {
    /// Blocks along x, y and z; an empty axis still gets one block, which has no work.
    pub grid: [usize; 3],
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    pub defines: Vec<Define>,
}

/// The launch of `kernel` in `kernels/<file>.cu`.
pub fn launch(
    file: &'static str,
    kernel: &'static str,
    layout: OperandLayout,
    operands: &[&Matrix],
    scalars: impl IntoIterator<Item = Arg>,
) -> Launch {
    let matrices = operands.iter().map(|&m| Arg::Matrix(m.clone()));
    let grid = layout.grid.map(|blocks| count(blocks.max(1)));
    let fits = grid.iter().zip(MOST_BLOCKS).all(|(&blocks, most)| blocks <= most);
    assert!(fits, "{kernel}: a grid of {grid:?} blocks, at most {MOST_BLOCKS:?} are possible");
    Launch {
        file,
        kernel,
        defines: layout.defines,
        grid,
        block: layout.block,
        shared_bytes: count(layout.shared),
        args: matrices.chain(scalars).collect(),
    }
}

/// Elements of one access: 8 if every row of these operands is whole vectors of 8 elements on
/// 16-byte boundaries, else 1.
pub fn vector(operands: &[&Matrix]) -> Define {
    if operands.iter().all(|m| m.cols().is_multiple_of(8)) {
        vector_with_tail(operands)
    } else {
        ("VECTOR", "1".into())
    }
}

/// As [`vector`], for a kernel that handles an incomplete vector at the end of a row separately.
pub fn vector_with_tail(operands: &[&Matrix]) -> Define {
    let aligned = |m: &&Matrix| {
        m.address().is_multiple_of(16) && (m.rows() <= 1 || (m.stride() * m.dtype().bytes()).is_multiple_of(16))
    };
    ("VECTOR", if operands.iter().all(aligned) { "8" } else { "1" }.into())
}

/// Blocks along x, y and z that every device supports.
const MOST_BLOCKS: [u32; 3] = [0x7fff_ffff, 65_535, 65_535];

/// The largest count. A loop's index passes the count by less than a step of a whole block, at most
/// 1024 threads with 8 elements each, so 32 bits hold it.
const MOST: usize = u32::MAX as usize - (1 << 16);

fn count(n: usize) -> u32 {
    assert!(n <= MOST, "{n}, but a kernel's counts and strides are at most {MOST}");
    n as u32
}

/// A count as a kernel's u32.
pub fn number(n: usize) -> Arg {
    Arg::U32(count(n))
}

/// Elements between two rows of a matrix, as a kernel's u32.
pub fn stride(m: &Matrix) -> Arg {
    number(m.stride())
}

/// The name of an operand's element type in CUDA C++.
pub fn type_of(m: &Matrix) -> String {
    match m.dtype() {
        DType::F64 => "double",
        DType::F32 => "float",
        DType::Bf16 => "bf16",
        DType::U32 => "unsigned",
    }
    .into()
}

/// A define's value: 1 or 0.
pub fn flag(on: bool) -> String {
    u32::from(on).to_string()
}

/// Panics unless `m` is `rows` x `cols`: the caller's bug, found before any memory is touched.
pub fn expect_shape(what: &str, m: &Matrix, rows: usize, cols: usize) {
    assert!((m.rows(), m.cols()) == (rows, cols), "{what} is {} x {}, expected {rows} x {cols}", m.rows(), m.cols());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch_of(grid: [usize; 3]) -> Launch {
        launch("file", "kernel", OperandLayout { grid, ..OperandLayout::default() }, &[], [])
    }

    #[test]
    fn the_largest_grid_is_accepted() {
        assert_eq!(launch_of([0x7fff_ffff, 65_535, 65_535]).grid, MOST_BLOCKS);
        assert_eq!(launch_of([0, 0, 0]).grid, [1, 1, 1]);
    }

    #[test]
    #[should_panic(expected = "a grid of")]
    fn a_grid_that_no_device_supports_is_refused() {
        launch_of([1, 65_536, 1]);
    }

    #[test]
    #[should_panic(expected = "at most")]
    fn a_count_whose_loop_would_overflow_is_refused() {
        number(MOST + 1);
    }
}
