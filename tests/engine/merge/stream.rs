//! Sums: bit-identical to the plain f64 average, on any number of threads.

use super::{BF16, F16, F32, average, checkpoints, config, data, members, merge, plain, random, refused};
use std::fs;
use stockpot::engine::checkpoint::{OptimizerState, write_model};
use stockpot::engine::model::Table;

/// Nearest with ties to even, by comparing the neighbours' distances, which f64 holds exactly:
/// independent of the code under test. `narrow` may be one unit off.
fn nearest(x: f64, bits: u16, widen: impl Fn(u16) -> f64) -> u16 {
    let candidates = [bits.wrapping_sub(1), bits, bits.wrapping_add(1)];
    let valid = candidates.into_iter().filter(|b| widen(*b).is_finite() && (b ^ bits) & 0x8000 == 0);
    valid.min_by(|a, b| (widen(*a) - x).abs().total_cmp(&(widen(*b) - x).abs()).then((a & 1).cmp(&(b & 1)))).unwrap()
}

#[test]
fn a_merge_is_the_plain_f64_average_rounded_once() {
    let weights = [0.5, 0.7, -0.3, 0.1];
    for inputs in [[F32; 4], [BF16; 4], [F16; 4], [F32, BF16, F16, F32]] {
        let (dir, paths, stored) = checkpoints(&inputs);
        let members = members(&paths, &weights);
        let sum = plain(&stored, &weights);
        let f32_bytes: Vec<u8> = sum.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
        let out = dir.path().join("out");

        merge(&members, &out, Some(F32)).unwrap();
        assert!(data(&out) == f32_bytes, "{inputs:?} -> f32");
        let (c, in_memory) = average(&members).unwrap();
        assert_eq!(c, config());
        assert!(bytemuck::cast_slice::<f32, u8>(&in_memory) == f32_bytes, "{inputs:?} in memory");

        merge(&members, &out, Some(BF16)).unwrap();
        for (i, (&x, b)) in sum.iter().zip(data(&out).chunks(2)).enumerate() {
            let expected = nearest(x, half::bf16::from_f64(x).to_bits(), |b| half::bf16::from_bits(b).to_f64());
            assert_eq!(u16::from_le_bytes([b[0], b[1]]), expected, "{inputs:?} -> bf16, element {i}: {x:e}");
        }
        merge(&members, &out, Some(F16)).unwrap();
        for (i, (&x, b)) in sum.iter().zip(data(&out).chunks(2)).enumerate() {
            let expected = nearest(x, half::f16::from_f64(x).to_bits(), |b| half::f16::from_bits(b).to_f64());
            assert_eq!(u16::from_le_bytes([b[0], b[1]]), expected, "{inputs:?} -> f16, element {i}: {x:e}");
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let (dir, paths, _) = checkpoints(&[BF16, F32, F16]);
    let members = members(&paths, &[0.2, 0.3, 0.5]);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let out = dir.path().join(format!("out{threads}"));
        pool.install(|| {
            let memory: Vec<u32> = average(&members).unwrap().1.iter().map(|x| x.to_bits()).collect();
            merge(&members, &out, Some(BF16)).unwrap();
            (memory, fs::read(out.join("model.safetensors")).unwrap(), fs::read(out.join("merge.json")).unwrap())
        })
    };
    let one = run(1);
    assert!(one == run(2) && one == run(7));
}

#[test]
fn nan_and_infinity_are_named_not_averaged() {
    for (value, weight) in [(f32::NAN, 0.5), (f32::INFINITY, 0.0), (f32::NEG_INFINITY, 0.5)] {
        let (dir, paths, _) = checkpoints(&[F32, F32]);
        let name = "model.layers.2.mlp.down_proj.weight";
        let table = Table::new(&config());
        let path = paths[1].join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 4 * (table.len - table.find(name).unwrap().offset - 11);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let members = members(&paths, &[1.0 - weight, weight]);
        let out = dir.path().join("out");
        let parts = [path.to_str().unwrap(), name, "at element 11"];
        refused(merge(&members, &out, None), &parts);
        refused(average(&members), &parts);
        assert!(!out.exists(), "nothing is left behind");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary files are left");
    }
}

#[test]
fn a_sum_beyond_the_type_is_named() {
    let (dir, paths, _) = checkpoints(&[F32]);
    let mut weights = random(Table::new(&config()).len, 1);
    let name = "model.layers.0.mlp.up_proj.weight";
    weights[Table::new(&config()).find(name).unwrap().offset] = 70000.0;
    write_model(&paths[0], &config(), &weights, F32, None).unwrap();
    let result = merge(&members(&paths, &[1.0]), &dir.path().join("out"), Some(F16));
    refused(result, &[name, "f16", "70000", "bf16 or f32"]);
}

#[test]
fn a_scaled_merge_is_a_merge_with_the_seed() {
    // seed + lambda (mean of two - seed), and files other than weights are not copied
    let (dir, paths, stored) = checkpoints(&[F32, F32, F32]);
    OptimizerState::zeros(&Table::new(&config())).write(&paths[0], &Table::new(&config())).unwrap();
    let lambda = 1.4;
    let weights = [1.0 - lambda, lambda / 2.0, lambda / 2.0];
    let out = dir.path().join("out");
    merge(&members(&paths, &weights), &out, None).unwrap();
    let expected: Vec<u8> = plain(&stored, &weights).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    assert!(data(&out) == expected);
    assert!(!out.join("optimizer.safetensors").exists());
}
