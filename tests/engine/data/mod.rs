//! Documents, splits, tokenizer, decontamination, shards and windows: what they compute on known inputs, what
//! they say about bad ones, and that the number of threads changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stockpot::engine::data::*;
use stockpot::engine::ops::IGNORED;
use stockpot::error::{Error, Result};
use tempfile::TempDir;

fn temp() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(directory: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn read(files: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for_each_document(files, |d| {
        documents.push(d);
        Ok(())
    })?;
    Ok(documents)
}

/// The error of `result`, which must name each of `parts`.
fn refused<T>(result: Result<T>, parts: &[&str]) -> Error {
    let error = result.err().expect("an error");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
    error
}

fn document(id: &str, text: &str) -> Document {
    Document { id: id.into(), text: text.into(), source: None, metadata: Default::default() }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn quickstart(domain: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart/data").join(format!("{domain}.jsonl.zst"))
}

/// A byte-level tokenizer of 280 tokens.
fn small_tokenizer() -> Tokenizer {
    let text = "the cat sat on the mat and the dog sat on the log; then the rat ran at the cat. ".repeat(4);
    Tokenizer::train([text].into_iter(), 280).unwrap()
}

// Documents

#[test]
fn a_documents_year_is_a_number_or_begins_a_string() {
    let with = |value: serde_json::Value| {
        let mut d = document("a", "one");
        d.metadata.insert("when".into(), value);
        d.year("when")
    };
    for value in [
        serde_json::json!(1999),
        serde_json::json!(1999.0),
        serde_json::json!("1999"),
        serde_json::json!("1999-05-01T12:00:00Z"),
        serde_json::json!("1999/05"),
        serde_json::json!("19990501"),
    ] {
        assert_eq!(with(value.clone()), Some(1999), "{value}");
    }
    for value in [
        serde_json::json!(1999.5),
        serde_json::json!(1e300),
        serde_json::json!("May 1999"),
        serde_json::json!("199"),
        serde_json::json!("19995"),
        serde_json::json!("1999050112"),
        serde_json::json!("١٩٩٩"),
        serde_json::json!(""),
        serde_json::json!(null),
        serde_json::json!([1999]),
    ] {
        assert_eq!(with(value.clone()), None, "{value}");
    }
    assert_eq!(document("a", "one").year("when"), None);
}

#[test]
fn a_document_matches_by_source_and_metadata() {
    use serde_json::json;
    let dir = temp();
    let line =
        r#"{"text":"t","source":"s2orc","metadata":{"field":"law","year":1999,"score":0.5,"open":true,"source":"x"}}"#;
    let d = &read(&[write(dir.path(), "a.jsonl", line)]).unwrap()[0];
    for (key, value) in [
        ("source", json!("s2orc")),
        ("field", json!("law")),
        ("year", json!(1999)),
        ("year", json!(1999.0)),
        ("score", json!(0.5)),
        ("open", json!(true)),
    ] {
        assert!(d.matches(key, &value), "{key} = {value}");
    }
    for (key, value) in [
        ("source", json!("x")),
        ("field", json!("Law")),
        ("year", json!("1999")),
        ("year", json!(2000)),
        ("score", json!(0)),
        ("absent", json!(null)),
    ] {
        assert!(!d.matches(key, &value), "{key} = {value}");
    }
}

#[test]
fn what_stands_beside_the_metadata_is_kept() {
    let dir = temp();
    let lines = concat!(
        r#"{"text":"a","created":"2016-03-01","added":"2020-01-01","metadata":{"k":1}}"#,
        "\n",
        r#"{"text":"b","created":"2016-03-01","metadata":{"created":"1984"}}"#,
        "\n",
        r#"{"text":"c","created":null}"#,
    );
    let documents = read(&[write(dir.path(), "a.jsonl", lines)]).unwrap();
    let years: Vec<Option<i64>> = documents.iter().map(|d| d.year("created")).collect();
    assert_eq!(years, [Some(2016), Some(1984), None]);
    assert_eq!(documents[0].metadata.keys().collect::<Vec<_>>(), ["k", "added", "created"]);
    assert!(documents[2].metadata.is_empty());
}

#[test]
fn documents_of_every_format_come_in_order_with_all_fields() {
    let dir = temp();
    let lines = "{\"id\":\"a\",\"text\":\"one\",\"source\":\"s\",\"metadata\":{\"year\":1999}}\n\n  \n{\"text\":\"two\"}\r\n\
                 {\"id\":7,\"text\":\"\u{2028}three\",\"source\":null,\"added\":\"x\"}";
    write(dir.path(), "b/1.jsonl", lines);
    // Two gzip members after each other are one file.
    write(dir.path(), "b/2.jsonl.gz", [gzip(b"{\"id\":\"g\",\"te"), gzip(b"xt\":\"four\"}\n")].concat());
    write(dir.path(), "a.jsonl.zst", zstd::encode_all(&b"{\"id\":\"z\",\"text\":\"five\"}\n"[..], 3).unwrap());
    write(dir.path(), "c.txt", "\u{feff}six\nlines\n");
    write(dir.path(), "notes.md", "not a document");
    write(dir.path(), ".hidden.jsonl", "not read");
    let files = expand(&[dir.path().to_path_buf()]).unwrap();
    let documents = read(&files).unwrap();
    let ids: Vec<&str> = documents.iter().map(|d| d.id.as_str()).collect();
    let hash_of_two = &blake3::hash(b"two").to_hex()[..32];
    assert_eq!(ids, ["z", "a", hash_of_two, "7", "g", "c.txt"]);
    let texts: Vec<&str> = documents.iter().map(|d| d.text.as_str()).collect();
    assert_eq!(texts, ["five", "one", "two", "\u{2028}three", "four", "six\nlines\n"]);
    assert_eq!(documents[1].source.as_deref(), Some("s"));
    assert_eq!(documents[1].metadata["year"], 1999);
    assert_eq!(documents[3].source, None);
    assert_eq!(serde_json::Value::Object(documents[3].metadata.clone()), serde_json::json!({"added": "x"}));
}

#[test]
fn inputs_expand_to_sorted_files_each_once() {
    let dir = temp();
    for name in ["2.jsonl", "10.jsonl", "sub/x.txt", "[1].jsonl"] {
        write(dir.path(), name, "{\"text\":\"x\"}\n");
    }
    let at = |name: &str| dir.path().join(name);
    assert_eq!(expand(&[at("2.jsonl"), at("*.jsonl"), at("sub/../10.jsonl")]).unwrap().len(), 3);
    assert_eq!(expand(&[at("[1].jsonl")]).unwrap(), [at("[1].jsonl")]);
    assert_eq!(
        expand(&[at("**/*.txt"), at("[0-9]*.jsonl")]).unwrap(),
        [at("10.jsonl"), at("2.jsonl"), at("sub/x.txt")]
    );
    std::os::unix::fs::symlink(dir.path(), at("sub/loop")).unwrap();
    assert_eq!(expand(&[at("")]).unwrap().len(), 4);

    refused(expand(&[at("none.jsonl")]), &["none.jsonl", "no such file"]);
    refused(expand(&[at("*.parquet")]), &["*.parquet", "no documents"]);
    refused(expand(&[at("a***b")]), &["a***b", "pattern"]);
    fs::create_dir(at("empty")).unwrap();
    refused(expand(&[at("2.jsonl"), at("empty")]), &["empty", "no documents", ".jsonl.zst"]);
    refused(expand(&[write(dir.path(), "t.json", "")]), &["t.json", ".jsonl"]);
    refused(expand(&[]), &["no input"]);
}

#[test]
fn bad_lines_name_file_and_line() {
    let dir = temp();
    let good = "{\"text\":\"fine\"}\n\n";
    let cases: [(&str, &[u8], &[&str]); 8] = [
        ("json", b"{\"text\": \"broken\n", &["not valid JSON", "at column"]),
        ("array", b"[1]\n", &["not a JSON object", "an array"]),
        ("missing", b"{\"id\":\"a\"}\n", &["no `text`"]),
        ("number", b"{\"text\":3}\n", &["`text` is not a string", "a number"]),
        ("id", b"{\"id\":[],\"text\":\"\"}\n", &["`id`", "an array"]),
        ("metadata", b"{\"text\":\"\",\"metadata\":\"m\"}\n", &["`metadata`", "a string"]),
        ("surrogate", b"{\"text\":\"\\ud800\"}\n", &["not valid JSON"]),
        ("utf8", b"{\"text\":\"\xff\"}\n", &["UTF-8", "iconv"]),
    ];
    for (name, line, parts) in cases {
        let path = write(dir.path(), &format!("{name}.jsonl"), [good.as_bytes(), line].concat());
        let error = refused(read(&[path]), parts);
        assert!(error.to_string().contains(&format!("{name}.jsonl:3: ")), "{error}");
    }
    refused(read(&[write(dir.path(), "bad.txt", b"one\ntwo \xff")]), &["bad.txt:2: ", "UTF-8"]);
    refused(read(&[write(dir.path(), "empty.jsonl", "\n")]), &["empty.jsonl", "no document"]);
    refused(read(&[]), &["no document"]);
    let path = write(dir.path(), "good.jsonl", good);
    refused(for_each_document(&[path], |_| Err(Error::input("the caller's own"))), &["the caller's own"]);
}

#[test]
fn compressed_files_that_are_cut_off_or_damaged_are_named() {
    let dir = temp();
    let lines: String = (0..2000).map(|i| format!("{{\"text\":\"{}\"}}\n", blake3::hash(&[i as u8]))).collect();
    let packed =
        [("a.jsonl.gz", gzip(lines.as_bytes())), ("a.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap())];
    for (name, whole) in packed {
        assert_eq!(read(&[write(dir.path(), name, &whole)]).unwrap().len(), 2000);
        for cut in [1, 5, whole.len() / 2, whole.len() - 1] {
            refused(read(&[write(dir.path(), name, &whole[..cut])]), &[name, "is cut off", "again"]);
        }
        let mut garbled = whole.clone();
        garbled[..4].copy_from_slice(b"\x00\x01\x02\x03");
        refused(read(&[write(dir.path(), name, garbled)]), &[name, "damaged"]);
    }
}

#[test]
fn the_hash_of_files_is_of_their_content() {
    let dir = temp();
    let a = write(dir.path(), "x/a.jsonl", "{\"text\":\"a\"}\n");
    let b = write(dir.path(), "x/b.jsonl", "{\"text\":\"b\"}\n");
    let moved = write(dir.path(), "y/other.jsonl", "{\"text\":\"a\"}\n");
    let hash = |files: &[&PathBuf]| hash_files(&files.iter().map(|p| p.to_path_buf()).collect::<Vec<_>>()).unwrap();
    assert_eq!(hash(&[&a, &b]), hash(&[&moved, &b]));
    assert_ne!(hash(&[&a, &b]), hash(&[&b, &a]), "the order is the documents' order");
    assert_ne!(hash(&[&a]), hash(&[&a, &a]));
    // A .txt file's name is its document's id.
    let one = write(dir.path(), "one.txt", "t");
    let two = write(dir.path(), "two.txt", "t");
    assert_ne!(hash(&[&one]), hash(&[&two]));
    refused(hash_files(&[dir.path().join("gone.jsonl")]), &["gone.jsonl"]);
}

#[test]
fn the_quickstart_corpus_is_whole_and_small() {
    let files = expand(&[quickstart("x").parent().unwrap().to_path_buf()]).unwrap();
    assert_eq!(files.len(), 13);
    let size: u64 = files.iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!(size < 3_900_000, "{size} bytes");
    for file in files {
        let domain = file.file_name().unwrap().to_str().unwrap().replace(".jsonl.zst", "");
        let wanted = match domain.as_str() {
            "shakespeare" | "disease_definitions" => 250_000,
            "classic_novels" | "python_documentation" | "python_source_code" => 1_300_000,
            _ => 700_000,
        };
        let documents = read(&[file]).unwrap();
        let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
        assert!((wanted..wanted + 10_000).contains(&bytes), "{domain}: {bytes} bytes");
        assert!(documents.iter().all(|d| d.source.as_deref() == Some(&domain)));
        let texts: BTreeSet<&str> = documents.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(texts.len(), documents.len(), "{domain}: a text twice");
    }
}

// Parquet (fixtures and what is in them: tests/fixtures/parquet/make.py)

fn parquet(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet").join(name)
}

#[test]
fn parquet_rows_are_the_documents_of_json_lines() {
    let structured = read(&[parquet("documents.jsonl")]).unwrap();
    let flat = read(&[parquet("flat.jsonl")]).unwrap();
    assert_eq!((structured.len(), flat.len()), (150, 150));
    // zstd, snappy, gzip and none; dictionaries and none; both versions of pages; string, large_string, string_view.
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
fn parquet_files_are_found_and_hashed_like_others() {
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
        ("no_rows", &["there is no document"]),
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
    // What `each` refuses ends the reading before the damage is met.
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
                assert!(read.is_err() || read.unwrap() == whole, "byte {at} of {name} is wrong and nothing was said");
            }
        }
    }
    // Bits of the first page's header. One makes its encoding another, and the crate panics.
    let bytes = fs::read(parquet("plain.parquet")).unwrap();
    let mut guarded = 0;
    for at in 4..60 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let read = read(&[write(dir.path(), "a.parquet", damaged)]);
        guarded += u32::from(read.is_err_and(|e| e.to_string().contains("values that cannot be")));
    }
    assert!(guarded > 0);
}

// Split

#[test]
fn a_split_depends_on_the_id_alone() {
    let rule = SplitRule::new(None, 0.1, 0.05).unwrap();
    let count = |split| (0..20_000).filter(|i| rule.split(&format!("doc-{i}")) == split).count();
    // 20,000 draws: a standard deviation is 42 for validation and 31 for test; five of them are allowed.
    assert!(count(Split::Validation).abs_diff(2000) < 212, "{}", count(Split::Validation));
    assert!(count(Split::Test).abs_diff(1000) < 154, "{}", count(Split::Test));
    // A larger validation share takes documents from training only.
    let larger = SplitRule::new(None, 0.3, 0.05).unwrap();
    for id in (0..2000).map(|i| i.to_string()) {
        let (before, after) = (rule.split(&id), larger.split(&id));
        assert!(before == after || (before, after) == (Split::Train, Split::Validation), "{id}");
    }
    // Fixed for good: a change here would move documents of studies that exist.
    let rule = SplitRule::new(None, 0.3, 0.3).unwrap();
    // The second letters of train, validation and test tell them apart.
    let known: String = (0..12).map(|i| rule.split(&format!("id{i}")).to_string().remove(1)).collect();
    assert_eq!(known, "arereereeeer");
}

#[test]
fn added_documents_move_no_other() {
    let rule = SplitRule::new(Some("#".into()), 0.2, 0.2).unwrap();
    let split_all =
        |ids: &[String]| -> BTreeMap<String, Split> { ids.iter().map(|id| (id.clone(), rule.split(id))).collect() };
    let old: Vec<String> = (0..300).map(|i| format!("{i}#{}", i % 3)).collect();
    let more: Vec<String> = (300..400).map(|i| format!("{i}#0")).chain(old.iter().rev().cloned()).collect();
    let (before, after) = (split_all(&old), split_all(&more));
    assert_eq!(after.len(), 400);
    assert!(before.iter().all(|(id, split)| after[id] == *split));
}

#[test]
fn pieces_of_one_original_stay_together() {
    let rule = SplitRule::new(Some("#".into()), 0.4, 0.3).unwrap();
    let whole = SplitRule::new(None, 0.4, 0.3).unwrap();
    let mut seen = BTreeSet::new();
    for original in (0..50).map(|i| format!("book/{i}")) {
        let split = rule.split(&original);
        assert_eq!(split, whole.split(&original));
        assert!((0..20).all(|piece| rule.split(&format!("{original}#{piece}#x")) == split));
        seen.insert(split);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn shares_that_cannot_be_are_refused() {
    for (validation, test) in [(-0.1, 0.1), (1.0, 0.0), (0.0, f64::NAN), (0.5, 0.5)] {
        assert_eq!(refused(SplitRule::new(None, validation, test), &["expected"]).exit_code(), 2);
    }
    refused(SplitRule::new(Some(String::new()), 0.1, 0.1), &["separator"]);
    let none = SplitRule::new(None, 0.0, 0.0).unwrap();
    assert!((0..100).all(|i| none.split(&i.to_string()) == Split::Train));
}

// Tokenizer

#[test]
fn merges_are_the_most_frequent_pairs() {
    // Words: "ab" three times, " ab" twice, "b". The pair a+b comes 5 times, then space+ab twice.
    let texts = ["ab", "ab", "ab ab ab", "b"].map(String::from);
    let tokenizer = Tokenizer::train(texts.into_iter(), 259).unwrap();
    assert_eq!(tokenizer.eos(), 0);
    assert_eq!(tokenizer.vocabulary(), 259);
    assert_eq!(tokenizer.encode("ab").unwrap(), [257]);
    assert_eq!(tokenizer.encode(" ab").unwrap(), [258]);
    assert_eq!(tokenizer.encode("").unwrap(), [0u32; 0]);
    assert_eq!(tokenizer.encode("aab ab").unwrap().len(), 3);
}

#[test]
fn any_text_survives_encoding() {
    let tokenizer = small_tokenizer();
    let all_characters: String = (0..0x3000).filter_map(char::from_u32).collect();
    for text in ["the cat", "", "naïve 漢字 \u{1F99C}\0\r\n\t  ", "<|endoftext|>", &all_characters] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    }
}

#[test]
fn text_never_becomes_the_eos() {
    let tokenizer = small_tokenizer();
    for text in ["<|endoftext|>", "a<|endoftext|><|endoftext|>b", " <|endoftext|>\n"] {
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids.contains(&tokenizer.eos()), "{text}: {ids:?}");
    }
    // A word-level model has the EOS among its words.
    let dir = temp();
    let words = load(dir.path(), word_level(&[("[UNK]", 0), ("</s>", 1), ("a", 2)])).unwrap();
    assert_eq!(words.eos(), 1);
    assert_eq!(words.encode("a </s> a").unwrap(), [2, 0, 0, 2]);
}

/// A `tokenizer.json` that looks words up, and that asks for texts to be cut after two tokens.
fn word_level(vocabulary: &[(&str, u32)]) -> serde_json::Value {
    let vocabulary: BTreeMap<_, _> = vocabulary.iter().copied().collect();
    serde_json::json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}
    })
}

fn load(directory: &Path, json: serde_json::Value) -> Result<Tokenizer> {
    Tokenizer::load(&write(directory, "tokenizer.json", json.to_string()), None)
}

#[test]
fn a_tokenizer_round_trips_byte_for_byte() {
    let dir = temp();
    let trained = small_tokenizer();
    let path = dir.path().join("tokenizer.json");
    trained.save(&path).unwrap();
    let loaded = Tokenizer::load(&path, None).unwrap();
    assert_eq!((loaded.hash(), loaded.eos(), loaded.vocabulary()), (trained.hash(), 0, 280));
    let text = "then the rat sat on the mat";
    assert_eq!(loaded.encode(text).unwrap(), trained.encode(text).unwrap());
    let again = dir.path().join("again.json");
    loaded.save(&again).unwrap();
    assert_eq!(fs::read(path).unwrap(), fs::read(again).unwrap());
}

#[test]
fn the_eos_is_found_or_named() {
    let dir = temp();
    let two = word_level(&[("[UNK]", 0), ("</s>", 9), ("<|endoftext|>", 3), ("stop", 5)]);
    let tokenizer = load(dir.path(), two).unwrap();
    assert_eq!((tokenizer.eos(), tokenizer.eos_text(), tokenizer.vocabulary()), (3, "<|endoftext|>", 10));
    let path = dir.path().join("tokenizer.json");
    let named = Tokenizer::load(&path, Some("stop")).unwrap();
    assert_eq!(named.eos(), 5);
    assert_ne!(named.hash(), tokenizer.hash(), "another EOS makes other shards");
    refused(Tokenizer::load(&path, Some("fin")), &["tokenizer.json", "`fin`"]);
    refused(load(dir.path(), word_level(&[("[UNK]", 0)])), &["tokenizer.json", "end-of-document", "</s>"]);
}

#[test]
fn bad_tokenizers_are_refused() {
    let dir = temp();
    refused(load(dir.path(), serde_json::json!({"a": 1})), &["tokenizer.json", "expected"]);
    refused(Tokenizer::load(&dir.path().join("none.json"), None), &["none.json"]);
    let path = dir.path().join("t.json");
    small_tokenizer().save(&path).unwrap();
    let mut random: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    random["model"]["dropout"] = 0.1.into();
    refused(load(dir.path(), random), &["at random", "dropout"]);
    refused(Tokenizer::train(["abc".to_string()].into_iter(), 256), &["at least 257"]);
    refused(Tokenizer::train(["abab abab".to_string()].into_iter(), 1000), &["too short", "got: 2"]);
}

#[test]
fn training_and_encoding_do_not_depend_on_threads_or_order() {
    let texts: Vec<String> = read(&[quickstart("disease_definitions")]).unwrap().into_iter().map(|d| d.text).collect();
    let run = |threads| {
        on_threads(threads, || {
            let tokenizer = Tokenizer::train(texts.iter().cloned(), 1500).unwrap();
            (tokenizer.hash(), tokenizer.encode_batch(&texts).unwrap())
        })
    };
    let one = run(1);
    for threads in [2, 7] {
        assert!(run(threads) == one, "{threads} threads");
    }
    let backwards = Tokenizer::train(texts.iter().rev().cloned(), 1500).unwrap();
    assert_eq!(backwards.hash(), one.0);
    let singly: Vec<Vec<u32>> = texts.iter().map(|t| backwards.encode(t).unwrap()).collect();
    assert!(singly == one.1);
    assert!(one.1.iter().flatten().all(|&t| t != 0 && t < 1500));
}

// Decontamination

fn words(range: std::ops::Range<usize>) -> String {
    range.map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_shared_ngram_drops_the_document_and_says_why() {
    let mut evaluation = Decontaminator::new(DEFAULT_NGRAM).unwrap();
    evaluation.add("law", &document("law-0", &words(0..40)));
    evaluation.add("law", &document("law-1", &words(20..60)));
    let hidden = format!("Before.\n{}; after", words(27..40).to_uppercase().replace(' ', ",\t--"));
    let mut copied = document("copied", &hidden);
    copied.source = Some("web".into());
    let twelve = document("twelve", &format!("x {} y {}", words(0..12), words(13..25)));
    let (kept, dropped) = evaluation.filter(vec![twelve, copied, document("other", &words(60..99))]);
    assert_eq!(kept.iter().map(|d| d.id.as_str()).collect::<Vec<_>>(), ["twelve", "other"]);
    let reason = Contamination {
        id: "copied".into(),
        source: Some("web".into()),
        ngram: words(27..40),
        domain: "law".into(),
        evaluation_id: "law-0".into(),
    };
    assert_eq!(dropped, [reason]);
    // Words 45..58 stand in the second document only; the end of one document does not run on into the next.
    assert_eq!(evaluation.check(&document("t", &words(45..58))).unwrap().evaluation_id, "law-1");
    assert_eq!(evaluation.check(&document("t", &format!("{} {}", words(34..40), words(20..27)))), None);
    refused(Decontaminator::new(0), &["n-gram"]);
}

#[test]
fn short_evaluation_documents_are_matched_as_a_whole() {
    let mut evaluation = Decontaminator::new(8).unwrap();
    evaluation.add("qa", &document("seven", "What is the capital of France? Paris"));
    evaluation.add("qa", &document("two", "See also:"));
    evaluation.add("qa", &document("none", "-- * --"));
    let hit = |text: &str| evaluation.check(&document("t", text)).map(|c| c.evaluation_id);
    assert_eq!(hit("Q: what is THE capital of france? paris. Q: next").as_deref(), Some("seven"));
    assert_eq!(hit("what is the capital of france? lyon"), None);
    assert_eq!(hit("paris"), None);
    assert_eq!(hit("see also the notes"), None, "two words inside a text prove nothing");
    assert_eq!(hit("SEE ALSO").as_deref(), Some("two"));
    assert_eq!(hit("* * *"), None);
    assert_eq!(hit(""), None);
}

/// Against the definition: the sets of n-grams as text.
#[test]
fn decontamination_agrees_with_plain_sets() {
    let texts = |seed: u8, count: usize, length: usize| -> Vec<Document> {
        let word = |i: usize, j: usize| blake3::hash(&[seed, i as u8, j as u8]).as_bytes()[0] % 3;
        let text = |i| (0..length).map(|j| format!("v{}", word(i, j))).collect::<Vec<_>>().join(" ");
        (0..count).map(|i| document(&format!("{seed}-{i}"), &text(i))).collect()
    };
    let (training, held_out) = (texts(1, 60, 30), texts(2, 10, 40));
    let n = 8;
    let ngrams = |d: &Document| -> BTreeSet<String> {
        d.text.split(' ').collect::<Vec<_>>().windows(n).map(|w| w.join(" ")).collect()
    };
    let known: BTreeSet<String> = held_out.iter().flat_map(&ngrams).collect();
    let expected: Vec<&str> =
        training.iter().filter(|d| !ngrams(d).is_disjoint(&known)).map(|d| d.id.as_str()).collect();
    assert!(expected.len() > 10 && expected.len() < 60, "{} of 60: the case says little", expected.len());
    let mut evaluation = Decontaminator::new(n).unwrap();
    held_out.iter().for_each(|d| evaluation.add("e", d));
    let run = |threads| on_threads(threads, || evaluation.filter(training.clone()));
    let (kept, dropped) = run(1);
    assert_eq!(dropped.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(kept.len() + dropped.len(), training.len());
    assert!(dropped.iter().all(|c| known.contains(&c.ngram)));
    assert!(run(2) == (kept.clone(), dropped.clone()) && run(7) == (kept, dropped));
}

// Shards

/// A shard of the given documents, each a list of tokens; document i is said to have 10 i bytes of text.
fn shard(directory: &Path, documents: &[Vec<u32>]) -> Shard {
    Shard::write(directory, &small_tokenizer(), |writer| {
        documents.iter().enumerate().try_for_each(|(i, tokens)| writer.add_tokens(tokens, 10 * i as u64))
    })
    .unwrap()
}

/// One document of the tokens 1, 2, ... and its EOS, so that a window's tokens tell its place.
fn ramp(directory: &Path, tokens: u32) -> Arc<Shard> {
    Arc::new(shard(directory, &[(1..tokens).collect()]))
}

#[test]
fn a_shard_holds_what_was_written() {
    let dir = temp();
    let documents = [vec![1, 2, 3], vec![], vec![279, 4]];
    let shard = shard(&dir.path().join("s"), &documents);
    assert_eq!((shard.documents(), shard.tokens_len()), (3, 8));
    for (i, tokens) in documents.iter().enumerate() {
        assert_eq!(&shard.document_tokens(i as u64), tokens);
        assert_eq!(shard.document_bytes(i as u64), 10 * i as u64);
    }
    assert_eq!([shard.document(0), shard.document(1), shard.document(2)], [0..3, 4..4, 5..7]);
    let mut middle = [0; 5];
    shard.read(2, &mut middle);
    assert_eq!(middle, [3, 0, 0, 279, 4]);
    let info = shard.info();
    assert_eq!((info.bytes, info.dtype, info.vocabulary, info.eos), (30, DType::U16, 280, 0));
    assert_eq!(info.tokenizer, small_tokenizer().hash());
    // The layout of OLMo's data: nothing but little-endian u16.
    let raw = fs::read(dir.path().join("s/tokens.bin")).unwrap();
    assert_eq!(raw, [1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 23, 1, 4, 0, 0, 0]);
    assert_eq!(fs::read(dir.path().join("s/documents.bin")).unwrap().len(), 4 * 8);
}

#[test]
fn a_large_vocabulary_is_stored_in_four_bytes() {
    let dir = temp();
    let names: Vec<String> = (0..70_000).map(|i| if i == 69_999 { "</s>".into() } else { format!("t{i}") }).collect();
    let mut vocabulary: Vec<(&str, u32)> = names.iter().map(|n| n.as_str()).zip(0..).collect();
    vocabulary.push(("[UNK]", 70_000));
    let tokenizer = load(dir.path(), word_level(&vocabulary)).unwrap();
    let path = dir.path().join("s");
    let shard = Shard::write(&path, &tokenizer, |w| w.add(document("a", "t1 t69998 t65536"))).unwrap();
    assert_eq!((shard.info().dtype, shard.tokens_len()), (DType::U32, 4));
    assert_eq!(shard.document_tokens(0), [1, 69_998, 65_536]);
    drop(shard);
    assert_eq!(fs::metadata(path.join("tokens.bin")).unwrap().len(), 16);
    fs::write(path.join("tokens.bin"), [0xff; 16]).unwrap();
    refused(Shard::open(&path), &["tokens.bin", "vocabulary"]);
    assert_eq!((DType::of(65_536), DType::of(65_537)), (DType::U16, DType::U32));
}

#[test]
fn a_shard_of_text_does_not_depend_on_threads() {
    let dir = temp();
    let tokenizer = small_tokenizer();
    let files = [quickstart("disease_definitions"), quickstart("shakespeare")];
    let write = |threads: usize| {
        let path = dir.path().join(threads.to_string());
        let fill = |w: &mut ShardWriter| for_each_document(&files, |d| w.add(d)).map(|_| ());
        on_threads(threads, || Shard::write(&path, &tokenizer, fill)).unwrap()
    };
    let one = write(1);
    assert_eq!((write(2).info(), write(7).info()), (one.info(), one.info()));
    let documents = read(&files).unwrap();
    assert_eq!(one.documents(), documents.len() as u64);
    for (i, document) in documents.iter().enumerate().step_by(17) {
        assert_eq!(one.document_tokens(i as u64), tokenizer.encode(&document.text).unwrap());
        assert_eq!(one.document_bytes(i as u64), document.text.len() as u64);
    }
}

#[test]
fn damaged_shards_are_refused_by_file() {
    let dir = temp();
    let path = dir.path().join("s");
    drop(shard(&path, &[vec![1, 2, 3], vec![4, 5]]));
    let damage = |file: &str, bytes: Vec<u8>, parts: &[&str]| {
        let whole = fs::read(path.join(file)).unwrap();
        fs::write(path.join(file), bytes).unwrap();
        refused(Shard::open(&path), parts);
        fs::write(path.join(file), whole).unwrap();
    };
    let offsets = |values: &[u64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let tokens = |values: &[u16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let t = "tokens.bin";
    damage(t, tokens(&[1, 2, 3, 0, 4, 5]), &[t, "wrong size", "7 values of 2 bytes", "12 bytes"]);
    damage(t, vec![], &[t, "wrong size"]);
    damage(t, tokens(&[1, 2, 280, 0, 4, 5, 0]), &[t, "outside the vocabulary", "280"]);
    damage(t, tokens(&[1, 2, 3, 4, 4, 5, 0]), &[t, "EOS", "document 0"]);
    let d = "documents.bin";
    damage(d, offsets(&[0, 4]), &[d, "wrong size"]);
    damage(d, offsets(&[1, 4, 7]), &[d, "first start"]);
    damage(d, offsets(&[0, 0, 7]), &[d, "after document 0"]);
    damage(d, offsets(&[0, 9, 7]), &[d, "after document 1"]);
    damage(d, offsets(&[0, 4, 8]), &[d, "7 tokens as the end"]);
    damage("bytes.bin", offsets(&[0, 11]), &["bytes.bin", "sum", "10", "11"]);
    let (j, json) = ("shard.json", fs::read_to_string(path.join("shard.json")).unwrap());
    damage(j, b"{}".to_vec(), &[j, "missing field"]);
    damage(j, json.replace("\"eos\"", "\"later\": 1, \"eos\"").into(), &[j, "later"]);
    damage(j, json.replace("u16", "u32").into(), &[j, "contradicts"]);
    damage(j, json.replace("\"tokens\": 7", "\"tokens\": 18446744073709551615").into(), &[t, "wrong size"]);
    damage(j, json.replace("\"documents\": 2", "\"documents\": 18446744073709551615").into(), &[d, "wrong size"]);
    assert!(Shard::open(&path).is_ok());
    refused(Shard::open(&dir.path().join("none")), &["none"]);
}

#[test]
fn a_shard_that_cannot_be_written_leaves_nothing() {
    let dir = temp();
    let path = dir.path().join("s");
    let tokenizer = small_tokenizer();
    refused(Shard::write(&path, &tokenizer, |_| Ok(())), &["at least one document"]);
    refused(Shard::write(&path, &tokenizer, |w| w.add_tokens(&[280], 1)), &["280"]);
    refused(Shard::write(&path, &tokenizer, |w| w.add_tokens(&[0], 1)), &["EOS"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

// Windows

#[test]
fn an_epoch_visits_every_window_once() {
    let order = WindowOrder::new(3, 101);
    let all: Vec<u64> = (0..101).collect();
    let epochs: Vec<Vec<u64>> = (0..4).map(|e| order.epoch(e)).collect();
    for epoch in &epochs {
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, all);
    }
    assert_eq!(epochs.iter().collect::<BTreeSet<_>>().len(), 4, "two epochs are equal");
    assert_ne!(WindowOrder::new(4, 101).epoch(0), epochs[0]);
    let endless = epochs.concat();
    assert_eq!(order.places(0..404), endless);
    for places in [0..1, 100..102, 50..350, 7..7] {
        assert_eq!(order.places(places.clone()), &endless[places.start as usize..places.end as usize]);
    }
    // Fixed for good: a change here would change every run.
    assert_eq!(WindowOrder::new(1, 8).epoch(0), [6, 1, 0, 7, 5, 4, 2, 3]);
}

#[test]
fn windows_are_the_tokens_and_the_tokens_shifted_by_one() {
    let dir = temp();
    // 279 tokens hold 39 windows of 7: the last target is token 39 * 7 = 273, and 5 tokens stay unused.
    let shard = ramp(&dir.path().join("s"), 279);
    assert_eq!((windows_in(279, 7), windows_in(8, 7), windows_in(7, 7), windows_in(0, 7)), (39, 1, 0, 0));
    let stream = Stream::new(vec![(shard, 39, 5)], 7, 6).unwrap();
    let (mut inputs, mut targets) = (vec![0; 39 * 7], vec![0; 39 * 7]);
    stream.fill(0, &mut inputs, &mut targets);
    for k in 0..39 {
        let (member, window) = stream.window(k as u64);
        let expected: Vec<u32> = (1..=8).map(|j| window as u32 * 7 + j).collect();
        assert_eq!(member, 0);
        assert_eq!((&inputs[k * 7..k * 7 + 7], &targets[k * 7..k * 7 + 7]), (&expected[..7], &expected[1..]));
    }
    let mut sorted = inputs.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=39 * 7).collect::<Vec<u32>>(), "every token is an input once an epoch");
    assert_ne!(sorted, inputs);
    // A run that goes on at window 11 sees what an uninterrupted one saw there.
    let (mut later, mut later_targets) = (vec![0; 3 * 7], vec![0; 3 * 7]);
    stream.fill(11, &mut later, &mut later_targets);
    assert_eq!((&later[..], &later_targets[..]), (&inputs[77..98], &targets[77..98]));
}

#[test]
fn a_union_has_exactly_the_windows_of_its_modules() {
    let dir = temp();
    let shards: Vec<Arc<Shard>> = (0..3).map(|i| ramp(&dir.path().join(i.to_string()), 200 + 20 * i)).collect();
    // Context 10 gives 19, 21 and 23 windows: less than an epoch, exactly one, and two and a half.
    let members: Vec<(Arc<Shard>, u64, u64)> =
        shards.iter().zip([13, 21, 57]).zip(100..).map(|((s, n), seed)| (s.clone(), n, seed)).collect();
    let visits = |stream: &Stream, member: usize| {
        let mut counts = BTreeMap::<u64, u32>::new();
        for (of, window) in (0..stream.len()).map(|k| stream.window(k)) {
            if of == member {
                *counts.entry(window).or_default() += 1;
            }
        }
        counts
    };
    let union = Stream::new(members.clone(), 10, 1).unwrap();
    assert_eq!(union.len(), 13 + 21 + 57);
    for (i, member) in members.iter().enumerate() {
        let module = Stream::new(vec![member.clone()], 10, 2).unwrap();
        assert_eq!(visits(&union, i), visits(&module, 0), "member {i}");
    }
    assert_eq!(visits(&union, 0).len(), 13);
    assert!(visits(&union, 1).values().all(|&n| n == 1) && visits(&union, 1).len() == 21);
    let upsampled = visits(&union, 2);
    assert!(upsampled.len() == 23 && upsampled.values().all(|&n| n == 2 || n == 3));
    // Members are mixed, not one after another, and another seed mixes otherwise.
    let sequence = |stream: &Stream| (0..stream.len()).map(|k| stream.window(k)).collect::<Vec<_>>();
    let first_half: BTreeSet<usize> = sequence(&union)[..45].iter().map(|w| w.0).collect();
    assert_eq!(first_half.len(), 3);
    assert_eq!(sequence(&union), sequence(&Stream::new(members.clone(), 10, 1).unwrap()));
    assert_ne!(sequence(&union), sequence(&Stream::new(members, 10, 3).unwrap()));
}

#[test]
fn base_units_divide_the_windows_of_their_partition() {
    let dir = temp();
    let shard = ramp(&dir.path().join("s"), 121);
    let unit = |windows| Stream::from_members(vec![Member { shard: shard.clone(), windows, order_seed: 9 }], 10, 0);
    let visited = |stream: Stream| (0..stream.len()).map(|k| stream.window(k).1).collect::<Vec<_>>();
    let mut all: Vec<u64> = (0..3).flat_map(|i| visited(unit(4 * i..4 * i + 4).unwrap())).collect();
    all.sort_unstable();
    assert_eq!(all, (0..12).collect::<Vec<u64>>());
}

#[test]
fn runs_that_cannot_be_are_refused() {
    let dir = temp();
    let shard = ramp(&dir.path().join("tiny"), 10);
    refused(Stream::new(vec![(shard.clone(), 1, 0)], 10, 0), &["tiny", "at least 11 tokens", "10 tokens"]);
    assert_eq!(Stream::new(vec![(shard.clone(), 1, 0)], 9, 0).unwrap().len(), 1);
    refused(Stream::new(vec![(shard.clone(), 0, 0)], 9, 0), &["no training windows"]);
    refused(Stream::new(vec![], 9, 0), &["no training windows"]);
    refused(Stream::new(vec![(shard, 1, 0)], 0, 0), &["context"]);
}

#[test]
fn every_token_is_scored_once() {
    for context in [1, 2, 7, 64] {
        for n in [0, 1, context - 1, context, context + 1, 3 * context, 5 * context + 3] {
            let tokens: Vec<u32> = (1..=n as u32).collect();
            let (mut inputs, mut targets) = (vec![99; context], vec![99; context]);
            let mut scored = Vec::new();
            for window in eval_windows(n, context) {
                assert!(!window.is_empty());
                fill_eval_window(&tokens, window.clone(), 1000, &mut inputs, &mut targets);
                assert_eq!(inputs[0], 1000, "a window starts with the EOS");
                for at in 0..context {
                    if at < window.len() {
                        scored.push(targets[at]);
                        let before = if at == 0 { 1000 } else { tokens[window.start + at - 1] };
                        assert_eq!(inputs[at], before);
                    } else {
                        assert_eq!((inputs[at], targets[at]), (1000, IGNORED));
                    }
                }
            }
            assert_eq!(scored, tokens, "n {n}, T {context}");
        }
    }
}

// Table

#[test]
fn the_table_counts_partitions_and_splits() {
    let dir = temp();
    let shard = shard(&dir.path().join("s"), &[vec![1; 1_234_567], vec![2; 3]]);
    let mut table = PartitionTable::default();
    table.add("law", Split::Train, shard.info());
    table.add("law", Split::Test, shard.info());
    table.add("physics", Split::Train, shard.info());
    let totals = table.totals();
    assert_eq!(totals.iter().map(|r| r.split).collect::<Vec<_>>(), [Split::Train, Split::Test]);
    assert_eq!((totals[0].documents, totals[0].tokens, totals[0].bytes), (4, 2 * 1_234_572, 20));
    let text = table.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[0].starts_with("partition") && lines[0].ends_with("bytes/token"));
    assert!(lines[1].contains("1,234,572") && lines[2].contains("test"), "{text}");
    assert!(lines.iter().all(|l| l.chars().count() == lines[0].chars().count()), "{text}");
    let back: PartitionTable = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(back, table);
}
