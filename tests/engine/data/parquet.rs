//! Parquet files. tests/fixtures/parquet/make.py writes the fixtures and documents their contents.

use super::{read, refused, temp, write};
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::engine::data::*;
use stockpot::error::Error;

fn parquet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet").join(name)
}

#[test]
fn parquet_rows_are_the_documents_of_json_lines() {
    let structured = read(&[parquet("documents.jsonl")]).unwrap();
    let flat = read(&[parquet("flat.jsonl")]).unwrap();
    assert_eq!((structured.len(), flat.len()), (150, 150));
    // zstd, snappy, gzip and none; dictionaries and none; both versions of pages; string,
    // large_string, string_view.
    for (file, expected) in [
        ("struct.zstd.parquet", &structured),
        ("json.snappy.parquet", &structured),
        ("checksums.parquet", &structured),
        ("flat.gzip.parquet", &flat),
        ("plain.parquet", &flat),
    ] {
        let documents = read(&[parquet(file)]).unwrap();
        assert_eq!(documents.len(), expected.len(), "{file}");
        for (i, (a, b)) in documents.iter().zip(expected).enumerate() {
            assert_eq!(a, b, "{file}, row {}", i + 1);
        }
    }
    assert_eq!((structured[1].year("created"), structured[1].year("day")), (Some(1961), Some(1901)));
}

#[test]
fn parquet_types_become_json() {
    use serde_json::json;
    let documents = read(&[parquet("types.parquet")]).unwrap();
    assert_eq!([&documents[0].id, &documents[1].id], ["-5", "1099511627776"]);
    let low = json!({
        "int8": -128, "uint8": 0, "uint32": 0, "int64": i64::MIN, "uint64": 0, "half": 0.5, "float": 0.1, "double": 0.1,
        "bool": true, "seconds": "1999-05-01T12:00:00", "zone": "1999-05-01T12:00:00",
        "nanos": "1970-01-01T00:00:00.000000001", "date": "0001-01-01",
    });
    let high = json!({
        "int8": 127, "uint8": 255, "uint32": u32::MAX, "int64": i64::MAX, "uint64": u64::MAX, "half": 1.5,
        "bool": false,
        "nanos": "1969-12-31T23:59:59.999999999", "date": "1969-12-31",
    });
    assert_eq!(serde_json::Value::Object(documents[0].metadata.clone()), low);
    assert_eq!(serde_json::Value::Object(documents[1].metadata.clone()), high);
    assert_eq!(read(&[parquet("int96.parquet")]).unwrap()[0].metadata["when"], "1999-05-01T12:00:00");
}

#[test]
fn parquet_files_are_found_and_hashed_like_other_files() {
    let dir = temp();
    let bytes = fs::read(parquet("types.parquet")).unwrap();
    let found = write(dir.path(), "sub/part-0.PARQUET", &bytes);
    let line = write(dir.path(), "sub/b.jsonl", "{\"text\":\"x\"}");
    assert_eq!(expand(&[dir.path().to_path_buf()]).unwrap(), [&line, &found].map(PathBuf::clone));
    assert_eq!(expand(&[dir.path().join("*/*.PARQUET")]).unwrap(), std::slice::from_ref(&found));
    let hash = hash_files(&[found]).unwrap();
    let moved = write(dir.path(), "other/a.parquet", &bytes);
    assert_eq!(hash, hash_files(&[moved]).unwrap());
    assert_ne!(hash, hash_files(&[line]).unwrap());
}

#[test]
fn bad_parquet_files_name_file_column_and_row() {
    for (name, parts) in [
        ("null_text", &["row 67", "`text` is not a string", "got: null"][..]),
        ("no_text", &["no column `text`", "got: the columns body, id", "rename"]),
        ("text_is_bytes", &["the column `text`", "expected: strings", "got: BYTE_ARRAY"]),
        ("text_is_a_number", &["the column `text`", "expected: strings", "got: INT32"]),
        ("text_is_a_list", &["the column `text`", "expected: strings", "got: a group"]),
        ("text_is_a_struct", &["the column `text`", "expected: strings", "got: a group"]),
        ("source_is_a_number", &["the column `source`", "expected: strings", "got: INT64"]),
        ("id_is_a_float", &["the column `id`", "expected: strings or integers", "got: DOUBLE"]),
        ("metadata_is_a_map", &["the column `metadata`", "expected: a struct", "Map"]),
        ("metadata_is_no_json", &["row 3", "the column `metadata`", "expected: an object", "got: key must be"]),
        ("metadata_is_a_json_list", &["row 3", "the column `metadata`", "expected: an object", "got: [1]"]),
        ("brotli", &["the column `text`", "expected: snappy, gzip, zstd", "got: BROTLI"]),
        ("not_utf8", &["row 2", "the column `text`", "UTF-8"]),
        ("no_rows", &["there are no documents"]),
    ] {
        let path = parquet(&format!("bad/{name}.parquet"));
        let error = refused(read(&[path]), parts);
        assert!(error.to_string().contains(&format!("{name}.parquet: ")), "{error}");
    }
    let dir = temp();
    refused(read(&[write(dir.path(), "a.parquet", "")]), &["a.parquet", "damaged", "whole, unencrypted parquet file"]);
    refused(read(&[write(dir.path(), "b.parquet", "{\"text\":\"json\"}")]), &["b.parquet", "damaged"]);
    refused(read(&[dir.path().join("none.parquet")]), &["none.parquet", "cannot open"]);
}

#[test]
fn parquet_is_read_group_by_group() {
    // Three row groups of 70, 70 and 10 rows; the third's pages are damaged.
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    let dir = temp();
    let reader = SerializedFileReader::new(fs::File::open(parquet("checksums.parquet")).unwrap()).unwrap();
    let rows: Vec<i64> = reader.metadata().row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [70, 70, 10]);
    let last = reader.metadata().row_group(2);
    let ranges: Vec<(u64, u64)> = last.columns().iter().map(|c| c.byte_range()).collect();
    let mut bytes = fs::read(parquet("checksums.parquet")).unwrap();
    for (start, length) in ranges {
        for byte in &mut bytes[start as usize..(start + length) as usize] {
            *byte ^= 0x55;
        }
    }
    let path = write(dir.path(), "a.parquet", bytes);
    let mut seen = 0;
    let result = for_each_document(std::slice::from_ref(&path), |_| {
        seen += 1;
        Ok(())
    });
    refused(result, &["a.parquet"]);
    assert_eq!(seen, 140);
    // An error of `each` ends the reading before the damage is reached.
    let result =
        for_each_document(
            &[path],
            |d| if d.text.starts_with("text 66") { Err(Error::input("enough")) } else { Ok(()) },
        );
    refused(result, &["enough"]);
}

#[test]
fn damaged_parquet_files_give_errors_and_checksums_find_all_damage() {
    let dir = temp();
    for name in ["checksums.parquet", "struct.zstd.parquet", "flat.gzip.parquet", "types.parquet", "plain.parquet"] {
        let bytes = fs::read(parquet(name)).unwrap();
        let whole = read(&[parquet(name)]).unwrap();
        let footer = bytes.len() - 8 - u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
        for cut in (0..bytes.len()).step_by(bytes.len() / 20) {
            assert!(read(&[write(dir.path(), name, &bytes[..cut])]).is_err(), "{name} cut off at {cut}");
        }
        for at in (0..bytes.len()).step_by(if name.starts_with("types") { 19 } else { 197 }) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let path = write(dir.path(), name, &damaged);
            let read =
                std::panic::catch_unwind(|| read(&[path])).unwrap_or_else(|_| panic!("{name}: panic at byte {at}"));
            if name == "checksums.parquet" && at < footer {
                assert!(
                    read.is_err() || read.unwrap() == whole,
                    "byte {at} of {name} is wrong and no error was reported"
                );
            }
        }
    }
    // Bits of the first page's header. One of them changes its encoding, and the crate panics.
    let bytes = fs::read(parquet("plain.parquet")).unwrap();
    let mut guarded = 0;
    for at in 4..60 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let read = read(&[write(dir.path(), "a.parquet", damaged)]);
        guarded += u32::from(read.is_err_and(|e| e.to_string().contains("impossible values")));
    }
    assert!(guarded > 0);
}
