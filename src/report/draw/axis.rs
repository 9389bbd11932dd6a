//! The range of an axis, and its ticks with their labels.

use super::{Axis, AxisScale, LONGEST};

/// The range and ticks of an axis, which place its values.
pub(super) struct Frame {
    log: bool,
    /// The left or lower end; its logarithm if `log`.
    pub low: f64,
    /// The right or upper end; less than `low` for an axis of names, which runs downwards.
    pub high: f64,
    /// Value and label of each tick.
    pub ticks: Vec<(f64, String)>,
}

impl Frame {
    /// The frame that shows all of `values`; that of names depends only on their number.
    pub fn of(axis: &Axis, values: &[f64]) -> Frame {
        match &axis.scale {
            AxisScale::Names(names) => Frame {
                log: false,
                low: names.len() as f64 - 0.5,
                high: -0.5,
                ticks: names.iter().enumerate().map(|(i, name)| (i as f64, short(name, LONGEST))).collect(),
            },
            AxisScale::Log => {
                let (low, high) = range(values);
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                let high = if high > low { high } else { low + 1.0 };
                Frame { log: true, low, high, ticks: decades(low as i64, high as i64) }
            }
            linear => {
                let (low, high) = padded(values);
                Frame { log: false, low, high, ticks: ticks(low, high, *linear == AxisScale::Percent) }
            }
        }
    }

    /// The position of a value: 0 at the low end, 1 at the high end.
    pub fn share(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

/// The values' range plus 6% on each side; wide enough that neighbouring ticks have different
/// labels.
fn padded(values: &[f64]) -> (f64, f64) {
    let (low, high) = range(values);
    let pad = (0.06 * (high - low)).max(1e-4 * low.abs().max(high.abs())).max(1e-9);
    (low - pad, high + pad)
}

/// At most seven ticks, at steps of 1, 2 or 5 times a power of ten, with enough decimals to
/// distinguish them.
fn ticks(low: f64, high: f64, percent: bool) -> Vec<(f64, String)> {
    let rough = (high - low) / 7.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999).unwrap_or(rough);
    let decimals = |step: f64| (-(step * 1.000001).log10().floor()).clamp(0.0, 9.0) as usize;
    let first = (low / step).ceil();
    let label = |value: f64| match value {
        v if percent => format!("{:.*}%", decimals(step * 100.0), v * 100.0),
        v if v.abs() >= 1e6 => format!("{v:.4e}"),
        v => format!("{:.*}", decimals(step), v),
    };
    let values = (0..12).map(|i| (first + f64::from(i)) * step).take_while(|v| *v <= high);
    // No minus sign before zero.
    values.map(|v| if v.abs() < step * 1e-6 { 0.0 } else { v }).map(|v| (v, label(v))).collect()
}

/// Powers of ten, at most seven.
fn decades(low: i64, high: i64) -> Vec<(f64, String)> {
    let step = (high - low).unsigned_abs().div_ceil(6).max(1) as usize;
    let raised = |exponent: i64| -> String {
        let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
        if exponent < 0 {
            return format!("1e{exponent}");
        }
        let power = exponent.to_string().bytes().map(|b| digits[usize::from(b - b'0')]).collect::<String>();
        format!("10{power}")
    };
    (low..=high).step_by(step).map(|e| (10f64.powi(e as i32), raised(e))).collect()
}

/// The name in at most `longest` letters, cut in the middle because related names often share their
/// start or end.
pub(super) fn short(name: &str, longest: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= longest {
        return name.into();
    }
    let head = (longest - 1) / 2;
    let tail = longest - 1 - head;
    letters[..head].iter().chain(&['…']).chain(&letters[letters.len() - tail..]).collect()
}
