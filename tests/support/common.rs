//! What the tests of the binary share: running it, killing it at seeded moments, comparing whole directories, and a
//! study small enough to run in a second. Text is made here from a seed, so nothing is read but what a test wrote.

// Every test file uses a part of this.
#![allow(dead_code)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How a command ended and what it said.
pub struct Outcome {
    /// `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Outcome {
        let output = command.output().expect("the command starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn done(self) -> Outcome {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let done = self.done();
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("not JSON: {e}\n{}", done.stdout))
    }

    /// It must have failed with `code` and one error that holds every one of `parts`, and without a panic.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.stderr.matches("error: ").count(), 1, "one error:\n{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in:\n{}", self.stderr);
        }
    }
}

/// The binary, to be run in `directory`.
pub fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stockpot"));
    command.current_dir(directory).args(args).stdin(Stdio::null());
    command
}

/// Runs the binary in `directory`.
pub fn stockpot(directory: &Path, args: &[&str]) -> Outcome {
    Outcome::of(&mut command(directory, args))
}

pub fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Starts the binary and ends it by SIGKILL `delay` later. Whether it was still at work.
pub fn kill_after(directory: &Path, args: &[&str], delay: Duration) -> bool {
    let mut command = command(directory, args);
    let mut child: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    std::thread::sleep(delay);
    let at_work = child.try_wait().expect("a child can be asked").is_none();
    child.kill().expect("a child can be killed");
    let status = child.wait().expect("a child can be waited for");
    at_work && !status.success()
}

/// Kills the command up to eight times at moments drawn from `seed` within `longest`, each run going on from what the
/// last one left, until one ends by itself. `after_kill` sees every state in between. Returns how many kills met it at
/// work.
pub fn kill_often(
    directory: &Path,
    args: &[&str],
    longest: Duration,
    seed: u64,
    mut after_kill: impl FnMut(),
) -> usize {
    let mut random = random(seed);
    for met in 0..8 {
        let share = random.next_u32() as f64 / u32::MAX as f64;
        if !kill_after(directory, args, longest.mul_f64(share)) {
            return met;
        }
        after_kill();
    }
    8
}

pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (work(), start.elapsed())
}

/// Every file below `root` by its relative path, with its bytes; directories end in `/`. `study.lock`, which holds a
/// process id, and what clocks saw are left out.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(directory).expect("a directory that can be listed") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            if path.is_dir() {
                found.insert(name + "/", vec![]);
                visit(root, &path, found);
            } else if !["study.lock", "clock.jsonl", "cost.json"].contains(&name.as_str()) {
                let bytes = fs::read(&path).expect("a file that can be read");
                found.insert(name.clone(), if name.ends_with("report.html") { without_clock(bytes) } else { bytes });
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(root, root, &mut found);
    found
}

/// A page without its section of hours.
fn without_clock(page: Vec<u8>) -> Vec<u8> {
    let page = String::from_utf8(page).expect("a page is text");
    match page.split_once("<section id=\"clock\">") {
        Some((before, rest)) => {
            let (_, after) = rest.split_once("</section>").expect("the section ends");
            format!("{before}{after}").into_bytes()
        }
        None => page.into_bytes(),
    }
}

/// Copies the files of a directory that has no directories.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for (name, bytes) in tree(from) {
        fs::write(to.join(name), bytes).expect("a file");
    }
}

/// Equal names and equal bytes; the message names the files, not their content.
#[track_caller]
pub fn assert_same_tree(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) {
    let names = |t: &BTreeMap<String, Vec<u8>>| t.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(a), names(b));
    let differing: Vec<&String> = a.iter().filter(|(name, bytes)| b[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "these files differ: {differing:?}");
}

/// Text of a topic: `words` words, most from the topic's own 40, some common to all.
pub fn text(topic: u64, number: u64, words: usize) -> String {
    let mut vocabulary = random(1000 + topic);
    let mut word = || {
        let syllables = ["ka", "lo", "mi", "ter", "un", "sha", "pre", "dor", "vel", "qui", "nat", "os"];
        (0..2 + vocabulary.next_u32() % 2).map(|_| syllables[vocabulary.next_u32() as usize % 12]).collect::<String>()
    };
    let own: Vec<String> = (0..40).map(|_| word()).collect();
    let common = ["the", "of", "and", "a", "in", "is"];
    let mut draw = random(topic * 100_000 + number);
    let mut pick = || match draw.next_u32() % 4 {
        0 => common[draw.next_u32() as usize % common.len()].to_string(),
        _ => own[draw.next_u32() as usize % own.len()].clone(),
    };
    (0..words).map(|_| pick()).collect::<Vec<_>>().join(" ")
}

/// (id, text) of `count` documents of a topic; the ids are `<name>-<number>`.
pub fn documents(name: &str, topic: u64, count: u64) -> Vec<(String, String)> {
    (0..count).map(|i| (format!("{name}-{i}"), text(topic, i, 30 + (i as usize * 7) % 41))).collect()
}

pub fn write_jsonl(path: &Path, documents: &[(String, String)]) {
    let line = |(id, text): &(String, String)| serde_json::json!({"id": id, "text": text}).to_string() + "\n";
    fs::write(path, documents.iter().map(line).collect::<String>()).expect("a file that can be written");
}

/// Smaller than any preset; vocabulary 300 comes with the tokenizer.
pub const MODEL: &str = "preset = \"tiny\"\nwidth = 16\nlayers = 1\nheads = 2\nfeed_forward = 32\ncontext = 16\n";

/// The partitions of [`write_study`].
pub const PARTITIONS: [&str; 3] = ["law", "music", "physics"];

/// Writes the text of a study of three partitions and one OOD domain to `directory`, and `study.toml`.
pub fn write_study(directory: &Path) {
    write_jsonl(&directory.join("general.jsonl"), &documents("general", 1, 60));
    for (topic, name) in (2..).zip(PARTITIONS) {
        write_jsonl(&directory.join(format!("{name}.jsonl")), &documents(name, topic, 40));
    }
    // In the order in which a study scores them, so that `eval` makes the very same sums.
    let mut letters = documents("letters", 9, 12);
    letters.sort_by_key(|(id, _)| (*blake3::hash(id.as_bytes()).as_bytes(), id.clone()));
    write_jsonl(&directory.join("letters.jsonl"), &letters);
    fs::write(directory.join("study.toml"), study_toml(&PARTITIONS)).expect("a file that can be written");
}

/// The settings of [`write_study`], with its partitions in this order.
pub fn study_toml(partitions: &[&str]) -> String {
    let tables: String = partitions
        .iter()
        .map(|name| format!("\n[[partition]]\nname = \"{name}\"\nfiles = [\"{name}.jsonl\"]\n"))
        .collect();
    format!(
        "name = \"small\"\ncheckpoint_every = 10\n\n[model]\n{MODEL}\n[tokenizer]\nvocabulary = 300\n\n\
         [data]\ntest = 0.2\n\n[seed]\nfiles = [\"general.jsonl\"]\n\n\
         [seed.training]\nsteps = 60\nbatch = 4\nlearning_rate = 3e-3\nschedule = \"cosine\"\nwarmup_steps = 5\n\n\
         [module.training]\nsteps = 25\nbatch = 4\nlearning_rate = 3e-4\n\n\
         [mixtures]\npairs = \"all\"\n{tables}\n[[ood]]\nname = \"letters\"\nfiles = [\"letters.jsonl\"]\n"
    )
}

/// A tokenizer of 300 tokens, trained on general text.
pub fn write_tokenizer(path: &Path) {
    let texts = documents("general", 1, 60).into_iter().map(|(_, text)| text);
    stockpot::engine::data::Tokenizer::train(texts, 300).and_then(|t| t.save(path)).expect("a tokenizer");
}

/// A file's last bytes taken away.
pub fn truncate(path: &Path, by: u64) {
    let file = File::options().write(true).open(path).expect("a file");
    let length = file.metadata().expect("a file's length").len();
    file.set_len(length.saturating_sub(by)).expect("a file that can be cut");
}
