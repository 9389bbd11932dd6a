//! Memory that notices who leaves it: each allocation ends within 256 bytes of pages that nobody may touch, begins
//! after others, and the bytes between are canaries. (It begins on a 256-byte boundary, as a device's does, so it cannot also
//! end exactly at the page; the hooked build checks the exact ends of operands.)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;
/// Closed bytes before and behind: more than one row of most matrices, and address space costs nothing.
const GUARD: usize = 1 << 20;
const ALIGNMENT: usize = 256;
const CANARY: u8 = 0xcb;

/// The allocations of one executor, by address.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<u64, Extent>>>);

#[derive(Clone, Copy)]
struct Extent {
    /// The pages between the two guards.
    pages: usize,
    pages_bytes: usize,
    start: usize,
    bytes: usize,
}

/// Frees an allocation.
pub struct Owner {
    memory: Memory,
    extent: Extent,
}

impl Memory {
    /// Zeroed; `None` if the system has no more.
    pub fn allocate(&self, bytes: usize) -> Option<(u64, Owner)> {
        let pages_bytes = bytes.max(1).next_multiple_of(PAGE);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping at an address of the system's choice touches no other memory; its two ends are then
        // closed.
        let pages = unsafe {
            let map = libc::mmap(std::ptr::null_mut(), pages_bytes + 2 * GUARD, protection, flags, -1, 0);
            if map == libc::MAP_FAILED {
                return None;
            }
            libc::mprotect(map, GUARD, libc::PROT_NONE);
            libc::mprotect(map.add(GUARD + pages_bytes), GUARD, libc::PROT_NONE);
            map as usize + GUARD
        };
        let start = (pages + pages_bytes - bytes) / ALIGNMENT * ALIGNMENT;
        let extent = Extent { pages, pages_bytes, start, bytes };
        extent.slack().into_iter().for_each(|slack| slack.fill(CANARY));
        self.0.lock().expect("no panic while locked").insert(start as u64, extent);
        Some((start as u64, Owner { memory: self.clone(), extent }))
    }

    fn holding(&self, address: u64) -> Extent {
        let extents = self.0.lock().expect("no panic while locked");
        let (start, extent) = extents.range(..=address).next_back().expect("an address in an allocation");
        assert!(address <= start + extent.bytes as u64, "an address behind an allocation");
        *extent
    }

    /// `bytes` from `address` on, which must be of one allocation.
    ///
    /// # Safety
    /// No kernel runs, and no other slice of these bytes is alive.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, address: u64, bytes: usize) -> &mut [u8] {
        let extent = self.holding(address);
        assert!(address as usize + bytes <= extent.start + extent.bytes, "{bytes} bytes, more than the allocation has");
        // SAFETY: in bounds of a live mapping; not shared, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }
    }

    /// An error if something was written just outside the allocation that holds `address`.
    pub fn check_surroundings(&self, address: u64) -> Result<(), String> {
        let extent = self.holding(address);
        let [before, after] = extent.slack();
        if let Some(i) = before.iter().rposition(|&b| b != CANARY) {
            return Err(format!("something was written {} bytes before an operand's allocation", before.len() - i));
        }
        match after.iter().position(|&b| b != CANARY) {
            Some(i) => Err(format!("something was written {i} bytes behind an operand's allocation")),
            None => Ok(()),
        }
    }
}

impl Extent {
    /// The bytes before and after it that belong to nobody.
    fn slack(&self) -> [&mut [u8]; 2] {
        let end = self.start + self.bytes;
        // SAFETY: both lie in the open pages of this mapping and hold nothing but canaries; no kernel runs.
        unsafe {
            let before = std::slice::from_raw_parts_mut(self.pages as *mut u8, self.start - self.pages);
            [before, std::slice::from_raw_parts_mut(end as *mut u8, self.pages + self.pages_bytes - end)]
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.memory.0.lock().expect("no panic while locked").remove(&(self.extent.start as u64));
        // SAFETY: the mapping of `allocate`, of which no handle is left.
        unsafe { libc::munmap((self.extent.pages - GUARD) as *mut libc::c_void, self.extent.pages_bytes + 2 * GUARD) };
    }
}
