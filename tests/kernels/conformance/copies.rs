//! Data movement: shared addresses, asynchronous copies, ldmatrix, shuffles. Bit for bit.

use super::{Verdict, all, exact, launch, random, upload, whole, words};
use rand::seq::SliceRandom;
use stockpot::engine::device::{Arg, DType, Device};
use stockpot::error::Result;

pub fn shared_address(device: &mut Device) -> Result<Verdict> {
    // Every alignment, and both ends of 48 KiB.
    let mut at: Vec<u32> = (0..32).chain((0..32).map(|i| (48 << 10) - 1 - 37 * i)).collect();
    at.shuffle(&mut random(1));
    let (x, out) = (upload(device, &at)?, device.alloc(DType::U32, 65)?);
    launch(device, "addresses", vec![], (1, 64, 48 << 10), vec![whole(&x), whole(&out)])?;
    let want: Vec<u32> = at.iter().copied().chain([0]).collect();
    let operands = |i| at.get(i).map_or("first byte modulo 1024".into(), |at| format!("byte {at}"));
    Ok(exact(&device.to_vec::<u32>(&out)?, &want, operands))
}

pub fn short_copies(device: &mut Device) -> Result<Verdict> {
    const BLOCKS: usize = 8;
    let values = words(&mut random(2), BLOCKS * 17 * 4);
    let (x, out) = (upload(device, &values)?, device.alloc(DType::U32, values.len())?);
    launch(device, "short_copies", vec![], (BLOCKS, 32, 17 * 16), vec![whole(&x), whole(&out)])?;
    let bytes_of = |i: usize| i / 4 % 17;
    // Word i % 4 of a row begins at byte 4 (i % 4); bytes beyond those copied are 0.
    let want: Vec<u32> = (0..values.len())
        .map(|i| {
            let left = bytes_of(i).saturating_sub(4 * (i % 4)).min(4);
            (values[i] as u64 & ((1u64 << (8 * left)) - 1)) as u32
        })
        .collect();
    let operands = |i: usize| format!("word {} of {:#010x} after a copy of {} bytes", i % 4, values[i], bytes_of(i));
    Ok(exact(&device.to_vec::<u32>(&out)?, &want, operands))
}

pub fn empty_copies(device: &mut Device) -> Result<Verdict> {
    let out = upload(device, &[1u32; 128])?;
    launch(device, "empty_copies", vec![], (1, 32, 512), vec![whole(&out), Arg::U32(0)])?;
    Ok(exact(&device.to_vec::<u32>(&out)?, &[0; 128], |i| format!("word {} of lane {}", i % 4, i / 4)))
}

pub fn ring(device: &mut Device) -> Result<Verdict> {
    const ROUNDS: usize = 32;
    let mut verdicts = vec![];
    for pending in 0..=3u32 {
        let values = words(&mut random(10 + u64::from(pending)), ROUNDS * 128);
        let (x, out) = (upload(device, &values)?, device.alloc(DType::U32, values.len())?);
        let args = vec![whole(&x), whole(&out), Arg::U32(ROUNDS as u32)];
        launch(device, "ring", vec![("DEPTH", pending.to_string())], (1, 32, (pending + 2) * 512), args)?;
        let want: Vec<u32> = values.chunks(128).flat_map(|round| round.iter().rev().copied()).collect();
        let operands = |i| format!("{pending} groups pending, round {}, word {}", i / 128, i % 128);
        verdicts.push(exact(&device.to_vec::<u32>(&out)?, &want, operands));
    }
    Ok(all(verdicts))
}

pub fn ldmatrix(device: &mut Device) -> Result<Verdict> {
    // Lane l has elements 2 (l % 4) and the next, which are word l % 4, of row l / 4 of matrix j.
    matrices(device, 0, |x, j, lane| x[(8 * j + lane / 4) * 4 + lane % 4])
}

pub fn ldmatrix_transposed(device: &mut Device) -> Result<Verdict> {
    matrices(device, 128, |x, j, lane| {
        let column = lane / 4;
        let element = |row: usize| x[(8 * j + row) * 4 + column / 2] >> (16 * (column % 2)) & 0xffff;
        element(2 * (lane % 4)) | element(2 * (lane % 4) + 1) << 16
    })
}

/// The 128 registers from `first` on; `register` gives number j of a lane.
fn matrices(device: &mut Device, first: usize, register: fn(&[u32], usize, usize) -> u32) -> Result<Verdict> {
    let mut verdicts = vec![];
    for seed in 0..4 {
        let mut rng = random(20 + seed);
        let values = words(&mut rng, 128);
        let mut at: Vec<u32> = (0..32).collect();
        at.shuffle(&mut rng);
        let (x, rows, out) = (upload(device, &values)?, upload(device, &at)?, device.alloc(DType::U32, 256)?);
        launch(device, "matrices", vec![], (1, 32, 512), vec![whole(&x), whole(&rows), whole(&out)])?;
        let want: Vec<u32> = (0..128).map(|i| register(&values, i % 4, i / 4)).collect();
        let operands = |i| format!("lane {}, register {}, rows at {at:?}", i / 4, i % 4);
        verdicts.push(exact(&device.to_vec::<u32>(&out)?[first..first + 128], &want, operands));
    }
    Ok(all(verdicts))
}

pub fn shuffles(device: &mut Device) -> Result<Verdict> {
    let mut rng = random(30);
    // Bits of every class of f32, signalling NaNs too: a shuffle is a move.
    let bits = words(&mut rng, 32);
    let narrow: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
    let wide: Vec<f64> = (0..32).map(|i| f64::from(bits[i]) + f64::from(bits[31 - i]) / 4_294_967_296.0).collect();
    let (x, y) = (upload(device, &narrow)?, upload(device, &wide)?);
    let (out, out_wide) = (device.alloc(DType::U32, 7 * 32)?, device.alloc(DType::F64, 5 * 32)?);
    let args = [&x, &y, &out, &out_wide].map(whole).to_vec();
    launch(device, "shuffles", vec![], (1, 32, 0), args)?;
    let votes = (0..32).map(|lane| (bits[lane] & 1) << lane).sum::<u32>();
    let moved = |i: usize| (i % 32) ^ (1 << (i / 32));
    let want: Vec<u32> = (0..7 * 32)
        .map(|i| match i / 32 {
            5 => votes,
            6 => (votes & ((1u32 << (i % 32)) - 1)).count_ones(),
            _ => bits[moved(i)],
        })
        .collect();
    let what = |i: usize| match i / 32 {
        5 => "ballot".into(),
        6 => format!("count of {votes:#010x} below"),
        k => format!("lanes ^ {}", 1 << k),
    };
    let narrow = exact(&device.to_vec::<u32>(&out)?, &want, |i| format!("{} in lane {}", what(i), i % 32));
    let want: Vec<f64> = (0..5 * 32).map(|i| wide[moved(i)]).collect();
    let wide = exact(&device.to_vec::<f64>(&out_wide)?, &want, |i| format!("{} in lane {}, f64", what(i), i % 32));
    Ok(all([narrow, wide]))
}
