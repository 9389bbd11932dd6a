//! A kernel's resource usage, from ptxas in the log and from the CUBIN itself (an ELF file).

/// One kernel of a CUBIN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub registers: u32,
    /// Bytes of local memory per thread: spilled registers, arrays indexed at run time.
    pub stack: u32,
    pub spilled: u32,
    /// Static, in bytes.
    pub shared_bytes: u32,
    /// `__launch_bounds__`
    pub most_threads: u32,
    /// Bytes of each parameter, in order.
    pub parameters: Vec<u32>,
}

impl Usage {
    /// `None` if the kernel is missing from the log or the CUBIN.
    pub fn of(kernel: &str, log: &str, cubin: &[u8]) -> Option<Usage> {
        let from = log.find(&format!("Compiling entry function '{kernel}'"))?;
        let rest = &log[from..];
        let section = &rest[..rest[1..].find("Compiling entry function").map_or(rest.len(), |end| end + 1)];
        let (most_threads, parameters) = information(kernel, cubin)?;
        Some(Usage {
            registers: number_before(section, " registers")?,
            stack: number_before(section, " bytes stack frame")?,
            spilled: number_before(section, " bytes spill stores")? + number_before(section, " bytes spill loads")?,
            shared_bytes: number_before(section, " bytes smem").unwrap_or(0),
            most_threads,
            parameters,
        })
    }
}

fn number_before(text: &str, unit: &str) -> Option<u32> {
    let digits = text[..text.find(unit)?].rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Attributes of a section `.nv.info.<kernel>`.
const MAX_THREADS: u8 = 0x05;
const PARAMETER: u8 = 0x17;
/// The attribute's value has an explicit size in bytes; otherwise it is two bytes.
const SIZED: u8 = 4;

/// The launch bound and the bytes of each parameter.
fn information(kernel: &str, cubin: &[u8]) -> Option<(u32, Vec<u32>)> {
    let mut rest = section(&format!(".nv.info.{kernel}"), cubin)?;
    let (mut most_threads, mut parameters) = (None, vec![]);
    while let Some((head, tail)) = rest.split_at_checked(4) {
        let len = if head[0] == SIZED { u16::from_le_bytes([head[2], head[3]]) as usize } else { 0 };
        let (value, tail) = tail.split_at_checked(len)?;
        rest = tail;
        match head[1] {
            MAX_THREADS => most_threads = Some(word(value, 0)? * word(value, 4)? * word(value, 8)?),
            // Index (4 bytes), ordinal (2), offset (2), flags with the size in their upper 14 bits.
            PARAMETER => parameters.push((word(value, 4)? & 0xffff, word(value, 8)? >> 18)),
            _ => {}
        }
    }
    parameters.sort();
    Some((most_threads?, parameters.into_iter().map(|(_, bytes)| bytes).collect()))
}

pub const FMUL: u16 = 0x20;
pub const FADD: u16 = 0x21;
pub const FFMA: u16 = 0x23;

/// The operation of each instruction of a kernel: the low 9 bits of its 16 bytes, without the 3
/// bits of the operand form (as observed in the output of NVRTC 13.2 for sm_80 to sm_120).
pub fn operations(kernel: &str, cubin: &[u8]) -> Option<Vec<u16>> {
    let text = section(&format!(".text.{kernel}"), cubin)?;
    Some(text.chunks_exact(16).map(|code| u16::from_le_bytes([code[0], code[1]]) & 0x1ff).collect())
}

/// A section of a 64-bit little-endian ELF file.
fn section<'a>(name: &str, elf: &'a [u8]) -> Option<&'a [u8]> {
    let half = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?) as usize);
    let long = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?) as usize);
    let (table, entry, count, names) = (long(0x28)?, half(0x3a)?, half(0x3c)?, half(0x3e)?);
    let bytes = |i: usize| {
        let at = table + i * entry;
        let start = long(at + 0x18)?;
        elf.get(start..start + long(at + 0x20)?)
    };
    let names = bytes(names)?;
    let wanted = |&i: &usize| {
        let text = word(elf, table + i * entry).and_then(|at| names.get(at as usize..));
        text.is_some_and(|text| text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)))
    };
    (0..count).find(wanted).and_then(bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
