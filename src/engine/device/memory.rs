//! Device memory: a `Buffer` is contiguous elements of an allocation, a `Matrix` is rows of a
//! buffer with a stride. Both are cheap handles. Only an op run by `Device::run` accesses the
//! numbers (see `host.rs`).

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// The type of one element in device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary64: sums of losses and of squares.
    F64,
    /// IEEE binary32: master weights, gradients, moments, statistics; on the CPU activations too.
    F32,
    /// bfloat16, 8 bits of exponent and 7 of mantissa: activations and weights on a GPU.
    Bf16,
    /// Tokens, targets and counters.
    U32,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::U32 => 4,
            DType::Bf16 => 2,
        }
    }
}

/// The Rust type of a [`DType`].
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The dtype of the same bytes in device memory.
    const DTYPE: DType;
}
impl Element for f64 {
    const DTYPE: DType = DType::F64;
}
impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for half::bf16 {
    const DTYPE: DType = DType::Bf16;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}

/// One allocation; freed when the last handle is dropped.
pub(super) struct Slab {
    pub(super) device: u64,
    pub(super) address: u64,
    pub(super) _owner: Box<dyn Any + Send + Sync>,
}

/// `len` elements of `dtype` in one allocation.
#[derive(Clone)]
pub struct Buffer {
    pub(super) slab: Arc<Slab>,
    /// In elements from the start of the allocation.
    pub(super) offset: usize,
    len: usize,
    dtype: DType,
}

impl Buffer {
    pub(super) fn new(slab: Slab, len: usize, dtype: DType) -> Buffer {
        Buffer { slab: Arc::new(slab), offset: 0, len, dtype }
    }
    /// Elements, not bytes.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Type of every element.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Address of the first element on its device.
    pub fn address(&self) -> u64 {
        self.slab.address + (self.offset * self.dtype.bytes()) as u64
    }
    /// Elements `range`, in the same memory. Panics if the range is out of bounds.
    pub fn slice(&self, range: Range<usize>) -> Buffer {
        assert!(range.start <= range.end && range.end <= self.len, "slice {range:?} of a buffer of {}", self.len);
        Buffer { offset: self.offset + range.start, len: range.len(), ..self.clone() }
    }
    /// The first `rows * cols` elements as a row-major matrix.
    pub fn matrix(&self, rows: usize, cols: usize) -> Matrix {
        assert!(rows * cols <= self.len, "a {rows} x {cols} matrix in a buffer of {}", self.len);
        Matrix { buffer: self.slice(0..rows * cols), rows, cols, stride: cols }
    }
    /// All elements as one row, the form in which ops take a vector.
    pub fn vector(&self) -> Matrix {
        self.matrix(1, self.len)
    }
}

/// `rows` rows of `cols` elements; each row starts `stride` elements after the previous one.
#[derive(Clone)]
pub struct Matrix {
    pub(super) buffer: Buffer,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Matrix {
    /// R
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Elements of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// Elements from the start of a row to the start of the next; at least `cols`.
    pub fn stride(&self) -> usize {
        self.stride
    }
    /// Type of every element.
    pub fn dtype(&self) -> DType {
        self.buffer.dtype
    }
    /// Address of element (0, 0) on its device.
    pub fn address(&self) -> u64 {
        self.buffer.address()
    }
    /// `rows * cols`; gaps between rows are not counted.
    pub fn elements(&self) -> usize {
        self.rows * self.cols
    }
    /// Bytes of the elements; gaps between rows are not counted.
    pub fn bytes(&self) -> u64 {
        (self.elements() * self.dtype().bytes()) as u64
    }
    /// Rows `range`, in the same memory. Panics if the range is out of bounds.
    pub fn row_range(&self, range: Range<usize>) -> Matrix {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let start = range.start * self.stride;
        let end = if range.is_empty() { start } else { (range.end - 1) * self.stride + self.cols };
        Matrix { buffer: self.buffer.slice(start..end), rows: range.len(), ..self.clone() }
    }
    /// Columns `range`, in the same memory and with the same stride. Panics if the range is out of
    /// bounds.
    pub fn col_range(&self, range: Range<usize>) -> Matrix {
        assert!(range.start <= range.end && range.end <= self.cols, "columns {range:?} of {}", self.cols);
        let end = if self.rows == 0 { range.start } else { (self.rows - 1) * self.stride + range.end };
        Matrix { buffer: self.buffer.slice(range.start..end), cols: range.len(), ..self.clone() }
    }
    /// Whether the two share an element. Column ranges of one matrix do not, though their spans
    /// interleave.
    pub(super) fn overlaps(&self, other: &Matrix) -> bool {
        if !Arc::ptr_eq(&self.buffer.slab, &other.buffer.slab) || self.elements() == 0 || other.elements() == 0 {
            return false;
        }
        let size = self.dtype().bytes();
        if size != other.dtype().bytes() {
            return true; // one allocation never has two element sizes
        }
        let (a, b) = (self.buffer.offset, other.buffer.offset);
        let end = |m: &Matrix| m.buffer.offset + (m.rows - 1) * m.stride + m.cols;
        if end(self) <= b || end(other) <= a {
            return false;
        }
        if self.stride != other.stride || self.rows <= 1 || other.rows <= 1 {
            return true;
        }
        let shift = (b as i64 - a as i64).rem_euclid(self.stride as i64) as usize;
        !(shift >= self.cols && shift + other.cols <= self.stride)
    }
    fn same(&self, other: &Matrix) -> bool {
        Arc::ptr_eq(&self.buffer.slab, &other.buffer.slab)
            && (self.buffer.offset, self.rows, self.cols, self.stride)
                == (other.buffer.offset, other.rows, other.cols, other.stride)
    }
}

/// How an op accesses an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Not written.
    Read,
    /// Every element is written before it is read.
    Write,
    /// Read and written in place.
    Update,
    /// Temporary memory of the kernels; the CPU does not use it.
    Scratch,
}

/// The operands of one op, in the order of its kernel's parameters.
#[derive(Default)]
pub struct Operands {
    pub(super) list: Vec<(Matrix, Access)>,
}

impl Operands {
    /// Adds an operand that is only read.
    pub fn read(mut self, m: &Matrix) -> Operands {
        self.list.push((m.clone(), Access::Read));
        self
    }
    /// Adds an output; every element is written before it is read.
    pub fn write(mut self, m: &Matrix) -> Operands {
        self.list.push((m.clone(), Access::Write));
        self
    }
    /// Adds an operand that is read and written in place.
    pub fn update(mut self, m: &Matrix) -> Operands {
        self.list.push((m.clone(), Access::Update));
        self
    }
    /// Adds memory for the kernels' partial results.
    pub fn scratch(mut self, m: &Matrix) -> Operands {
        self.list.push((m.clone(), Access::Scratch));
        self
    }
    /// Adds an output, as `update` if the flag is set (accumulated into), else as `write`.
    pub fn write_or_update(self, m: &Matrix, update: bool) -> Operands {
        if update { self.update(m) } else { self.write(m) }
    }
    /// In the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &(Matrix, Access)> {
        self.list.iter()
    }
    pub(super) fn find(&self, m: &Matrix) -> Option<(usize, Access)> {
        self.list.iter().position(|(o, _)| o.same(m)).map(|i| (i, self.list[i].1))
    }
    /// Panics unless every operand is on `device` and no written operand overlaps another. Ops rely
    /// on this check to access memory without further ones. A failure is a bug in the caller, never
    /// a user error.
    pub(super) fn check(&self, op: &str, device: u64) {
        for (i, (m, access)) in self.list.iter().enumerate() {
            assert_eq!(m.buffer.slab.device, device, "{op}: operand {i} is on another device");
            for (j, (n, other)) in self.list.iter().enumerate().skip(i + 1) {
                let written = *access != Access::Read || *other != Access::Read;
                assert!(!(written && m.overlaps(n)), "{op}: operands {i} and {j} overlap and one is written");
            }
        }
    }
}
