//! Embeds the kernels' sources in the binary, as a table (name, text) that
//! `src/engine/device/nvrtc.rs` includes: a host without this repository compiles them at run time.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest's directory");
    let kernels = Path::new(&root).join("kernels");
    // Cargo watches a directory together with every file in it.
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed=build.rs");
    let mut names: Vec<String> = fs::read_dir(&kernels)
        .expect("kernels/ can be listed")
        .map(|entry| entry.expect("an entry of kernels/").file_name().into_string().expect("kernels have UTF-8 names"))
        .filter(|name| name.ends_with(".cu") || name.ends_with(".cuh"))
        .collect();
    names.sort();
    let mut table = String::from(
        "/// (file name, text) of every source and header in `kernels/`, by name.\n\
         pub static SOURCES: &[(&str, &str)] = &[\n",
    );
    for name in names {
        let path = kernels.join(&name);
        let path = path.to_str().expect("the repository has a UTF-8 path");
        writeln!(table, "    ({name:?}, include_str!({path:?})),").expect("writing to a string works");
    }
    table.push_str("];\n");
    let out = env::var("OUT_DIR").expect("cargo sets the output directory");
    fs::write(Path::new(&out).join("kernels.rs"), table).expect("the output directory can be written");
}
