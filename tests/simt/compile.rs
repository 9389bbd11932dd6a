//! Kernels as host libraries: g++ compiles the runtime once and each (kernel, options, build) once,
//! cached in `target/simt` by the hash of all inputs. A library is built in a temporary directory
//! and renamed, so that concurrent tests and test programs do not interfere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use stockpot::engine::device::Launch;

/// How the kernel is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Build {
    /// Fastest; checks values only.
    Fast,
    /// Every load and store is checked (tests/simt/race.cpp); about five times slower.
    Hooked,
    /// With AddressSanitizer; the process must have been started with its runtime.
    Sanitized,
    /// Counts executions of lines and branches with gcov, and turns of loops (coverage.rs).
    Coverage,
}

/// A change to the text of a kernel or header, for tests that plant a bug.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Patch {
    /// File name in `kernels/`.
    pub file: String,
    /// Must occur there exactly once.
    pub from: String,
    pub to: String,
}

/// One kernel and how it is compiled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    pub folder: PathBuf,
    pub file: String,
    pub kernel: String,
    /// Those of the launch.
    pub options: Vec<String>,
    pub patch: Option<Patch>,
    pub build: Build,
}

const RUNTIME: [&str; 7] = ["fiber.cpp", "block.cpp", "async.cpp", "tensor.cpp", "race.cpp", "banks.cpp", "launch.cpp"];
const RUNTIME_HEADERS: [&str; 2] = ["simt.h", "machine.h"];

/// No contraction: one rounding for each operation, as written and as on the device
/// (`--fmad=false`). No strict aliasing: kernels read vectors of elements.
pub(super) const FLAGS: [&str; 5] = ["-std=c++17", "-fPIC", "-g1", "-ffp-contract=off", "-fno-strict-aliasing"];
const RUNTIME_FLAGS: [&str; 4] = ["-O3", "-Wall", "-Wextra", "-Werror"];
/// g++ does not have `#pragma unroll`; statics of templates must be local to a library, or two
/// kernels would share memory. One call of a warp operation must not become two, or converged lanes
/// would seem diverged.
const KERNEL_FLAGS: [&str; 5] = ["-O2", "-w", "-fno-gnu-unique", "-fno-extern-tls-init", "-fno-thread-jumps"];
/// Variables that a kernel does not set are not 0: floats become -1.7e38. g++ has it from release
/// 12.
const UNSET: &str = "-ftrivial-auto-var-init=pattern";
const HOOKED_FLAGS: [&str; 4] = [
    "-fsanitize=thread,undefined",
    "-fno-sanitize=vptr",
    "-fno-sanitize-recover=all",
    "--param=tsan-instrument-func-entry-exit=0",
];

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory of the kernels' headers.
fn headers() -> PathBuf {
    root().join("kernels")
}

pub(super) fn cache() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    target.parent().expect("target/tmp has a parent").join("simt")
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// Runs g++; the error holds its messages.
pub(super) fn compiler(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("g++").args(arguments).output();
    let output = output.map_err(|e| format!("cannot run g++, which the host executor of kernels needs: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let messages = String::from_utf8_lossy(&output.stderr);
            Err(format!("g++ failed:\n{}", messages.lines().take(8).collect::<Vec<_>>().join("\n")))
        }
    }
}

fn compiler_version() -> Result<&'static str, String> {
    static VERSION: OnceLock<Result<String, String>> = OnceLock::new();
    let version = VERSION.get_or_init(|| {
        let output = Command::new("g++").arg("--version").output();
        let output = output.map_err(|e| format!("cannot run g++, which the host executor of kernels needs: {e}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    });
    version.as_deref().map_err(|e| e.clone())
}

/// [`UNSET`], if g++ supports it.
fn unset() -> &'static [&'static str] {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    let known = || compiler(&[UNSET, "-x", "c++", "-fsyntax-only", "/dev/null"]).is_ok();
    if *KNOWN.get_or_init(known) { &[UNSET] } else { &[] }
}

/// The vector instructions of every machine of the last ten years, if this one has them.
fn architecture() -> &'static str {
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    compile_error!("the executor of kernels switches fibers in x86-64 assembly and reads ELF: it needs x86-64 Linux");
    let modern =
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2");
    if modern { "-march=x86-64-v3" } else { "-march=x86-64" }
}

/// The cached file for `parts`, made by `make(folder for intermediate files, output)` if it is not
/// there.
fn cached(parts: &[&str], make: impl FnOnce(&Path, &str) -> Result<(), String>) -> Result<PathBuf, String> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = blake3::Hasher::new();
    for part in parts.iter().chain(&[compiler_version()?, architecture()]) {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let path = cache().join(format!("{}.so", &hasher.finalize().to_hex()[..32]));
    if path.exists() {
        return Ok(path);
    }
    let scratch = cache().join(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let failed = |e: std::io::Error| format!("cannot write in {}: {e}", cache().display());
    fs::create_dir_all(&scratch).map_err(failed)?;
    let output = scratch.join("made.so");
    let made = make(&scratch, output.to_str().expect("a UTF-8 path"));
    let moved = made.and_then(|()| fs::rename(&output, &path).map_err(failed));
    fs::remove_dir_all(&scratch).map_err(failed)?;
    moved.map(|()| path)
}

/// A library of C++ `files` that include `headers`.
pub fn library_of(files: &[PathBuf], headers: &[PathBuf], more_flags: &[&str]) -> Result<PathBuf, String> {
    let texts = files.iter().chain(headers).map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let flags = [&FLAGS[..], &RUNTIME_FLAGS, &[architecture(), "-shared"], more_flags].concat();
    let parts: Vec<&str> = texts.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    cached(&parts, |_, output| {
        let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        compiler(&[&flags[..], &files, &["-o", output]].concat())
    })
}

/// The runtime's files, and their headers.
pub fn runtime_files() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let folder = root().join("tests/simt");
    (RUNTIME.map(|name| folder.join(name)).to_vec(), RUNTIME_HEADERS.map(|name| folder.join(name)).to_vec())
}

/// libsimt.so.
pub fn runtime() -> Result<PathBuf, String> {
    let (files, headers) = runtime_files();
    library_of(&files, &headers, &[])
}

/// The flags of a kernel's library in the fast build, less its defines.
pub fn kernel_flags() -> Vec<&'static str> {
    [&FLAGS[..], &KERNEL_FLAGS, unset(), &[architecture()]].concat()
}

impl Source {
    /// The kernel of a launch, from the repository's kernels as they are.
    pub fn of(launch: &Launch) -> Source {
        Source {
            folder: headers(),
            file: launch.file.into(),
            kernel: launch.kernel.into(),
            options: launch.compiler_options(),
            patch: None,
            build: Build::Fast,
        }
    }

    /// The headers and the kernel's file with the patch applied, as (name, text).
    pub(super) fn texts(&self) -> Result<Vec<(String, String)>, String> {
        let mut names: Vec<PathBuf> = fs::read_dir(headers())
            .map_err(|e| format!("cannot list kernels: {e}"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "cuh"))
            .collect();
        names.sort();
        names.push(self.folder.join(format!("{}.cu", self.file)));
        let mut patched = self.patch.is_none();
        let mut texts = Vec::new();
        for path in names {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let mut text = read(&path)?;
            if let Some(patch) = self.patch.as_ref().filter(|patch| patch.file == name) {
                let count = text.matches(&patch.from).count();
                if count != 1 {
                    return Err(format!("stale patch of {name}: `{}` occurs {count} times", patch.from));
                }
                text = text.replacen(&patch.from, &patch.to, 1);
                patched = true;
            }
            texts.push((name, text));
        }
        if patched { Ok(texts) } else { Err(format!("stale patch: {:?} is not compiled", self.patch)) }
    }

    /// The kernel's library.
    pub fn library(&self) -> Result<PathBuf, String> {
        let texts = self.texts()?;
        let shim = read(&root().join("tests/simt/simt.h"))?;
        let sanitizers: &[&str] = match self.build {
            Build::Fast => &[],
            Build::Hooked => &HOOKED_FLAGS,
            Build::Sanitized => &["-fsanitize=address"],
            Build::Coverage => return self.coverage_library(),
        };
        let mut flags = [&kernel_flags()[..], sanitizers].concat();
        flags.extend(self.options.iter().map(String::as_str));
        let mut parts = flags.clone();
        parts.extend([shim.as_str(), &self.kernel]);
        parts.extend(texts.iter().flat_map(|(name, text)| [name.as_str(), text]));
        let library = cached(&parts, |scratch, output| self.compile(&texts, &flags, scratch, output));
        library.map_err(|e| format!("{} of {}.cu, {}: {e}", self.kernel, self.file, self.options.join(" ")))
    }

    fn compile(&self, texts: &[(String, String)], flags: &[&str], scratch: &Path, output: &str) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("cannot write in {}: {e}", scratch.display());
        for (name, text) in texts {
            fs::write(scratch.join(name), text).map_err(failed)?;
        }
        let (source, object) = (scratch.join("kernel.cpp"), scratch.join("kernel.o"));
        let lines = format!("#include \"simt.h\"\n#include \"{}.cu\"\nSIMT_EXPORT({})\n", self.file, self.kernel);
        fs::write(&source, lines).map_err(failed)?;
        let [source, object, scratch] = [&source, &object, scratch].map(|path| path.to_str().expect("a UTF-8 path"));
        let shim = root().join("tests/simt").display().to_string();
        compiler(&[flags, &["-I", scratch, "-I", &shim, "-c", source, "-o", object]].concat())?;
        // Linked without the sanitizers: libsimt.so has the functions they call.
        compiler(&["-shared", "-Wl,-Bsymbolic", object, "-o", output])
    }
}
