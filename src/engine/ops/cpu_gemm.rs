//! Single-threaded matrix products over bounds-checked views: a safe interface to the `gemm` crate
//! for [`super::Gemm`] and attention's tiles.

use crate::engine::device::{Rows, RowsMut};
use std::marker::PhantomData;
use std::ops::Range;

/// A read-only matrix with any row and column stride, so a transpose is just another view.
#[derive(Clone, Copy)]
pub struct View<'a> {
    first: *const f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
    life: PhantomData<&'a f32>,
}

// SAFETY: as `&[f32]`.
unsafe impl Send for View<'_> {}
unsafe impl Sync for View<'_> {}

impl<'a> View<'a> {
    /// All rows of an operand.
    pub fn of(rows: Rows<'a, f32>) -> View<'a> {
        View {
            first: rows.as_ptr(),
            rows: rows.rows(),
            cols: rows.cols(),
            row_stride: rows.stride(),
            col_stride: 1,
            life: PhantomData,
        }
    }
    /// Row-major, `stride` elements from row to row.
    pub fn slice(values: &'a [f32], rows: usize, cols: usize, stride: usize) -> View<'a> {
        assert!(fits(values.len(), rows, cols, stride), "a view reaches past its slice");
        View { first: values.as_ptr(), rows, cols, row_stride: stride, col_stride: 1, life: PhantomData }
    }
    /// The given rows and columns.
    pub fn block(self, rows: Range<usize>, cols: Range<usize>) -> View<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(cols.start <= cols.end && cols.end <= self.cols, "columns {cols:?} of {}", self.cols);
        let first = self.first.wrapping_add(rows.start * self.row_stride + cols.start * self.col_stride);
        View { first, rows: rows.len(), cols: cols.len(), ..self }
    }
    /// The given rows.
    pub fn row_block(self, rows: Range<usize>) -> View<'a> {
        self.block(rows, 0..self.cols)
    }
    /// The same numbers with rows and columns exchanged; nothing is copied.
    pub fn transposed(self) -> View<'a> {
        View { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
    /// Row `i` of a view that is not transposed.
    #[inline(always)]
    pub fn row(&self, i: usize) -> &'a [f32] {
        assert!(i < self.rows && self.col_stride == 1);
        // SAFETY: row i is inside the view and contiguous.
        unsafe { std::slice::from_raw_parts(self.first.add(i * self.row_stride), self.cols) }
    }
}

fn fits(len: usize, rows: usize, cols: usize, stride: usize) -> bool {
    rows == 0 || (cols <= stride && (rows - 1) * stride + cols <= len)
}

/// A mutable row-major matrix.
pub struct ViewMut<'a> {
    first: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    life: PhantomData<&'a mut f32>,
}

impl<'a> ViewMut<'a> {
    /// All rows of an operand that is written.
    pub fn of(rows: &'a mut RowsMut<f32>) -> ViewMut<'a> {
        let (count, cols, stride) = (rows.rows(), rows.cols(), rows.stride());
        ViewMut { first: rows.as_mut_ptr(), rows: count, cols, stride, life: PhantomData }
    }
    /// (rows, cols) of a slice whose rows begin `stride` elements apart.
    pub fn slice(values: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> ViewMut<'a> {
        assert!(fits(values.len(), rows, cols, stride), "a view reaches past its slice");
        ViewMut { first: values.as_mut_ptr(), rows, cols, stride, life: PhantomData }
    }
    /// The same view with a shorter lifetime.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut { first: self.first, rows: self.rows, cols: self.cols, stride: self.stride, life: PhantomData }
    }
    /// The given rows and columns.
    pub fn block(self, rows: Range<usize>, cols: Range<usize>) -> ViewMut<'a> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(cols.start <= cols.end && cols.end <= self.cols, "columns {cols:?} of {}", self.cols);
        let first = self.first.wrapping_add(rows.start * self.stride + cols.start);
        ViewMut { first, rows: rows.len(), cols: cols.len(), ..self }
    }
}

/// C = A x B, or C += A x B with `accumulate`. The order of each sum depends on the shapes and
/// strides alone.
pub fn multiply(a: View, b: View, c: ViewMut, accumulate: bool) {
    assert!(a.cols == b.rows && (c.rows, c.cols) == (a.rows, b.cols), "product: the shapes do not match");
    // The kernels need contiguous columns of C, as in C^T = B^T x A^T.
    let transposed = c.stride > 1;
    let (m, n) = if transposed { (c.cols, c.rows) } else { (c.rows, c.cols) };
    let strides = |row: usize, col: usize| {
        let (row, col) = (row as isize, col as isize);
        if transposed { (row, col) } else { (col, row) }
    };
    let (c_cs, c_rs) = strides(c.stride, 1);
    let (a_cs, a_rs) = strides(a.row_stride, a.col_stride);
    let (b_cs, b_rs) = strides(b.row_stride, b.col_stride);
    let [lhs, rhs] = if transposed {
        [(b.first, b_cs, b_rs), (a.first, a_cs, a_rs)]
    } else {
        [(a.first, a_cs, a_rs), (b.first, b_cs, b_rs)]
    };
    let alpha = if accumulate { 1.0 } else { 0.0 };
    // SAFETY: the views hold the (m, k), (k, n) and (m, n) elements that the strides reach; C is a
    // mutable view, so nothing else accesses it meanwhile.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            m,
            n,
            a.cols,
            c.first,
            c_cs,
            c_rs,
            accumulate,
            lhs.0,
            lhs.1,
            lhs.2,
            rhs.0,
            rhs.1,
            rhs.2,
            alpha,
            1.0,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}
