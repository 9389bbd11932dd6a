//! Scatter plots of a proxy's perplexities against SEQ's as inline SVG, and one standalone SVG file. Plotters draws the
//! axes; the points are written here, each with a `<title>` that a browser shows under the pointer. Colours are
//! attributes of known values, so a page can restyle them (report.html.jinja does for dark mode).

use super::tables::number;
use crate::correlate::statistics;
use crate::error::Result;
use crate::files;
use plotters::prelude::*;
use std::fmt::Write;
use std::path::Path;

/// Colours of the drawing, light mode; the page and the standalone file map them by value to those of dark mode.
const INK: RGBColor = RGBColor(0x4B, 0x55, 0x63);
const GRID: RGBColor = RGBColor(0xE5, 0xE7, 0xEB);
const FIT: RGBColor = RGBColor(0x9C, 0xA3, 0xAF);

/// Points by proxy: blue for the first, orange for the second, then purple.
const SERIES: [&str; 3] = ["#2563EB", "#D97706", "#7C3AED"];

/// A plot of more points than this shows every k-th, so that a page of many plots stays a page.
const MOST_POINTS: usize = 1000;

/// Perplexities above this (a training that diverged) are left out; they would squeeze the others into a corner.
const HIGHEST: f64 = 1e12;

#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Shown under the pointer.
    pub label: String,
    pub proxy: f64,
    pub seq: f64,
}

/// One panel: SEQ upwards, the proxy to the right.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scatter {
    /// What the picture shows, for those who cannot see it.
    pub title: String,
    pub x_title: String,
    pub y_title: String,
    /// Which colour; see `SERIES`.
    pub series: usize,
    pub points: Vec<Point>,
}

/// A drawn panel and what was left out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    pub svg: String,
    /// Points not drawn: too many, too large, or not finite.
    pub left_out: usize,
}

impl Scatter {
    /// The plot as an `<svg>` element of `size` (width, height) pixels; `None` without a point to draw.
    pub fn draw(&self, size: (u32, u32)) -> Option<Drawing> {
        let fits = |p: &&Point| p.proxy.is_finite() && p.seq.is_finite() && p.proxy.max(p.seq) <= HIGHEST;
        let sane: Vec<&Point> = self.points.iter().filter(fits).collect();
        let step = sane.len().div_ceil(MOST_POINTS).max(1);
        let points: Vec<&Point> = sane.into_iter().step_by(step).collect();
        if points.is_empty() {
            return None;
        }
        let mut svg = String::new();
        let places = axes(&mut svg, self, &points, size).expect("writing to a string does not fail");
        let svg = svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{}\" ", escaped(&self.title)), 1);
        let end = svg.rfind("</svg>").expect("plotters closes its element");
        let mut out = svg[..end].to_string();
        let colour = SERIES[self.series.min(SERIES.len() - 1)];
        for (point, (x, y)) in points.iter().zip(places) {
            let text = format!(
                "{}: {} {}, {} {}",
                point.label,
                self.x_title,
                number(point.proxy),
                self.y_title,
                number(point.seq)
            );
            writeln!(
                out,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\" fill-opacity=\"0.75\"><title>{}</title></circle>",
                escaped(&text)
            )
            .expect("writing to a string does not fail");
        }
        Some(Drawing { svg: out + "</svg>\n", left_out: self.points.len() - points.len() })
    }

    /// Writes the plot as an SVG file that stands alone, with its own background and dark mode; the title is drawn
    /// above it. Errors: the file system's. Without a point to draw the file says so.
    pub fn write_svg(&self, path: &Path) -> Result<()> {
        let (width, height, head) = (480, 400, 28);
        let inner = self.draw((width, height)).map_or_else(
            || format!("<svg width=\"{width}\" height=\"{height}\"><text x=\"20\" y=\"40\">no scores</text></svg>\n"),
            |drawing| drawing.svg,
        );
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {total}\" width=\"{width}\" \
             height=\"{total}\" font-family=\"system-ui, sans-serif\">\n<style>{STANDALONE_STYLE}</style>\n\
             <rect class=\"page\" width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n\
             <text x=\"{middle}\" y=\"20\" text-anchor=\"middle\" font-size=\"15\" fill=\"#4B5563\">{title}</text>\n\
             <g transform=\"translate(0, {head})\">\n{inner}</g>\n</svg>\n",
            total = height + head,
            middle = width / 2,
            title = escaped(&self.title),
        );
        files::write_atomic(path, |out| out.write_all(svg.as_bytes()))
    }
}

const STANDALONE_STYLE: &str = "@media (prefers-color-scheme: dark) { .page { fill: #0D1117 } \
    [fill=\"#4B5563\"] { fill: #C9D1D9 } [stroke=\"#4B5563\"] { stroke: #8B949E } [stroke=\"#E5E7EB\"] { stroke: #262C36 } \
    [stroke=\"#9CA3AF\"] { stroke: #6E7681 } [fill=\"#2563EB\"] { fill: #60A5FA } [fill=\"#D97706\"] { fill: #FBBF24 } \
    [fill=\"#7C3AED\"] { fill: #A78BFA } }";

/// Draws mesh, axes and the least-squares line (what r measures the scatter about); returns where the points lie.
fn axes(
    svg: &mut String,
    scatter: &Scatter,
    points: &[&Point],
    size: (u32, u32),
) -> std::result::Result<Vec<(i32, i32)>, Box<dyn std::error::Error>> {
    let xs: Vec<f64> = points.iter().map(|p| p.proxy).collect();
    let ys: Vec<f64> = points.iter().map(|p| p.seq).collect();
    let (x_range, y_range) = (padded(&xs), padded(&ys));
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    let mut chart = ChartBuilder::on(&root)
        .margin_top(8)
        .margin_left(8)
        .margin_right(14)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(x_range.0..x_range.1, y_range.0..y_range.1)?;
    let (x_format, y_format) = (tick_format(x_range), tick_format(y_range));
    let style = ("sans-serif", 15).into_font().color(&INK);
    chart
        .configure_mesh()
        .x_labels(5)
        .y_labels(5)
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(style.clone())
        .axis_desc_style(style)
        .x_label_formatter(&x_format)
        .y_label_formatter(&y_format)
        .x_desc(scatter.x_title.as_str())
        .y_desc(scatter.y_title.as_str())
        .draw()?;
    if let Some((slope, intercept)) = least_squares(&xs, &ys) {
        // Cut where the line leaves the picture.
        let at = |x: f64| slope * x + intercept;
        let mut ends = vec![(x_range.0, at(x_range.0)), (x_range.1, at(x_range.1))];
        for end in &mut ends {
            let y = end.1.clamp(y_range.0, y_range.1);
            if y != end.1 {
                *end = ((y - intercept) / slope, y);
            }
        }
        chart.draw_series(LineSeries::new(ends, FIT))?;
    }
    let places = xs.iter().zip(&ys).map(|(&x, &y)| chart.plotting_area().map_coordinate(&(x, y))).collect();
    root.present()?;
    Ok(places)
}

/// Slope and intercept of y on x; `None` where r is not defined.
fn least_squares(xs: &[f64], ys: &[f64]) -> Option<(f64, f64)> {
    let r = statistics::pearson(xs, ys).ok()?;
    let (x, y) = (statistics::spread(xs).ok()?, statistics::spread(ys).ok()?);
    let slope = r * y.standard_deviation / x.standard_deviation;
    Some((slope, y.mean - slope * x.mean))
}

/// The values' range with 6% on each side; never so narrow that neighbouring ticks would be the same number.
fn padded(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let pad = (0.06 * (high - low)).max(1e-4 * low.abs().max(high.abs())).max(1e-9);
    (low - pad, high + pad)
}

/// Writes ticks with the decimals that tell them apart: at most five, at 1, 2 or 5 times a power of ten.
fn tick_format((low, high): (f64, f64)) -> impl Fn(&f64) -> String {
    let decimals = (-((high - low) / 5.0).log10()).ceil().clamp(0.0, 9.0) as usize;
    move |value| format!("{value:.decimals$}")
}

pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no place for them, escaped or not.
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
