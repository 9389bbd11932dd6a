//! Errors of ops against the f64 reference, and their bounds in f32.

/// Maximum error of f32 against the f64 reference: `bound` times the larger of 0.1 and the largest
/// expected magnitude.
pub struct Tolerance {
    pub op: &'static str,
    pub bound: f64,
    pub reason: &'static str,
}

const fn row(op: &'static str, bound: f64, reason: &'static str) -> Tolerance {
    Tolerance { op, bound, reason }
}

/// One unit in the last place of an f32 near 1 is 1.2e-7. Bounds are about three times the worst
/// error seen with AVX2.
pub const TOLERANCES: [Tolerance; 19] = [
    row("gemm", 2e-6, "sums of up to 300 products; the error of a sum grows as the square root of its length"),
    row("rms_norm_forward", 5e-7, "one sum of squares, then three roundings"),
    row("rms_norm_backward", 2e-6, "a difference of two terms of the same size; dweight sums up to 700 rows"),
    row("rope", 3e-7, "two products and a sum"),
    row("swiglu_forward", 4e-7, "exp within 2 units, a quotient and two products"),
    row("swiglu_backward", 8e-7, "as forward, with three more roundings"),
    row("attention_forward", 1.5e-6, "scores of up to 64 products in an exponent, a weighted mean of up to 321 values"),
    row("attention_backward", 2.5e-6, "products of the forward's errors, differences of two terms of the same size"),
    row("cross_entropy", 2e-7, "a sum of up to 1009 exponentials in 16 lanes, one logarithm"),
    row("cross_entropy_gradient", 5e-7, "as the loss; the gradient itself is a quotient and a difference"),
    row("embedding_forward", 0.0, "a copy"),
    row("embedding_backward", 7e-7, "sums of up to 85 rows"),
    row("grad_norm", 1e-7, "sums in f64, rounded once"),
    row("fill", 0.0, "a copy"),
    row("loss_sum", 1e-14, "sums in f64, in another order"),
    row("merge", 0.0, "the same roundings in the same order"),
    row("inner_products", 1.5e-14, "sums of exact products in f64, in another order"),
    row("adamw_step", 1e-7, "computed in f64, rounded once"),
    row("adamw", 3e-7, "eight consecutive roundings, on values below 2"),
];

/// The largest error relative to the larger of 0.1 and the largest finite magnitude of `want`.
/// Infinities must be equal, and a NaN stands for every NaN. If `exact`, zeros must have the right
/// sign too.
pub fn relative_error(got: &[f64], want: &[f64], exact: bool) -> f64 {
    let largest = want.iter().filter(|x| x.is_finite()).fold(0.1f64, |a, b| a.max(b.abs()));
    let error = |(&got, &want): (&f64, &f64)| match (got - want).abs() {
        _ if got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan() => 0.0,
        error if error.is_nan() => f64::INFINITY,
        error if exact => error.max(f64::MIN_POSITIVE),
        error => error,
    };
    got.iter().zip(want).map(error).fold(0.0, f64::max) / largest
}
