//! Memory-mapped files: a merge reads from the page cache without a copy.
//!
//! If a mapped file is truncated while it is read, or the disk fails to read it, the access raises
//! SIGBUS, which ends the process by default. Here a handler replaces the lost pages with zero
//! pages, marks the mapping as broken and returns; readers check [`Mapping::is_broken`] before they
//! use what they read (as libwayland does for memory that a client shares with it). A SIGBUS
//! elsewhere is handled as before.

use memmap2::Mmap;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// A read-only mapping of a file.
#[derive(Debug)]
pub(super) struct Mapping {
    map: Mmap,
    watched: &'static Watched,
}

impl Mapping {
    /// Maps all of `file`, which must not be empty.
    pub(super) fn new(file: &File) -> io::Result<Mapping> {
        HANDLER.call_once(install);
        // SAFETY: if another process changes the file, reads return old or new bytes: they are only
        // viewed as numbers, for which every bit pattern is a value, and the reader refuses a file
        // that has changed. The handler deals with bytes that vanish.
        let map = unsafe { Mmap::map(file)? };
        let watched = Watched::take(map.as_ptr() as usize, map.len());
        Ok(Mapping { map, watched })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }
    /// Whether some reads returned zeros in place of bytes that could not be read.
    pub(super) fn is_broken(&self) -> bool {
        self.watched.broken.load(Ordering::Acquire)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before another mapping can get these addresses.
        self.watched.give_back();
    }
}

/// An address range that the handler watches. Entries are reused, never freed, so that the handler
/// can walk the list at any time.
#[derive(Debug)]
struct Watched {
    /// 0: free
    start: AtomicUsize,
    length: AtomicUsize,
    broken: AtomicBool,
    next: *const Watched,
}

// SAFETY: (1) `next` is written before the entry is shared and never again; (2) entries are never
// freed; (3) the rest is atomic.
unsafe impl Sync for Watched {}

static WATCHED: AtomicPtr<Watched> = AtomicPtr::new(std::ptr::null_mut());

/// Marks an entry that is being filled: an address that no mapping has.
const FILLING: usize = usize::MAX;

impl Watched {
    fn take(start: usize, length: usize) -> &'static Watched {
        let free =
            entries().find(|w| w.start.compare_exchange(0, FILLING, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        let entry = free.unwrap_or_else(Watched::append);
        entry.length.store(length, Ordering::Release);
        entry.broken.store(false, Ordering::Release);
        entry.start.store(start, Ordering::Release);
        entry
    }

    /// A new entry at the head of the list.
    fn append() -> &'static Watched {
        let (start, length) = (AtomicUsize::new(FILLING), AtomicUsize::new(0));
        let entry = Box::leak(Box::new(Watched { start, length, broken: false.into(), next: std::ptr::null() }));
        let mut head = WATCHED.load(Ordering::Acquire);
        loop {
            entry.next = head;
            match WATCHED.compare_exchange_weak(head, entry, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return entry,
                Err(now) => head = now,
            }
        }
    }

    fn give_back(&self) {
        self.start.store(0, Ordering::Release);
    }

    /// The end of the range (exclusive) if `address` is in it.
    fn end_if_holds(&self, address: usize) -> Option<usize> {
        let start = self.start.load(Ordering::Acquire);
        let end = start.checked_add(self.length.load(Ordering::Acquire))?;
        (start != 0 && start <= address && address < end).then_some(end)
    }
}

fn entries() -> impl Iterator<Item = &'static Watched> {
    let mut next = WATCHED.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: null, or an entry, which is never freed.
        let entry: Option<&'static Watched> = unsafe { next.as_ref() };
        next = entry?.next;
        entry
    })
}

static HANDLER: Once = Once::new();
/// The previous SIGBUS action; written once, before the handler is installed.
static mut BEFORE: std::mem::MaybeUninit<libc::sigaction> = std::mem::MaybeUninit::zeroed();
static PAGE: AtomicUsize = AtomicUsize::new(4096);

fn install() {
    // SAFETY: (1) `Once` admits one thread; (2) the handler does only what a signal handler may;
    // (3) SA_ONSTACK runs it on the signal stack of Rust's threads.
    unsafe {
        PAGE.store(libc::sysconf(libc::_SC_PAGESIZE) as usize, Ordering::Release);
        libc::sigaction(libc::SIGBUS, std::ptr::null(), (&raw mut BEFORE).cast());
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn on_sigbus(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: (1) the kernel passes a valid `info`; (2) only atomics, mmap and sigaction are used
    // here, which are safe in a handler (mmap is a bare system call on Linux); (3) the replaced
    // pages belong to a watched mapping, which only its owner unmaps, and the faulting thread is
    // reading it; (4) `BEFORE` was written before the handler was installed.
    unsafe {
        let address = (*info).si_addr() as usize;
        if let Some((entry, end)) = entries().find_map(|w| Some((w, w.end_if_holds(address)?))) {
            entry.broken.store(true, Ordering::Release);
            let page = address & !(PAGE.load(Ordering::Acquire) - 1);
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            if libc::mmap(page as *mut c_void, end - page, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED {
                return;
            }
        }
        // The access is retried under the previous action.
        libc::sigaction(libc::SIGBUS, (&raw const BEFORE).cast(), std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_truncated_file_reads_as_zeros_and_is_marked_broken() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&[7u8; 100_000]).expect("written");
        let (mapping, other) = (Mapping::new(&file).expect("mapped"), Mapping::new(&file).expect("mapped"));
        assert_eq!(mapping.bytes().len(), 100_000);
        assert!(mapping.bytes().iter().all(|b| *b == 7) && !mapping.is_broken());
        file.set_len(5000).expect("cut");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    assert_eq!((mapping.bytes()[0], mapping.bytes()[50_000], mapping.bytes()[99_999]), (7, 0, 0))
                });
            }
        });
        assert!(mapping.is_broken());
        assert!(!other.is_broken(), "no one has read there");
        drop(mapping);
        // The entry in the list is reused, and is no longer broken.
        let again = Mapping::new(&file).expect("mapped");
        assert_eq!(again.bytes().len(), 5000);
        assert!(again.bytes()[..4999].iter().all(|b| *b == 7) && !again.is_broken());
        assert_eq!(other.bytes()[60_000], 0);
        assert!(other.is_broken() && !again.is_broken());
    }

    /// Runs in its own process, which the signal must still end.
    #[test]
    fn a_sigbus_elsewhere_still_ends_the_process() {
        const CHILD: &str = "STOCKPOT_TEST_SIGBUS";
        if std::env::var_os(CHILD).is_some() {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(&[1u8; 8192]).expect("written");
            let _watched = Mapping::new(&file).expect("mapped");
            // SAFETY: none; this access is the bug under test.
            let unwatched = unsafe { Mmap::map(&file) }.expect("mapped");
            file.set_len(0).expect("cut");
            std::process::exit(i32::from(unwatched[4096]));
        }
        let child = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "engine::checkpoint::mapping::tests::a_sigbus_elsewhere_still_ends_the_process"])
            .env(CHILD, "1")
            .output()
            .expect("run");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(libc::SIGBUS));
    }
}
