//! Coverage of the kernels over all launches of this process with [`Build::Coverage`]: lines and
//! branches by gcov, and the most turns of each loop, merged over all defines.
//!
//! Functions are not inlined and nothing is optimized, so that a branch of the source is a branch
//! of the library. Conditions that the defines decide are none. A branch belongs to its place and
//! to its number among those of its line; a line whose number of branches depends on the defines
//! must be covered with each.

use super::compile::{FLAGS, Source, cache, compiler, root};
use super::library::loaded_with_coverage;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Loops that a library can count.
pub(super) const LOOPS: usize = 512;

/// A line of a kernel's file: its file and its number.
type Place = (String, u64);
/// Files by name.
type Texts = Vec<(String, String)>;

#[derive(Default)]
pub struct Coverage {
    /// Executions of each line.
    lines: BTreeMap<Place, u64>,
    /// Executions of each branch of a line: branch k of n.
    branches: BTreeMap<(Place, usize, usize), u64>,
    /// The most turns of each loop.
    turns: BTreeMap<Place, u32>,
}

/// The text with a counter in each loop's condition, and each loop's line. Counters are numbered
/// from `first` on.
fn with_counted_loops(text: &str, first: usize) -> (String, Vec<u64>) {
    let (mut out, mut lines, mut number) = (String::new(), vec![], 0);
    for line in text.lines() {
        number += 1;
        let mut rest = line;
        let code = line.split("//").next().unwrap_or_default().len();
        while let Some(at) = rest.find("for (").filter(|at| line.len() - rest.len() + at < code) {
            let mut ends = rest[at..].match_indices("; ").map(|(i, _)| at + i);
            let (init, condition) = (ends.next().expect("init"), ends.next().expect("a condition"));
            let n = first + lines.len();
            out += &rest[..at];
            out += &format!("if (SimtLoop simt_loop_{n} = {{{n}}}; true) {}", &rest[at..init]);
            out += &format!("; simt_loop_{n}.turn({})", &rest[init + 2..condition]);
            lines.push(number);
            rest = &rest[condition..];
        }
        out += rest;
        out.push('\n');
    }
    (out, lines)
}

impl Source {
    /// The texts with counters, and the place of each loop.
    fn counted(&self) -> Result<(Texts, Vec<Place>), String> {
        let (mut texts, mut loops) = (vec![], vec![]);
        for (name, text) in self.texts()? {
            let (text, lines) = with_counted_loops(&text, loops.len());
            loops.extend(lines.into_iter().map(|line| (name.clone(), line)));
            texts.push((name, text));
        }
        assert!(loops.len() <= LOOPS);
        Ok((texts, loops))
    }

    /// The library, in a directory of its own with what gcov needs; its counts are 0.
    pub(super) fn coverage_library(&self) -> Result<PathBuf, String> {
        let (texts, _) = self.counted()?;
        let shim = fs::read_to_string(root().join("tests/simt/simt.h")).map_err(|e| e.to_string())?;
        let count = format!("-DSIMT_COVERAGE={LOOPS}");
        let flags = [
            &FLAGS[..],
            &["-O0", "-w", "-fno-gnu-unique", "-fno-extern-tls-init", "--coverage", "-fprofile-update=atomic", &count],
        ]
        .concat();
        let mut hasher = blake3::Hasher::new();
        let parts = [shim.as_str(), &self.file, &self.kernel].into_iter().chain(flags.iter().copied());
        let texts_of = texts.iter().flat_map(|(name, text)| [name.as_str(), text]);
        for part in parts.chain(self.options.iter().map(String::as_str)).chain(texts_of) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let directory = cache().join(format!("coverage-{}", &hasher.finalize().to_hex()[..32]));
        let library = directory.join("kernel.so");
        if !library.exists() {
            self.compile_with_coverage(&texts, &flags, &directory)?;
        }
        let _ = fs::remove_file(directory.join("kernel.gcda"));
        Ok(library)
    }

    fn compile_with_coverage(
        &self,
        texts: &[(String, String)],
        flags: &[&str],
        directory: &Path,
    ) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("cannot write in {}: {e}", directory.display());
        fs::create_dir_all(directory).map_err(failed)?;
        for (name, text) in texts {
            fs::write(directory.join(name), text).map_err(failed)?;
        }
        let lines = format!("#include \"simt.h\"\n#include \"{}.cu\"\nSIMT_EXPORT({})\n", self.file, self.kernel);
        fs::write(directory.join("kernel.cpp"), lines).map_err(failed)?;
        let path = |name: &str| directory.join(name).display().to_string();
        let (source, object, made) = (path("kernel.cpp"), path("kernel.o"), path("made.so"));
        let (own, shim) = (directory.display().to_string(), root().join("tests/simt").display().to_string());
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        compiler(&[flags, &options, &["-I", &own, "-I", &shim, "-c", &source, "-o", &object]].concat())?;
        compiler(&["-shared", "-Wl,-Bsymbolic", "--coverage", &object, "-o", &made])?;
        fs::rename(&made, path("kernel.so")).map_err(failed)
    }
}

impl Coverage {
    /// Of all launches so far.
    pub fn so_far() -> Result<Coverage, String> {
        let mut coverage = Coverage::default();
        for kernel in loaded_with_coverage() {
            let turns = kernel.turns()?;
            for (place, turns) in kernel.source.counted()?.1.into_iter().zip(turns) {
                let most = coverage.turns.entry(place).or_default();
                *most = turns.max(*most);
            }
            coverage.add(kernel.path.parent().expect("a directory"))?;
        }
        Ok(coverage)
    }

    /// Adds gcov's counts of one library.
    fn add(&mut self, directory: &Path) -> Result<(), String> {
        let mut command = Command::new("gcov");
        command.args(["--json-format", "--stdout", "--branch-probabilities", "kernel.gcda"]).current_dir(directory);
        let output = command.output().map_err(|e| format!("cannot run gcov: {e}"))?;
        let report: Value =
            serde_json::from_slice(&output.stdout).map_err(|e| format!("{}: {e}", directory.display()))?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        for file in list(&report["files"]) {
            let name = Path::new(file["file"].as_str().unwrap_or_default()).file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            if !name.ends_with(".cu") && !name.ends_with(".cuh") {
                continue;
            }
            for line in list(&file["lines"]) {
                let place = (name.clone(), line["line_number"].as_u64().unwrap_or(0));
                *self.lines.entry(place.clone()).or_default() += line["count"].as_u64().unwrap_or(0);
                let branches: Vec<Value> = list(&line["branches"]);
                let branches: Vec<_> = branches.iter().filter(|branch| branch["throw"] != true).collect();
                for (k, branch) in branches.iter().enumerate() {
                    let key = (place.clone(), branches.len(), k);
                    *self.branches.entry(key).or_default() += branch["count"].as_u64().unwrap_or(0);
                }
            }
        }
        Ok(())
    }

    /// (file, line, what no launch does), in the order of the sources.
    pub fn missing(&self) -> Vec<(String, u64, String)> {
        let mut missing = Vec::new();
        for (place, &count) in &self.lines {
            let mut add = |what: String| missing.push((place.0.clone(), place.1, what));
            if count == 0 {
                add("never runs".into());
                continue;
            }
            let of_line = || self.branches.iter().filter(|((at, ..), _)| at == place);
            let (ways, not_taken) = (of_line().count(), of_line().filter(|(_, count)| **count == 0).count());
            if not_taken > 0 {
                add(format!("{not_taken} of {ways} ways not taken"));
            }
            if self.turns.get(place).is_some_and(|&turns| turns < 2) {
                add("at most one turn".into());
            }
        }
        missing
    }
}

#[test]
fn each_loop_has_a_counter_in_its_condition() {
    let text = "a\n  for (u32 i = 0; i < n; i++) for (; j > 0; j /= 2) f(i);  // for (all)\n";
    let counted = "a\n  if (SimtLoop simt_loop_3 = {3}; true) for (u32 i = 0; simt_loop_3.turn(i < n); i++) \
                   if (SimtLoop simt_loop_4 = {4}; true) for (; simt_loop_4.turn(j > 0); j /= 2) f(i);  // for (all)\n";
    assert_eq!(with_counted_loops(text, 3), (counted.into(), vec![2, 2]));
}
