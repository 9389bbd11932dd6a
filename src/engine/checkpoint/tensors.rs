//! One `.safetensors` file: its checked header, its mapped tensors, and the header of a new file.
//!
//! Format (huggingface/safetensors): 8 bytes n, little-endian; n bytes of JSON, name -> {dtype,
//! shape, data_offsets} with an optional `__metadata__`; the tensors' bytes, without gap or
//! overlap, to the end of the file.

use super::mapping::Mapping;
use crate::engine::ops::dtype_convert::StorageDType;
use crate::error::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The format's own limit on n.
const MAX_HEADER: u64 = 100_000_000;

/// One tensor of a file.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Unique within the file.
    pub name: String,
    /// Stored type: any that the format defines, checked against the tensor's bytes.
    pub dtype: Dtype,
    /// Row-major, as in the header; empty for a scalar.
    pub shape: Vec<usize>,
    /// First byte, from the start of the file.
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// Distinguishes one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Fingerprint {
    fn of(m: &Metadata) -> Fingerprint {
        Fingerprint { device: m.dev(), inode: m.ino(), length: m.len(), modified: (m.mtime(), m.mtime_nsec()) }
    }
}

/// An open `.safetensors` file whose header has been checked.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    mapping: Mapping,
    opened: Fingerprint,
    tensors: Vec<Tensor>,
}

impl TensorFile {
    /// Reads and checks the header. Errors name the file and, if there is one, the tensor. Refused:
    /// a header that is longer than the file or 100 MB, or not JSON in the format's form; a name
    /// given twice; an unknown type; a size that overflows or differs from that of the tensor's
    /// bytes; bytes out of range, shared, or belonging to no tensor.
    pub fn open(path: &Path) -> Result<TensorFile> {
        let io = |e: std::io::Error| Error::io("open", path, &e);
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(Error::input("this is not a regular file").at(path));
        }
        let opened = Fingerprint::of(&metadata);
        let header = read_header(path, &file, opened.length)?;
        let data_start = 8 + header.len() as u64;
        let mut tensors = Vec::new();
        for (name, info) in parse_header(path, &header)? {
            tensors.push(checked_tensor(path, name, &info, data_start)?);
        }
        check_tiling(path, &mut tensors, data_start, opened.length)?;
        let mapping = Mapping::new(&file).map_err(|e| Error::io("map", path, &e))?;
        if mapping.bytes().len() as u64 != opened.length {
            return Err(changed(path, &opened, "a different length"));
        }
        Ok(TensorFile { path: path.to_path_buf(), mapping, opened, tensors })
    }

    /// The file that was opened, as the caller gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// In the order of their bytes.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
    /// Frees the list of [`TensorFile::tensors`], once the caller has taken what it needs.
    pub(super) fn forget_tensors(&mut self) {
        self.tensors = Vec::new();
    }

    /// `length` bytes from byte `at` of the file, within its tensors. The caller must call
    /// [`TensorFile::check_readable`] or [`TensorFile::check_unchanged`] between reading these
    /// bytes and using what it read.
    pub(crate) fn bytes(&self, at: u64, length: usize) -> &[u8] {
        &self.mapping.bytes()[at as usize..][..length]
    }

    /// Fails if reading any byte of the file has failed so far.
    pub(crate) fn check_readable(&self) -> Result<()> {
        if self.mapping.is_broken() { Err(changed(&self.path, &self.opened, "it ends early")) } else { Ok(()) }
    }

    /// Refuses a file that changed since it was opened: its length or modification time differs, or
    /// another file has its name. A file rewritten in place within one tick of the file system's
    /// clock (a few milliseconds) keeps its fingerprint, so the change is not noticed.
    pub fn check_unchanged(&self) -> Result<()> {
        self.check_readable()?;
        let now = std::fs::metadata(&self.path).map_err(|e| Error::io("read again", &self.path, &e))?;
        if Fingerprint::of(&now) == self.opened {
            return Ok(());
        }
        Err(changed(&self.path, &self.opened, "a different length, time or file"))
    }
}

fn changed(path: &Path, opened: &Fingerprint, got: &str) -> Error {
    Error::input("the file changed while it was read")
        .at(path)
        .expected(format!("the file of {} bytes that was opened", opened.length))
        .got(got)
        .fix("wait until the program that writes it has finished, then run the same command again")
}

fn read_header(path: &Path, file: &File, length: u64) -> Result<Vec<u8>> {
    let fault = |got: String| {
        Error::input("this is not a safetensors file")
            .at(path)
            .expected("8 bytes of header length, a header within the file, tensors")
            .got(got)
            .fix("copy or download the file again; it may have been cut short, or be a Git LFS pointer")
    };
    let io = |e: std::io::Error| Error::io("read the header of", path, &e);
    if length < 8 {
        return Err(fault(format!("a file of {length} bytes")));
    }
    let mut n = [0u8; 8];
    file.read_exact_at(&mut n, 0).map_err(io)?;
    let n = u64::from_le_bytes(n);
    if n > MAX_HEADER || n > length - 8 {
        return Err(fault(format!("a header length of {n} in a file of {length} bytes")));
    }
    let mut header = vec![0u8; n as usize];
    file.read_exact_at(&mut header, 8).map_err(io)?;
    Ok(header)
}

/// The header's entries in order; unlike a map, this keeps duplicate names.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, TensorInfo)>;
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object of tensors")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                let info = map.next_value::<TensorInfo>();
                entries.push((name.clone(), info.map_err(|e| serde::de::Error::custom(format!("`{name}`: {e}")))?));
            }
        }
        Ok(entries)
    }
}

fn parse_header(path: &Path, header: &[u8]) -> Result<Vec<(String, TensorInfo)>> {
    let mut json = serde_json::Deserializer::from_slice(header);
    let entries = json.deserialize_map(Entries).and_then(|entries| json.end().map(|()| entries));
    entries.map_err(|e| {
        Error::input("the header of this safetensors file cannot be read")
            .at(path)
            .expected("JSON: name -> {dtype, shape, data_offsets}")
            .got(e.to_string())
            .fix("copy or download the file again")
    })
}

fn checked_tensor(path: &Path, name: String, info: &TensorInfo, data_start: u64) -> Result<Tensor> {
    let fault = |expected: String, got: String| {
        Err(Error::input("the header's entry for this tensor is wrong")
            .at(path)
            .tensor(&name)
            .expected(expected)
            .got(got))
    };
    let (start, end) = info.data_offsets;
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &d| n.checked_mul(d));
    let Some(bits) = bits else {
        return fault("a size that fits 64 bits".into(), format!("shape {:?}", info.shape));
    };
    if end < start || bits % 8 != 0 || bits / 8 != end - start {
        return fault(
            format!("{} bytes for {:?} of {:?}", bits.div_ceil(8), info.shape, info.dtype),
            format!("data_offsets [{start}, {end}]"),
        );
    }
    let Some(first) = (start as u64).checked_add(data_start) else {
        return fault("an offset within the file".into(), format!("data_offsets [{start}, {end}]"));
    };
    Ok(Tensor { name, dtype: info.dtype, shape: info.shape.clone(), start: first, bytes: (end - start) as u64 })
}

/// Sorts the tensors by position and checks that they are contiguous from `data_start` to `length`,
/// and that no name is given twice.
fn check_tiling(path: &Path, tensors: &mut [Tensor], data_start: u64, length: u64) -> Result<()> {
    tensors.sort_by(|a, b| (a.start, a.bytes, &a.name).cmp(&(b.start, b.bytes, &b.name)));
    let mut names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::input("the header names this tensor twice").at(path).tensor(twice[0]));
    }
    let mut next = data_start;
    for t in tensors.iter() {
        if t.start != next {
            let what = if t.start < next { "shares bytes with the one before" } else { "leaves a gap before it" };
            return Err(Error::input(format!("this tensor {what}"))
                .at(path)
                .tensor(&t.name)
                .expected(format!("a tensor that starts at byte {next} of the file"))
                .got(format!("one that starts at byte {}", t.start)));
        }
        next = match t.start.checked_add(t.bytes) {
            Some(end) if end <= length => end,
            _ => {
                return Err(Error::input("this tensor is outside the file")
                    .at(path)
                    .tensor(&t.name)
                    .expected(format!("{} bytes from byte {}", t.bytes, t.start))
                    .got(format!("a file of {length} bytes"))
                    .fix("copy or download the file again; it may have been cut short"));
            }
        };
    }
    if next != length {
        return Err(Error::input("the file holds bytes that belong to no tensor")
            .at(path)
            .expected(format!("{next} bytes"))
            .got(format!("{length} bytes")));
    }
    Ok(())
}

/// The header of a file of contiguous tensors of one type, in this order, padded so that their
/// bytes start at a multiple of 8.
pub(crate) fn header<'a>(tensors: impl Iterator<Item = (String, &'a [usize])>, dtype: StorageDType) -> Vec<u8> {
    let mut map = serde_json::Map::new();
    // transformers refuses a file without it
    map.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut start = 0;
    for (name, shape) in tensors {
        let end = start + shape.iter().product::<usize>() * dtype.bytes();
        let entry = serde_json::json!({"dtype": stored_as(dtype), "shape": shape, "data_offsets": [start, end]});
        map.insert(name, entry);
        start = end;
    }
    let mut json = serde_json::Value::Object(map).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend(json);
    header
}

fn stored_as(dtype: StorageDType) -> Dtype {
    match dtype {
        StorageDType::F32 => Dtype::F32,
        StorageDType::Bf16 => Dtype::BF16,
        StorageDType::F16 => Dtype::F16,
    }
}

/// The weight type that is stored as `dtype`; `None` for types that weights cannot have here.
pub(crate) fn weight_dtype(dtype: Dtype) -> Option<StorageDType> {
    [StorageDType::F32, StorageDType::Bf16, StorageDType::F16].into_iter().find(|&d| stored_as(d) == dtype)
}
