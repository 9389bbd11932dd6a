//! Named ranges in Nsight's timelines. NVTX does nothing unless a profiler runs this program; a
//! profiler sets `NVTX_INJECTION64_PATH`. Without the variable or the library, no range is created.

use libloading::Library;
use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};

/// The libraries of CUDA 13 and CUDA 12. cudarc's `nvtx` only knows the older one.
const NAMES: [&str; 2] = ["libnvtx3interop.so.1", "libnvToolsExt.so.1"];

/// NVTX's two functions.
pub(super) struct Ranges {
    push: unsafe extern "C" fn(*const c_char) -> c_int,
    pop: unsafe extern "C" fn() -> c_int,
    /// Keeps the functions' code in memory; the last field, so dropped last.
    _library: Library,
}

impl Ranges {
    /// Loads NVTX from the loader's path, or from the toolkit or wheels that NVRTC came from.
    pub(super) fn load(nvrtc: &Path) -> Option<Ranges> {
        std::env::var_os("NVTX_INJECTION64_PATH")?;
        let beside = nvrtc.parent().map(Path::to_path_buf);
        let wheel = beside.as_ref().and_then(|lib| Some(lib.parent()?.parent()?.join("nvtx/lib")));
        let directories = [Some(PathBuf::new()), beside, wheel].into_iter().flatten();
        directories.flat_map(|directory| NAMES.map(|name| directory.join(name))).find_map(|path| Ranges::open(&path))
    }

    fn open(path: &Path) -> Option<Ranges> {
        // SAFETY: (1) the library's initializers are NVIDIA's own; (2) both functions are declared
        // as in nvToolsExt.h; (3) neither outlives the library, which is kept in the same value.
        unsafe {
            let library = Library::new(path).ok()?;
            let push = *library.get(b"nvtxRangePushA").ok()?;
            let pop = *library.get(b"nvtxRangePop").ok()?;
            Some(Ranges { push, pop, _library: library })
        }
    }

    pub(super) fn push(&self, name: &str) {
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the string ends in NUL; NVTX copies it.
        unsafe { (self.push)(name.as_ptr()) };
    }

    pub(super) fn pop(&self) {
        // SAFETY: takes no arguments; an extra pop only returns an error code.
        unsafe { (self.pop)() };
    }
}
