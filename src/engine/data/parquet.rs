//! Reads documents from `.parquet` files, one per row. Each row becomes the JSON object that the
//! same document has in a `.jsonl` file, so one set of rules (`document::from_object`) reads both.
//!
//! * `text` (string, required), `id` (string or integer), `source` (string)
//! * `metadata`: a struct, or a string that holds a JSON object
//! * every other column of strings, numbers, booleans, dates or timestamps goes to the metadata;
//!   fields of `metadata` itself take precedence. Nulls are left out. Dates and timestamps become
//!   ISO 8601 text.
//! * lists, maps, other structs, bytes, decimals and times of day are skipped without being read.
//!
//! Memory holds a batch of rows and a page of each column. Columns are read by the crate's column
//! readers, which panic on few damaged files (see [`guarded`]); its record API, which assembles
//! rows, panics on many.

use super::document::{Document, from_object};
use crate::error::{Error, Result};
use ::parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::RowGroupMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::{ColumnDescriptor, SchemaDescriptor, Type};
use chrono::DateTime;
use serde_json::{Map, Value};
use std::fs::File;
use std::path::Path;

/// Rows in memory at a time. Books are a few MB each.
const BATCH: usize = 64;

/// Column types whose values have a JSON equivalent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scalar {
    Boolean,
    Signed,
    Unsigned,
    Real,
    Text,
    /// Days since 1970-01-01.
    Date,
    /// Units since 1970-01-01, this many per second.
    Timestamp(i64),
}

/// The destination of a column's values.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Destination {
    /// A field of the document: `text`, `id`, `source`.
    Document,
    /// A JSON object as text, in `metadata`.
    Json,
    /// A field of the struct `metadata`.
    Metadata,
    /// A column beside `metadata`.
    Beside,
}

/// A column to read.
#[derive(Debug)]
struct Column {
    /// Its index among the file's leaf columns.
    leaf: usize,
    /// Names from the root, such as `metadata`, `year`.
    path: Vec<String>,
    place: Destination,
    scalar: Scalar,
    /// The definition level of a value that is not null.
    level: i16,
}

/// Calls `each` on the document of every row of `path`, in order.
pub(super) fn for_each_row(path: &Path, mut each: impl FnMut(Document) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io("open", path, &e))?;
    let bytes = file.metadata().map_err(|e| Error::io("open", path, &e))?.len();
    let reader = guarded(path, || SerializedFileReader::new(file))?;
    let columns = columns(path, reader.metadata().file_metadata().schema_descr())?;
    let mut row = 0;
    for number in 0..reader.num_row_groups() {
        let group = guarded(path, || reader.get_row_group(number))?;
        let mut readers = Vec::new();
        for column in &columns {
            check_chunk(path, column, group.metadata(), bytes)?;
            readers.push(guarded(path, || group.get_column_reader(column.leaf))?);
        }
        let mut left = group.metadata().num_rows();
        while left > 0 {
            let rows = left.min(BATCH as i64);
            for document in batch(path, &columns, &mut readers, row, rows as usize)? {
                each(document)?;
            }
            row += rows as u64;
            left -= rows;
        }
    }
    Ok(())
}

/// The next `rows` documents; `before` rows of the file were read earlier.
fn batch(
    path: &Path,
    columns: &[Column],
    readers: &mut [ColumnReader],
    before: u64,
    rows: usize,
) -> Result<Vec<Document>> {
    let mut table = Vec::new();
    for (column, reader) in columns.iter().zip(readers) {
        table.push(column.read(path, reader, before, rows)?.into_iter());
    }
    let mut documents = Vec::new();
    for row in before + 1..=before + rows as u64 {
        let values = columns.iter().zip(table.iter_mut().map(|values| values.next().unwrap_or_default()));
        let object = object(path, row, values)?;
        let bad = |what: &str| Error::input(format!("row {row}: {what}")).at(path);
        documents.push(from_object(object, bad)?);
    }
    Ok(documents)
}

/// The JSON object of one row.
fn object<'a>(path: &Path, row: u64, values: impl Iterator<Item = (&'a Column, Value)>) -> Result<Map<String, Value>> {
    let (mut object, mut metadata, mut beside) = (Map::new(), Map::new(), Map::new());
    for (column, value) in values {
        match column.place {
            Destination::Document => {
                object.insert(column.path[0].clone(), value);
            }
            Destination::Json => {
                if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                    metadata = json_object(path, row, text)?;
                }
            }
            Destination::Metadata => insert(&mut metadata, &column.path[1..], value),
            Destination::Beside => insert(&mut beside, &column.path, value),
        }
    }
    for (name, value) in beside {
        metadata.entry(name).or_insert(value);
    }
    object.insert("metadata".into(), Value::Object(metadata));
    Ok(object)
}

/// Puts `value` under nested names; nulls are left out.
fn insert(map: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        _ if value.is_null() => {}
        [] => {}
        [name] => {
            map.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            if let Value::Object(inner) = map.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())) {
                insert(inner, rest, value);
            }
        }
    }
}

fn json_object(path: &Path, row: u64, text: &str) -> Result<Map<String, Value>> {
    let bad = || Error::input(format!("row {row}: the column `metadata` is not a JSON object")).at(path);
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => {
            Err(bad().expected(r#"an object, such as {"year": 1999}"#).got(text.chars().take(80).collect::<String>()))
        }
        Err(e) => Err(bad().expected(r#"an object, such as {"year": 1999}"#).got(e.to_string())),
    }
}

/// The columns to read, after checking those that a document needs.
fn columns(path: &Path, schema: &SchemaDescriptor) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for leaf in 0..schema.num_columns() {
        if let Some(place) = place(path, schema.get_column_root(leaf), &schema.column(leaf))? {
            let descriptor = schema.column(leaf);
            // `place` accepts no column without a JSON value.
            let Some(scalar) = scalar(&descriptor) else { continue };
            let names = descriptor.path().parts().to_vec();
            columns.push(Column { leaf, path: names, place, scalar, level: descriptor.max_def_level() });
        }
    }
    if !columns.iter().any(|c| c.path[0] == "text") {
        let names: Vec<&str> = schema.root_schema().get_fields().iter().map(|f| f.name()).collect();
        return Err(Error::input("there is no column `text`")
            .at(path)
            .expected("a column `text` of strings")
            .got(format!("the columns {}", names.join(", ")))
            .fix("rename the column that holds the texts to `text`"));
    }
    Ok(columns)
}

/// The destination of a column's values; `None` if it is skipped. `root` is the top-level column
/// that it belongs to.
fn place(path: &Path, root: &Type, column: &ColumnDescriptor) -> Result<Option<Destination>> {
    let scalar = scalar(column);
    let name = root.name();
    let refuse = |expected: &str| {
        let error = Error::input(format!("the column `{name}` has the wrong type")).at(path);
        Err(error.expected(expected).got(type_of(root)))
    };
    match (name, scalar) {
        ("text", found) if !root.is_primitive() || found != Some(Scalar::Text) => refuse("strings"),
        ("source", found) if !root.is_primitive() || found != Some(Scalar::Text) => refuse("strings"),
        ("id", Some(Scalar::Text | Scalar::Signed | Scalar::Unsigned)) if root.is_primitive() => {
            Ok(Some(Destination::Document))
        }
        ("id", _) => refuse("strings or integers"),
        ("text" | "source", _) => Ok(Some(Destination::Document)),
        ("metadata", Some(Scalar::Text)) if root.is_primitive() => Ok(Some(Destination::Json)),
        ("metadata", _) if !is_struct(root) => refuse("a struct, or strings that hold a JSON object"),
        ("metadata", found) => Ok(found.map(|_| Destination::Metadata)),
        (_, found) => Ok(found.filter(|_| root.is_primitive()).map(|_| Destination::Beside)),
    }
}

fn is_struct(root: &Type) -> bool {
    let info = root.get_basic_info();
    root.is_group()
        && (info.converted_type(), info.logical_type_ref()) == (ConvertedType::NONE, None)
        && !(info.has_repetition() && info.repetition() == Repetition::REPEATED)
}

/// The type of a column, in parquet's terms.
fn type_of(root: &Type) -> String {
    let info = root.get_basic_info();
    let marks = match (info.logical_type_ref(), info.converted_type()) {
        (Some(logical), _) => format!(" marked {logical:?}"),
        (None, ConvertedType::NONE) => String::new(),
        (None, converted) => format!(" marked {converted}"),
    };
    if root.is_primitive() { format!("{}{marks}", root.get_physical_type()) } else { format!("a group{marks}") }
}

/// The JSON type of a column's values. Older files mark types with `ConvertedType`, newer ones with
/// `LogicalType`.
fn scalar(column: &ColumnDescriptor) -> Option<Scalar> {
    use ConvertedType as Old;
    use LogicalType as New;
    if column.max_rep_level() > 0 {
        return None;
    }
    let parts = |unit: &TimeUnit| match unit {
        TimeUnit::MILLIS => 1_000,
        TimeUnit::MICROS => 1_000_000,
        TimeUnit::NANOS => 1_000_000_000,
    };
    match (column.physical_type(), column.logical_type_ref(), column.converted_type()) {
        (Physical::BOOLEAN, ..) => Some(Scalar::Boolean),
        (Physical::FLOAT | Physical::DOUBLE, ..) => Some(Scalar::Real),
        (Physical::INT96, ..) => Some(Scalar::Timestamp(1_000)),
        (Physical::BYTE_ARRAY, Some(New::String | New::Enum | New::Json), _) => Some(Scalar::Text),
        (Physical::BYTE_ARRAY, None, Old::UTF8 | Old::ENUM | Old::JSON) => Some(Scalar::Text),
        (Physical::INT32 | Physical::INT64, Some(New::Integer(kind)), _) if kind.is_signed => Some(Scalar::Signed),
        (Physical::INT32 | Physical::INT64, Some(New::Integer(_)), _) => Some(Scalar::Unsigned),
        (Physical::INT32, Some(New::Date), _) | (Physical::INT32, None, Old::DATE) => Some(Scalar::Date),
        (Physical::INT64, Some(New::Timestamp(kind)), _) => Some(Scalar::Timestamp(parts(&kind.unit))),
        (Physical::INT64, None, Old::TIMESTAMP_MILLIS) => Some(Scalar::Timestamp(1_000)),
        (Physical::INT64, None, Old::TIMESTAMP_MICROS) => Some(Scalar::Timestamp(1_000_000)),
        (Physical::INT32 | Physical::INT64, None, Old::UINT_8 | Old::UINT_16 | Old::UINT_32 | Old::UINT_64) => {
            Some(Scalar::Unsigned)
        }
        (Physical::INT32 | Physical::INT64, None, Old::NONE | Old::INT_8 | Old::INT_16 | Old::INT_32 | Old::INT_64) => {
            Some(Scalar::Signed)
        }
        _ => None,
    }
}

impl Column {
    fn name(&self) -> String {
        self.path.join(".")
    }

    /// The next `rows` values, null where a value is absent; `before` rows of the file were read
    /// earlier.
    fn read(&self, path: &Path, reader: &mut ColumnReader, before: u64, rows: usize) -> Result<Vec<Value>> {
        let values = guarded(path, || self.decode(reader, rows))?;
        if values.len() != rows {
            return Err(Error::input(format!("the column `{}` is cut off", self.name()))
                .at(path)
                .expected(format!("at least {} rows", before + rows as u64))
                .got(format!("{} rows", before + values.len() as u64))
                .fix("copy or download the file again"));
        }
        let utf8 = |(value, row): (Option<Value>, u64)| {
            value.ok_or_else(|| {
                Error::input(format!("row {row}: the column `{}` is not valid UTF-8", self.name()))
                    .at(path)
                    .fix("rewrite the file with its text as UTF-8")
            })
        };
        values.into_iter().zip(before + 1..).map(utf8).collect()
    }

    /// At most `rows` further values; `None` stands for one that is not UTF-8.
    fn decode(&self, reader: &mut ColumnReader, rows: usize) -> std::result::Result<Vec<Option<Value>>, ParquetError> {
        let scalar = self.scalar;
        match reader {
            ColumnReader::BoolColumnReader(r) => self.values(r, rows, |v| Some(Value::Bool(*v))),
            ColumnReader::Int32ColumnReader(r) => self.values(r, rows, |v| {
                Some(match scalar {
                    Scalar::Date => date(*v),
                    Scalar::Unsigned => (*v as u32).into(),
                    _ => (*v).into(),
                })
            }),
            ColumnReader::Int64ColumnReader(r) => self.values(r, rows, |v| {
                Some(match scalar {
                    Scalar::Timestamp(parts) => timestamp(*v, parts),
                    Scalar::Unsigned => (*v as u64).into(),
                    _ => (*v).into(),
                })
            }),
            ColumnReader::Int96ColumnReader(r) => self.values(r, rows, |v| Some(timestamp(v.to_millis(), 1_000))),
            // Through decimal digits, so that 0.1f32 is 0.1.
            ColumnReader::FloatColumnReader(r) => {
                self.values(r, rows, |v| Some(v.to_string().parse::<f64>().ok().into()))
            }
            ColumnReader::DoubleColumnReader(r) => self.values(r, rows, |v| Some((*v).into())),
            ColumnReader::ByteArrayColumnReader(r) => {
                self.values(r, rows, |v| Some(std::str::from_utf8(v.data()).ok()?.into()))
            }
            // No `Scalar` has this type.
            ColumnReader::FixedLenByteArrayColumnReader(_) => Ok(vec![Some(Value::Null); rows]),
        }
    }

    /// At most `rows` further values, converted by `json`; `None` stands for one that is not UTF-8.
    fn values<T: DataType>(
        &self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
        json: impl Fn(&T::T) -> Option<Value>,
    ) -> std::result::Result<Vec<Option<Value>>, ParquetError> {
        let (mut present, mut levels, mut read) = (Vec::with_capacity(rows), Vec::new(), 0);
        while read < rows {
            let levels = (self.level > 0).then_some(&mut levels);
            // A call may stop at the end of a page.
            let (records, ..) = reader.read_records(rows - read, levels, None, &mut present)?;
            if records == 0 {
                break;
            }
            read += records;
        }
        if self.level == 0 {
            return Ok(present.iter().map(json).collect());
        }
        let mut present = present.iter();
        let mut next = || present.next().map_or(Some(Value::Null), &json);
        Ok(levels.into_iter().map(|level| if level == self.level { next() } else { Some(Value::Null) }).collect())
    }
}

fn date(days: i32) -> Value {
    const DAY: i64 = 86_400;
    DateTime::from_timestamp(i64::from(days) * DAY, 0).map(|t| t.date_naive().to_string()).into()
}

/// `count` units since 1970, `parts` per second, without a time zone: 1999-05-01T12:00:00.
fn timestamp(count: i64, parts: i64) -> Value {
    let nanoseconds = count.rem_euclid(parts) * (1_000_000_000 / parts);
    let time = DateTime::from_timestamp(count.div_euclid(parts), nanoseconds as u32);
    time.map(|t| format!("{:?}", t.naive_utc())).into()
}

/// Checks that a column's chunk has a known compression and is within the file: the crate panics
/// otherwise.
fn check_chunk(path: &Path, column: &Column, group: &RowGroupMetaData, bytes: u64) -> Result<()> {
    let chunk = group.column(column.leaf);
    let name = column.name();
    let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
    let end = start.checked_add(chunk.compressed_size());
    if start < 0 || end.is_none_or(|end| end < start || end as u64 > bytes) {
        return Err(Error::input(format!("the column `{name}` extends outside the file"))
            .at(path)
            .expected(format!("a range within {bytes} bytes"))
            .got(format!("{} bytes from {start}", chunk.compressed_size()))
            .fix("copy or download the file again"));
    }
    match chunk.compression() {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => Ok(()),
        other => Err(Error::input(format!("the compression of the column `{name}` is not supported"))
            .at(path)
            .expected("snappy, gzip, zstd or none")
            .got(other.to_string())
            .fix("rewrite the file with zstd")),
    }
}

/// Runs `read`. Some damaged files make the crate panic; that is also reported as an error of the
/// file.
fn guarded<T>(path: &Path, read: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    // Nothing half-changed is used after a panic: reading of this file stops.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|e| damaged(path, &e)),
        Err(_) => Err(damaged(path, &ParquetError::General("impossible values".into()))),
    }
}

fn damaged(path: &Path, e: &ParquetError) -> Error {
    // The operating system's own errors (a bad disk, a lost mount) are not the file's.
    if let ParquetError::External(source) = e
        && let Some(io) = source.downcast_ref::<std::io::Error>().filter(|io| io.raw_os_error().is_some())
    {
        return Error::io("read", path, io);
    }
    Error::input("the parquet file is damaged, or uses an unsupported feature")
        .at(path)
        .expected("a whole, unencrypted parquet file")
        .got(e.to_string())
        .fix("copy or download the file again")
}
