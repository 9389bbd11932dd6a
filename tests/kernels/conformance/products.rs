//! mma_16x8x16: the places of its registers, its accuracy, and which model of its arithmetic has the
//! same bits.

use super::{Value, Verdict, compare, launch, random, same, upload, whole};
use half::bf16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use stockpot::engine::device::{DType, Device};
use stockpot::error::Result;

/// How tensor cores add: `depth` products and the sum so far become integers in a unit 2^-`kept` of
/// the largest, smaller parts are truncated, and so is the sum to f32 (arXiv 2511.10909).
struct Model {
    name: &'static str,
    depth: usize,
    kept: i32,
    /// The exponent of a product is that of its value, not the sum of its factors' exponents.
    normalized: bool,
}

const MODELS: [Model; 3] = [
    Model { name: "tests/simt", depth: 8, kept: 24, normalized: true },
    Model { name: "Ampere", depth: 8, kept: 24, normalized: false },
    Model { name: "Hopper", depth: 16, kept: 25, normalized: false },
];

/// The exponent of the leading bit.
fn exponent(x: f32) -> i32 {
    (x.to_bits() >> 23 & 0xff).max(1) as i32 - 127
}

/// x without the bits that an f32 has no room for.
fn truncated(x: f64) -> f32 {
    let nearest = x as f32;
    let away = f64::from(nearest).abs() > x.abs();
    f32::from_bits(nearest.to_bits() - u32::from(away))
}

impl Model {
    fn sum(&self, mut c: f32, a: &[f32; 16], b: &[f32; 16]) -> f32 {
        for k in (0..16).step_by(self.depth) {
            let pairs = || (k..k + self.depth).map(|k| (a[k], b[k]));
            if !pairs().all(|(x, y)| x.is_finite() && y.is_finite()) || !c.is_finite() {
                c = pairs().fold(c, |sum, (x, y)| sum + x * y);
                continue;
            }
            let of_product = |x: f32, y: f32| match self.normalized {
                true => exponent(x * y),
                false => exponent(x) + exponent(y),
            };
            let parts = pairs().filter(|(x, y)| x * y != 0.0).map(|(x, y)| (f64::from(x * y), of_product(x, y)));
            let parts: Vec<(f64, i32)> = parts.chain([(f64::from(c), exponent(c))]).collect();
            let top = parts.iter().map(|part| part.1).max().expect("at least c");
            let unit = 2f64.powi(top - self.kept);
            c = truncated(parts.iter().map(|part| (part.0 / unit).trunc()).sum::<f64>() * unit);
        }
        c
    }

    /// The most that the result can be off, relative to the sum of the magnitudes: a unit for each
    /// truncated part, and one in the last place of each sum.
    fn bound(&self) -> f64 {
        let steps = (16 / self.depth) as f64;
        steps * ((self.depth + 1) as f64 * 2f64.powi(-self.kept) + 2f64.powi(-23)) * 1.001
    }
}

/// One product: a (16, 16), b (16, 8), c (16, 8).
struct Product {
    a: [[f32; 16]; 16],
    b: [[f32; 8]; 16],
    c: [[f32; 8]; 16],
}

impl Product {
    fn new(mut a: impl FnMut() -> f32, mut b: impl FnMut() -> f32, mut c: impl FnMut() -> f32) -> Product {
        let rounded = |x: f32| bf16::from_f32(x).to_f32();
        Product {
            a: [(); 16].map(|()| [(); 16].map(|()| rounded(a()))),
            b: [(); 16].map(|()| [(); 8].map(|()| rounded(b()))),
            c: [(); 16].map(|()| [(); 8].map(|()| c())),
        }
    }
    fn column(&self, col: usize) -> [f32; 16] {
        self.b.map(|row| row[col])
    }
    /// In f64: exact, where no more than 53 bits are needed.
    fn exact(&self, row: usize, col: usize) -> f64 {
        let products = self.a[row].iter().zip(self.column(col)).map(|(&x, y)| f64::from(x) * f64::from(y));
        products.fold(self.c[row][col].into(), |sum, p| sum + p)
    }
    fn magnitude(&self, row: usize, col: usize) -> f64 {
        let products = self.a[row].iter().zip(self.column(col)).map(|(&x, y)| (f64::from(x) * f64::from(y)).abs());
        f64::from(self.c[row][col]).abs() + products.sum::<f64>()
    }
}

/// Random values whose exponents are up to `spread` from 0, and sometimes 0.
fn scaled(rng: &mut ChaCha8Rng, spread: i32) -> f32 {
    let x = rng.random_range(-2.0..2.0f32) * 2f32.powi(rng.random_range(-spread..=spread));
    if rng.random_ratio(1, 16) { 0.0 } else { x }
}

fn integer(rng: &mut ChaCha8Rng) -> f32 {
    rng.random_range(-120..=120) as f32
}

/// Integers, whose sums are exact in every model; values of similar and of very different size; sums
/// that cancel; infinities and NaN.
fn cases() -> Vec<Product> {
    let mut rngs = [50, 51, 52].map(random);
    let [a, b, c] = &mut rngs;
    let mut cases = vec![];
    for _ in 0..4 {
        cases.push(Product::new(|| integer(a), || integer(b), || integer(c)));
    }
    for spread in [0, 0, 1, 4, 12] {
        cases.push(Product::new(|| scaled(a, spread), || scaled(b, spread), || scaled(c, 2 * spread)));
    }
    let mut cancelling = Product::new(|| scaled(a, 2), || scaled(b, 2), || 0.0);
    for row in 0..16 {
        for col in 0..8 {
            cancelling.c[row][col] = -cancelling.exact(row, col) as f32;
        }
    }
    cases.push(cancelling);
    const SPECIAL: [f32; 6] = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0, 1.0];
    let special = |rng: &mut ChaCha8Rng| match rng.random_ratio(1, 24) {
        true => SPECIAL[rng.random_range(0..SPECIAL.len())],
        false => scaled(rng, 1),
    };
    cases.push(Product::new(|| special(a), || scaled(b, 1), || scaled(c, 1)));
    cases.push(Product::new(|| scaled(a, 1), || scaled(b, 1), || special(c)));
    cases
}

/// Row and column of register i of a lane, in the result.
fn place(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2)
}

/// Two neighbours in one register, the first in the lower half.
fn pair(x: f32, y: f32) -> u32 {
    u32::from(bf16::from_f32(x).to_bits()) | u32::from(bf16::from_f32(y).to_bits()) << 16
}

pub fn mma(device: &mut Device) -> Result<Verdict> {
    let cases = cases();
    let (mut a, mut b, mut c) = (vec![], vec![], vec![]);
    for product in &cases {
        for lane in 0..32 {
            let (group, k) = (lane / 4, 2 * (lane % 4));
            for i in 0..4 {
                let (row, k) = (group + 8 * (i % 2), k + 8 * (i / 2));
                a.push(pair(product.a[row][k], product.a[row][k + 1]));
                let (row, col) = place(lane, i);
                c.push(product.c[row][col]);
            }
            for i in 0..2 {
                b.push(pair(product.b[k + 8 * i][group], product.b[k + 8 * i + 1][group]));
            }
        }
    }
    let out = device.alloc(DType::F32, c.len())?;
    let args = [&upload(device, &a)?, &upload(device, &b)?, &upload(device, &c)?, &out].map(whole).to_vec();
    launch(device, "products", vec![], (cases.len(), 32, 0), args)?;
    let got: Vec<f32> = device.to_vec(&out)?;
    Ok(verdict(device.name(), &cases, &got))
}

fn verdict(device: &str, cases: &[Product], got: &[f32]) -> Verdict {
    let element = |i: usize| {
        let (row, col) = place(i / 4 % 32, i % 4);
        (&cases[i / 128], row, col)
    };
    let want: Vec<f32> = (0..got.len())
        .map(|i| {
            let (product, row, col) = element(i);
            product.exact(row, col) as f32
        })
        .collect();
    let newer = ["sm_9", "sm_1"].iter().any(|name| device.contains(name));
    let bound = MODELS[if newer { 2 } else { 1 }].bound();
    // Relative to the sum of the magnitudes.
    let error = |i: usize| {
        let (product, row, col) = element(i);
        let error = (f64::from(got[i]) - product.exact(row, col)).abs();
        if error == 0.0 { 0.0 } else { error / product.magnitude(row, col) }
    };
    let same_as = |model: &Model, i: usize| {
        let (product, row, col) = element(i);
        let want = model.sum(product.c[row][col], &product.a[row], &product.column(col));
        same(got[i], want) || got[i] == 0.0 && want == 0.0
    };
    // The host executor must have the bits of its own model.
    let agree = |i: usize| {
        let within = if want[i].is_finite() { error(i) <= bound } else { same(got[i], want[i]) };
        within && (device != "simt" || same_as(&MODELS[0], i))
    };
    let describe = |i: usize| {
        let (product, row, col) = element(i);
        let terms = product.a[row].iter().zip(product.column(col)).map(|(x, y)| format!("{x}*{y}"));
        let terms = terms.collect::<Vec<_>>().join(" + ");
        format!("product {}, row {row}, column {col}, {} + {terms}", i / 128, product.c[row][col].text())
    };
    let values = compare(got, &want, agree, describe)?;
    let worst = (0..got.len()).filter(|&i| want[i].is_finite()).map(error).fold(0.0, f64::max);
    let matches = MODELS.iter().map(|model| {
        let count = (0..got.len()).filter(|&i| same_as(model, i)).count();
        format!("{} {count}", model.name)
    });
    let matches = matches.collect::<Vec<_>>().join(", ");
    Ok(format!("{values}, off by up to {worst:.1e} of {bound:.1e} allowed; the same bits as the model of {matches}"))
}

/// Values for which the three models differ, worked out by hand.
#[test]
fn the_models_truncate_where_they_should() {
    let sum = |pairs: &[(usize, f32, f32)], c: f32| {
        let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
        pairs.iter().for_each(|&(k, x, y)| (a[k], b[k]) = (x, y));
        MODELS.each_ref().map(|model| model.sum(c, &a, &b))
    };
    // 1 + 15 x 2^-25: below the unit of 2^-24, kept by one of 2^-25.
    let small: Vec<(usize, f32, f32)> = (1..16).map(|k| (k, 2f32.powi(-12), 2f32.powi(-13))).collect();
    let sums = sum(&[&[(0, 1.0, 1.0)], &small[..]].concat(), 0.0);
    assert_eq!(sums, [1.0, 1.0, 1.0 + 3.0 * 2f32.powi(-23)]);
    // 1.5 x 1.5 = 2.25 has exponent 1, its factors 0 + 0: 2^-24 is half the unit, or one. Four of
    // them are half of the last place of f32 above 2.
    let small: Vec<(usize, f32, f32)> = (1..5).map(|k| (k, 2f32.powi(-12), 2f32.powi(-12))).collect();
    let sums = sum(&[&[(0, 1.5, 1.5)], &small[..]].concat(), 0.0);
    assert_eq!(sums, [2.25, 2.25 + 2f32.powi(-22), 2.25 + 2f32.powi(-22)]);
    assert_eq!(sum(&[(0, f32::INFINITY, 1.0)], 1.0), [f32::INFINITY; 3]);
}
