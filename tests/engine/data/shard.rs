//! Shards of tokens.

use super::{document, load, on_threads, quickstart, read, refused, shard, small_tokenizer, temp, word_level};
use std::fs;
use stockpot::engine::data::*;

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
    assert_eq!((info.bytes, info.dtype, info.vocabulary, info.eos), (30, TokenType::U16, 280, 0));
    assert_eq!(info.tokenizer, small_tokenizer().hash());
    // The layout of OLMo's data: only little-endian u16.
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
    assert_eq!((shard.info().dtype, shard.tokens_len()), (TokenType::U32, 4));
    assert_eq!(shard.document_tokens(0), [1, 69_998, 65_536]);
    drop(shard);
    assert_eq!(fs::metadata(path.join("tokens.bin")).unwrap().len(), 16);
    fs::write(path.join("tokens.bin"), [0xff; 16]).unwrap();
    refused(Shard::open(&path), &["tokens.bin", "vocabulary"]);
    assert_eq!((TokenType::of(65_536), TokenType::of(65_537)), (TokenType::U16, TokenType::U32));
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
