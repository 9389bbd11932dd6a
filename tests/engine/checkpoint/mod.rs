//! Checkpoint directories: fixtures that transformers wrote, round trips, and files that must be refused by name.

use rand::{Rng, SeedableRng};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use stockpot::engine::checkpoint::{
    OptimizerState, Reader, StorageDType, TensorFile, TrainerState, config_json, read_config, write_model,
};
use stockpot::engine::model::{Architecture, Config, Table};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers").join(name)
}

fn small(tied: bool) -> Config {
    Config {
        architecture: Architecture::Llama,
        width: 16,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_width: 8,
        feed_forward: 24,
        vocabulary: 13,
        context: 32,
        tied,
        rope_base: 12345.0,
        norm_epsilon: 3e-6,
        init_std: 0.03,
        eos: 7,
    }
}

/// Random signs, exponents and mantissas: every rounding case occurs.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| (rng.random::<f32>() - 0.5) * 2f32.powi(rng.random_range(-12..4))).collect()
}

fn weights_of(reader: &Reader) -> Vec<f32> {
    let mut weights = vec![0.0; reader.table().len];
    reader.read_weights(&mut weights).unwrap();
    weights
}

fn copy_fixture(name: &str, to: &Path) {
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
}

/// The message of the refusal, which must contain every one of `parts`.
fn refused<T>(result: stockpot::error::Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("accepted, but should name {parts:?}") };
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[test]
fn fixtures_read_as_the_formats_own_reader_reads_them() {
    for name in ["olmo2", "llama-untied", "llama-tied"] {
        let reader = Reader::open(&fixture(name)).unwrap();
        assert_eq!(reader.dtype(), Some(StorageDType::F32), "{name}");
        let weights = weights_of(&reader);
        let bytes = fs::read(fixture(name).join("model.safetensors")).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), reader.table().parameters.len(), "{name}");
        for p in &reader.table().parameters {
            let t = theirs.tensor(&p.name).unwrap();
            assert_eq!(t.shape(), p.shape, "{name}: {}", p.name);
            assert_eq!(t.data(), bytemuck::cast_slice::<f32, u8>(&weights[p.range()]), "{name}: {}", p.name);
        }
    }
}

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
fn shards_hold_what_the_single_file_holds() {
    let single = Reader::open(&fixture("llama-untied")).unwrap();
    let sharded = Reader::open(&fixture("llama-untied-v4-sharded")).unwrap();
    assert_eq!(weights_of(&single), weights_of(&sharded));
    // a chunk that begins and ends inside tensors and spans shards
    let (all, range) = (weights_of(&single), 1001..9973);
    let mut chunk = vec![0.0; range.len()];
    sharded.chunk(range.clone(), &mut chunk).unwrap();
    assert_eq!(chunk, all[range]);
}

#[test]
fn faulty_indexes_are_refused() {
    let change = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        copy_fixture("llama-untied-v4-sharded", dir.path());
        let path = dir.path().join("model.safetensors.index.json");
        let mut index: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut index["weight_map"]);
        fs::write(&path, index.to_string()).unwrap();
        refused(Reader::open(dir.path()), parts);
    };
    let norm = "model.norm.weight";
    change(&|map| map[norm] = "../evil.safetensors".into(), &["index.json", "outside its directory", "../evil"]);
    change(&|map| map[norm] = "model-00001-of-00003.safetensors".into(), &["00003-of-00003", norm, "00001-of-00003"]);
    change(&|map| drop(map.as_object_mut().unwrap().remove(norm)), &["00003-of-00003.safetensors", norm, "no entry"]);
    change(
        &|map| map["more"] = "model-00004-of-00003.safetensors".into(),
        &["00004-of-00003.safetensors", "cannot open"],
    );
}

#[test]
fn a_written_model_reads_back_bit_for_bit() {
    for config in [small(false), small(true), Config { architecture: Architecture::Olmo2, ..small(false) }] {
        let dir = tempfile::tempdir().unwrap();
        let mut weights = random(Table::new(&config).len, 1);
        weights[0] = -0.0;
        weights[1] = f32::MIN_POSITIVE / 8.0;
        write_model(dir.path(), &config, &weights, StorageDType::F32, None).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.config(), &config);
        let bits = |w: &[f32]| w.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&weights_of(&reader)), bits(&weights));
        let bytes = fs::read(dir.path().join("model.safetensors")).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    }
}

#[test]
fn half_types_round_to_nearest_even() {
    let config = small(false);
    let mut weights = random(Table::new(&config).len, 2);
    // ties to even both ways, just above a tie, subnormal
    weights[..5].copy_from_slice(&[1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), 1.003_906_4, -1e-39, 3.0e-7]);
    for dtype in [StorageDType::Bf16, StorageDType::F16] {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path(), &config, &weights, dtype, None).unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.dtype(), Some(dtype));
        for (i, (&x, y)) in weights.iter().zip(weights_of(&reader)).enumerate() {
            let expected = match dtype {
                StorageDType::Bf16 => half::bf16::from_f32(x).to_f32(),
                _ => half::f16::from_f32_const(x).to_f32_const(),
            };
            assert_eq!(y.to_bits(), expected.to_bits(), "{dtype} element {i}: {x:e}");
        }
    }
}

#[test]
fn weights_that_cannot_be_stored_are_named() {
    let config = small(false);
    let table = Table::new(&config);
    let at = table.find("model.layers.1.mlp.up_proj.weight").unwrap().offset + 5;
    for (value, dtype, part) in [
        (f32::NAN, StorageDType::Bf16, "NaN at element 5"),
        (f32::INFINITY, StorageDType::F32, "inf at element 5"),
        (1e5, StorageDType::F16, "100000 at element 5"),
        (f32::MAX, StorageDType::Bf16, "at element 5"),
    ] {
        let mut weights = random(table.len, 3);
        weights[at] = value;
        let dir = tempfile::tempdir().unwrap();
        let result = write_model(dir.path(), &config, &weights, dtype, None);
        refused(result, &["model.layers.1.mlp.up_proj.weight", part, dtype.name()]);
    }
}

#[test]
fn nan_in_a_checkpoint_is_found_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    copy_fixture("olmo2", dir.path());
    Reader::open(dir.path()).unwrap().check_finite().unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let name = "model.layers.1.self_attn.k_norm.weight";
    let file = TensorFile::open(&dir.path().join("model.safetensors")).unwrap();
    let t = file.tensors().iter().find(|t| t.name == name).unwrap();
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - file.tensors().iter().skip_while(|u| u.name != t.name).map(size).sum::<usize>() + 4 * 3;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    refused(reader.check_finite(), &["model.safetensors", name, "NaN at element 3"]);
}

fn size(t: &stockpot::engine::checkpoint::Tensor) -> usize {
    t.shape.iter().product::<usize>() * 4
}

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

/// Name, type, shape and bytes of each tensor of a file.
type Tensors = Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites a fixture's single file with other tensors.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Tensors)) {
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> =
        file.tensors().into_iter().map(|(n, t)| (n, t.dtype(), t.shape().to_vec(), t.data().to_vec())).collect();
    tensors.sort();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn tensors_that_do_not_fit_the_config_are_named() {
    let change = |parts: &[&str], change: &dyn Fn(&mut Tensors)| {
        let dir = tempfile::tempdir().unwrap();
        copy_fixture("llama-untied", dir.path());
        rewrite(dir.path(), change);
        refused(Reader::open(dir.path()), parts);
    };
    let file = "model.safetensors";
    let find = |v: &mut Tensors, name: &str| v.iter().position(|t| t.0 == name).unwrap();
    let norm = "model.norm.weight";
    change(&[file, norm, "missing", "[24]"], &|v| {
        let i = find(v, norm);
        v.remove(i);
    });
    change(&[file, "extra.weight", "no such tensor"], &|v| {
        v.push(("extra.weight".into(), safetensors::Dtype::F32, vec![1], vec![0; 4]))
    });
    change(&[file, norm, "[24]", "[24, 1]"], &|v| {
        let i = find(v, norm);
        v[i].2 = vec![24, 1];
    });
    change(&[file, norm, "F32, BF16 or F16", "I32"], &|v| {
        let i = find(v, norm);
        v[i].1 = safetensors::Dtype::I32;
    });
    change(&[file, "model.embed_tokens.weight", "[67, 24]", "[72, 24]", "vocab_size"], &|v| {
        let i = find(v, "model.embed_tokens.weight");
        v[i].2[0] = 72;
        v[i].3.resize(72 * 24 * 4, 0);
    });
    // RoPE's frequencies, which transformers once stored, are passed over
    let dir = tempfile::tempdir().unwrap();
    copy_fixture("llama-untied", dir.path());
    rewrite(dir.path(), |v| {
        let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
        v.push((name.into(), safetensors::Dtype::F32, vec![4], vec![0; 16]));
    });
    Reader::open(dir.path()).unwrap();
}

#[test]
fn a_tied_model_may_store_its_output_table_if_equal() {
    let head = |change: bool| {
        let dir = tempfile::tempdir().unwrap();
        copy_fixture("llama-tied", dir.path());
        rewrite(dir.path(), |v| {
            let embedding = v.iter().find(|t| t.0 == "model.embed_tokens.weight").unwrap().clone();
            let mut data = embedding.3;
            *data.last_mut().unwrap() ^= u8::from(change);
            v.push(("lm_head.weight".into(), embedding.1, embedding.2, data));
        });
        Reader::open(dir.path()).map(|r| weights_of(&r))
    };
    assert_eq!(head(false).unwrap(), weights_of(&Reader::open(&fixture("llama-tied")).unwrap()));
    refused(head(true), &["lm_head.weight", "differs from the embedding", "tie_word_embeddings"]);
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

#[test]
fn the_tokenizer_goes_along() {
    let tokenizer = fixture("llama-tied/tokenizer.json");
    let config = read_config(&fixture("llama-tied/config.json")).unwrap();
    let weights = weights_of(&Reader::open(&fixture("llama-tied")).unwrap());
    // alone: its config is made
    let (alone, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = alone.path().join("tokenizer.json");
    fs::copy(&tokenizer, &file).unwrap();
    write_model(out.path(), &config, &weights, StorageDType::F32, Some(&file)).unwrap();
    assert_eq!(fs::read(out.path().join("tokenizer.json")).unwrap(), fs::read(&tokenizer).unwrap());
    let made: Value =
        serde_json::from_str(&fs::read_to_string(out.path().join("tokenizer_config.json")).unwrap()).unwrap();
    assert_eq!(made["eos_token"], "<eos>");
    // beside its config: that is copied
    write_model(out.path(), &config, &weights, StorageDType::F32, Some(&tokenizer)).unwrap();
    assert_eq!(
        fs::read(out.path().join("tokenizer_config.json")).unwrap(),
        fs::read(fixture("llama-tied/tokenizer_config.json")).unwrap()
    );
    let smaller = Config { vocabulary: 67, ..config };
    let weights = vec![0.0; Table::new(&smaller).len];
    let result = write_model(out.path(), &smaller, &weights, StorageDType::F32, Some(&tokenizer));
    refused(result, &["tokenizer.json", "tokens below 67", "w67"]);
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

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    refused(Reader::open(dir.path()), &["config.json", "cannot read"]);
    fs::copy(fixture("olmo2/config.json"), dir.path().join("config.json")).unwrap();
    refused(Reader::open(dir.path()), &["holds no weights", "model.safetensors", "save_pretrained"]);
}

#[test]
fn optimizer_state_reads_back() {
    let config = small(true);
    let table = Table::new(&config);
    let dir = tempfile::tempdir().unwrap();
    let state = OptimizerState { m: random(table.len, 4), v: random(table.len, 5).iter().map(|x| x * x).collect() };
    state.write(dir.path(), &table).unwrap();
    assert_eq!(OptimizerState::read(dir.path(), &table).unwrap(), state);
    let bytes = fs::read(dir.path().join("optimizer.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let p = table.find("model.layers.1.mlp.down_proj.weight").unwrap();
    let v = theirs.tensor("exp_avg_sq.model.layers.1.mlp.down_proj.weight").unwrap();
    assert_eq!((v.shape(), v.data()), (&p.shape[..], bytemuck::cast_slice(&state.v[p.range()])));

    let name = "exp_avg_sq.model.norm.weight";
    let mut wrong = state.clone();
    wrong.v[table.final_norm.start] = -1.0;
    wrong.write(dir.path(), &table).unwrap();
    refused(OptimizerState::read(dir.path(), &table), &["optimizer.safetensors", name, "-1"]);
    let mut wrong = state.clone();
    wrong.m[table.final_norm.start] = f32::NAN;
    wrong.write(dir.path(), &table).unwrap();
    refused(OptimizerState::read(dir.path(), &table), &["exp_avg.model.norm.weight", "NaN"]);
    let other = Table::new(&small(false));
    state.write(dir.path(), &table).unwrap();
    refused(OptimizerState::read(dir.path(), &other), &["exp_avg.lm_head.weight", "missing"]);
    OptimizerState::zeros(&other).write(dir.path(), &other).unwrap();
    refused(OptimizerState::read(dir.path(), &table), &["exp_avg.lm_head.weight", "no such parameter"]);
}

#[test]
fn trainer_state_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = TrainerState { step: 12, tokens: u64::MAX, run: json!({"seed": 7, "rate": 0.1}) };
    state.write(dir.path()).unwrap();
    assert_eq!(TrainerState::read(dir.path()).unwrap(), state);
    let path = dir.path().join("trainer.json");
    fs::write(&path, r#"{"step": 1, "tokens": 2, "run": {}, "more": 3}"#).unwrap();
    refused(TrainerState::read(dir.path()), &["trainer.json", "more"]);
    fs::write(&path, r#"{"step": 1, "run": {}}"#).unwrap();
    refused(TrainerState::read(dir.path()), &["trainer.json", "tokens"]);
}
