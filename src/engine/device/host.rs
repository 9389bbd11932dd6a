//! The CPU device's memory and the ops' safe access to it: `Host::read` and `Host::write` return
//! operands as declared, a written one only once. `Device::run` has already checked that written
//! operands overlap no other, so no mutable view below aliases another view.

use super::memory::{Access, Element, Matrix, Operands};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::RefCell;
use std::marker::PhantomData;

/// Zeroed bytes on a cache-line (and AVX-512 vector) boundary.
pub(super) struct AlignedBytes {
    address: *mut u8,
    layout: Layout,
}

// SAFETY: plain bytes; `Device::run` decides who may access them and when.
unsafe impl Send for AlignedBytes {}
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `None` when the system is out of memory.
    pub(super) fn zeroed(bytes: usize) -> Option<AlignedBytes> {
        let layout = Layout::from_size_align(bytes.max(64), 64).ok()?;
        // SAFETY: the layout's size is at least 64.
        let address = unsafe { alloc_zeroed(layout) };
        if address.is_null() { None } else { Some(AlignedBytes { address, layout }) }
    }
    pub(super) fn address(&self) -> u64 {
        self.address as u64
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, freed once.
        unsafe { dealloc(self.address, self.layout) }
    }
}

/// An op's access to its operands on the CPU; exists only while `Device::run` runs that op.
pub struct Host<'a> {
    operands: &'a Operands,
    taken: RefCell<Vec<bool>>,
}

impl<'a> Host<'a> {
    pub(super) fn new(operands: &'a Operands) -> Host<'a> {
        Host { operands, taken: RefCell::new(vec![false; operands.list.len()]) }
    }

    /// An operand declared with `read`.
    pub fn read<T: Element>(&self, m: &Matrix) -> Rows<'a, T> {
        let (_, access) = self.operands.find(m).expect("an op reads only its declared operands");
        assert_eq!(access, Access::Read, "a written operand is taken with `write`");
        assert_eq!(m.dtype(), T::DTYPE, "the CPU computes in the operand's own type");
        Rows { first: m.address() as *const T, rows: m.rows(), cols: m.cols(), stride: m.stride(), life: PhantomData }
    }

    /// An operand declared with `write` or `update`, once.
    pub fn write<T: Element>(&self, m: &Matrix) -> RowsMut<'a, T> {
        let (i, access) = self.operands.find(m).expect("an op writes only its declared operands");
        assert_ne!(access, Access::Read, "a read operand is taken with `read`");
        assert_eq!(m.dtype(), T::DTYPE, "the CPU computes in the operand's own type");
        assert!(!std::mem::replace(&mut self.taken.borrow_mut()[i], true), "a written operand is taken once");
        RowsMut { first: m.address() as *mut T, rows: m.rows(), cols: m.cols(), stride: m.stride(), life: PhantomData }
    }
}

/// Rows of an operand that is read.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    first: *const T,
    rows: usize,
    cols: usize,
    stride: usize,
    life: PhantomData<&'a T>,
}

// SAFETY: as `&[T]`.
unsafe impl<T: Sync> Send for Rows<'_, T> {}
unsafe impl<T: Sync> Sync for Rows<'_, T> {}

impl<'a, T> Rows<'a, T> {
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
    /// Address of element (0, 0); row `i` starts `i * stride` elements later.
    pub fn as_ptr(&self) -> *const T {
        self.first
    }
    /// Row `i`, (cols). Panics if `i` is out of bounds.
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows);
        // SAFETY: row i is inside the operand (checked when the Matrix was made); nothing writes it
        // meanwhile.
        unsafe { std::slice::from_raw_parts(self.first.add(i * self.stride), self.cols) }
    }
    /// All elements of an operand without gaps.
    pub fn flat(&self) -> &'a [T] {
        assert!(self.stride == self.cols || self.rows <= 1, "the rows have gaps");
        // SAFETY: as `row`, and the rows are contiguous.
        unsafe { std::slice::from_raw_parts(self.first, self.rows * self.cols) }
    }
}

/// Rows of an operand that is written; not `Clone`, so parts of it are disjoint by construction.
pub struct RowsMut<'a, T> {
    first: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    life: PhantomData<&'a mut T>,
}

// SAFETY: as `&mut [T]`.
unsafe impl<T: Send> Send for RowsMut<'_, T> {}
unsafe impl<T: Sync> Sync for RowsMut<'_, T> {}

impl<'a, T> RowsMut<'a, T> {
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
    /// Address of element (0, 0); row `i` starts `i * stride` elements later.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.first
    }
    /// Row `i`, (cols). Panics if `i` is out of bounds.
    pub fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows);
        // SAFETY: row i is inside the operand; `&mut self` excludes other views of it.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(i * self.stride), self.cols) }
    }
    /// All elements of an operand without gaps.
    pub fn flat(self) -> &'a mut [T] {
        assert!(self.stride == self.cols || self.rows <= 1, "the rows have gaps");
        // SAFETY: as `row`; `self` is consumed.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.rows * self.cols) }
    }
    /// Splits into chunks of `rows_per_chunk` rows (the last may be shorter), to distribute among
    /// threads. The chunks depend on the shape alone, never on the number of threads.
    pub fn chunks(self, rows_per_chunk: usize) -> Vec<RowsMut<'a, T>> {
        assert!(rows_per_chunk > 0);
        (0..self.rows)
            .step_by(rows_per_chunk)
            .map(|start| RowsMut {
                // SAFETY: start < rows, so the row is inside the operand; the chunks are disjoint.
                first: unsafe { self.first.add(start * self.stride) },
                rows: rows_per_chunk.min(self.rows - start),
                cols: self.cols,
                stride: self.stride,
                life: PhantomData,
            })
            .collect()
    }
    /// Splits into chunks of `cols_per_chunk` columns, as [`RowsMut::chunks`] does rows.
    pub fn col_chunks(self, cols_per_chunk: usize) -> Vec<RowsMut<'a, T>> {
        assert!(cols_per_chunk > 0);
        (0..self.cols)
            .step_by(cols_per_chunk)
            .map(|start| RowsMut {
                // SAFETY: start < cols; the chunks share no element.
                first: unsafe { self.first.add(start) },
                rows: self.rows,
                cols: cols_per_chunk.min(self.cols - start),
                stride: self.stride,
                life: PhantomData,
            })
            .collect()
    }
}
