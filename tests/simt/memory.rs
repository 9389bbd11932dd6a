//! Guarded memory, to detect accesses outside an allocation: each allocation has inaccessible pages
//! before and after it, ends within 256 bytes of the latter, and the bytes between are canaries.
//! (It begins on a 256-byte boundary, as a device's does, so it cannot also end exactly at the
//! page; the hooked build checks the exact ends of operands.)

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;
/// Inaccessible bytes before and after: more than one row of most matrices, and address space costs
/// nothing.
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
    /// Allocates zeroed memory; `None` if the system is out of memory.
    pub fn allocate(&self, bytes: usize) -> Option<(u64, Owner)> {
        let pages_bytes = bytes.max(1).next_multiple_of(PAGE);
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping at an address of the system's choice touches no other memory; its
        // two ends are then made inaccessible.
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
        for slack in extent.slack() {
            // SAFETY: accessible pages of the new mapping, which no one else uses yet.
            unsafe { std::ptr::write_bytes(slack.start as *mut u8, CANARY, slack.len()) };
        }
        self.0.lock().expect("no panic while locked").insert(start as u64, extent);
        Some((start as u64, Owner { memory: self.clone(), extent }))
    }

    fn holding(&self, address: u64) -> Extent {
        let extents = self.0.lock().expect("no panic while locked");
        let (start, extent) = extents.range(..=address).next_back().expect("an address in an allocation");
        assert!(address <= start + extent.bytes as u64, "an address after an allocation");
        *extent
    }

    /// Zeroes the allocation that begins at `address`, unless it was freed.
    pub fn zero(&self, address: u64) {
        if let Some(extent) = self.0.lock().expect("no panic while locked").get(&address) {
            // SAFETY: a live mapping; no kernel runs meanwhile.
            unsafe { std::ptr::write_bytes(extent.start as *mut u8, 0, extent.bytes) };
        }
    }

    /// A pointer to `bytes` bytes from `address` on, after a check that they are in one allocation.
    pub fn pointer(&self, address: u64, bytes: usize) -> *mut u8 {
        let extent = self.holding(address);
        assert!(address as usize + bytes <= extent.start + extent.bytes, "{bytes} bytes, more than the allocation has");
        address as *mut u8
    }

    /// An error if something was written just outside the allocation that holds `address`.
    pub fn check_surroundings(&self, address: u64) -> Result<(), String> {
        let extent = self.holding(address);
        // SAFETY: accessible pages of a live mapping, which kernels may have written, but none runs
        // now.
        let bytes = |r: Range<usize>| unsafe { std::slice::from_raw_parts(r.start as *const u8, r.len()) };
        let [before, after] = extent.slack().map(bytes);
        if let Some(i) = before.iter().rposition(|&b| b != CANARY) {
            return Err(format!("something was written {} bytes before an operand's allocation", before.len() - i));
        }
        match after.iter().position(|&b| b != CANARY) {
            Some(i) => Err(format!("something was written {i} bytes after an operand's allocation")),
            None => Ok(()),
        }
    }
}

impl Extent {
    /// The canary bytes before and after it.
    fn slack(&self) -> [Range<usize>; 2] {
        [self.pages..self.start, self.start + self.bytes..self.pages + self.pages_bytes]
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.memory.0.lock().expect("no panic while locked").remove(&(self.extent.start as u64));
        // SAFETY: the mapping of `allocate`, of which no handle is left.
        unsafe { libc::munmap((self.extent.pages - GUARD) as *mut libc::c_void, self.extent.pages_bytes + 2 * GUARD) };
    }
}
