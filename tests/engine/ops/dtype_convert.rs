//! Conversions between number types.

use stockpot::engine::checkpoint::StorageDType;
use stockpot::engine::ops::dtype_convert::round_to_bytes;

#[test]
fn narrowing_from_f64_rounds_once() {
    // (value, bf16): above a tie by less than f32 can resolve; the tie itself; the halfway point
    // below a subnormal
    let tie = 1.0 + 2f64.powi(-8);
    for (x, expected) in [
        (tie, 0x3f80),
        (tie + 2f64.powi(-40), 0x3f81),
        (-tie - 2f64.powi(-52), 0xbf81),
        (1.0 + 3.0 * 2f64.powi(-8), 0x3f82),
        (1.0 + 3.0 * 2f64.powi(-8) - 2f64.powi(-45), 0x3f81),
        (2f64.powi(-134), 0x0000),
        (2f64.powi(-134) + 2f64.powi(-180), 0x0001),
        (1e-300, 0x0000),
        (-0.0, 0x8000),
    ] {
        let mut bytes = [0; 2];
        assert!(round_to_bytes(&[x], StorageDType::Bf16, &mut bytes));
        assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]), expected, "{x:e}");
    }
    // f16: the tie between 1 and the next, 2^-25 between 0 and the smallest subnormal
    for (x, expected) in [
        (1.0 + 2f64.powi(-11), 0x3c00),
        (1.0 + 2f64.powi(-11) + 2f64.powi(-50), 0x3c01),
        (2f64.powi(-25), 0x0000),
        (2f64.powi(-25) + 2f64.powi(-70), 0x0001),
    ] {
        let mut bytes = [0; 2];
        assert!(round_to_bytes(&[x], StorageDType::F16, &mut bytes));
        assert_eq!(u16::from_le_bytes([bytes[0], bytes[1]]), expected, "{x:e}");
    }
}
