//! Builds the two libraries, and lets commands use them.

use crate::simt::{kernel_flags, library_of, runtime_files};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const CUDA: [&str; 6] = ["settings.cpp", "memory.cpp", "queue.cpp", "module.cpp", "executor.cpp", "api.cpp"];
const CUDA_HEADERS: [&str; 3] = ["gpu.h", "executor.h", "image.h"];

/// The end of a process that did what no driver allows.
pub const VIOLATION: i32 = 99;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/driver").join(name)
}

fn build() -> Result<PathBuf, String> {
    let (mut files, mut headers) = runtime_files();
    let simt = headers[0].parent().expect("a folder").display().to_string();
    files.extend(CUDA.map(source));
    headers.extend(CUDA_HEADERS.map(source));
    let cuda = library_of(&files, &headers, &[])?;
    let flags: Vec<String> = kernel_flags().iter().map(|flag| format!("\"{flag}\"")).collect();
    let defines = [format!("-DSIMT_FOLDER=\"{simt}\""), format!("-DCOMPILER_FLAGS={}", flags.join(","))];
    let defines: Vec<&str> = defines.iter().map(String::as_str).collect();
    // simt.h is in every kernel, so a change of it is a change of the compiler.
    let nvrtc = library_of(&[source("nvrtc.cpp")], &[source("image.h"), headers[0].clone()], &defines)?;
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy()[..16].to_string();
    let folder = cuda.with_file_name(format!("gpu-{}-{}", name(&cuda), name(&nvrtc)));
    let failed = |e: std::io::Error| format!("cannot write in {}: {e}", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    // cudarc asks for libcuda.so first, which a machine with a GPU may have elsewhere.
    for (library, name) in [(&cuda, "libcuda.so.1"), (&cuda, "libcuda.so"), (&nvrtc, "libnvrtc.so")] {
        let copy = folder.join(format!("{name}.{}", std::process::id()));
        fs::copy(library, &copy).and_then(|_| fs::rename(&copy, folder.join(name))).map_err(failed)?;
    }
    Ok(folder)
}

/// The folder of both libraries, and of the kernels compiled with them.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(build).as_ref().unwrap_or_else(|e| panic!("{e}"))
}

/// Lets a command use the software GPU, with the settings of settings.cpp.
pub fn with_gpu<'a>(command: &'a mut Command, settings: &str) -> &'a mut Command {
    let folder = folder();
    command
        .env("LD_LIBRARY_PATH", folder)
        .env("STOCKPOT_NVRTC", folder.join("libnvrtc.so"))
        .env("STOCKPOT_CACHE", folder.join("cache"))
        .env("SOFTWARE_GPU", settings)
}
