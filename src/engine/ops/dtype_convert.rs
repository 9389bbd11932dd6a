//! Conversion of stored weights: from bytes to numbers, and from f64 sums to bytes with one
//! rounding. Elements are independent of one another, so the bits do not depend on how work is
//! split. Loops run under `pulp`'s dispatch: the compiler vectorises them for AVX2 or AVX-512,
//! whichever the machine has.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

// Checkpoints are little-endian, and their bytes are viewed as numbers in place.
const _: () = assert!(cfg!(target_endian = "little"), "Stockpot needs a little-endian machine");

/// Elements per block in conversions that need scratch.
const BLOCK: usize = 256;

/// The dtype of weights in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageDType {
    /// IEEE binary32.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE binary16; finite up to 65504.
    F16,
}

impl StorageDType {
    /// The name on the command line: `f32`, `bf16` or `f16`.
    pub fn parse(name: &str) -> Option<StorageDType> {
        [StorageDType::F32, StorageDType::Bf16, StorageDType::F16].into_iter().find(|d| d.name() == name)
    }
    /// The name, as accepted by [`StorageDType::parse`].
    pub fn name(self) -> &'static str {
        match self {
            StorageDType::F32 => "f32",
            StorageDType::Bf16 => "bf16",
            StorageDType::F16 => "f16",
        }
    }
    /// Bytes of one element.
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

/// Elements as stored in a checkpoint: bytes with any alignment.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Little-endian f32.
    F32(&'a [[u8; 4]]),
    /// Little-endian bf16.
    Bf16(&'a [[u8; 2]]),
    /// Little-endian f16.
    F16(&'a [[u8; 2]]),
}

impl<'a> Values<'a> {
    pub(crate) fn new(dtype: StorageDType, bytes: &'a [u8]) -> Values<'a> {
        match dtype {
            StorageDType::F32 => Values::F32(bytes.as_chunks().0),
            StorageDType::Bf16 => Values::Bf16(bytes.as_chunks().0),
            StorageDType::F16 => Values::F16(bytes.as_chunks().0),
        }
    }
    /// Views numbers in memory as stored elements, without a copy.
    pub fn of_f32(values: &'a [f32]) -> Values<'a> {
        Values::new(StorageDType::F32, bytemuck::cast_slice(values))
    }
    /// Views numbers in memory as stored elements, without a copy.
    pub fn of_bf16(values: &'a [bf16]) -> Values<'a> {
        Values::new(StorageDType::Bf16, bytemuck::cast_slice(values))
    }
    /// Views numbers in memory as stored elements, without a copy.
    pub fn of_f16(values: &'a [f16]) -> Values<'a> {
        Values::new(StorageDType::F16, bytemuck::cast_slice(values))
    }

    /// The dtype of the stored elements.
    pub fn dtype(&self) -> StorageDType {
        match self {
            Values::F32(_) => StorageDType::F32,
            Values::Bf16(_) => StorageDType::Bf16,
            Values::F16(_) => StorageDType::F16,
        }
    }
    /// Elements, not bytes.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::Bf16(v) | Values::F16(v) => v.len(),
        }
    }
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Elements `range`. Panics if the range is out of bounds.
    pub fn slice(&self, range: Range<usize>) -> Values<'a> {
        match self {
            Values::F32(v) => Values::F32(&v[range]),
            Values::Bf16(v) => Values::Bf16(&v[range]),
            Values::F16(v) => Values::F16(&v[range]),
        }
    }
    /// The bytes of f32 values; empty for other dtypes.
    pub(super) fn f32(&self) -> &'a [[u8; 4]] {
        if let Values::F32(v) = self { v } else { &[] }
    }
    pub(super) fn bf16(&self) -> &'a [[u8; 2]] {
        if let Values::Bf16(v) = self { v } else { &[] }
    }

    /// out = values, exactly; `out` has as many elements.
    pub fn widen(&self, out: &mut [f32]) {
        assert_eq!(self.len(), out.len(), "one value for each element");
        match *self {
            Values::F32(v) => bytemuck::cast_slice_mut(out).copy_from_slice(v.as_flattened()),
            Values::Bf16(v) => pulp::Arch::new().dispatch(
                #[inline(always)]
                || out.iter_mut().zip(v).for_each(|(o, &x)| *o = bf16_to_f32(u16::from_le_bytes(x))),
            ),
            // In aligned blocks: the crate's slice conversion uses the machine's instruction.
            Values::F16(v) => {
                for (out, v) in out.chunks_mut(BLOCK).zip(v.chunks(BLOCK)) {
                    let mut block = [f16::ZERO; BLOCK];
                    bytemuck::cast_slice_mut(&mut block[..v.len()]).copy_from_slice(v.as_flattened());
                    block[..v.len()].convert_to_f32_slice(out);
                }
            }
        }
    }

    /// out = values, exactly; `out` has as many elements.
    pub fn widen_to_f64(&self, out: &mut [f64]) {
        assert_eq!(self.len(), out.len(), "one value for each element");
        let mut narrow = [0.0f32; BLOCK];
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let narrow = &mut narrow[..out.len()];
            self.slice(i * BLOCK..i * BLOCK + out.len()).widen(narrow);
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || out.iter_mut().zip(&*narrow).for_each(|(o, &x)| *o = f64::from(x)),
            );
        }
    }
}

/// Every bf16 is the upper half of an f32.
#[inline(always)]
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds to nearest, ties to even; returns whether all results are finite.
pub fn round_to_f32(sum: &[f64], out: &mut [f32]) -> bool {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut bad = 0;
            for (o, &x) in out.iter_mut().zip(sum) {
                *o = x as f32;
                bad |= u32::from(o.to_bits() & F32_EXPONENT == F32_EXPONENT);
            }
            bad == 0
        },
    )
}

/// Writes `sum` in `dtype`, rounded to nearest, ties to even; `out` has exactly the size needed.
/// Returns whether all results are finite: a value beyond the dtype's range becomes an infinity,
/// which [`first_not_finite`] finds.
pub fn round_to_bytes(sum: &[f64], dtype: StorageDType, out: &mut [u8]) -> bool {
    assert_eq!(sum.len() * dtype.bytes(), out.len(), "room for each value");
    let mut finite = true;
    let mut block = [0.0f32; BLOCK];
    for (out, sum) in out.chunks_mut(BLOCK * dtype.bytes()).zip(sum.chunks(BLOCK)) {
        let block = &mut block[..sum.len()];
        if dtype == StorageDType::F32 {
            finite &= round_to_f32(sum, block);
        } else {
            finite &= round_to_odd(sum, block);
        }
        narrow(block, dtype, out);
        finite &= dtype == StorageDType::F32 || all_finite(dtype, out);
    }
    finite
}

const F32_EXPONENT: u32 = 0x7f80_0000;

/// Rounds to odd: a value that is not an f32 becomes the neighbouring f32 whose last bit is 1.
/// Returns whether all are finite. Rounding to nearest twice would turn some values just above a
/// tie into ties; rounding to odd first keeps the information for the second rounding (Boldo and
/// Melquiond 2008, "Emulation of FMA and correctly rounded sums").
fn round_to_odd(sum: &[f64], out: &mut [f32]) -> bool {
    let (bad, subnormal) = pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            // The f64's bits beyond those of an f32, merged into the f32's last bit, so that the
            // conversion is exact.
            const BEYOND: u64 = (1 << 29) - 1;
            for (o, &x) in out.iter_mut().zip(sum) {
                let inexact = u64::from(x.to_bits() & BEYOND != 0) << 29;
                *o = f64::from_bits((x.to_bits() & !BEYOND) | inexact) as f32;
            }
            out.iter().fold((0, 0), |(bad, subnormal), o| {
                let magnitude = o.to_bits() & !(1 << 31);
                let below_normal = magnitude.wrapping_sub(1) < (1 << 23) - 1;
                (bad | u32::from(magnitude >= F32_EXPONENT), subnormal | u32::from(below_normal))
            })
        },
    );
    // A subnormal f32 has fewer bits than were kept.
    if subnormal != 0 {
        out.iter_mut().zip(sum).for_each(|(o, &x)| *o = one_to_odd(x));
    }
    bad == 0
}

/// [`round_to_odd`] of one value of any size.
fn one_to_odd(x: f64) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    let outward = u32::from(back.abs() > x.abs());
    let inexact = u32::from(back != x);
    f32::from_bits((near.to_bits() - outward) | inexact)
}

/// Whether every element of `bytes` is finite.
fn all_finite(dtype: StorageDType, bytes: &[u8]) -> bool {
    let exponent: u16 = if dtype == StorageDType::Bf16 { 0x7f80 } else { 0x7c00 };
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let bad = |x: [u8; 2]| u16::from(u16::from_le_bytes(x) & exponent == exponent);
            bytes.as_chunks().0.iter().fold(0, |any, &x| any | bad(x)) == 0
        },
    )
}

/// Writes `values` in `dtype`, rounded to nearest, ties to even; `out` has exactly the size needed.
pub fn narrow(values: &[f32], dtype: StorageDType, out: &mut [u8]) {
    assert_eq!(values.len() * dtype.bytes(), out.len(), "room for each value");
    match dtype {
        StorageDType::F32 => out.copy_from_slice(bytemuck::cast_slice(values)),
        StorageDType::Bf16 => pulp::Arch::new().dispatch(
            #[inline(always)]
            || out.as_chunks_mut().0.iter_mut().zip(values).for_each(|(o, &x)| *o = f32_to_bf16(x).to_le_bytes()),
        ),
        // In blocks: the crate's slice conversion uses the machine's instruction, its scalar
        // conversion may not.
        StorageDType::F16 => {
            for (o, x) in out.chunks_mut(2 * BLOCK).zip(values.chunks(BLOCK)) {
                let mut block = [f16::ZERO; BLOCK];
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

/// Rounds to nearest, ties to even; not valid for NaN.
#[inline(always)]
fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}
