//! NVRTC, NVIDIA's run-time compiler: compiles a kernel's embedded source, with options, for an
//! architecture, to a CUBIN. The library is searched for (`nvrtc/find.rs`), never linked, and needs
//! neither GPU nor driver; CUBINs are cached on disk (`nvrtc/cache.rs`).
//!
//! The library is loaded from its own path, not by cudarc, which opens it by the names of one CUDA
//! release and panics if it finds none. The C interface below has been the same since CUDA 11.2.

mod cache;
mod find;

pub use cache::directory as cache_directory;

use crate::error::{Error, Kind, Result};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

type Program = *mut c_void;
/// 0 is success.
type NvrtcStatus = c_int;

/// The NVRTC functions used here.
struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> NvrtcStatus,
    supported_count: unsafe extern "C" fn(*mut c_int) -> NvrtcStatus,
    supported: unsafe extern "C" fn(*mut c_int) -> NvrtcStatus,
    error_string: unsafe extern "C" fn(NvrtcStatus) -> *const c_char,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> NvrtcStatus,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> NvrtcStatus,
    destroy: unsafe extern "C" fn(*mut Program) -> NvrtcStatus,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> NvrtcStatus,
    log: unsafe extern "C" fn(Program, *mut c_char) -> NvrtcStatus,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> NvrtcStatus,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> NvrtcStatus,
}

/// Why no NVRTC can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NvrtcMissing {
    /// `STOCKPOT_NVRTC` names no NVRTC.
    Named {
        /// Value of the variable.
        path: PathBuf,
        /// The loader's message, or that the directory has no library.
        why: String,
    },
    /// Not found in any of the usual places.
    Nowhere,
    /// Every NVRTC found is newer than the driver.
    NewerThanDriver {
        /// The path and major version of each.
        found: Vec<(PathBuf, u32)>,
        /// The newest major version that the driver supports.
        driver: u32,
    },
    /// Found, but fails to compile.
    Broken {
        /// The library's file.
        path: PathBuf,
        /// NVRTC's own message or log.
        why: String,
    },
}

impl NvrtcMissing {
    /// What is missing, as one line without a full stop.
    pub fn what(&self) -> String {
        match self {
            NvrtcMissing::Named { path, why } => {
                format!("STOCKPOT_NVRTC is {}, which is not an NVRTC library: {why}", path.display())
            }
            NvrtcMissing::Nowhere => "NVRTC, which compiles the kernels, was not found (libnvrtc.so.12 or .13)".into(),
            NvrtcMissing::NewerThanDriver { found, driver } => {
                let found: Vec<String> =
                    found.iter().map(|(path, major)| format!("{} (CUDA {major})", path.display())).collect();
                format!("the driver supports CUDA {driver}, but every NVRTC found is newer: {}", found.join(", "))
            }
            NvrtcMissing::Broken { path, why } => format!("the NVRTC {} fails to compile: {why}", path.display()),
        }
    }
    /// What the user can do about it: install, or set `STOCKPOT_NVRTC`.
    pub fn fix(&self) -> String {
        let wheel = |major: u32| if major == 12 { "nvidia-cuda-nvrtc-cu12" } else { "nvidia-cuda-nvrtc" };
        match self {
            NvrtcMissing::Named { .. } => "set STOCKPOT_NVRTC to a libnvrtc.so or its directory, or unset it".into(),
            NvrtcMissing::Nowhere => {
                "pip install nvidia-cuda-nvrtc (CUDA 13; for drivers of CUDA 12 nvidia-cuda-nvrtc-cu12) \
                                 into the environment of python3 on PATH, or install the CUDA toolkit, or set \
                                 STOCKPOT_NVRTC to a libnvrtc.so"
                    .into()
            }
            NvrtcMissing::NewerThanDriver { driver, .. } => {
                format!("update the NVIDIA driver, or pip install {} of CUDA {driver}", wheel(*driver))
            }
            NvrtcMissing::Broken { .. } => {
                "reinstall it (libnvrtc-builtins.so must be in the same directory), or set STOCKPOT_NVRTC to another"
                    .into()
            }
        }
    }
}

impl From<NvrtcMissing> for Error {
    fn from(missing: NvrtcMissing) -> Error {
        Error::usage(missing.what()).fix(missing.fix())
    }
}

/// A loaded NVRTC.
pub struct Nvrtc {
    functions: Functions,
    path: PathBuf,
    version: (u32, u32),
    /// Size of the library's file: distinguishes builds of one version.
    file_bytes: u64,
    /// (8, 0) is 80
    capabilities: Vec<u32>,
    /// (file name, text) of sources that are not embedded.
    sources: Vec<(&'static str, &'static str)>,
    /// Keeps the functions' code in memory; the last field, so dropped last.
    _library: Library,
}

/// NVRTC's output for one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Machine code for the requested architecture, an ELF file.
    pub cubin: Vec<u8>,
    /// Warnings, and each kernel's registers, spills and shared memory as reported by `ptxas -v`.
    pub log: String,
}

impl Nvrtc {
    /// The first NVRTC in the usual places, or the one named by `STOCKPOT_NVRTC`. `driver` is the
    /// major version of CUDA that the driver supports: it does not load CUBINs of a newer NVRTC.
    pub fn find(driver: Option<u32>) -> std::result::Result<Nvrtc, NvrtcMissing> {
        find::find(driver)
    }

    /// Loads the library at `path`, which may be a bare name for the dynamic loader to find.
    fn open(path: &Path) -> std::result::Result<Nvrtc, String> {
        // SAFETY: (1) the initializers of NVRTC are NVIDIA's own and do not affect this program;
        // (2) every function is declared as in nvrtc.h; (3) none outlives the library, which is
        // kept in the same value.
        let (library, functions) = unsafe {
            let library = Library::new(path).map_err(|e| e.to_string())?;
            let functions = Functions::load(&library)?;
            (library, functions)
        };
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: (1) each pointer is to a live integer; (2) `supported` fills as many as
        // `supported_count` returned.
        let capabilities = unsafe {
            functions.check((functions.version)(&mut major, &mut minor))?;
            functions.check((functions.supported_count)(&mut count))?;
            let mut list = vec![0; count.max(0) as usize];
            functions.check((functions.supported)(list.as_mut_ptr()))?;
            list.into_iter().map(|n| n as u32).collect()
        };
        let path = path_of(functions.version as *const c_void).unwrap_or_else(|| path.to_path_buf());
        let file_bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
        let version = (major as u32, minor as u32);
        Ok(Nvrtc { functions, path, version, file_bytes, capabilities, sources: vec![], _library: library })
    }

    /// Adds a source, as (file name, text), such as a test's own kernels. It includes the embedded
    /// headers.
    pub fn with_source(mut self, source: (&'static str, &'static str)) -> Nvrtc {
        self.sources.push(source);
        self
    }

    /// The library's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The version of its CUDA release.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// The architecture to compile for to run on a device of this compute capability: its own, or
    /// an older one of the same major version if this NVRTC does not support it. `None` if NVRTC
    /// supports neither.
    pub fn architecture(&self, capability: (u32, u32)) -> Option<String> {
        let (major, minor) = capability;
        let known = |n: &u32| n / 10 == major && n % 10 <= minor;
        match self.capabilities.iter().copied().filter(known).max()? {
            // Hopper's own instructions (wgmma, TMA) need the `a` variant.
            90 => Some("sm_90a".into()),
            n => Some(format!("sm_{n}")),
        }
    }

    /// Compiles one kernel of a known file for an architecture such as "sm_80", or reads the
    /// CUBIN from the cache. `launch_options` are those of
    /// [`Launch::compiler_options`](super::Launch::compiler_options).
    ///
    /// # Errors
    /// NVRTC's log, if the source does not compile.
    pub fn compile(&self, file: &str, launch_options: &[String], architecture: &str) -> Result<Compiled> {
        let source = self.source(&format!("{file}.cu"));
        let options = options(launch_options, architecture);
        let key = cache::Key {
            source,
            headers: &headers(),
            options: &options,
            nvrtc: &format!("{}.{} {}", self.version.0, self.version.1, self.file_bytes),
        };
        let refused = |log: String| {
            let (major, minor) = self.version;
            Error::new(
                Kind::Io,
                format!("NVRTC {major}.{minor} failed to compile kernels/{file}.cu: {}", options.join(" ")),
            )
            .got(log)
        };
        cache::get_or_make(&key, || self.translate(&format!("{file}.cu"), source, &options).map_err(refused))
    }

    /// The text of an added or embedded source.
    fn source(&self, name: &str) -> &'static str {
        let found = self.sources.iter().chain(SOURCES).find(|(n, _)| *n == name);
        found.unwrap_or_else(|| panic!("an op launches from kernels/{name}, which does not exist")).1
    }

    /// Checks that it compiles at all, which needs libnvrtc-builtins in the same directory.
    pub fn probe(&self) -> std::result::Result<(), NvrtcMissing> {
        let options = options(&[], &format!("sm_{}", self.capabilities.last().copied().unwrap_or(80)));
        let made = self.translate("probe.cu", "extern \"C\" __global__ void probe() {}", &options);
        made.map(|_| ()).map_err(|why| NvrtcMissing::Broken { path: self.path.clone(), why })
    }

    /// One compilation; the error is NVRTC's log.
    fn translate(&self, name: &str, source: &str, options: &[String]) -> std::result::Result<Compiled, String> {
        let text = |text: &str| CString::new(text).map_err(|_| "a NUL in the source".to_string());
        let (source, name) = (text(source)?, text(name)?);
        let headers: Vec<[CString; 2]> = headers()
            .iter()
            .map(|(name, body)| Ok([text(name)?, text(body)?]))
            .collect::<std::result::Result<_, String>>()?;
        let names: Vec<*const c_char> = headers.iter().map(|[name, _]| name.as_ptr()).collect();
        let bodies: Vec<*const c_char> = headers.iter().map(|[_, body]| body.as_ptr()).collect();
        let options: Vec<CString> = options.iter().map(|o| text(o)).collect::<std::result::Result<_, String>>()?;
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let f = &self.functions;
        let mut program = Running { functions: f, program: null_mut() };
        let count = headers.len() as c_int;
        // SAFETY: (1) every string ends in NUL and lives until the end of this function; (2) both
        // arrays of headers have `count` entries; (3) the program is destroyed by `Running`.
        let status = unsafe {
            let (bodies, names) = (bodies.as_ptr(), names.as_ptr());
            f.check((f.create)(&mut program.program, source.as_ptr(), name.as_ptr(), count, bodies, names))?;
            (f.compile)(program.program, options.len() as c_int, options.as_ptr())
        };
        let log = program.bytes(f.log_size, f.log)?;
        let log = String::from_utf8_lossy(log.strip_suffix(b"\0").unwrap_or(&log)).trim().to_string();
        f.check(status).map_err(|why| format!("{why}\n{log}"))?;
        Ok(Compiled { cubin: program.bytes(f.cubin_size, f.cubin)?, log })
    }
}

fn headers() -> Vec<(&'static str, &'static str)> {
    SOURCES.iter().copied().filter(|(name, _)| name.ends_with(".cuh")).collect()
}

/// `--fmad=false`: NVRTC is not deterministic, and nothing guarantees that two compilations of one
/// source fuse the same multiplications and additions. Without fusion, every compilation rounds
/// each operation as written in the source.
fn options(launch_options: &[String], architecture: &str) -> Vec<String> {
    let fixed = ["--std=c++17", "-default-device", "-lineinfo", "--fmad=false", "--ptxas-options=-v"];
    let mut options: Vec<String> = fixed.map(String::from).into();
    options.push(format!("--gpu-architecture={architecture}"));
    options.extend_from_slice(launch_options);
    options
}

impl Functions {
    /// # Safety
    /// `library` is NVRTC and outlives the result.
    unsafe fn load(library: &Library) -> std::result::Result<Functions, String> {
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is the field's, which is as in nvrtc.h.
                *unsafe { library.get($name.as_bytes()) }.map_err(|e| format!("{} is missing from it: {e}", $name))?
            };
        }
        Ok(Functions {
            version: symbol!("nvrtcVersion"),
            supported_count: symbol!("nvrtcGetNumSupportedArchs"),
            supported: symbol!("nvrtcGetSupportedArchs"),
            error_string: symbol!("nvrtcGetErrorString"),
            create: symbol!("nvrtcCreateProgram"),
            compile: symbol!("nvrtcCompileProgram"),
            destroy: symbol!("nvrtcDestroyProgram"),
            log_size: symbol!("nvrtcGetProgramLogSize"),
            log: symbol!("nvrtcGetProgramLog"),
            cubin_size: symbol!("nvrtcGetCUBINSize"),
            cubin: symbol!("nvrtcGetCUBIN"),
        })
    }

    fn check(&self, status: NvrtcStatus) -> std::result::Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: NVRTC returns a static string for any number.
        Err(unsafe { CStr::from_ptr((self.error_string)(status)) }.to_string_lossy().into_owned())
    }
}

/// An NVRTC program, destroyed when dropped.
struct Running<'a> {
    functions: &'a Functions,
    program: Program,
}

impl Running<'_> {
    /// A result that NVRTC returns by a size function and a copy function.
    fn bytes(
        &self,
        size: unsafe extern "C" fn(Program, *mut usize) -> NvrtcStatus,
        copy: unsafe extern "C" fn(Program, *mut c_char) -> NvrtcStatus,
    ) -> std::result::Result<Vec<u8>, String> {
        let mut len = 0;
        // SAFETY: (1) the program is alive; (2) `copy` writes as many bytes as `size` returned.
        unsafe {
            self.functions.check(size(self.program, &mut len))?;
            let mut bytes = vec![0u8; len];
            self.functions.check(copy(self.program, bytes.as_mut_ptr().cast()))?;
            Ok(bytes)
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: created by `create`, destroyed once. Its status is ignored: nothing could be
            // done about a failure.
            unsafe { (self.functions.destroy)(&mut self.program) };
        }
    }
}

/// The file that a function was loaded from.
fn path_of(function: *const c_void) -> Option<PathBuf> {
    let mut info = libc::Dl_info { dli_fname: null(), dli_fbase: null_mut(), dli_sname: null(), dli_saddr: null_mut() };
    // SAFETY: (1) dladdr takes any address; (2) the returned name belongs to the loader and is
    // copied at once.
    unsafe {
        if libc::dladdr(function, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        Some(PathBuf::from(CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned()))
    }
}
