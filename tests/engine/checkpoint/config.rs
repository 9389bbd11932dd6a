//! config.json.

use super::{fixture, refused, small};
use serde_json::{Value, json};
use std::fs;
use stockpot::engine::checkpoint::{StorageDType, config_json, read_config};
use stockpot::engine::model::{Architecture, Config};

#[test]
fn configs_of_transformers_5_and_4_mean_the_same() {
    let new = read_config(&fixture("llama-untied/config.json")).unwrap();
    let expected = Config {
        architecture: Architecture::Llama,
        width: 24,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_width: 8,
        feed_forward: 40,
        vocabulary: 67,
        context: 64,
        tied: false,
        rope_base: 20000.0,
        norm_epsilon: 1e-6,
        init_std: 0.02,
        eos: 2,
    };
    assert_eq!(new, expected);
    assert_eq!(read_config(&fixture("llama-untied-v4-sharded/config.json")).unwrap(), expected);
    let olmo2 = read_config(&fixture("olmo2/config.json")).unwrap();
    assert_eq!((olmo2.architecture, olmo2.rope_base, olmo2.norm_epsilon), (Architecture::Olmo2, 500000.0, 1e-5));
    assert!(read_config(&fixture("llama-tied/config.json")).unwrap().tied);
}

#[test]
fn config_fields_that_change_the_mathematics_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    let read = |field: &str, value: Value| {
        let mut json: Value =
            serde_json::from_str(&fs::read_to_string(fixture("llama-untied/config.json")).unwrap()).unwrap();
        json[field] = value;
        fs::write(&path, json.to_string()).unwrap();
        read_config(&path)
    };
    for (field, value) in [
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("pretraining_tp", json!(2)),
        ("clip_qkv", json!(8.0)),
        ("sliding_window", json!(4096)),
        ("partial_rotary_factor", json!(0.5)),
        ("attention_dropout", json!(0.1)),
        ("quantization_config", json!({"bits": 4})),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 20000.0, "factor": 2.0})),
        ("rope_parameters", json!({"rope_theta": 20000.0, "partial_rotary_factor": 0.5})),
        ("rope_parameters", json!({"full_attention": {"rope_theta": 20000.0}})),
        ("rope_theta", json!(30000.0)),
        ("layer_types", json!(["full_attention", "sliding_attention"])),
        ("architectures", json!(["MistralForCausalLM"])),
        ("architectures", json!(["LlamaForCausalLM", "Other"])),
        ("model_type", json!("olmo2")),
        ("hidden_size", json!("24")),
        ("hidden_size", json!(-24)),
        ("vocab_size", json!(null)),
        ("eos_token_id", json!(null)),
        ("eos_token_id", json!([])),
        ("tie_word_embeddings", json!(1)),
    ] {
        refused(read(field, value), &["config.json", field]);
    }
    refused(read("num_key_value_heads", json!(3)), &["config.json", "4 heads", "3 key/value heads"]);
    let plain = read_config(&fixture("llama-untied/config.json")).unwrap();
    for (field, value) in [
        ("rope_scaling", json!(null)),
        ("rope_theta", json!(20000)),
        ("sliding_window", json!(null)),
        ("use_cache", json!(false)),
        ("dtype", json!("bfloat16")),
        ("head_dim", json!(8)),
        ("eos_token_id", json!([2, 5])),
        ("layer_types", json!(["full_attention", "full_attention"])),
        ("transformers.js_config", json!({"a": 1})),
    ] {
        assert_eq!(read(field, value).unwrap(), plain, "{field}");
    }
    fs::write(&path, "{\n\"a\": }").unwrap();
    refused(read_config(&path), &["config.json:2"]);
}

#[test]
fn written_configs_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    for architecture in [Architecture::Olmo2, Architecture::Llama] {
        let config = Config { architecture, ..small(architecture == Architecture::Llama) };
        fs::write(&path, config_json(&config, StorageDType::Bf16).to_string()).unwrap();
        assert_eq!(read_config(&path).unwrap(), config);
    }
}
