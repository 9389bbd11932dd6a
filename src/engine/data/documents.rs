//! Documents out of files: `.jsonl`, `.jsonl.gz`, `.jsonl.zst` (one JSON object a line, as Dolma has them),
//! `.parquet` (one document a row, see `parquet`) and `.txt` (one document a file). The order is fixed: sorted paths,
//! then lines or rows. Files are streamed, so memory holds one document (of parquet: a batch of rows) at a time. Which
//! documents are kept is left to `split` and `decontaminate`.

use super::parquet;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// One text and what is known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Names the document in splits and reports. A line without `id` gets the hash of its text; a `.txt` file its
    /// file name.
    pub id: String,
    pub text: String,
    pub source: Option<String>,
    pub metadata: Map<String, Value>,
}

impl Document {
    /// The year that metadata gives under `field`: a whole number, or a string that begins with a year of four digits
    /// ("1999", "1999-05-01T00:00:00Z") or is a date of eight ("19990501"). Nothing where it says neither.
    pub fn year(&self, field: &str) -> Option<i64> {
        match self.metadata.get(field)? {
            Value::Number(number) => whole(number),
            Value::String(text) => {
                let digits = text.bytes().take_while(u8::is_ascii_digit).count();
                let date = digits == 4 || (digits == 8 && text.len() == 8);
                if date { text[..4].parse().ok() } else { None }
            }
            _ => None,
        }
    }

    /// Whether metadata holds exactly `value` under `key`; `source` is the document's source where it has one. 1999 and
    /// 1999.0 are equal, 1999 and "1999" are not.
    pub fn matches(&self, key: &str, value: &Value) -> bool {
        if let ("source", Some(source)) = (key, &self.source) {
            return value.as_str() == Some(source);
        }
        match (self.metadata.get(key), value) {
            (Some(Value::Number(a)), Value::Number(b)) if a.is_f64() != b.is_f64() => {
                whole(a).is_some() && whole(a) == whole(b)
            }
            (Some(held), value) => held == value,
            (None, _) => false,
        }
    }
}

/// The number, if it is whole; one with a fraction part of 0 only as far as an f64 is exact.
fn whole(number: &serde_json::Number) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    let real = || number.as_f64().filter(|v| v.fract() == 0.0 && v.abs() <= EXACT).map(|v| v as i64);
    number.as_i64().or_else(real)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    JsonLines,
    JsonLinesGzip,
    JsonLinesZstd,
    Parquet,
    Text,
}

const KNOWN: &str = "a .jsonl, .jsonl.gz, .jsonl.zst, .json.gz, .json.zst, .parquet or .txt file";

impl Format {
    fn of(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        [
            (".jsonl", Format::JsonLines),
            (".jsonl.gz", Format::JsonLinesGzip),
            (".jsonl.zst", Format::JsonLinesZstd),
            // Dolma's own files.
            (".json.gz", Format::JsonLinesGzip),
            (".json.zst", Format::JsonLinesZstd),
            (".parquet", Format::Parquet),
            (".txt", Format::Text),
        ]
        .into_iter()
        .find_map(|(ending, format)| name.ends_with(ending).then_some(format))
    }
}

/// The document files that `inputs` name, sorted by path, each once however often it is named. An input is a file,
/// a directory (searched below, names that begin with a dot left out) or a pattern of `*`, `?`, `[..]` and `**`.
/// Directories and patterns yield the files of known kinds only; an input that yields none is an error.
pub fn expand(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for input in inputs {
        let mut here = BTreeSet::new();
        // A path that exists is meant literally even if it holds a `[`.
        if input.is_file() {
            if Format::of(input).is_none() {
                return Err(Error::input("this kind of file is not read").at(input).expected(KNOWN).fix(
                    "a file of one JSON object a line ends in .jsonl (or .jsonl.gz, .jsonl.zst): rename it, or \
                     convert it",
                ));
            }
            here.insert(input.clone());
        } else if input.is_dir() {
            search(input, &mut BTreeSet::new(), &mut here)?;
        } else {
            match_pattern(input, &mut here)?;
        }
        if here.is_empty() {
            return Err(Error::input("no documents here").at(input).expected(KNOWN).fix("check the path or pattern"));
        }
        found.append(&mut here);
    }
    if found.is_empty() {
        return Err(Error::input("no input files are named").expected("at least one file, directory or pattern"));
    }
    // One file under two names (a link, `./a` and `a`) is one file: the first name stays.
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for path in found {
        if seen.insert(fs::canonicalize(&path).map_err(|e| Error::io("open", &path, &e))?) {
            files.push(path);
        }
    }
    Ok(files)
}

fn match_pattern(input: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let pattern = input.to_str().ok_or_else(|| Error::input("no such file").at(input).fix("check the path"))?;
    if !pattern.contains(['*', '?', '[']) {
        return Err(Error::input("no such file or directory").at(input).expected(KNOWN).fix("check the path"));
    }
    let paths = glob::glob(pattern).map_err(|e| {
        Error::input(format!("not a file pattern: {}", e.msg)).at(input).expected("*, ?, [..] and ** as in a shell")
    })?;
    for path in paths {
        let path = path.map_err(|e| Error::io("search", e.path(), e.error()))?;
        if path.is_dir() {
            search(&path, &mut BTreeSet::new(), found)?;
        } else if Format::of(&path).is_some() {
            found.insert(path);
        }
    }
    Ok(())
}

/// Adds the document files below `directory`. `seen` holds the real paths entered, so a link to a parent ends.
fn search(directory: &Path, seen: &mut BTreeSet<PathBuf>, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let io = |e: std::io::Error| Error::io("search", directory, &e);
    if !seen.insert(fs::canonicalize(directory).map_err(io)?) {
        return Ok(());
    }
    let mut entries = fs::read_dir(directory).map_err(io)?.collect::<std::io::Result<Vec<_>>>().map_err(io)?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            search(&path, seen, found)?;
        } else if Format::of(&path).is_some() {
            found.insert(path);
        }
    }
    Ok(())
}

/// Calls `each` on every document of `files`, in order, and returns how many there were. Stops at the first error,
/// be it of a file (its path and line are named) or of `each`. No document at all is an error.
pub fn for_each_document(files: &[PathBuf], mut each: impl FnMut(Document) -> Result<()>) -> Result<u64> {
    let mut documents = 0;
    for path in files {
        let format =
            Format::of(path).ok_or_else(|| Error::input("this kind of file is not read").at(path).expected(KNOWN))?;
        let mut counted = |document| {
            documents += 1;
            each(document)
        };
        match format {
            Format::Text => counted(read_text(path)?)?,
            Format::Parquet => parquet::for_each_row(path, counted)?,
            _ => for_each_line(path, format, counted)?,
        }
    }
    if documents == 0 {
        let error = Error::input("there is no document in the input").got(match files.len() {
            1 => "an empty file".to_string(),
            n => format!("{n} empty files"),
        });
        return Err(match files.first() {
            Some(path) => error.at(path).fix("check that the file was written to the end"),
            None => error,
        });
    }
    Ok(documents)
}

fn read_text(path: &Path) -> Result<Document> {
    let bytes = fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        not_utf8(path, line as u64)
    })?;
    let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok(Document { id, text, source: None, metadata: Map::new() })
}

fn for_each_line(path: &Path, format: Format, mut each: impl FnMut(Document) -> Result<()>) -> Result<()> {
    let mut reader = open(path, format)?;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(|e| unreadable(path, format, number, &e))? == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).map_err(|_| not_utf8(path, number))?;
        // Some editors put a byte order mark before the first line.
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        let text = text.trim();
        if !text.is_empty() {
            each(parse(path, number, text)?)?;
        }
    }
    Ok(())
}

fn open(path: &Path, format: Format) -> Result<Box<dyn BufRead>> {
    const BUFFER: usize = 1 << 18;
    // Some archives use windows beyond zstd's default limit (`zstd --long=31`).
    const LARGEST_WINDOW_LOG: u32 = 31;
    let io = |e: std::io::Error| Error::io("open", path, &e);
    let file = BufReader::with_capacity(BUFFER, File::open(path).map_err(io)?);
    let plain: Box<dyn Read> = match format {
        Format::JsonLines | Format::Parquet | Format::Text => return Ok(Box::new(file)),
        Format::JsonLinesGzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Format::JsonLinesZstd => {
            let mut decoder = zstd::Decoder::with_buffer(file).map_err(io)?;
            decoder.window_log_max(LARGEST_WINDOW_LOG).map_err(io)?;
            Box::new(decoder)
        }
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, plain)))
}

/// A failed read of a compressed file says that the file is damaged; of a plain file, that the system refused.
fn unreadable(path: &Path, format: Format, line: u64, e: &std::io::Error) -> Error {
    let (name, test) = match format {
        Format::JsonLines | Format::Parquet | Format::Text => return Error::io("read", path, e),
        Format::JsonLinesGzip => ("gzip", "gzip -t"),
        Format::JsonLinesZstd => ("zstd", "zstd -t"),
    };
    // The operating system's own errors (a bad disk, a lost mount) are not the archive's.
    if e.raw_os_error().is_some() {
        return Error::io("read", path, e);
    }
    let what = match e.kind() {
        ErrorKind::UnexpectedEof => format!("the {name} file is cut off"),
        _ => format!("the {name} file is damaged ({e})"),
    };
    Error::input(what)
        .at(path)
        .line(line)
        .expected(format!("a whole {name} stream"))
        .fix(format!("copy or download the file again; `{test}` checks it"))
}

fn not_utf8(path: &Path, line: u64) -> Error {
    Error::input("the text is not valid UTF-8").at(path).line(line).fix("convert the file with `iconv -t UTF-8`")
}

fn parse(path: &Path, line: u64, text: &str) -> Result<Document> {
    let bad = |what: &str| Error::input(what).at(path).line(line);
    let value: Value = serde_json::from_str(text).map_err(|e| {
        // serde_json counts lines within this one line: its "at line 1 column C" is column C.
        bad("not valid JSON")
            .expected(r#"one JSON object a line, such as {"id": "a", "text": "..."}"#)
            .got(e.to_string().replace("at line 1 column", "at column"))
    })?;
    let Value::Object(object) = value else {
        return Err(bad("not a JSON object")
            .expected(r#"one object a line, such as {"id": "a", "text": "..."}"#)
            .got(kind(&value)));
    };
    from_object(object, bad)
}

/// The document of a JSON object; `bad` makes an error that says where the object is.
pub(super) fn from_object(mut object: Map<String, Value>, bad: impl Fn(&str) -> Error) -> Result<Document> {
    let text = match object.remove("text") {
        Some(Value::String(text)) => text,
        None => return Err(bad("the document has no `text`").expected(r#"a string field "text""#)),
        Some(other) => return Err(bad("`text` is not a string").expected("a string").got(kind(&other))),
    };
    let id = match object.remove("id") {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        None | Some(Value::Null) => id_of(&text),
        Some(other) => return Err(bad("`id` is not a string").expected("a string or a number").got(kind(&other))),
    };
    let source = match object.remove("source") {
        Some(Value::String(source)) => Some(source),
        None | Some(Value::Null) => None,
        Some(other) => return Err(bad("`source` is not a string").expected("a string").got(kind(&other))),
    };
    let mut metadata = match object.remove("metadata") {
        Some(Value::Object(metadata)) => metadata,
        None | Some(Value::Null) => Map::new(),
        Some(other) => return Err(bad("`metadata` is not an object").expected("an object").got(kind(&other))),
    };
    // What stands beside the metadata belongs to it: Dolma's `created`, the columns of a table.
    for (key, value) in object.into_iter().filter(|(_, value)| !value.is_null()) {
        metadata.entry(key).or_insert(value);
    }
    Ok(Document { id, text, source, metadata })
}

/// The id of a text without one: the first 128 bits of its BLAKE3 hash, in hexadecimal.
fn id_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_string()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// BLAKE3 hash (hexadecimal) of what `files` contribute: their bytes as stored, in order, and the name of a `.txt`
/// file, which is its document's id. Directories do not count, so a moved data set keeps its hash.
pub fn hash_files(files: &[PathBuf]) -> Result<String> {
    let mut all = blake3::Hasher::new();
    for path in files {
        let mut one = blake3::Hasher::new();
        File::open(path).and_then(|f| one.update_reader(f)).map_err(|e| Error::io("read", path, &e))?;
        let format = Format::of(path);
        let name = path.file_name().filter(|_| format == Some(Format::Text));
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        all.update(format!("{format:?} {} {name}\n", one.finalize().to_hex()).as_bytes());
    }
    Ok(all.finalize().to_hex().to_string())
}
