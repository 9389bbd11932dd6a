//! Where an axis begins and ends, and its ticks with their labels.

use super::{Axis, AxisScale, LONGEST};

/// From values to pixels: where an axis begins and ends, and its ticks.
pub(super) struct Frame {
    log: bool,
    /// Ends of the axis, logarithms where `log`.
    pub low: f64,
    /// The right or upper end; less than `low` where an axis of names runs down.
    pub high: f64,
    /// Value and label of each tick.
    pub ticks: Vec<(f64, String)>,
}

impl Frame {
    /// The frame that shows all of `values`; names have one that depends on their number alone.
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

    /// 0 at the low end, 1 at the high one.
    pub fn share(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

/// The values' range with 6% on each side; never so narrow that neighbouring ticks would be the same number.
fn padded(values: &[f64]) -> (f64, f64) {
    let (low, high) = range(values);
    let pad = (0.06 * (high - low)).max(1e-4 * low.abs().max(high.abs())).max(1e-9);
    (low - pad, high + pad)
}

/// At most seven, at 1, 2 or 5 times a power of ten, with the decimals that tell them apart.
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
    // Without a minus sign before zero.
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

/// A name of any length in `longest` letters, cut in its middle: names of a kind often begin alike, or end alike.
pub(super) fn short(name: &str, longest: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= longest {
        return name.into();
    }
    let head = (longest - 1) / 2;
    let tail = longest - 1 - head;
    letters[..head].iter().chain(&['…']).chain(&letters[letters.len() - tail..]).collect()
}
