//! Errors planted in each wrapper's host model, and in the tiny kernels where the model is a built-in
//! function: the check of that name must fail.

use super::{CHECKS, simt};
use crate::simt::{Mode, Patch};
use rayon::prelude::*;

/// In `file`, `from` becomes `to`; the check `name` must fail.
struct Planted {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn wrapper(name: &'static str, from: &'static str, to: &'static str) -> Planted {
    Planted { name, file: "ptx.cuh", from, to }
}

const fn builtin(name: &'static str, from: &'static str, to: &'static str) -> Planted {
    Planted { name, file: "conformance.cu", from, to }
}

const BF16: &str = "bf16_bits and bf16_pair";
const GROUPS: &str = "cp_async_commit and cp_async_wait";
const SHUFFLES: &str = "__shfl_xor_sync, __ballot_sync and __popc";
const SINGLE: &str = "f32 arithmetic";
const DOUBLE: &str = "f64 arithmetic";

const ONE_BF16: &str = "return simt_bf16_bits(x);";
const TWO_BF16: &str = "return (u32)simt_bf16_bits(low) | (u32)simt_bf16_bits(high) << 16;";
const EXP2: &str = "return simt_exp2_approx(x);";
const COPY: &str = "simt_cp_async(to, from, 16, bytes);";
const PLAIN: &str = "simt_ldmatrix(r, 4, false, row);";
const TRANSPOSED: &str = "simt_ldmatrix(r, 4, true, row);";
const MMA: &str = "simt_mma_16x8x16(d, a, b);";

const PLANTED: [Planted; 48] = [
    wrapper("shared_address", "return simt_shared_address(p);", "return simt_shared_address(p) & ~1u;"),
    wrapper("shared_address", "return simt_shared_address(p);", "return simt_shared_address(p) & 0x3fffu;"),
    wrapper("shared_address", "u8* const name = simt_dynamic", "u8* const name = simt_dynamic + 512"),
    wrapper("exp2_approx", EXP2, "return simt_exp2_approx(x) * 1.0000005f;"),
    wrapper("exp2_approx", EXP2, "return x < -126 ? 1e-39f : simt_exp2_approx(x);"),
    wrapper("exp2_approx", EXP2, "return x > 127 ? __uint_as_float(0x7f7fffffu) : simt_exp2_approx(x);"),
    wrapper("exp2_approx", EXP2, "return x == x ? simt_exp2_approx(x) : 0;"),
    wrapper("exp2_approx", EXP2, "return simt_exp2_approx(x * 1.0000001f);"),
    wrapper("exp2_approx", EXP2, "return fmaxf(x, -x) < 1e-37f ? 0.9999999f : simt_exp2_approx(x);"),
    wrapper(BF16, ONE_BF16, "return (u16)(__float_as_uint(x) >> 16);"),
    wrapper(BF16, ONE_BF16, "return x == x ? (u16)((__float_as_uint(x) + 0x8000u) >> 16) : 0x7fff;"),
    wrapper(BF16, ONE_BF16, "return x == x ? simt_bf16_bits(x) : 0xffff;"),
    wrapper(BF16, ONE_BF16, "return simt_bf16_bits(x) & 0x7f80 ? simt_bf16_bits(x) : 0;"),
    wrapper(BF16, ONE_BF16, "return min((unsigned)simt_bf16_bits(x) & 0x7fff, 0x7f7fu) | simt_bf16_bits(x) & 0x8000;"),
    wrapper(BF16, TWO_BF16, "return (u32)simt_bf16_bits(high) | (u32)simt_bf16_bits(low) << 16;"),
    wrapper(BF16, TWO_BF16, "return (u32)simt_bf16_bits(low) | __float_as_uint(high) & 0xffff0000u;"),
    wrapper("cp_async_16", COPY, "simt_cp_async(to, from, 16, 16);"),
    wrapper("cp_async_16", COPY, "simt_cp_async(to, from, 16, bytes & ~3u);"),
    wrapper("cp_async_16", COPY, "simt_cp_async(to, from, 16, bytes & 15);"),
    wrapper("cp_async_16", COPY, "simt_cp_async(to, from, 16, min(bytes + 1, 16u));"),
    wrapper("cp_async_16", COPY, "if (bytes) simt_cp_async(to, from, 16, bytes);"),
    wrapper("cp_async_16 of 0 bytes", COPY, "if (bytes) simt_cp_async(to, from, 16, bytes);"),
    wrapper("cp_async_16 of 0 bytes", COPY, "simt_cp_async(to, from, 16, max(bytes, 1u));"),
    wrapper(GROUPS, "simt_cp_async_wait(PENDING);", "simt_cp_async_wait(PENDING + 1);"),
    wrapper(GROUPS, "simt_cp_async_wait(PENDING);", "simt_cp_async_wait(PENDING ? PENDING : 4);"),
    wrapper(GROUPS, "simt_cp_async_commit();", ""),
    wrapper("ldmatrix_x4", PLAIN, TRANSPOSED),
    wrapper("ldmatrix_x4", PLAIN, "simt_ldmatrix(r, 4, false, row); std::swap(r[1], r[2]);"),
    wrapper("ldmatrix_x4", PLAIN, "simt_ldmatrix(r, 4, false, row); r[3] = r[3] >> 16 | r[3] << 16;"),
    wrapper("ldmatrix_x4_transposed", TRANSPOSED, PLAIN),
    wrapper("ldmatrix_x4_transposed", TRANSPOSED, "simt_ldmatrix(r, 4, true, row); r[3] = r[0];"),
    wrapper("mma_16x8x16", "b[2] = {b0, b1};", "b[2] = {b1, b0};"),
    wrapper("mma_16x8x16", MMA, "const u32 swapped[4] = {a[0], a[2], a[1], a[3]}; simt_mma_16x8x16(d, swapped, b);"),
    wrapper("mma_16x8x16", MMA, "for (int i = 0; i < 4; i++) d[i] = 0; simt_mma_16x8x16(d, a, b);"),
    wrapper("mma_16x8x16", MMA, "simt_mma_16x8x16(d, a, b); std::swap(d[1], d[2]);"),
    wrapper("mma_16x8x16", MMA, "simt_mma_16x8x16(d, a, b); d[3] = __uint_as_float(__float_as_uint(d[3]) & ~1u);"),
    builtin(SHUFFLES, "__shfl_xor_sync(ALL, x[t], 1 << k)", "__shfl_xor_sync(ALL, x[t], (1 << k) & 15)"),
    builtin(SHUFFLES, "__shfl_xor_sync(ALL, y[t], 1 << k)", "(double)__shfl_xor_sync(ALL, (float)y[t], 1 << k)"),
    builtin(
        SHUFFLES,
        "__ballot_sync(ALL, __float_as_uint(x[t]) & 1)",
        "__ballot_sync(ALL, (__float_as_uint(x[t]) & 1) == 0)",
    ),
    builtin(SINGLE, "out[2 * n + i] = x * y;", "out[2 * n + i] = fmaxf(x * y, -x * y) < 1.2e-38f ? 0 : x * y;"),
    builtin(SINGLE, "x / y;\n  out[4 * n + i] = sqrtf(x);", "x * (1 / y);\n  out[4 * n + i] = sqrtf(x);"),
    builtin(SINGLE, "sqrtf(x)", "x * (1 / sqrtf(x))"),
    builtin(SINGLE, "__fmaf_rn(x, y, z)", "(x * y + z)"),
    builtin(SINGLE, "y * z + x;\n  out[7", "__fmaf_rn(y, z, x);\n  out[7"),
    builtin(DOUBLE, "__fma_rn(x, y, z)", "(x * y + z)"),
    builtin(DOUBLE, "__double2float_rn(x)", "__uint_as_float(__float_as_uint((float)x) & ~1u)"),
    builtin("logf", "logf(x[i])", "logf(x[i]) * 1.0000002f"),
    builtin("pow", "pow(base[i], exponent[i])", "pow(base[i], exponent[i]) * (1 + 1e-15)"),
];

#[test]
fn every_planted_error_is_reported_by_its_check() {
    let missed = |planted: &Planted| {
        let Planted { name, file, from, to } = *planted;
        let check = CHECKS.iter().find(|(n, _)| *n == name).expect("a check of this name").1;
        let patch = Patch { file: file.into(), from: from.into(), to: to.into() };
        match check(&mut simt(Mode::FORWARD, Some(patch))) {
            Ok(Ok(lines)) => Some(format!("{name}, {from:?} -> {to:?}: {lines}")),
            Ok(Err(_)) => None,
            // A patch that does not apply or compile proves nothing.
            Err(e) if ["stale patch", "g++"].iter().any(|what| e.to_string().contains(what)) => Some(e.to_string()),
            Err(_) => None,
        }
    };
    let missed: Vec<String> = PLANTED.par_iter().filter_map(missed).collect();
    assert!(missed.is_empty(), "{} of {}:\n{}", missed.len(), PLANTED.len(), missed.join("\n"));
    let unplanted = CHECKS.iter().filter(|(name, _)| PLANTED.iter().all(|planted| planted.name != *name));
    assert_eq!(unplanted.count(), 0, "every check has a planted error");
}

#[test]
fn a_mismatch_names_operands_got_and_expected() {
    let patch =
        Patch { file: "ptx.cuh".into(), from: ONE_BF16.into(), to: "return (u16)(__float_as_uint(x) >> 16);".into() };
    let (_, failures) = super::run(|| Ok(simt(Mode::FORWARD, Some(patch.clone()))));
    let [failure] = &failures[..] else { panic!("{failures:?}") };
    for part in
        ["bf16_bits and bf16_pair: ", " of 4096 values are wrong:\n  bf16_bits(", "): got 0x0000", ", expected 0x0000"]
    {
        assert!(failure.contains(part), "{part:?} is missing: {failure}");
    }
    assert_eq!(failure.lines().count(), 4, "{failure}");
}
