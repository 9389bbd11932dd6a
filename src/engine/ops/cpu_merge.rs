//! The inner loop of a merge on the CPU: sum = w_0 x_0 + w_1 x_1 + ..., for n elements of K
//! checkpoints in their stored dtypes. Each product and each sum is rounded to f64, in the order of
//! the terms, on every machine: no fused multiply-add.
//!
//! Sums of 32 elements stay in registers while up to eight checkpoints are added to them; a loop
//! that adds one checkpoint after the other to sums in memory waits for their loads and stores.
//! Measured: the compiler does not find this by itself, hence the explicit AVX2 instructions; other
//! machines use the plain loop.

use super::dtype_convert::{Values, bf16_to_f32};
#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128, __m256d, __m256i};

/// Checkpoints added in one pass over the sums: as many streams as the machine's prefetchers
/// follow.
const TERMS: usize = 8;
/// Elements loaded together.
const SIXTEEN: usize = 16;
/// Elements whose sums stay in registers.
const STEP: usize = 2 * SIXTEEN;

#[cfg(target_arch = "x86_64")]
type Sixteen = [__m256d; 4];

/// Adds the terms to `sum` in order; with `first` the sum starts as the first product, not as 0
/// plus it, so a single checkpoint of weight 1 keeps its negative zeros. Every term has as many
/// elements as `sum`.
pub fn add_terms(terms: &[(Values, f64)], first: bool, sum: &mut [f64]) {
    assert!(terms.iter().all(|(values, _)| values.len() == sum.len()), "one sum for each element");
    let mut rest = terms;
    while let Some(((values, _), _)) = rest.split_first() {
        let same_dtype = rest.iter().take_while(|(v, _)| v.dtype() == values.dtype()).count().min(TERMS);
        let (now, later) = rest.split_at(same_dtype);
        let begin = first && rest.len() == terms.len();
        match values {
            Values::F32(_) => add(now, |v| v.f32(), begin, sum),
            Values::Bf16(_) => add(now, |v| v.bf16(), begin, sum),
            Values::F16(_) => add_f16(now, begin, sum),
        }
        rest = later;
    }
}

/// The same for values that are f64 already.
pub fn add_wide(terms: &[(&[f64], f64)], first: bool, sum: &mut [f64]) {
    let mut begin = first;
    for terms in terms.chunks(TERMS) {
        add(terms, |values| *values, begin, sum);
        begin = false;
    }
}

/// A type of stored elements.
trait Stored: Copy + 'static {
    fn widen(self) -> f64;

    /// Loads sixteen elements in this type's lane order: the natural one, unless another loads
    /// faster.
    #[cfg(target_arch = "x86_64")]
    fn load(simd: V3, x: &[Self; SIXTEEN]) -> Sixteen;
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn from_natural(_: V3, x: Sixteen) -> Sixteen {
        x
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn to_natural(_: V3, x: Sixteen) -> Sixteen {
        x
    }
}

/// Up to [`TERMS`] terms, all of one type.
#[inline(always)]
fn add<'a, V, T: Stored>(terms: &'a [(V, f64)], view: impl Fn(&'a V) -> &'a [T], first: bool, sum: &mut [f64]) {
    let (mut sources, mut weights) = ([&[] as &[T]; TERMS], [0.0; TERMS]);
    for (i, (values, weight)) in terms.iter().enumerate() {
        (sources[i], weights[i]) = (&view(values)[..sum.len()], *weight);
    }
    let (sources, weights) = (&sources[..terms.len()], &weights[..terms.len()]);
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        let done = simd.vectorize(Add { simd, sources, weights, first, sum });
        return add_plain(sources, weights, first, done, sum);
    }
    add_plain(sources, weights, first, 0, sum);
}

/// The plain loop, from element `start`.
fn add_plain<T: Stored>(sources: &[&[T]], weights: &[f64], first: bool, start: usize, sum: &mut [f64]) {
    for (k, (source, &weight)) in sources.iter().zip(weights).enumerate() {
        let elements = sum[start..].iter_mut().zip(&source[start..]);
        if first && k == 0 {
            elements.for_each(|(s, x)| *s = weight * x.widen());
        } else {
            elements.for_each(|(s, x)| *s += weight * x.widen());
        }
    }
}

/// Widens in blocks first: the crate's slice conversion uses the machine's instruction, its scalar
/// conversion may not.
fn add_f16(terms: &[(Values, f64)], first: bool, sum: &mut [f64]) {
    const BLOCK: usize = 1024;
    let mut widened = [0.0f32; BLOCK];
    for (i, sum) in sum.chunks_mut(BLOCK).enumerate() {
        for (k, (values, weight)) in terms.iter().enumerate() {
            let widened = &mut widened[..sum.len()];
            values.slice(i * BLOCK..i * BLOCK + sum.len()).widen(widened);
            add(&[(Values::of_f32(widened), *weight)], |v| v.f32(), first && k == 0, sum);
        }
    }
}

impl Stored for [u8; 4] {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(f32::from_le_bytes(self))
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn load(simd: V3, x: &[Self; SIXTEEN]) -> Sixteen {
        pulp::cast::<_, [__m128; 4]>(*x).map(|x| simd.avx._mm256_cvtps_pd(x))
    }
}

impl Stored for [u8; 2] {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(bf16_to_f32(u16::from_le_bytes(self)))
    }
    /// The even elements, then the odd ones: each pair fills 32 bits, whose upper half is an f32
    /// without its low bits.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn load(simd: V3, x: &[Self; SIXTEEN]) -> Sixteen {
        let (avx, avx2, pairs) = (simd.avx, simd.avx2, pulp::cast::<_, __m256i>(*x));
        let even = avx._mm256_castsi256_ps(avx2._mm256_slli_epi32::<16>(pairs));
        let upper = avx._mm256_set1_epi32(0xffff_0000_u32 as i32);
        let odd = avx._mm256_castsi256_ps(avx2._mm256_and_si256(pairs, upper));
        let half = |x, upper: bool| match upper {
            false => avx._mm256_cvtps_pd(avx._mm256_castps256_ps128(x)),
            true => avx._mm256_cvtps_pd(avx._mm256_extractf128_ps::<1>(x)),
        };
        [half(even, false), half(even, true), half(odd, false), half(odd, true)]
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn from_natural(simd: V3, [a, b, c, d]: Sixteen) -> Sixteen {
        let avx = simd.avx;
        let split = |x, y| {
            let (low, high) = (avx._mm256_permute2f128_pd::<0x20>(x, y), avx._mm256_permute2f128_pd::<0x31>(x, y));
            [avx._mm256_unpacklo_pd(low, high), avx._mm256_unpackhi_pd(low, high)]
        };
        let ([even_low, odd_low], [even_high, odd_high]) = (split(a, b), split(c, d));
        [even_low, even_high, odd_low, odd_high]
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn to_natural(simd: V3, [even_low, even_high, odd_low, odd_high]: Sixteen) -> Sixteen {
        let avx = simd.avx;
        let zip = |even, odd| {
            let (low, high) = (avx._mm256_unpacklo_pd(even, odd), avx._mm256_unpackhi_pd(even, odd));
            [avx._mm256_permute2f128_pd::<0x20>(low, high), avx._mm256_permute2f128_pd::<0x31>(low, high)]
        };
        let ([a, b], [c, d]) = (zip(even_low, odd_low), zip(even_high, odd_high));
        [a, b, c, d]
    }
}

impl Stored for f64 {
    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn load(_: V3, x: &[Self; SIXTEEN]) -> Sixteen {
        pulp::cast(*x)
    }
}

/// Computes the whole steps of a sum with AVX2; returns the number of elements done.
#[cfg(target_arch = "x86_64")]
struct Add<'a, T> {
    simd: V3,
    sources: &'a [&'a [T]],
    weights: &'a [f64],
    first: bool,
    sum: &'a mut [f64],
}

#[cfg(target_arch = "x86_64")]
impl<T: Stored> pulp::NullaryFnOnce for Add<'_, T> {
    type Output = usize;

    #[inline(always)]
    fn call(self) -> usize {
        let Add { simd, sources, weights, first, sum } = self;
        let avx = simd.avx;
        let mut start = 0;
        while start + STEP <= sum.len() {
            let out = &mut sum[start..start + STEP];
            let (out, _) = out.as_chunks_mut::<SIXTEEN>();
            let mut sums: [Sixteen; 2] = [[avx._mm256_setzero_pd(); 4]; 2];
            if !first {
                sums = [0, 1].map(|i| T::from_natural(simd, pulp::cast(out[i])));
            }
            for (k, (source, weight)) in sources.iter().zip(weights).enumerate() {
                let weight = avx._mm256_set1_pd(*weight);
                let (x, _) = source[start..start + STEP].as_chunks::<SIXTEEN>();
                for i in 0..2 {
                    let x = T::load(simd, &x[i]);
                    for j in 0..4 {
                        let product = avx._mm256_mul_pd(weight, x[j]);
                        sums[i][j] = if first && k == 0 { product } else { avx._mm256_add_pd(sums[i][j], product) };
                    }
                }
            }
            for i in 0..2 {
                out[i] = pulp::cast(T::to_natural(simd, sums[i]));
            }
            start += STEP;
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    /// Sums of lengths around whole steps, of one to many terms of one or several types, against a
    /// plain loop.
    #[test]
    fn every_path_is_bit_identical_to_the_plain_loop() {
        let value = |i: usize, k: usize| ((i * 7919 + k * 104_729) % 1009) as f32 * 0.0371 - 17.3;
        for n in [0, 1, 15, 31, 32, 33, 64, 1025] {
            for (count, mixed) in [(1, false), (3, false), (8, false), (9, true), (17, true), (17, false)] {
                for kind in 0..4 {
                    let kinds: Vec<usize> = (0..count).map(|k| if mixed { (k / 2 + kind) % 3 } else { kind }).collect();
                    let f32s: Vec<Vec<f32>> = (0..count).map(|k| (0..n).map(|i| value(i, k)).collect()).collect();
                    let bf16s: Vec<Vec<bf16>> =
                        f32s.iter().map(|v| v.iter().map(|&x| bf16::from_f32(x)).collect()).collect();
                    let f16s: Vec<Vec<f16>> =
                        f32s.iter().map(|v| v.iter().map(|&x| f16::from_f32(x)).collect()).collect();
                    let weights: Vec<f64> = (0..count).map(|k| 0.7 / (k as f64 - 1.5)).collect();
                    let wide: Vec<Vec<f64>> = (0..count)
                        .map(|k| match kinds[k] {
                            1 => bf16s[k].iter().map(|x| x.to_f64()).collect(),
                            2 => f16s[k].iter().map(|x| x.to_f64()).collect(),
                            _ => f32s[k].iter().map(|&x| f64::from(x)).collect(),
                        })
                        .collect();
                    for first in [true, false] {
                        let before: Vec<f64> = (0..n).map(|i| i as f64 * 0.3).collect();
                        let expected: Vec<u64> = (0..n)
                            .map(|i| {
                                let mut sum =
                                    if first { weights[0] * wide[0][i] } else { before[i] + weights[0] * wide[0][i] };
                                (1..count).for_each(|k| sum += weights[k] * wide[k][i]);
                                sum.to_bits()
                            })
                            .collect();
                        let mut sum = before.clone();
                        if kind == 3 && !mixed {
                            let terms: Vec<(&[f64], f64)> =
                                wide.iter().zip(&weights).map(|(v, &w)| (&v[..], w)).collect();
                            add_wide(&terms, first, &mut sum);
                        } else {
                            let values = |k: usize| match kinds[k] {
                                1 => Values::of_bf16(&bf16s[k]),
                                2 => Values::of_f16(&f16s[k]),
                                _ => Values::of_f32(&f32s[k]),
                            };
                            let terms: Vec<(Values, f64)> = (0..count).map(|k| (values(k), weights[k])).collect();
                            add_terms(&terms, first, &mut sum);
                        }
                        let bits: Vec<u64> = sum.iter().map(|x| x.to_bits()).collect();
                        assert!(bits == expected, "n {n}, {count} terms, kind {kind}, mixed {mixed}, first {first}");
                    }
                }
            }
        }
    }
}
