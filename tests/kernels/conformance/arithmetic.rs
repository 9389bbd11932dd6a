//! Arithmetic of single values: correctly rounded operations bit for bit, approximations within the
//! bounds that NVIDIA documents.

use super::{Value, Verdict, all, compare, exact, launch, random, upload, whole, words};
use half::bf16;
use rand::Rng;
use stockpot::engine::device::{Arg, DType, Device};
use stockpot::error::Result;

const BLOCK: usize = 64;

/// Values at the ends of every class of f32.
const SPECIAL: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1.0 + f32::EPSILON,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-45,
    -1e-45,
    1.1754942e-38, // the largest subnormal
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    16_777_217.0,
    0.333_333_34,
];

/// Operands: every pair of special values, random bits, and random values of similar size.
fn operands(seed: u64) -> Vec<[f32; 3]> {
    let mut rng = random(seed);
    let pairs = SPECIAL.iter().flat_map(|&x| SPECIAL.map(|y| (x, y)));
    let special = |(i, (x, y)): (usize, (f32, f32))| [x, y, SPECIAL[i * 7 % SPECIAL.len()]];
    let mut all: Vec<[f32; 3]> = pairs.enumerate().map(special).collect();
    // No signalling NaN: no arithmetic makes one, and glibc's fmaxf keeps it where a device does not.
    let quiet = |x: f32| if x.is_nan() { f32::NAN } else { x };
    all.extend((0..384).map(|_| [0; 3].map(|_| quiet(f32::from_bits(rng.random())))));
    all.extend((0..384).map(|_| [0; 3].map(|_| rng.random_range(-2.0..2.0f32))));
    assert_eq!(all.len() % BLOCK, 0);
    all
}

pub fn bf16(device: &mut Device) -> Result<Verdict> {
    let mut rng = random(40);
    // Below, at and above every kind of tie: between two values, subnormals, and before infinity.
    let mut upper: Vec<u32> = vec![0, 0x8000, 0x7f, 0x80, 0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fff, 0x3f80, 0x3f81, 1];
    upper.extend((upper.len()..128).map(|_| rng.random::<u32>() >> 16));
    let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x4000, 0xc000];
    let mut bits: Vec<u32> = upper.iter().flat_map(|h| lower.map(|l| h << 16 | l)).collect();
    bits.extend(words(&mut rng, 1024));
    let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
    let n = values.len();
    let (x, out) = (upload(device, &values)?, device.alloc(DType::U32, 2 * n)?);
    let args = vec![whole(&x), whole(&out), Arg::U32(n as u32)];
    launch(device, "roundings", vec![], (n / BLOCK, BLOCK as u32, 0), args)?;
    // PTX: every NaN becomes the canonical one.
    let rounded = |x: f32| if x.is_nan() { 0x7fff } else { u32::from(bf16::from_f32(x).to_bits()) };
    let single = values.iter().map(|&x| rounded(x));
    let pairs = (0..n).map(|i| rounded(values[i]) | rounded(values[n - 1 - i]) << 16);
    let want: Vec<u32> = single.chain(pairs).collect();
    let operands = |i: usize| match i < n {
        true => format!("bf16_bits({})", values[i].text()),
        false => format!("bf16_pair({}, {})", values[i - n].text(), values[2 * n - 1 - i].text()),
    };
    Ok(exact(&device.to_vec::<u32>(&out)?, &want, operands))
}

pub fn single(device: &mut Device) -> Result<Verdict> {
    let operands = operands(41);
    let n = operands.len();
    let [a, b, c] = [0, 1, 2].map(|k| upload(device, &operands.iter().map(|o| o[k]).collect::<Vec<f32>>()));
    let out = device.alloc(DType::F32, 9 * n)?;
    let args = vec![whole(&a?), whole(&b?), whole(&c?), whole(&out), Arg::U32(n as u32)];
    launch(device, "arithmetic", vec![], (n / BLOCK, BLOCK as u32, 0), args)?;
    type Operation = fn(f32, f32, f32) -> f32;
    let operations: [(&str, Operation); 9] = [
        ("x + y", |x, y, _| x + y),
        ("x - y", |x, y, _| x - y),
        ("x * y", |x, y, _| x * y),
        ("x / y", |x, y, _| x / y),
        ("sqrtf(x)", |x, _, _| x.sqrt()),
        ("__fmaf_rn(x, y, z)", f32::mul_add),
        ("y * z + x", |x, y, z| y * z + x),
        ("fmaxf(x, y)", |x, y, _| x.max(y)),
        ("(float)bits of x", |x, _, _| x.to_bits() as f32),
    ];
    let want: Vec<f32> = operations.iter().flat_map(|(_, f)| operands.iter().map(|&[x, y, z]| f(x, y, z))).collect();
    let got: Vec<f32> = device.to_vec(&out)?;
    // The maximum of 0 and -0 may be either.
    let agree = |i: usize| super::same(got[i], want[i]) || i / n == 7 && got[i] == 0.0 && want[i] == 0.0;
    let describe =
        |i: usize| format!("{}, x, y, z = {}", operations[i / n].0, operands[i % n].map(Value::text).join(", "));
    Ok(compare(&got, &want, agree, describe).map(|values| format!("{values}, bit for bit")))
}

pub fn double(device: &mut Device) -> Result<Verdict> {
    let mut rng = random(42);
    let mut operands: Vec<[f64; 3]> = self::operands(43).into_iter().map(|o| o.map(f64::from)).collect();
    operands.extend((0..256).map(|_| [0; 3].map(|_| f64::from_bits(rng.random()))));
    // Narrowing: halfway between two f32, and its neighbours.
    for i in 0..64u64 {
        let tie = f64::from(1.0f32 + i as f32 * f32::EPSILON) + 2f64.powi(-24);
        operands.push([f64::from_bits(tie.to_bits() + i % 3 - 1), rng.random_range(-2.0..2.0), tie]);
    }
    let n = operands.len();
    let [a, b, c] = [0, 1, 2].map(|k| upload(device, &operands.iter().map(|o| o[k]).collect::<Vec<f64>>()));
    let (out, narrow) = (device.alloc(DType::F64, 7 * n)?, device.alloc(DType::F32, n)?);
    let args = vec![whole(&a?), whole(&b?), whole(&c?), whole(&out), whole(&narrow), Arg::U32(n as u32)];
    launch(device, "wide_arithmetic", vec![], (n / BLOCK, BLOCK as u32, 0), args)?;
    type Operation = fn(f64, f64, f64) -> f64;
    let operations: [(&str, Operation); 7] = [
        ("__dadd_rn(x, y)", |x, y, _| x + y),
        ("x - y", |x, y, _| x - y),
        ("__dmul_rn(x, y)", |x, y, _| x * y),
        ("x / y", |x, y, _| x / y),
        ("sqrt(x)", |x, _, _| x.sqrt()),
        ("__fma_rn(x, y, z)", f64::mul_add),
        ("y * z + x", |x, y, z| y * z + x),
    ];
    let want: Vec<f64> = operations.iter().flat_map(|(_, f)| operands.iter().map(|&[x, y, z]| f(x, y, z))).collect();
    let describe =
        |i: usize| format!("{}, x, y, z = {}", operations[i / n].0, operands[i % n].map(Value::text).join(", "));
    let wide = exact(&device.to_vec::<f64>(&out)?, &want, describe);
    let want: Vec<f32> = operands.iter().map(|o| o[0] as f32).collect();
    let describe = |i: usize| format!("__double2float_rn({})", operands[i][0].text());
    Ok(all([wide, exact(&device.to_vec::<f32>(&narrow)?, &want, describe)]))
}

/// PTX ISA: the maximum relative error of ex2.approx.ftz.f32 is 2^-22; subnormal arguments and results
/// are 0.
pub fn exp2(device: &mut Device) -> Result<Verdict> {
    const BOUND: f64 = 1.0 / 4_194_304.0;
    let mut rng = random(44);
    let mut values = SPECIAL.to_vec();
    values.extend([127.99999, 128.0, 129.0, -126.0, -126.00001, -127.0, -149.0, -150.0, -1e38, 1e38, -1e-40]);
    values.extend((0..1024).map(|_| rng.random_range(-126.0..128.0f32)));
    values.extend((0..512).map(|_| rng.random_range(-20.0..0.0f32)));
    values.resize_with(values.len().next_multiple_of(BLOCK), || rng.random_range(-1.0..1.0));
    let (x, out) = (upload(device, &values)?, device.alloc(DType::F32, values.len())?);
    launch(device, "powers_of_two", vec![], (values.len() / BLOCK, BLOCK as u32, 0), vec![whole(&x), whole(&out)])?;
    let want: Vec<f32> = values.iter().map(|&x| if x < -126.0 { 0.0 } else { f64::from(x).exp2() as f32 }).collect();
    let got: Vec<f32> = device.to_vec(&out)?;
    let error = |i: usize| (f64::from(got[i]) / f64::from(values[i]).exp2() - 1.0).abs();
    let is_rounded = |i: usize| want[i].is_finite() && want[i] != 0.0 && values[i].is_normal();
    let agree = |i: usize| if is_rounded(i) { error(i) <= BOUND } else { super::same(got[i], want[i]) };
    let worst = (0..got.len()).filter(|&i| is_rounded(i)).map(error).fold(0.0, f64::max);
    let describe = |i: usize| format!("exp2_approx({})", values[i].text());
    Ok(compare(&got, &want, agree, describe)
        .map(|values| format!("{values}, off by up to 2^{:.1} of 2^-22 allowed", worst.log2())))
}

/// Steps from one to the other through all values between, if both have the same sign.
fn steps(a: u64, b: u64) -> u64 {
    a.abs_diff(b)
}

/// CUDA C++ Programming Guide: logf is at most 1 unit in the last place from the rounded result.
pub fn logarithm(device: &mut Device) -> Result<Verdict> {
    let mut rng = random(45);
    let mut values = SPECIAL.to_vec();
    values.extend((0..752).map(|_| f32::from_bits(rng.random_range(1..0x7f80_0000))));
    // Sums of a softmax.
    values.extend((0..256).map(|_| rng.random_range(1.0..4096.0f32)));
    let (x, out) = (upload(device, &values)?, device.alloc(DType::F32, values.len())?);
    launch(device, "logarithms", vec![], (values.len() / BLOCK, BLOCK as u32, 0), vec![whole(&x), whole(&out)])?;
    let want: Vec<f32> = values.iter().map(|&x| f64::from(x).ln() as f32).collect();
    let got: Vec<f32> = device.to_vec(&out)?;
    within(&got, &want, 1, |i| format!("logf({})", values[i].text()))
}

/// CUDA C++ Programming Guide: pow of f64 is at most 2 units in the last place from the rounded
/// result. Bases and exponents as in AdamW's corrections.
pub fn power(device: &mut Device) -> Result<Verdict> {
    let mut rng = random(46);
    let mut operands: Vec<(f64, f64)> =
        [0.9f32, 0.95, 0.999, 0.0].iter().flat_map(|&beta| (1..=64).map(move |t| (beta.into(), t.into()))).collect();
    operands.extend((0..256).map(|_| (rng.random_range(0.8..1.0), f64::from(rng.random_range(1..5000)))));
    let bases: Vec<f64> = operands.iter().map(|o| o.0).collect();
    let exponents: Vec<f64> = operands.iter().map(|o| o.1).collect();
    let (x, y, out) = (upload(device, &bases)?, upload(device, &exponents)?, device.alloc(DType::F64, bases.len())?);
    let args = [&x, &y, &out].map(whole).to_vec();
    launch(device, "powers", vec![], (bases.len() / BLOCK, BLOCK as u32, 0), args)?;
    let want: Vec<f64> = operands.iter().map(|(base, exponent)| base.powf(*exponent)).collect();
    within(&device.to_vec(&out)?, &want, 2, |i| format!("pow({:e}, {})", bases[i], exponents[i]))
}

/// At most `bound` units in the last place apart.
fn within<T: Value>(got: &[T], want: &[T], bound: u64, operands: impl Fn(usize) -> String) -> Result<Verdict> {
    let apart = |i: usize| if super::same(got[i], want[i]) { 0 } else { steps(got[i].word(), want[i].word()) };
    let agree = |i: usize| apart(i) <= bound && got[i].is_nan() == want[i].is_nan();
    let worst = (0..got.len()).map(apart).max().unwrap_or_default();
    Ok(compare(got, want, agree, operands)
        .map(|values| format!("{values}, off by up to {worst} of {bound} ulp allowed")))
}
