//! Writing models.

use super::{fixture, random, refused, small, weights_of};
use safetensors::SafeTensors;
use serde_json::Value;
use std::fs;
use stockpot::engine::checkpoint::{Reader, StorageDType, read_config, write_model};
use stockpot::engine::model::{Architecture, Config, Table};

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
fn the_tokenizer_is_written_with_the_model() {
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
