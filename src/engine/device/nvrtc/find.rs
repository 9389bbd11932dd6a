//! The search for NVRTC: the toolkit's directories, pip's wheels, the dynamic loader's path.

use super::{Nvrtc, NvrtcMissing};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The library's names, newest release first.
const NAMES: [&str; 2] = ["libnvrtc.so.13", "libnvrtc.so.12"];
/// Names the library or its directory; if set, nothing else is tried.
const OVERRIDE: &str = "STOCKPOT_NVRTC";

/// See [`Nvrtc::find`].
pub(super) fn find(driver: Option<u32>) -> Result<Nvrtc, NvrtcMissing> {
    if let Some(path) = variable(OVERRIDE) {
        return named(&path);
    }
    let mut newer = vec![];
    // Asking Python takes some 50 ms, so it comes last.
    let places: [&dyn Fn() -> Vec<PathBuf>; 4] = [&near, &|| NAMES.map(PathBuf::from).into(), &toolkits, &python];
    for place in places {
        for path in place() {
            let Ok(nvrtc) = Nvrtc::open(&path) else { continue };
            if driver.is_none_or(|driver| nvrtc.version().0 <= driver) {
                return Ok(nvrtc);
            }
            newer.push((nvrtc.path().to_path_buf(), nvrtc.version().0));
        }
    }
    match driver {
        Some(driver) if !newer.is_empty() => {
            newer.dedup();
            Err(NvrtcMissing::NewerThanDriver { found: newer, driver })
        }
        _ => Err(NvrtcMissing::Nowhere),
    }
}

fn named(path: &Path) -> Result<Nvrtc, NvrtcMissing> {
    let missing = |why: String| NvrtcMissing::Named { path: path.to_path_buf(), why };
    if !path.is_dir() {
        return Nvrtc::open(path).map_err(missing);
    }
    let library = in_directory(path).into_iter().next();
    Nvrtc::open(&library.ok_or_else(|| missing(format!("the directory has no {}", NAMES.join(" or "))))?)
        .map_err(missing)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The toolkit and Python environment selected in this shell.
fn near() -> Vec<PathBuf> {
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).flat_map(|root| toolkit(&root));
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable);
    toolkits.chain(environments.flat_map(|root| environment(&root))).collect()
}

/// The toolkits installed in the usual place, newest first.
fn toolkits() -> Vec<PathBuf> {
    let local = Path::new("/usr/local");
    let mut versions: Vec<(Vec<u32>, PathBuf)> = listed(local)
        .into_iter()
        .filter_map(|path| {
            let version = path.file_name()?.to_str()?.strip_prefix("cuda-")?;
            Some((version.split('.').map(|n| n.parse().unwrap_or(0)).collect(), path))
        })
        .collect();
    versions.sort();
    let roots = std::iter::once(local.join("cuda")).chain(versions.into_iter().rev().map(|(_, path)| path));
    roots.flat_map(|root| toolkit(&root)).collect()
}

/// The libraries in packages that `python3` on PATH can import.
fn python() -> Vec<PathBuf> {
    let program = "import sys; print('\\n'.join(sys.path))";
    let asked = Command::new("python3").args(["-c", program]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let Ok(output) = asked else { return vec![] };
    String::from_utf8_lossy(&output.stdout).lines().flat_map(|line| wheels(Path::new(line))).collect()
}

fn toolkit(root: &Path) -> Vec<PathBuf> {
    let machine = format!("targets/{}-linux/lib", std::env::consts::ARCH);
    ["lib64", "lib", &machine].into_iter().flat_map(|lib| in_directory(&root.join(lib))).collect()
}

/// The libraries in a virtual environment's wheels and in conda's `lib`.
fn environment(root: &Path) -> Vec<PathBuf> {
    let lib = root.join("lib");
    let pythons = listed(&lib).into_iter().filter(|path| path.join("site-packages").is_dir());
    let found = pythons.flat_map(|python| wheels(&python.join("site-packages")));
    found.chain(in_directory(&lib)).collect()
}

/// The wheels nvidia-cuda-nvrtc (CUDA 13) and nvidia-cuda-nvrtc-cu12.
fn wheels(packages: &Path) -> Vec<PathBuf> {
    ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"].into_iter().flat_map(|lib| in_directory(&packages.join(lib))).collect()
}

fn in_directory(directory: &Path) -> Vec<PathBuf> {
    NAMES.map(|name| directory.join(name)).into_iter().filter(|path| path.is_file()).collect()
}

fn listed(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return vec![] };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
