//! The files that a merge writes.

use super::{BF16, F16, F32, checkpoints, data, members, merge, plain, refused};
use std::fs;
use stockpot::engine::checkpoint::Reader;

#[test]
fn one_checkpoint_of_weight_1_is_unchanged() {
    let (dir, paths, _) = checkpoints(&[BF16]);
    let path = dir.path().join("a/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last..].copy_from_slice(&half::bf16::NEG_ZERO.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let out = dir.path().join("out");
    let report = merge(&members(&paths, &[1.0]), &out, None).unwrap();
    assert_eq!(report.dtype, BF16);
    assert!(data(&out) == data(&paths[0]));
}

#[test]
fn the_output_has_the_type_of_the_inputs_when_they_agree() {
    for (inputs, expected) in [([BF16, BF16], BF16), ([F16, F16], F16), ([F32, F32], F32), ([BF16, F16], F32)] {
        let (dir, paths, _) = checkpoints(&inputs);
        let out = dir.path().join("out");
        assert_eq!(merge(&members(&paths, &[0.5, 0.5]), &out, None).unwrap().dtype, expected, "{inputs:?}");
        assert_eq!(Reader::open(&out).unwrap().dtype(), Some(expected), "{inputs:?}");
    }
}

#[test]
fn merge_json_records_what_was_used() {
    let (dir, paths, _) = checkpoints(&[F32, F32]);
    let out = dir.path().join("out");
    merge(&members(&paths, &[0.1, 0.9]), &out, Some(BF16)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(out.join("merge.json")).unwrap()).unwrap();
    assert_eq!(json["members"][0]["weight"], 0.1);
    assert_eq!(json["members"][1]["path"], paths[1].to_str().unwrap());
    assert_eq!((&json["dtype"], &json["normalized"]), (&"bf16".into(), &false.into()));
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["dtype"], "bfloat16");
}

#[test]
fn config_and_tokenizer_come_from_the_first_member() {
    let (dir, paths, _) = checkpoints(&[F32, F32]);
    for (path, text) in paths.iter().zip(["{\"of\": 1}", "{\"of\": 2}"]) {
        fs::write(path.join("tokenizer.json"), text).unwrap();
    }
    let config_path = paths[0].join("config.json");
    let text = fs::read_to_string(&config_path).unwrap().replacen('{', "{\n  \"_name_or_path\": \"mine\",", 1);
    fs::write(&config_path, text).unwrap();
    let out = dir.path().join("out");
    merge(&members(&paths, &[0.5, 0.5]), &out, None).unwrap();
    assert_eq!(fs::read_to_string(out.join("tokenizer.json")).unwrap(), "{\"of\": 1}");
    assert!(fs::read_to_string(out.join("config.json")).unwrap().contains("\"_name_or_path\": \"mine\""));
    assert!(!out.join("tokenizer_config.json").exists());
}

#[test]
fn the_output_replaces_only_an_earlier_merge() {
    let (dir, paths, stored) = checkpoints(&[F32, F32]);
    let given = members(&paths, &[0.5, 0.5]);
    refused(merge(&given, &paths[0], None), &["cannot be one of its inputs"]);
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis.tex"), "x").unwrap();
    refused(merge(&given, &precious, None), &["precious", "not an earlier merge", "--out"]);
    assert!(precious.join("thesis.tex").exists());
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    merge(&given, &out, None).unwrap();
    merge(&members(&paths, &[0.25, 0.75]), &out, None).unwrap();
    let expected: Vec<u8> = plain(&stored, &[0.25, 0.75]).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    assert!(data(&out) == expected);
}
