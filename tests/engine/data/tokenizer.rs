//! Tokenizers, trained and read.

use super::{load, on_threads, quickstart, read, refused, small_tokenizer, temp, word_level};
use std::fs;
use stockpot::engine::data::*;

#[test]
fn merges_are_the_most_frequent_pairs() {
    // Words: "ab" three times, " ab" twice, "b". The pair a+b occurs 5 times, then space+ab twice.
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
