//! Weights as checkpoints store them, and the CPU's inner loops of a merge over n of them: stored values in, an f64 sum,
//! and values of the output type out, rounded once. Linear passes bound by memory; each element is independent of the
//! others, so the bits do not depend on how the elements are dealt out.
//!
//! Loops run under `pulp`'s dispatch: the compiler vectorises them for AVX2 or AVX-512, whichever the machine has. It
//! does not fuse the product and the sum, so every machine rounds alike.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;

// Checkpoints are little-endian, and their bytes are viewed as numbers where they lie.
const _: () = assert!(cfg!(target_endian = "little"), "Stockpot needs a little-endian machine");

/// How a weight is stored in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDType {
    F32,
    Bf16,
    F16,
}

impl StorageDType {
    /// The name on the command line: `f32`, `bf16` or `f16`.
    pub fn parse(name: &str) -> Option<StorageDType> {
        [StorageDType::F32, StorageDType::Bf16, StorageDType::F16].into_iter().find(|d| d.name() == name)
    }
    pub fn name(self) -> &'static str {
        match self {
            StorageDType::F32 => "f32",
            StorageDType::Bf16 => "bf16",
            StorageDType::F16 => "f16",
        }
    }
    pub fn bytes(self) -> usize {
        match self {
            StorageDType::F32 => 4,
            StorageDType::Bf16 | StorageDType::F16 => 2,
        }
    }
}

impl fmt::Display for StorageDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Stored elements as they were read.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    F32(&'a [f32]),
    /// Bits of bf16
    Bf16(&'a [u16]),
    F16(&'a [f16]),
}

impl<'a> Values<'a> {
    /// `bytes` on a 4-byte boundary.
    pub(crate) fn new(dtype: StorageDType, bytes: &'a [u8]) -> Values<'a> {
        match dtype {
            StorageDType::F32 => Values::F32(bytemuck::cast_slice(bytes)),
            StorageDType::Bf16 => Values::Bf16(bytemuck::cast_slice(bytes)),
            StorageDType::F16 => Values::F16(bytemuck::cast_slice(bytes)),
        }
    }
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::Bf16(v) => v.len(),
            Values::F16(v) => v.len(),
        }
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// out = values, exactly; `out` has as many elements.
    pub fn widen(&self, out: &mut [f32]) {
        match *self {
            Values::F32(v) => out.copy_from_slice(v),
            Values::Bf16(v) => pulp::Arch::new().dispatch(
                #[inline(always)]
                || out.iter_mut().zip(v).for_each(|(o, &x)| *o = bf16_to_f32(x)),
            ),
            Values::F16(v) => v.convert_to_f32_slice(out),
        }
    }

    /// sum += weight * values, or sum = weight * values when `first` (so that one checkpoint of weight 1 keeps its
    /// negative zeros). `sum` has as many elements; `scratch` is for f16.
    pub fn add_to(&self, sum: &mut [f64], weight: f64, first: bool, scratch: &mut Vec<f32>) {
        assert_eq!(self.len(), sum.len(), "one sum for each element");
        match *self {
            Values::F32(v) => add(sum, v, weight, first, f64::from),
            Values::Bf16(v) => add(sum, v, weight, first, |x| f64::from(bf16_to_f32(x))),
            Values::F16(v) => {
                scratch.resize(v.len(), 0.0);
                v.convert_to_f32_slice(scratch);
                add(sum, &scratch[..], weight, first, f64::from);
            }
        }
    }
}

/// Every bf16 is the upper half of an f32.
#[inline(always)]
fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[inline(always)]
fn add<T: Copy>(sum: &mut [f64], values: &[T], weight: f64, first: bool, widen: impl Fn(T) -> f64) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            if first {
                sum.iter_mut().zip(values).for_each(|(s, &x)| *s = weight * widen(x));
            } else {
                sum.iter_mut().zip(values).for_each(|(s, &x)| *s += weight * widen(x));
            }
        },
    )
}

/// Whether every element is finite.
pub fn all_finite(sum: &[f64]) -> bool {
    // x * 0 is 0, or NaN when x is not finite; eight lanes, since a short-circuiting loop would not vectorise
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let (lanes, rest) = sum.as_chunks::<8>();
            let mut bad = [0.0f64; 8];
            for chunk in lanes {
                for (b, x) in bad.iter_mut().zip(chunk) {
                    *b += x * 0.0;
                }
            }
            bad.iter().all(|b| *b == 0.0) && rest.iter().all(|x| x.is_finite())
        },
    )
}

/// Rounds to nearest, ties to even.
pub fn round_to_f32(sum: &[f64], out: &mut [f32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || out.iter_mut().zip(sum).for_each(|(o, &x)| *o = x as f32),
    )
}

/// Appends the bytes of `sum` in `dtype`, rounded to nearest, ties to even. A value beyond the type's range becomes an
/// infinity: [`first_not_finite`] finds it.
pub fn round_to_bytes(sum: &[f64], dtype: StorageDType, scratch: &mut Vec<f32>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + sum.len() * dtype.bytes(), 0);
    let bytes = &mut out[start..];
    if dtype == StorageDType::F32 {
        return pulp::Arch::new().dispatch(
            #[inline(always)]
            || bytes.as_chunks_mut().0.iter_mut().zip(sum).for_each(|(o, &x)| *o = (x as f32).to_le_bytes()),
        );
    }
    // Twice-rounding would turn some values just above a tie into ties: the first rounding is to odd, which keeps what
    // the second must know (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums").
    scratch.resize(sum.len(), 0.0);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || scratch.iter_mut().zip(sum).for_each(|(o, &x)| *o = round_to_odd(x)),
    );
    narrow(scratch, dtype, bytes);
}

/// The bytes of `values` in `dtype`, rounded to nearest, ties to even; `out` has room for exactly these.
pub fn narrow(values: &[f32], dtype: StorageDType, out: &mut [u8]) {
    assert_eq!(values.len() * dtype.bytes(), out.len(), "room for each value");
    match dtype {
        StorageDType::F32 => out.copy_from_slice(bytemuck::cast_slice(values)),
        StorageDType::Bf16 => pulp::Arch::new().dispatch(
            #[inline(always)]
            || out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(o, &x)| *o = f32_to_bf16(x).to_le_bytes()),
        ),
        // In blocks: the crate's conversion of a slice uses the machine's instruction, its conversion of one value may
        // not.
        StorageDType::F16 => {
            for (o, x) in out.chunks_mut(2 * 256).zip(values.chunks(256)) {
                let mut block = [f16::ZERO; 256];
                block[..x.len()].convert_from_f32_slice(x);
                o.copy_from_slice(bytemuck::cast_slice(&block[..x.len()]));
            }
        }
    }
}

/// The first element of `bytes` that is an infinity or NaN.
pub fn first_not_finite(dtype: StorageDType, bytes: &[u8]) -> Option<usize> {
    match dtype {
        StorageDType::F32 => bytes.as_chunks().0.iter().position(|b| !f32::from_le_bytes(*b).is_finite()),
        StorageDType::Bf16 => bytes.as_chunks().0.iter().position(|b| !bf16::from_le_bytes(*b).is_finite()),
        StorageDType::F16 => bytes.as_chunks().0.iter().position(|b| !f16::from_le_bytes(*b).is_finite()),
    }
}

/// To f32, where a value that is none becomes the neighbour whose last bit is 1.
#[inline(always)]
fn round_to_odd(x: f64) -> f32 {
    let near = x as f32;
    let bits = near.to_bits();
    let back = f64::from(near);
    let outward = u32::from(back.abs() > x.abs());
    let inexact = u32::from(back != x);
    f32::from_bits((bits - outward) | inexact)
}

/// To nearest, ties to even; not for NaN.
#[inline(always)]
fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}
