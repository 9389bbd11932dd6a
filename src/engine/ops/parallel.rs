//! Distribution of work among the threads of the calling rayon pool, in chunks that depend on
//! shapes alone: the bits of a result never depend on the number of threads.

use rayon::prelude::*;
use std::cell::RefCell;

/// About 128 KiB of f32: some ten microseconds of work, well above the cost of handing it to a
/// thread, and small enough that 16 threads have work in a batch of 1,024 tokens.
const CHUNK_ELEMENTS: usize = 1 << 15;

/// Rows of `cols` elements per chunk.
pub fn rows_per_chunk(cols: usize) -> usize {
    (CHUNK_ELEMENTS / cols.max(1)).max(1)
}

/// Runs `body` on every chunk. A single chunk or thread bypasses rayon: entering the pool from
/// outside costs several microseconds.
pub fn for_each<T: Send>(chunks: Vec<T>, body: impl Fn(T) + Sync + Send) {
    if chunks.len() <= 1 || rayon::current_num_threads() == 1 {
        chunks.into_iter().for_each(body);
    } else {
        chunks.into_par_iter().for_each(body);
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Passes `len` floats of this thread's scratch memory, with arbitrary contents, to `body`. The
/// memory is kept between calls, because fresh pages cost more than the work of a small head.
pub fn with_scratch<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        body(&mut scratch[..len])
    })
}
