//! Reading weights: single files and shards, and files that do not fit the config.

use super::{copy_fixture, fixture, refused, weights_of};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use std::path::Path;
use stockpot::engine::checkpoint::{Reader, StorageDType, TensorFile};

#[test]
fn fixtures_read_as_in_the_formats_own_reader() {
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
fn nan_in_a_checkpoint_is_found_on_request() {
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
    // RoPE's frequencies, which earlier versions of transformers stored, are ignored
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
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    refused(Reader::open(dir.path()), &["config.json", "cannot read"]);
    fs::copy(fixture("olmo2/config.json"), dir.path().join("config.json")).unwrap();
    refused(Reader::open(dir.path()), &["holds no weights", "model.safetensors", "save_pretrained"]);
}
