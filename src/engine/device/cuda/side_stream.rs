//! The side stream: uploads that run beside the launches, on a second stream with its own pinned
//! memory, synchronized with the first stream by events.
//!
//! Memory is freed in the order of the first stream, which does not order the second stream's
//! copies. So the target of a copy is held here until the first stream has been made to wait for
//! the copy; it can only be freed after that.

use super::super::memory::Buffer;
use super::failed;
use super::pinned::Staging;
use crate::error::Result;
use cudarc::driver::CudaStream;
use std::sync::Arc;

pub(super) struct SideStream {
    stream: Arc<CudaStream>,
    staging: Staging,
    /// Targets of copies since the last join.
    held: Vec<Buffer>,
}

impl SideStream {
    /// The new stream waits for the work queued on `first`, including the zeroing of new memory.
    pub(super) fn new(first: &CudaStream) -> Result<SideStream> {
        let stream = first.fork().map_err(|e| failed("create a stream for copies", e))?;
        Ok(SideStream { staging: Staging::new(&stream)?, stream, held: vec![] })
    }

    pub(super) fn fork(&self, first: &CudaStream) -> Result<()> {
        self.stream.join(first).map_err(|e| failed("make copies wait for launches", e))
    }

    pub(super) fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        // Held before the copy is queued: if queueing fails midway, the first part is already in
        // flight.
        self.held.push(to.clone());
        self.staging.upload(&self.stream, to.address(), bytes)
    }

    pub(super) fn join(&mut self, first: &CudaStream) -> Result<()> {
        first.join(&self.stream).map_err(|e| failed("make launches wait for copies", e))?;
        self.held.clear();
        Ok(())
    }
}

impl Drop for SideStream {
    fn drop(&mut self) {
        // The held memory is freed next. The next call of the device reports a failure.
        let _ = self.stream.synchronize();
    }
}
