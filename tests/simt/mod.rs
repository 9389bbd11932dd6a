//! The host executor: runs kernels/*.cu on the CPU, from the same launches as a GPU. Each CUDA
//! thread is a fiber; see simt.h for what is visible to a kernel, machine.h for the models.
//!
//! No single run finds every bug: [`Mode::ALL`] runs the threads in three orders, lets asynchronous
//! copies arrive as late and as early as on a device, and has one hooked mode, in which every
//! access is checked for races, bounds and unwritten shared memory, whatever the order. Not
//! covered: rounding inside mma and approximate functions, anything about time, and instructions
//! that both this model and the kernel misinterpret.
//!
//! Needs g++ (and addr2line, for the lines in messages); without it every test that uses it fails.

mod compile;
mod coverage;
mod library;
mod memory;

pub use compile::{Build, Patch, Source, kernel_flags, library_of, runtime_files};
pub use coverage::Coverage;

use library::{Config, Region};
use memory::Memory;
use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stockpot::engine::device::{Arg, Buffer, CapturedGraph, DType, Device, Executor, Launch, Matrix};
use stockpot::error::{Error, Kind, Result};

/// The order of threads that can run, and of blocks. See tests/simt/fiber.cpp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    Forward,
    Reverse,
    Random(u64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mode {
    pub order: Order,
    /// Asynchronous copies (those of a kernel and uploads on the side stream) arrive when they are
    /// waited for, not at once. Uploads that arrive at once overtake the launches that they need
    /// not wait for.
    pub late: bool,
    pub build: Build,
}

const fn mode(order: Order, late: bool, build: Build) -> Mode {
    Mode { order, late, build }
}

impl Mode {
    pub const FORWARD: Mode = mode(Order::Forward, true, Build::Fast);
    pub const REVERSE: Mode = mode(Order::Reverse, true, Build::Fast);
    pub const RANDOM: Mode = mode(Order::Random(1), true, Build::Fast);
    pub const EARLY: Mode = mode(Order::Forward, false, Build::Fast);
    pub const HOOKED: Mode = mode(Order::Forward, true, Build::Hooked);
    pub const FAST: [Mode; 4] = [Mode::FORWARD, Mode::REVERSE, Mode::RANDOM, Mode::EARLY];
    pub const ALL: [Mode; 5] = [Mode::FORWARD, Mode::REVERSE, Mode::RANDOM, Mode::EARLY, Mode::HOOKED];
}

/// Runs an ignored test of this program, named with its modules, in its own process that can use
/// [`Build::Sanitized`]: the runtime of AddressSanitizer must be the first library that a process
/// loads. Returns whether it passed, and its output.
pub fn run_sanitized(test: &str) -> (bool, String) {
    let runtime = Command::new("g++").arg("-print-file-name=libasan.so").output().expect("g++ starts").stdout;
    let child = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LD_PRELOAD", String::from_utf8(runtime).expect("a UTF-8 path").trim())
        // Leaks at the end of a test program do not matter.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .output()
        .expect("this program starts");
    let output = [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (child.status.success() && output.contains("1 passed"), output)
}

/// Fills the target of a copy in flight: NaN as f32 and as bf16.
const POISON: u8 = 0xff;

/// Runs launches in one mode.
#[derive(Clone)]
struct Runner {
    mode: Mode,
    folder: PathBuf,
    patch: Option<Patch>,
    limit: Duration,
    memory: Memory,
    /// Blocks at the start and at the end of a grid that run; all if both are 0.
    cut: (u32, u32),
    banks: Option<Banks>,
}

/// The degree of each kernel's worst bank conflict and its line.
pub type Banks = Arc<Mutex<BTreeMap<&'static str, (u32, String)>>>;

/// Deferred work of the main queue.
enum Queued {
    /// Zeroing of the allocation at an address.
    Zero(u64),
    Launch(Launch),
    Upload(Buffer, Vec<u8>),
}

/// Processor time limit of one block: the longest takes a second or two.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Simt {
    runner: Runner,
    /// Uploads on the side stream that arrive when they are waited for.
    deferred: Vec<(Buffer, Vec<u8>)>,
    /// Work that uploads on the side stream overtake, in modes where they arrive at once; none
    /// after a capture, until the next upload on the side stream.
    queue: Option<Vec<Queued>>,
    /// The launches of the graph being captured.
    captured: Option<Vec<Launch>>,
}

struct Graph {
    runner: Runner,
    launches: Vec<Launch>,
}

impl Simt {
    pub fn new(mode: Mode) -> Simt {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let memory = Memory::default();
        let runner = Runner { mode, folder, patch: None, limit: LIMIT, memory, cut: (0, 0), banks: None };
        Simt { runner, deferred: vec![], queue: (!mode.late).then(Vec::new), captured: None }
    }
    /// Kernels come from `folder` (of the repository) instead of `kernels/`; headers still from
    /// there.
    pub fn with_folder(mut self, folder: &str) -> Simt {
        self.runner.folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        self
    }
    /// Kernels are compiled with this change to their text.
    pub fn with_source(mut self, patch: Patch) -> Simt {
        self.runner.patch = Some(patch);
        self
    }
    /// A block is given up after this much processor time.
    pub fn with_limit(mut self, limit: Duration) -> Simt {
        self.runner.limit = limit;
        self
    }
    /// Only the first and the last so many blocks of each launch run, so that operands may be
    /// larger than memory.
    pub fn with_cut_grid(mut self, first: u32, last: u32) -> Simt {
        self.runner.cut = (first, last);
        self
    }
    /// The worst bank conflicts of launches in hooked mode go to `banks`.
    pub fn with_banks(mut self, banks: &Banks) -> Simt {
        self.runner.banks = Some(banks.clone());
        self
    }
    /// A device in bf16, like a GPU.
    pub fn bf16(mode: Mode) -> Device {
        Simt::new(mode).device(DType::Bf16)
    }
    pub fn device(self, compute: DType) -> Device {
        Device::with_executor("simt", Box::new(self), compute)
    }
    fn not_capturing(&self, what: &str) {
        assert!(self.captured.is_none(), "{what} while a graph is being captured: CUDA refuses that");
    }
    fn write(&self, to: &Buffer, bytes: &[u8]) {
        let to = self.runner.memory.pointer(to.address(), bytes.len());
        // SAFETY: memory of an allocation, which no slice of this process overlaps; no kernel runs
        // meanwhile.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }
    /// Does the deferred work.
    fn catch_up(&mut self) -> Result<()> {
        for work in self.queue.iter_mut().flat_map(std::mem::take).collect::<Vec<_>>() {
            match work {
                Queued::Zero(address) => self.runner.memory.zero(address),
                Queued::Launch(launch) => self.runner.run(&launch)?,
                Queued::Upload(to, bytes) => self.write(&to, &bytes),
            }
        }
        Ok(())
    }
}

fn region(m: &Matrix) -> Region {
    let size = m.dtype().bytes() as u64;
    let bytes = |n: usize| n as u64 * size;
    Region { address: m.address(), rows: m.rows() as u64, row_bytes: bytes(m.cols()), stride_bytes: bytes(m.stride()) }
}

/// The letter of a parameter that takes this argument, and the argument's bytes.
fn argument(arg: &Arg) -> (char, [u8; 8]) {
    let padded = |bytes: [u8; 4]| u64::from(u32::from_le_bytes(bytes)).to_le_bytes();
    match arg {
        Arg::Matrix(m) => (char::from(b'0' + m.dtype().bytes() as u8), m.address().to_le_bytes()),
        Arg::U32(x) => ('u', padded(x.to_le_bytes())),
        Arg::F32(x) => ('f', padded(x.to_le_bytes())),
        Arg::F64(x) => ('d', x.to_le_bytes()),
    }
}

impl Runner {
    fn run(&self, launch: &Launch) -> Result<()> {
        let failed = |message: String| Error::new(Kind::Numeric, format!("kernel {}: {message}", launch.kernel));
        self.try_run(launch).map_err(failed)
    }

    fn try_run(&self, launch: &Launch) -> std::result::Result<(), String> {
        let (folder, patch, build) = (self.folder.clone(), self.patch.clone(), self.mode.build);
        // A patch is for one file; kernels of other files are unchanged.
        let patch = patch.filter(|patch| patch.file.ends_with(".cuh") || patch.file == format!("{}.cu", launch.file));
        let kernel = library::kernel(&Source { folder, patch, build, ..Source::of(launch) })?;
        let (letters, values): (String, Vec<[u8; 8]>) = launch.args.iter().map(argument).unzip();
        if letters != kernel.parameters {
            return Err(format!("the launch's arguments are {letters}, the kernel's parameters {}", kernel.parameters));
        }
        let matrices = || launch.args.iter().filter_map(|arg| if let Arg::Matrix(m) = arg { Some(m) } else { None });
        let regions: Vec<Region> = matrices().map(region).collect();
        let (order, seed) = match self.mode.order {
            Order::Forward => (0, 0),
            Order::Reverse => (1, 0),
            Order::Random(seed) => (2, seed),
        };
        let config = Config {
            grid: launch.grid,
            block: launch.block,
            dynamic_bytes: launch.shared_bytes,
            order,
            seed,
            late: u32::from(self.mode.late),
            hooked: u32::from(build == Build::Hooked),
            first_blocks: self.cut.0,
            last_blocks: self.cut.1,
            limit_ms: self.limit.as_millis() as u32,
            regions: regions.as_ptr(),
            region_count: regions.len() as u64,
        };
        // SAFETY: 1 was just checked. 2: operands are memory of this executor, which is not shared,
        // and the caller has exclusive access while it launches.
        let conflict = unsafe { kernel.launch(&config, &values) }?;
        if let Some(banks) = &self.banks {
            let mut banks = banks.lock().expect("no panic while locked");
            let worst = banks.entry(launch.kernel).or_default();
            if conflict.degree > worst.0 {
                *worst = (conflict.degree, kernel.line_of(conflict.pc));
            }
        }
        matrices().try_for_each(|m| self.memory.check_surroundings(m.address()))
    }
}

impl Executor for Simt {
    fn allocate(&mut self, bytes: usize) -> Result<(u64, Box<dyn Any + Send + Sync>)> {
        self.not_capturing("an allocation");
        let (address, owner) = self.runner.memory.allocate(bytes).expect("memory");
        // The memory is zeroed; on a device that is queued work, which uploads may overtake.
        if let Some(queue) = &mut self.queue {
            queue.push(Queued::Zero(address));
        }
        Ok((address, Box::new(owner)))
    }
    fn launch(&mut self, launch: &Launch) -> Result<()> {
        match (&mut self.captured, &mut self.queue) {
            (Some(launches), _) => launches.push(launch.clone()),
            (None, Some(queue)) => queue.push(Queued::Launch(launch.clone())),
            (None, None) => self.runner.run(launch)?,
        }
        Ok(())
    }
    fn upload(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.not_capturing("an upload");
        match &mut self.queue {
            Some(queue) => queue.push(Queued::Upload(to.clone(), bytes.to_vec())),
            None => self.write(to, bytes),
        }
        Ok(())
    }
    fn fork_uploads(&mut self) -> Result<()> {
        self.not_capturing("a fork");
        self.catch_up()
    }
    fn upload_on_side_stream(&mut self, to: &Buffer, bytes: &[u8]) -> Result<()> {
        self.not_capturing("an upload on the side stream");
        if self.runner.mode.late {
            self.write(to, &vec![POISON; bytes.len()]);
            self.deferred.push((to.clone(), bytes.to_vec()));
        } else {
            self.queue.get_or_insert_default();
            self.write(to, bytes);
        }
        Ok(())
    }
    fn join_uploads(&mut self) -> Result<()> {
        self.not_capturing("a join");
        for (to, bytes) in std::mem::take(&mut self.deferred) {
            self.write(&to, &bytes);
        }
        Ok(())
    }
    fn download(&mut self, from: &Buffer, bytes: &mut [u8]) -> Result<()> {
        self.not_capturing("a download");
        self.catch_up()?;
        let from = self.runner.memory.pointer(from.address(), bytes.len());
        // SAFETY: as in `write`.
        unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }
    fn begin_capture(&mut self) -> Result<bool> {
        self.not_capturing("another capture");
        // A graph runs at once, not in the queue: earlier queued work runs first, and nothing is
        // deferred until the next upload on the side stream.
        self.catch_up()?;
        self.queue = None;
        self.captured = Some(Vec::new());
        Ok(true)
    }
    fn end_capture(&mut self) -> Result<Box<dyn CapturedGraph>> {
        let launches = self.captured.take().expect("a capture has begun");
        Ok(Box::new(Graph { runner: self.runner.clone(), launches }))
    }
    fn finish(&mut self) -> Result<()> {
        if self.captured.is_some() {
            return Err(Error::new(Kind::Numeric, "a capture was not ended"));
        }
        self.catch_up()?;
        self.join_uploads()
    }
}

impl CapturedGraph for Graph {
    fn launch(&mut self) -> Result<()> {
        self.launches.iter().try_for_each(|launch| self.runner.run(launch))
    }
}
