//! Reads documents from files: `.jsonl`, `.jsonl.gz`, `.jsonl.zst` (one JSON object per line, as in
//! Dolma), `.parquet` (one document per row, see `parquet`) and `.txt` (one document per file). The
//! order is fixed: sorted paths, then lines or rows. Files are streamed, so memory holds one
//! document (for parquet, a batch of rows) at a time. `split` and `decontaminate` decide which
//! documents are kept.

use super::document::{Document, from_object, kind};
use super::parquet;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

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

/// The document files that `inputs` name, sorted by path, without duplicates. An input is a file, a
/// directory (searched recursively, skipping names that begin with a dot) or a pattern of `*`, `?`,
/// `[..]` and `**`. Directories and patterns yield only files of known kinds; an input that yields
/// none is an error.
pub fn expand(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for input in inputs {
        let mut here = BTreeSet::new();
        // A path that exists is taken literally even if it contains a `[`.
        if input.is_file() {
            if Format::of(input).is_none() {
                return Err(Error::input("this kind of file is not supported").at(input).expected(KNOWN).fix(
                    "if it has one JSON object per line, rename it to end in .jsonl (or .jsonl.gz, .jsonl.zst); \
                     otherwise convert it",
                ));
            }
            here.insert(input.clone());
        } else if input.is_dir() {
            search(input, &mut BTreeSet::new(), &mut here)?;
        } else {
            match_pattern(input, &mut here)?;
        }
        if here.is_empty() {
            return Err(Error::input("no documents found here")
                .at(input)
                .expected(KNOWN)
                .fix("check the path or pattern"));
        }
        found.append(&mut here);
    }
    if found.is_empty() {
        return Err(Error::input("no input files are given").expected("at least one file, directory or pattern"));
    }
    // One file under two names (a link, `./a` and `a`) counts once: the first name is kept.
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

/// Adds the document files below `directory`. `seen` holds the real paths visited, so a link to a
/// parent does not loop.
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

/// Calls `each` on every document of `files`, in order, and returns their number. Stops at the
/// first error, of a file (its path and line are named) or of `each`. No documents at all is an
/// error.
pub fn for_each_document(files: &[PathBuf], mut each: impl FnMut(Document) -> Result<()>) -> Result<u64> {
    let mut documents = 0;
    for path in files {
        let format = Format::of(path)
            .ok_or_else(|| Error::input("this kind of file is not supported").at(path).expected(KNOWN))?;
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
        let error = Error::input("there are no documents in the input").got(match files.len() {
            1 => "an empty file".to_string(),
            n => format!("{n} empty files"),
        });
        return Err(match files.first() {
            Some(path) => error.at(path).fix("check that the file was written completely"),
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

/// The error of a failed read: a compressed file is damaged; for a plain file, it is the system's
/// error.
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
            .expected(r#"one JSON object per line, such as {"id": "a", "text": "..."}"#)
            .got(e.to_string().replace("at line 1 column", "at column"))
    })?;
    let Value::Object(object) = value else {
        return Err(bad("not a JSON object")
            .expected(r#"one object per line, such as {"id": "a", "text": "..."}"#)
            .got(kind(&value)));
    };
    from_object(object, bad)
}

/// BLAKE3 hash (hexadecimal) of what `files` contribute: their bytes as stored, in order, and the
/// name of a `.txt` file, which is its document's id. Directories do not count, so a moved data set
/// keeps its hash.
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
