//! Safetensors files: hostile headers, and files that change while they are read.

use super::{copy_fixture, refused};
use std::fs;
use std::path::Path;
use stockpot::engine::checkpoint::{Reader, TensorFile};

/// A safetensors file of any header over `data` bytes.
fn write_raw(path: &Path, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn hostile_headers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("evil.safetensors");
    let open = || TensorFile::open(&path);
    let one =
        |shape: &str, a: u64, b: u64| format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":[{a},{b}]}}}}"#);
    let huge = u64::MAX;
    fs::write(&path, b"1234").unwrap();
    refused(open(), &["evil.safetensors", "4 bytes"]);
    fs::write(&path, huge.to_le_bytes()).unwrap();
    refused(open(), &["header length of 18446744073709551615"]);
    fs::write(&path, 50u64.to_le_bytes()).unwrap();
    refused(open(), &["header length of 50", "8 bytes"]);
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    refused(open(), &["not a safetensors file", "Git LFS"]);
    let cases: [(String, usize, &[&str]); 16] = [
        ("[]".into(), 0, &["cannot be read"]),
        ("{".into(), 0, &["cannot be read"]),
        ("{} {}".into(), 0, &["cannot be read"]),
        (one("[2]", 0, 8), 7, &["`x`", "outside the file"]),
        (one("[2]", 0, 8), 9, &["belong to no tensor"]),
        (one("[2]", 0, 4), 4, &["`x`", "8 bytes", "[0, 4]"]),
        (one("[2]", 8, 0), 8, &["`x`", "[8, 0]"]),
        (one("[2]", 4, 12), 12, &["`x`", "leaves a gap"]),
        (one("[2]", huge - 8, huge), 8, &["`x`", "an offset within the file"]),
        (one("[4294967296,4294967296,4]", 0, 8), 8, &["`x`", "fits 64 bits"]),
        (one("[4611686018427387904]", 0, 0), 0, &["`x`", "fits 64 bits"]),
        (one("[-1]", 0, 8), 8, &["cannot be read", "`x`"]),
        (one("[2]", 0, 8).replace("F32", "F33"), 8, &["cannot be read", "`x`"]),
        (one("[2]", 0, 8).replace(r#""dtype":"F32","#, ""), 8, &["cannot be read", "`x`", "dtype"]),
        (
            r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#
                .into(),
            8,
            &["`x`", "twice"],
        ),
        (
            r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#
                .into(),
            12,
            &["`y`", "shares bytes"],
        ),
    ];
    for (header, data, parts) in &cases {
        write_raw(&path, header, *data);
        refused(open(), parts);
    }
    write_raw(&path, &format!("{}  ", one("[2]", 0, 8)), 8);
    assert_eq!(open().unwrap().tensors()[0].shape, [2]);
    write_raw(&path, r#"{"__metadata__":{"format":"pt"},"x":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}"#, 8);
    assert!(open().unwrap().tensors()[0].shape.is_empty());
    refused(TensorFile::open(dir.path()), &["regular file"]);
}

#[test]
fn files_that_change_while_they_are_read_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    copy_fixture("olmo2", dir.path());
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let mut weights = vec![0.0; reader.table().len];
    fs::File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    refused(reader.read_weights(&mut weights), &["model.safetensors", "changed while it was read"]);
    fs::write(&path, &bytes).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    fs::rename(&path, dir.path().join("old")).unwrap();
    fs::write(&path, &bytes).unwrap();
    refused(reader.read_weights(&mut weights), &["model.safetensors", "changed while it was read"]);
}
