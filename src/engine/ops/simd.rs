//! Loops that the compiler vectorises: run-time dispatch to AVX2 or AVX-512 (through `pulp`), sums
//! in a fixed number of lanes so that their bits do not depend on the vector width, and an `exp`
//! that vectorises.
//!
//! Every function here is `#[inline(always)]` so that it is compiled for the vector width of the
//! [`vectorized`] body it is called from. Products that feed a sum are written as `mul_add`: one
//! rounding with and without FMA hardware.

/// Partial sums of a reduction: one AVX-512 or two AVX2 registers. Wider arrays ran at half the
/// speed, because the compiler keeps them in memory.
pub const LANES: usize = 16;

/// Runs `body` compiled for the widest vectors of this machine. The body and what it calls must be
/// `#[inline(always)]` to benefit.
#[inline(always)]
pub fn vectorized<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Adds up lanes by halving: ((0 + 8) + (4 + 12)) + ...
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of x * y. Element i goes to lane i mod [`LANES`], here and below.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y[..x.len()].as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for ((sum, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *sum = x.mul_add(*y, *sum);
        }
    }
    for ((sum, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *sum = x.mul_add(*y, *sum);
    }
    fold(lanes)
}

/// Sum of x * y * z, the product x * y rounded first.
#[inline(always)]
pub fn dot3(x: &[f32], y: &[f32], z: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((x, x_rest), n) = (x.as_chunks::<LANES>(), x.len());
    let ((y, y_rest), (z, z_rest)) = (y[..n].as_chunks::<LANES>(), z[..n].as_chunks::<LANES>());
    for ((x, y), z) in x.iter().zip(y).zip(z) {
        for (((sum, x), y), z) in lanes.iter_mut().zip(x).zip(y).zip(z) {
            *sum = (x * y).mul_add(*z, *sum);
        }
    }
    for (((sum, x), y), z) in lanes.iter_mut().zip(x_rest).zip(y_rest).zip(z_rest) {
        *sum = (x * y).mul_add(*z, *sum);
    }
    fold(lanes)
}

/// Sum of x * y in f64, in which each product is exact.
#[inline(always)]
pub fn dot_f64(x: &[f32], y: &[f32]) -> f64 {
    const WIDE: usize = 16;
    let mut lanes = [0.0f64; WIDE];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<WIDE>(), y[..x.len()].as_chunks::<WIDE>());
    for (x, y) in x.iter().zip(y) {
        for ((sum, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *sum += x as f64 * y as f64;
        }
    }
    for ((sum, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *sum += x as f64 * y as f64;
    }
    lanes.iter().sum()
}

/// Sum of squares in f64.
#[inline(always)]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    const WIDE: usize = 16;
    let mut lanes = [0.0f64; WIDE];
    let (whole, rest) = x.as_chunks::<WIDE>();
    for chunk in whole {
        for (sum, &x) in lanes.iter_mut().zip(chunk) {
            *sum += x as f64 * x as f64;
        }
    }
    for (sum, &x) in lanes.iter_mut().zip(rest) {
        *sum += x as f64 * x as f64;
    }
    lanes.iter().sum()
}

/// The largest element; negative infinity for an empty slice. NaNs are skipped: callers that must
/// not hide them get them from the sum that follows.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (top, &x) in lanes.iter_mut().zip(chunk) {
            *top = larger(*top, x);
        }
    }
    for (top, &x) in lanes.iter_mut().zip(rest) {
        *top = larger(*top, x);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, larger)
}

/// Elements whose exponentials are taken before they are summed: two loops vectorise where one does
/// not. A multiple of [`LANES`], so that blocks do not change the order of the sum.
const BLOCK: usize = 256;

#[inline(always)]
fn add_to_lanes(lanes: &mut [f32; LANES], x: &[f32]) {
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for (sum, x) in lanes.iter_mut().zip(x) {
            *sum += x;
        }
    }
    for (sum, x) in lanes.iter_mut().zip(rest) {
        *sum += x;
    }
}

/// Replaces x by exp(x * scale - shift) and returns the sum.
#[inline(always)]
pub fn exp_and_sum(x: &mut [f32], scale: f32, shift: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for block in x.chunks_mut(BLOCK) {
        for x in block.iter_mut() {
            *x = exp(x.mul_add(scale, -shift));
        }
        add_to_lanes(&mut lanes, block);
    }
    fold(lanes)
}

/// Sum of exp(x - shift); x is unchanged.
#[inline(always)]
pub fn sum_of_exp(x: &[f32], shift: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let mut exponentials = [0.0f32; BLOCK];
    for block in x.chunks(BLOCK) {
        let exponentials = &mut exponentials[..block.len()];
        for (e, x) in exponentials.iter_mut().zip(block) {
            *e = exp(x - shift);
        }
        add_to_lanes(&mut lanes, exponentials);
    }
    fold(lanes)
}

/// e^x within 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by the polynomial of
/// Cephes' `expf` (Moshier), times 2^n in two steps so that subnormal results are rounded once.
/// exp(-inf) is 0, exp of more than 88.73 is infinity, NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons, not min and max: those would turn NaN into a number.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let whole = shifted - ROUND;
    // ln 2 in two parts, the first exact in few bits
    let r = whole.mul_add(2.121_944_4e-4, whole.mul_add(-0.693_359_4, x));
    let p = 1.987_569_1e-4f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = (p * r).mul_add(r, r) + 1.0;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    p * power(half) * power(n.wrapping_sub(half))
}

/// 1 / (1 + e^-x)
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst: f64 = 0.0;
        for i in 0..2_000_000 {
            let x = -87.0 + i as f32 * (175.7 / 2_000_000.0);
            let (got, want) = (vectorized(|| exp(x)), (x as f64).exp());
            let unit = (want as f32).next_up() as f64 - want as f32 as f64;
            worst = worst.max((got as f64 - want).abs() / unit);
        }
        assert!(worst <= 2.0, "{worst} units");
    }

    #[test]
    fn exp_outside_the_finite_range() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(88.7).is_finite());
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-100.0), (-100f64).exp() as f32, "a subnormal is rounded once");
    }

    #[test]
    fn sums_have_the_same_bits_at_every_vector_width() {
        for n in [0, 1, 31, 32, 33, 97, 1000] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 77.0).collect();
            let y: Vec<f32> = x.iter().map(|x| x * 0.7 - 1.0).collect();
            assert_eq!(dot(&x, &y).to_bits(), vectorized(|| dot(&x, &y)).to_bits());
            assert_eq!(sum_of_exp(&x, 7.0).to_bits(), vectorized(|| sum_of_exp(&x, 7.0)).to_bits());
            assert_eq!(sum_of_squares(&x).to_bits(), vectorized(|| sum_of_squares(&x)).to_bits());
        }
    }
}
