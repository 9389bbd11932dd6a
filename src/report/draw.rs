//! Charts as SVG: axes, lines, bands, intervals, marks. A [`Chart`] holds values in their own units
//! and is drawn 420 units wide, so that its text is readable on a phone. Series differ in colour,
//! mark shape and dashes, so no reader needs the colours. All styling is by classes of one style
//! sheet ([`style_sheet`]); the page contains it once, and each standalone file contains it too.
//! A [`HeatMap`] is drawn as wide as its cells need.
//! Charts are drawn here instead of by a crate because a page has hundreds of them; these take 1 kB
//! each, with a `<title>` in every mark.

mod axis;
mod heat_map;

pub use heat_map::HeatMap;

use crate::analysis::format::number;
use axis::{Frame, short};
use std::fmt::Write;

/// Width of a chart, in CSS pixels before scaling; letters are `LETTER` high.
pub const WIDTH: f64 = 420.0;
const LETTER: f64 = 12.0;
/// A little more than the mean width of a letter.
const LETTER_WIDTH: f64 = 6.9;
const HEIGHT: f64 = 300.0;
/// Height of a row where the vertical axis has names.
const ROW: f64 = 28.0;
const LEGEND_ROW: f64 = 18.0;
/// The most letters of a name on an axis, and in a legend, where each line has at least one name.
const LONGEST: usize = 22;
const LONGEST_KEY: usize = 46;

/// Light colour, dark colour, dashes: Okabe and Ito's palette for colour-blind readers, with its
/// light colours darkened to a contrast of 3:1 on white. The last two styles are for series that
/// are not proxies.
const STYLES: [(&str, &str, &str); 10] = [
    ("#0072B2", "#56B4E9", ""),
    ("#D55E00", "#FF8B3D", "7 3"),
    ("#008A63", "#2CC79A", "2 3"),
    ("#B4578F", "#E29AC6", "9 3 2 3"),
    ("#A87400", "#F0B42E", "13 4"),
    ("#2A8BC4", "#9BD4F7", "5 2 1 2"),
    ("#8C564B", "#D3A297", "1 3"),
    ("#24292F", "#E6EDF3", ""),
    ("#24292F", "#E6EDF3", "4 4"),
    ("#6B7280", "#A3ABB6", "2 5"),
];

/// Paths of the marks, relative to the point; the first is a circle.
const MARKS: [&str; 10] = [
    "",
    "m0-5l4.6 8h-9.2z",
    "m-3.7-3.7h7.4v7.4h-7.4z",
    "m0-5.4l4.6 5.4-4.6 5.4-4.6-5.4z",
    "m0 5l4.6-8h-9.2z",
    "m-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "m-4.6-2h9.2v4h-9.2z",
    "m0-5l4.7 3.4-1.8 5.6h-5.8l-1.8-5.6z",
    "m0-2.1l2.5-2.5 2.1 2.1-2.5 2.5 2.5 2.5-2.1 2.1-2.5-2.5-2.5 2.5-2.1-2.1 2.5-2.5-2.5-2.5 2.1-2.1z",
    "m-1.2-7h2.4v14h-2.4z",
];

/// The style of a reference.
pub const REFERENCE: usize = 8;
/// The style of chance, or of a ceiling.
pub const NEUTRAL: usize = 9;
/// The number of styles that proxies and other series cycle through.
pub const TURNS: usize = 8;

/// The placement and labels of values along an axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum AxisScale {
    /// Linear, labelled with numbers.
    #[default]
    Linear,
    /// Linear in shares, labelled with percentages.
    Percent,
    /// Logarithmic, labelled with powers of ten; values must be above 0.
    Log,
    /// Value i has the i-th name; on the vertical axis, the first name is at the top.
    Names(Vec<String>),
}

/// One axis of a chart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Axis {
    /// Written beside the axis; a vertical axis without a title takes less room.
    pub title: String,
    /// The placement of its values.
    pub scale: AxisScale,
    /// On the horizontal axis, marks below the first or above the second of these are drawn as
    /// arrows at the edge, with their values, so that a few values far away do not squeeze all
    /// others.
    pub limits: Option<[f64; 2]>,
}

impl Axis {
    /// An axis; its ends follow from the values drawn.
    pub fn new(title: &str, scale: AxisScale) -> Axis {
        Axis { title: title.into(), scale, limits: None }
    }

    /// The value, moved to the limit that it is beyond.
    fn limited(&self, value: f64) -> f64 {
        self.limits.map_or(value, |[low, high]| value.max(low).min(high))
    }
}

/// One point of a series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mark {
    /// Its value on the horizontal axis.
    pub x: f64,
    /// Its value on the vertical axis.
    pub y: f64,
    /// The text shown under the pointer.
    pub label: String,
}

/// Values drawn in one style.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Its name in the legend; omitted if empty.
    pub name: String,
    /// Index of `STYLES`.
    pub style: usize,
    /// Whether a line joins the points.
    pub line: bool,
    /// Whether each point has a mark.
    pub marks: bool,
    /// Whether the line is thin, as for one of many.
    pub thin: bool,
    /// The points, in the order in which the line joins them.
    pub points: Vec<Mark>,
    /// x, low, high: an area around the line.
    pub band: Vec<[f64; 3]>,
    /// y, low, high: horizontal intervals.
    pub spans: Vec<[f64; 3]>,
}

/// A chart, its values in their own units.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chart {
    /// The title of a standalone file, and the text alternative of the picture.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The series, in the order of the legend; later ones are drawn over earlier ones.
    pub series: Vec<Series>,
    /// The x of dotted vertical lines.
    pub rules: Vec<f64>,
    /// Slope and intercept of a line across the whole frame.
    pub fit: Option<(f64, f64)>,
}

impl Chart {
    /// Whether there is nothing to draw: no finite point.
    pub fn is_empty(&self) -> bool {
        !self.series.iter().any(|s| s.points.iter().any(|p| self.fits(p.x, p.y)))
    }

    /// The chart as an `<svg class="chart">` element without its own style; `None` if there is
    /// nothing to draw.
    pub fn svg(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let legend = self.legend();
        let head = legend.iter().map(|l| l.2 + LEGEND_ROW).fold(0.0, f64::max);
        let (frames, heights) = (self.frames(), self.height());
        let [x, y] = &frames;
        let widest = y.ticks.iter().map(|t| t.1.chars().count()).max().unwrap_or(0) as f64;
        let area = Area {
            left: 8.0 + LETTER_WIDTH * widest + if self.y.title.is_empty() { 6.0 } else { 24.0 },
            right: WIDTH - 14.0,
            top: head + 10.0,
            bottom: head + heights - 44.0,
        };
        let mut out = format!(
            "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">\n",
            px(head + heights),
            escaped(&self.title)
        );
        self.push_axes(&mut out, &area, x, y);
        self.push_guides(&mut out, &area, x, y);
        for series in &self.series {
            self.push_series(&mut out, &area, x, y, series);
        }
        for (series, left, top) in legend {
            push_key(&mut out, series, left, top + 10.0);
        }
        Some(out + "</svg>\n")
    }

    /// The chart as a standalone file, with title, background, and the style for light and dark
    /// mode.
    pub fn standalone(&self) -> String {
        standalone(&self.title, self.svg(), WIDTH)
    }

    fn height(&self) -> f64 {
        match &self.y.scale {
            AxisScale::Names(names) => 62.0 + ROW * names.len() as f64,
            _ => HEIGHT,
        }
    }

    /// Whether the point is finite, and above zero on a logarithmic axis. The bound keeps
    /// differences finite.
    fn fits(&self, x: f64, y: f64) -> bool {
        let fits = |v: f64, axis: &Axis| v.abs() < 1e100 && (v > 0.0 || axis.scale != AxisScale::Log);
        fits(x, &self.x) && fits(y, &self.y)
    }

    /// The x and the y axis over all values.
    fn frames(&self) -> [Frame; 2] {
        let (mut xs, mut ys) = (self.rules.clone(), Vec::new());
        for s in &self.series {
            let mut take = |x: f64, y: f64| {
                if self.fits(x, y) {
                    xs.push(self.x.limited(x));
                    ys.push(y);
                }
            };
            s.points.iter().for_each(|p| take(p.x, p.y));
            s.band.iter().for_each(|&[x, low, high]| [low, high].into_iter().for_each(|y| take(x, y)));
            s.spans.iter().for_each(|&[y, low, high]| [low, high].into_iter().for_each(|x| take(x, y)));
        }
        [Frame::of(&self.x, &xs), Frame::of(&self.y, &ys)]
    }

    /// The series with a name, each with the position of its key: left, top.
    fn legend(&self) -> Vec<(&Series, f64, f64)> {
        // Names of proxies are in capitals, which are wider.
        let (mut left, mut top) = (10.0, 0.0);
        let mut keys = Vec::new();
        for series in self.series.iter().filter(|s| !s.name.is_empty()) {
            let width = 46.0 + 7.6 * short(&series.name, LONGEST_KEY).chars().count() as f64;
            if left + width > WIDTH && left > 10.0 {
                (left, top) = (10.0, top + LEGEND_ROW);
            }
            keys.push((series, left, top));
            left += width;
        }
        keys
    }

    fn push_axes(&self, out: &mut String, area: &Area, x: &Frame, y: &Frame) {
        let Area { left, right, top, bottom } = *area;
        let mut grid = String::new();
        let mut labels = String::new();
        for (value, label) in &x.ticks {
            let at = px(area.x(x, *value));
            let _ = write!(grid, "M{at} {}V{}", px(top), px(bottom));
            let _ = write!(
                labels,
                "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                px(bottom + 16.0),
                escaped(label)
            );
        }
        // Grid lines are between names, but on numbers.
        let offset = if matches!(self.y.scale, AxisScale::Names(_)) { 0.5 } else { 0.0 };
        for (value, label) in &y.ticks {
            let at = area.y(y, *value);
            let _ = write!(grid, "M{} {}H{}", px(left), px(area.y(y, *value + offset)), px(right));
            let (x, y) = (px(left - 6.0), px(at + 4.0));
            let _ = write!(labels, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", escaped(label));
        }
        let (middle, side) = (px((left + right) / 2.0), px((top + bottom) / 2.0));
        let _ = writeln!(out, "<path class=\"gr\" d=\"{grid}\"/>");
        let frame = format!("M{} {}V{}H{}", px(left), px(top), px(bottom), px(right));
        let _ = writeln!(out, "<path class=\"fr\" d=\"{frame}\"/>\n<g class=\"ax\">{labels}");
        let title = |text: &str| escaped(text);
        let _ = write!(
            out,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            px(bottom + 36.0),
            title(&self.x.title)
        );
        if !self.y.title.is_empty() {
            let turned = format!("<text transform=\"translate(14 {side}) rotate(-90)\" text-anchor=\"middle\">");
            let _ = write!(out, "{turned}{}</text>", title(&self.y.title));
        }
        out.push_str("</g>\n");
    }

    /// Rules, and the fit, clipped to the frame.
    fn push_guides(&self, out: &mut String, area: &Area, x: &Frame, y: &Frame) {
        for &at in self.rules.iter().filter(|v| v.is_finite()) {
            let _ =
                writeln!(out, "<path class=\"ru\" d=\"M{} {}V{}\"/>", px(area.x(x, at)), px(area.top), px(area.bottom));
        }
        let Some((slope, intercept)) = self.fit.filter(|(slope, _)| *slope != 0.0) else {
            return;
        };
        let end = |at: f64| {
            let inside = (slope * at + intercept).clamp(y.low, y.high);
            let at = ((inside - intercept) / slope).clamp(x.low, x.high);
            format!("{} {}", px(area.x(x, at)), px(area.y(y, inside)))
        };
        let _ = writeln!(out, "<path class=\"fit\" d=\"M{}L{}\"/>", end(x.low), end(x.high));
    }

    fn push_series(&self, out: &mut String, area: &Area, x: &Frame, y: &Frame, series: &Series) {
        let place = |px_x: f64, py: f64| (px(area.x(x, px_x)), px(area.y(y, py)));
        let style = series.style.min(STYLES.len() - 1);
        let _ = writeln!(out, "<g class=\"s{style}{}\">", if series.thin { " thin" } else { "" });
        let band: Vec<&[f64; 3]> =
            series.band.iter().filter(|b| self.fits(b[0], b[1]) && self.fits(b[0], b[2])).collect();
        if band.len() > 1 {
            let (upper, lower) = (band.iter().map(|b| (b[0], b[2])), band.iter().rev().map(|b| (b[0], b[1])));
            let path = joined(upper.chain(lower).map(|(at, value)| place(at, value)));
            let _ = writeln!(out, "<path class=\"b\" d=\"{path}z\"/>");
        }
        for [at, low, high] in series.spans.iter().filter(|s| self.fits(s[1], s[0]) && self.fits(s[2], s[0])) {
            let (low, high) = (self.x.limited(*low), self.x.limited(*high));
            if low == high {
                continue;
            }
            let ((left, up), (right, _)) = (place(low, *at), place(high, *at));
            let _ = writeln!(out, "<path class=\"i\" d=\"M{left} {up}H{right}\"/>");
        }
        let points: Vec<&Mark> = series.points.iter().filter(|p| self.fits(p.x, p.y)).collect();
        if series.line && points.len() > 1 {
            let path = joined(points.iter().map(|p| place(p.x, p.y)));
            let name = if series.marks || series.points.is_empty() { "" } else { &series.points[0].label };
            let title = if name.is_empty() { String::new() } else { format!("<title>{}</title>", escaped(name)) };
            let _ = writeln!(out, "<path class=\"l\" d=\"{path}\">{title}</path>");
        }
        for point in points.iter().filter(|_| series.marks) {
            let (left, top) = place(point.x, point.y);
            match point.x - self.x.limited(point.x) {
                0.0 => push_mark(out, style, &left, &top, &point.label),
                beyond => push_arrow(out, area, beyond > 0.0, area.y(y, point.y), point),
            }
        }
        out.push_str("</g>\n");
    }
}

/// The edges of the frame, in pixels.
#[derive(Clone, Copy)]
struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Area {
    fn x(&self, frame: &Frame, value: f64) -> f64 {
        self.left + frame.share(value) * (self.right - self.left)
    }

    fn y(&self, frame: &Frame, value: f64) -> f64 {
        self.bottom - frame.share(value) * (self.bottom - self.top)
    }
}

fn joined(points: impl Iterator<Item = (String, String)>) -> String {
    let places: Vec<String> = points.map(|(x, y)| format!("{x} {y}")).collect();
    format!("M{}", places.join("L"))
}

fn push_mark(out: &mut String, style: usize, x: &str, y: &str, label: &str) {
    let title = if label.is_empty() { String::new() } else { format!("<title>{}</title>", escaped(label)) };
    let _ = match MARKS[style] {
        "" => writeln!(out, "<circle class=\"m\" cx=\"{x}\" cy=\"{y}\" r=\"4\">{title}</circle>"),
        path => writeln!(out, "<path class=\"m\" d=\"M{x} {y}{path}\">{title}</path>"),
    };
}

/// An arrow at the right or left edge, for a point beyond it, with the point's value.
fn push_arrow(out: &mut String, area: &Area, right: bool, top: f64, point: &Mark) {
    let (at, back, anchor) = if right { (area.right, -1.0, "end") } else { (area.left, 1.0, "start") };
    let _ = writeln!(
        out,
        "<path class=\"m\" d=\"M{} {}l{} -5v10z\"><title>{}</title></path><text class=\"ax\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
        px(at),
        px(top),
        px(9.0 * back),
        escaped(&point.label),
        px(at + 13.0 * back),
        px(top + 4.0),
        number(point.x)
    );
}

/// A series' key in the legend: its line, mark and name.
fn push_key(out: &mut String, series: &Series, left: f64, middle: f64) {
    let style = series.style.min(STYLES.len() - 1);
    let _ = write!(out, "<g class=\"s{style} key\">");
    if series.line || !series.spans.is_empty() {
        let class = if series.line { "l" } else { "i" };
        let _ = write!(out, "<path class=\"{class}\" d=\"M{} {}h26\"/>", px(left), px(middle));
    }
    if series.marks {
        push_mark(out, style, &px(left + 13.0), &px(middle), "");
    }
    let (x, y) = (px(left + 31.0), px(middle + 4.0));
    let _ = writeln!(
        out,
        "<text class=\"ax\" x=\"{x}\" y=\"{y}\">{}</text></g>",
        escaped(&short(&series.name, LONGEST_KEY))
    );
}

/// A chart that is written to a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Picture {
    /// Axes and series.
    Chart(Chart),
    /// A table of numbers as colours.
    HeatMap(HeatMap),
}

impl Picture {
    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        match self {
            Picture::Chart(chart) => chart.is_empty(),
            Picture::HeatMap(map) => map.is_empty(),
        }
    }

    /// The picture as a standalone file.
    pub fn standalone(&self) -> String {
        match self {
            Picture::Chart(chart) => chart.standalone(),
            Picture::HeatMap(map) => standalone(&map.title, map.svg(), map.width()),
        }
    }
}

/// A file with the picture `svg`, `width` wide, below its title.
fn standalone(title: &str, svg: Option<String>, width: f64) -> String {
    let lines = wrapped(title, (width / 7.7) as usize);
    let head = 10.0 + 17.0 * lines.len() as f64;
    let empty = "<text class=\"ax\" x=\"20\" y=\"40\">no scores</text>\n".to_string();
    let inner = svg.unwrap_or(format!("<svg viewBox=\"0 0 {width} {HEIGHT}\">{empty}</svg>\n"));
    let height = view_height(&inner);
    let width = px(width);
    let inner = inner.replacen("<svg ", &format!("<svg y=\"{head}\" width=\"{width}\" height=\"{height}\" "), 1);
    let total = px(head + height);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {total}\" width=\"{width}\" \
         height=\"{total}\">\n<style>{}@media (prefers-color-scheme:dark){{{}}}</style>\n<rect class=\"page\" width=\"{width}\" height=\"{total}\"/>\n",
        style_sheet(false),
        style_sheet(true)
    );
    for (i, line) in lines.iter().enumerate() {
        let y = 20 + 17 * i;
        let _ = writeln!(out, "<text class=\"ax\" x=\"50%\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escaped(line));
    }
    out + &inner + "</svg>\n"
}

/// The CSS rules of all charts, for light or dark pages. Colours are literal because many SVG
/// viewers do not support CSS variables.
pub fn style_sheet(dark: bool) -> String {
    let pick = |light: &'static str, night: &'static str| if dark { night } else { light };
    let (ink, page) = (pick("#3D4551", "#C9D1D9"), pick("#FFFFFF", "#0D1117"));
    let (grid, frame) = (pick("#E5E7EB", "#262C36"), pick("#8A929E", "#8B949E"));
    let mut out = format!(
        ".page{{fill:{page}}}.ax{{fill:{ink};stroke:none}}.gr{{stroke:{grid};fill:none}}.fr{{stroke:{frame};fill:none}}\
         .fit{{stroke:{frame};fill:none;stroke-width:1.5}}.ru{{stroke:{frame};fill:none;stroke-dasharray:2 3}}\
         .m{{stroke:{page};stroke-width:.7}}"
    );
    if !dark {
        let _ = write!(
            out,
            ".chart,.ax{{font-family:'DejaVu Sans',system-ui,sans-serif;font-size:{LETTER}px}}\
             .l{{fill:none;stroke-width:2}}.i{{fill:none;stroke-width:1.5}}.thin .l{{stroke-width:1.1}}\
             .b{{fill-opacity:.16;stroke:none}}.m{{fill-opacity:.85}}"
        );
    }
    for (i, (light, night, dashes)) in STYLES.iter().enumerate() {
        let colour = pick(light, night);
        let _ = write!(out, ".s{i}{{fill:{colour}}}.s{i} .l,.s{i} .i{{stroke:{colour}}}");
        if !dark && !dashes.is_empty() {
            let _ = write!(out, ".s{i} .l{{stroke-dasharray:{dashes}}}");
        }
    }
    out + &heat_map::style_sheet(dark, ink)
}

/// The height in the chart's viewBox.
fn view_height(svg: &str) -> f64 {
    let after = svg.split("viewBox=\"").nth(1).and_then(|rest| rest.split('"').next());
    after.and_then(|numbers| numbers.split(' ').nth(3)?.parse().ok()).unwrap_or(HEIGHT)
}

/// A coordinate with at most one decimal.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

/// At most three lines of at most `width` letters each, broken between words; longer words are cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String = word.chars().take(width).collect();
        let line = lines.last_mut().expect("there is always one line");
        if line.is_empty() {
            *line = word;
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            *line += &format!(" {word}");
        } else {
            lines.push(word);
        }
    }
    lines.truncate(3);
    lines
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
            // XML forbids these, even escaped.
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
