//! Inputs: ones find wrong indices, ramps wrong data movement, random numbers wrong arithmetic,
//! extreme values missing cases.

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    Ones,
    Ramp,
    Random,
    /// As Random, and half of them subnormal in f32, of both signs.
    Subnormal,
    /// As Random, and some of them infinite of one sign.
    Infinite,
    /// As Random, and some of them infinite of either sign, or NaN.
    NotFinite,
}
pub const FILLS: [Fill; 3] = [Fill::Ones, Fill::Ramp, Fill::Random];

impl Fill {
    /// `n` numbers exactly representable in f32; `salt` makes operands differ.
    pub fn values(self, salt: u64, n: usize) -> Vec<f64> {
        let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
        };
        match self {
            Fill::Ones => vec![1.0; n],
            Fill::Ramp => (0..n).map(|i| ((i as u64 + 3 * salt) % 61) as f64 / 64.0 - 0.25).collect(),
            Fill::Random => (0..n).map(|_| random()).collect(),
            // Exact in bf16 too: a multiple of its smallest number.
            Fill::Subnormal => {
                let tiny = |x: f64| (64.0 * x).trunc() * 2.0f64.powi(-133);
                (0..n).map(|i| if i.is_multiple_of(2) { tiny(random()) } else { random() }).collect()
            }
            Fill::Infinite | Fill::NotFinite => {
                let special = |i: usize| match i % 3 {
                    1 if self == Fill::NotFinite => f64::NEG_INFINITY,
                    2 if self == Fill::NotFinite => f64::NAN,
                    _ => f64::INFINITY,
                };
                let at = |i: usize| i as u64 % 97 == 41 + salt;
                (0..n).map(|i| if at(i) { special(i / 97) } else { random() }).collect()
            }
        }
    }
}
