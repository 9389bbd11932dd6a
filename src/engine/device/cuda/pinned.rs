//! Asynchronous copies through page-locked (pinned) host memory, which the GPU reads and writes by
//! itself.

use super::super::launch::Fetched;
use super::{failed, failed_with_fix};
use crate::error::{Error, Result};
use cudarc::driver::sys::CU_MEMHOSTALLOC_WRITECOMBINED;
use cudarc::driver::{CudaEvent, CudaStream, DriverError, PinnedHostSlice, result};
use std::sync::{Arc, Mutex, PoisonError};

type Driven<T> = std::result::Result<T, DriverError>;

/// Bytes of one staging slot; a larger upload takes several.
const SLOT: usize = 1 << 20;
/// Uploads in flight before the host waits: tokens and targets of eight micro-batches.
const SLOTS: usize = 16;
/// Smallest allocation for a fetch, in bytes.
const SMALLEST_FETCH: usize = 4096;

/// Page-locked memory, and the event of the last copy that uses it.
struct Pinned {
    memory: PinnedHostSlice<u8>,
    copied: CudaEvent,
}

impl Pinned {
    /// Allocates zeroed memory. `flags` are those of `cuMemHostAlloc`.
    fn new(stream: &CudaStream, bytes: usize, flags: u32) -> Driven<Pinned> {
        let copied = stream.context().new_event(None)?;
        // SAFETY: (1) the memory is filled before it is read, right below; (2) `as_mut_ptr` points
        // to `bytes` bytes of it.
        let memory = unsafe {
            let mut memory = stream.context().alloc_pinned_with_flags::<u8>(bytes, flags)?;
            memory.as_mut_ptr()?.write_bytes(0, bytes);
            memory
        };
        Ok(Pinned { memory, copied })
    }

    /// The memory, after its last copy is done. cudarc's own event for it is never recorded:
    /// tracking is off.
    fn bytes(&mut self) -> Driven<&mut [u8]> {
        self.copied.synchronize()?;
        self.memory.as_mut_slice()
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // The memory is freed next. The next call of the device reports a failure.
        let _ = self.copied.synchronize();
    }
}

/// A ring of staging slots for uploads.
pub(super) struct Staging {
    slots: Vec<Pinned>,
    next: usize,
}

impl Staging {
    pub(super) fn new(stream: &CudaStream) -> Result<Staging> {
        // Write-combined: the host only writes it.
        let slot = |_| Pinned::new(stream, SLOT, CU_MEMHOSTALLOC_WRITECOMBINED);
        let slots = (0..SLOTS).map(slot).collect::<Driven<_>>().map_err(no_memory)?;
        Ok(Staging { slots, next: 0 })
    }

    /// Queues a copy of `bytes` to device address `to`.
    pub(super) fn upload(&mut self, stream: &CudaStream, to: u64, bytes: &[u8]) -> Result<()> {
        for (i, part) in bytes.chunks(SLOT).enumerate() {
            let slot = &mut self.slots[self.next];
            self.next = (self.next + 1) % SLOTS;
            slot.upload(stream, to + (i * SLOT) as u64, part).map_err(|e| failed("copy to the device", e))?;
        }
        Ok(())
    }
}

impl Pinned {
    /// Queues a copy of at most `SLOT` bytes.
    fn upload(&mut self, stream: &CudaStream, to: u64, part: &[u8]) -> Driven<()> {
        stream.context().bind_to_thread()?;
        let staged = &mut self.bytes()?[..part.len()];
        staged.copy_from_slice(part);
        // SAFETY: (1) the buffer at `to` holds as many bytes (checked by `Device::upload`) and is
        // freed in stream order, or held until the stream that frees it waits for this one
        // (`side_stream.rs`); (2) the slot is not accessed until the event recorded below
        // completes.
        unsafe { result::memcpy_htod_async(to, staged, stream.cu_stream())? };
        self.copied.record(stream)
    }
}

/// Pinned memory for fetches; reused once their bytes are read.
#[derive(Default)]
pub(super) struct FetchPool {
    free: Arc<Mutex<Vec<Pinned>>>,
}

impl FetchPool {
    /// Queues a copy of `len` bytes from device address `from`.
    pub(super) fn fetch(&mut self, stream: &CudaStream, from: u64, len: usize) -> Result<PendingFetch> {
        let mut pinned = self.take(stream, len).map_err(no_memory)?;
        let mut copy = || -> Driven<()> {
            stream.context().bind_to_thread()?;
            let to = &mut pinned.bytes()?[..len];
            // SAFETY: (1) the buffer at `from` holds as many bytes and is freed in stream order;
            // (2) the memory is not accessed until the event recorded below completes.
            unsafe { result::memcpy_dtoh_async(to, from, stream.cu_stream())? };
            pinned.copied.record(stream)
        };
        copy().map_err(|e| failed("copy from the device", e))?;
        Ok(PendingFetch { pinned, len, free: self.free.clone() })
    }

    /// A free block of at least `len` bytes, or a new one.
    fn take(&mut self, stream: &CudaStream, len: usize) -> Driven<Pinned> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match free.iter().position(|pinned| pinned.memory.len() >= len) {
            Some(i) => Ok(free.swap_remove(i)),
            None => Pinned::new(stream, len.next_power_of_two().max(SMALLEST_FETCH), 0),
        }
    }
}

/// A fetch in flight.
pub(super) struct PendingFetch {
    pinned: Pinned,
    len: usize,
    free: Arc<Mutex<Vec<Pinned>>>,
}

impl Fetched for PendingFetch {
    fn wait(self: Box<Self>) -> Result<Vec<u8>> {
        let PendingFetch { mut pinned, len, free } = *self;
        let bytes = pinned.bytes().map_err(|e| failed("wait for a copy from the device", e))?[..len].to_vec();
        free.lock().unwrap_or_else(PoisonError::into_inner).push(pinned);
        Ok(bytes)
    }
}

fn no_memory(error: DriverError) -> Error {
    let fix = "free host memory, or raise the limit on locked memory (ulimit -l)";
    failed_with_fix("allocate page-locked host memory for copies", error, fix)
}
