//! Uploads beside the launches: a second stream with pinned memory of its own, tied to the first by events.
//!
//! Memory is freed in the order of the first stream, which knows nothing of the copies of the second. So a buffer that
//! is copied to is held here until the first stream has been told to wait for the copy: only behind that can it be
//! freed.

use super::super::memory::Buffer;
use super::failed;
use super::pinned::Staging;
use crate::error::Result;
use cudarc::driver::CudaStream;
use std::sync::Arc;

pub(super) struct SideStream {
    stream: Arc<CudaStream>,
    staging: Staging,
    /// Copied to since the last join.
    held: Vec<Buffer>,
}

impl SideStream {
    /// The new stream waits for what `first` holds, the zeroing of new memory among it.
    pub(super) fn new(first: &CudaStream) -> Result<SideStream> {
        let stream = first.fork().map_err(|e| failed("make a stream for copies", e))?;
        Ok(SideStream { staging: Staging::new(&stream)?, stream, held: vec![] })
    }

    pub(super) fn fork(&self, first: &CudaStream) -> Result<()> {
        self.stream.join(first).map_err(|e| failed("let copies wait for launches", e))
    }

    pub(super) fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        // Before the copy is queued: a failure in its midst leaves its beginning under way.
        self.held.push(to.clone());
        self.staging.upload(&self.stream, to.address(), bytes)
    }

    pub(super) fn join(&mut self, first: &CudaStream) -> Result<()> {
        first.join(&self.stream).map_err(|e| failed("let launches wait for copies", e))?;
        self.held.clear();
        Ok(())
    }
}

impl Drop for SideStream {
    fn drop(&mut self) {
        // The held memory goes next. A failure shows at the next call of the device.
        let _ = self.stream.synchronize();
    }
}
