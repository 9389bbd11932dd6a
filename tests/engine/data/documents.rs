//! Documents: every format, every field, the files that inputs name, and bad lines.

use super::{document, quickstart, read, refused, temp, write};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use stockpot::engine::data::*;
use stockpot::error::Error;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

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
fn fields_beside_the_metadata_are_kept() {
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
    // Two consecutive gzip members are one file.
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
