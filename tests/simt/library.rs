//! Loaded libraries: the runtime's `simt_launch` and each kernel's entry. Libraries stay loaded
//! until the process ends.

use super::compile::{Build, Source, runtime};
use super::coverage::LOOPS;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

/// An operand's rows. As in tests/simt/machine.h.
#[repr(C)]
pub struct Region {
    pub address: u64,
    pub rows: u64,
    pub row_bytes: u64,
    pub stride_bytes: u64,
}

/// As in tests/simt/machine.h.
#[repr(C)]
pub struct Config {
    pub grid: [u32; 3],
    pub block: u32,
    pub dynamic_bytes: u32,
    pub order: u32,
    pub seed: u64,
    pub late: u32,
    pub hooked: u32,
    pub first_blocks: u32,
    pub last_blocks: u32,
    pub limit_ms: u32,
    pub regions: *const Region,
    pub region_count: u64,
}

/// As in tests/simt/machine.h.
#[repr(C)]
struct Failure {
    message: [c_char; 1024],
    pc: u64,
    bank_pc: u64,
    bank_degree: u32,
}

/// The worst bank conflict of a launch in hooked mode: its degree, see tests/simt/banks.cpp, and
/// where in the kernel's library it is.
pub struct BankConflict {
    pub degree: u32,
    pub pc: u64,
}

type Call = unsafe extern "C" fn(*mut *mut c_void);
type Launch = unsafe extern "C" fn(Call, *mut u8, *const Config, *mut *mut c_void, *mut Failure) -> c_int;

struct Runtime {
    launch: Launch,
    _library: Library,
}

pub struct Kernel {
    pub source: Source,
    pub path: PathBuf,
    call: Call,
    dynamic: unsafe extern "C" fn() -> *mut u8,
    /// One letter for each parameter: see SIMT_EXPORT in tests/simt/simt.h.
    pub parameters: String,
    library: Library,
}

fn open(path: &Path, flags: c_int) -> Result<Library, String> {
    // SAFETY: a library that this module compiled; it has no initializers except g++'s own.
    unsafe { Library::open(Some(path), flags) }.map_err(|e| format!("cannot load {}: {e}", path.display()))
}

/// # Safety
/// `T` is the type of the function `name`.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: the caller's.
    unsafe { library.get::<T>(name) }.map(|s| *s).map_err(|e| format!("{name}: {e}"))
}

fn loaded_runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let loaded = RUNTIME.get_or_init(|| {
        let library = open(&runtime()?, RTLD_NOW | RTLD_GLOBAL)?;
        // SAFETY: the type is that of launch.cpp.
        let launch = unsafe { symbol::<Launch>(&library, "simt_launch") }?;
        Ok(Runtime { launch, _library: library })
    });
    loaded.as_ref().map_err(Clone::clone)
}

type Slot = Arc<OnceLock<Result<Arc<Kernel>, String>>>;
static KERNELS: Mutex<Option<HashMap<Source, Slot>>> = Mutex::new(None);

/// The loaded kernels that count their coverage.
pub fn loaded_with_coverage() -> Vec<Arc<Kernel>> {
    let kernels = KERNELS.lock().expect("no panic while locked");
    let loaded = kernels.iter().flatten().filter(|(source, _)| source.build == Build::Coverage);
    loaded.filter_map(|(_, slot)| slot.get()?.clone().ok()).collect()
}

/// The kernel of `source`, compiled and loaded once per process.
pub fn kernel(source: &Source) -> Result<Arc<Kernel>, String> {
    let slot = {
        let mut kernels = KERNELS.lock().expect("no panic while locked");
        kernels.get_or_insert_default().entry(source.clone()).or_default().clone()
    };
    slot.get_or_init(|| Kernel::load(source).map(Arc::new)).clone()
}

impl Kernel {
    fn load(source: &Source) -> Result<Kernel, String> {
        loaded_runtime()?;
        let path = source.library()?;
        let library = open(&path, RTLD_NOW | RTLD_LOCAL)?;
        // SAFETY: the types are those of SIMT_EXPORT in simt.h; simt_parameters returns a static
        // string.
        unsafe {
            let parameters = symbol::<unsafe extern "C" fn() -> *const c_char>(&library, "simt_parameters")?();
            let parameters = CStr::from_ptr(parameters).to_string_lossy().into_owned();
            let dynamic = symbol(&library, "simt_dynamic_start")?;
            let source = source.clone();
            Ok(Kernel { source, path, call: symbol(&library, "simt_call")?, dynamic, parameters, library })
        }
    }

    /// The most turns of each loop so far; gcov's counts are written to files.
    pub fn turns(&self) -> Result<Vec<u32>, String> {
        // SAFETY: as in `load`; the function returns an array of SIMT_COVERAGE elements.
        unsafe {
            let turns = symbol::<unsafe extern "C" fn() -> *const u32>(&self.library, "simt_coverage")?();
            Ok(std::slice::from_raw_parts(turns, LOOPS).to_vec())
        }
    }

    /// Runs the launch; returns its worst bank conflict. An error describes the kernel's fault and its line.
    ///
    /// # Safety
    /// 1. `arguments` match `parameters` in number and kind.
    /// 2. No one else accesses the memory that the kernel may reach.
    pub unsafe fn launch(&self, config: &Config, arguments: &[[u8; 8]]) -> Result<BankConflict, String> {
        let mut values = arguments.to_vec();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        let mut failure = Failure { message: [0; 1024], pc: 0, bank_pc: 0, bank_degree: 0 };
        let launch = loaded_runtime()?.launch;
        // SAFETY: by 1 the entry reads each argument with its own type, by 2 the rest. A kernel
        // that leaves its memory meets an inaccessible page, a canary or a check; it can do other
        // damage, so this is test code.
        let code = unsafe { launch(self.call, (self.dynamic)(), config, pointers.as_mut_ptr(), &mut failure) };
        if code == 0 {
            return Ok(BankConflict { degree: failure.bank_degree, pc: failure.bank_pc });
        }
        // SAFETY: the runtime ends its message with 0.
        let message = unsafe { CStr::from_ptr(failure.message.as_ptr()) }.to_string_lossy().into_owned();
        Err(if failure.pc == 0 { message } else { format!("{message}, {}", self.line_of(failure.pc)) })
    }

    /// The line of an instruction, and the call sites of the functions it was inlined from,
    /// innermost first.
    pub fn line_of(&self, return_address: u64) -> String {
        let address = format!("{:#x}", return_address - 1);
        let output = Command::new("addr2line").args(["-i", "-s", "-e"]).arg(&self.path).arg(&address).output();
        match output {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                let lines = text.lines().map(|line| line.split(" (").next().unwrap_or(line));
                format!("at {}", lines.collect::<Vec<_>>().join(" called at "))
            }
            Err(e) => format!("at {address} of {} (no addr2line: {e})", self.path.display()),
        }
    }
}
