//! Heat maps: a number for each row and column, coloured on a scale that diverges at 0, from blue
//! for negative numbers to orange for positive ones, which colour-blind readers distinguish too.

use super::axis::short;
use super::{LETTER_WIDTH, LONGEST, WIDTH, escaped, px};
use std::fmt::Write;

/// Colours on each side of 0; the last is for the limit of the scale and beyond.
const STEPS: i32 = 5;
/// A map with more columns has narrow cells without numbers; each cell's label has its number.
const MOST_NUMBERED: usize = 24;
const CELL: f64 = 42.0;
const NARROW: f64 = 14.0;
const CELL_HEIGHT: f64 = 24.0;
const NARROW_HEIGHT: f64 = 16.0;
/// Space between groups of columns.
const GAP: f64 = 8.0;
/// Height of the scale, with its numbers.
const SCALE: f64 = 38.0;
/// Height of the groups' names.
const GROUP: f64 = 20.0;
/// The most letters of a name in a cell's label.
const LONGEST_LABEL: usize = 60;
/// Numbers beyond this share of the scale's limit have its last colour. The limit is the largest
/// number, or less if few numbers are much larger than all others.
const FAR: f64 = 3.0;

/// Neutral, negative and positive colours, as red, green and blue. On each, letters in the ink of
/// the page have a contrast of 4.5:1.
const LIGHT: [[u8; 3]; 3] = [[0xF4, 0xF5, 0xF7], [0x5A, 0xA7, 0xDB], [0xF0, 0x8A, 0x4B]];
const DARK: [[u8; 3]; 3] = [[0x1B, 0x22, 0x2C], [0x1B, 0x64, 0x98], [0xA0, 0x46, 0x00]];

/// A table of numbers as colours.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeatMap {
    /// The title of a standalone file, and the text alternative of the picture.
    pub title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Groups of columns, each with its name and the names of its columns.
    pub groups: Vec<(String, Vec<String>)>,
    /// Row by row, a number for each column of all groups; NaN where there is none.
    pub cells: Vec<Vec<f64>>,
    /// What a number below 0 and one above 0 mean.
    pub ends: [String; 2],
}

/// Positions and sizes, in pixels.
struct Grid {
    left: f64,
    top: f64,
    cell: f64,
    height: f64,
    /// The left edge of each column.
    columns: Vec<f64>,
    /// Whether the names of columns are written upwards.
    turned: bool,
    width: f64,
    bottom: f64,
}

impl HeatMap {
    fn names(&self) -> Vec<&str> {
        self.groups.iter().flat_map(|(_, names)| names).map(String::as_str).collect()
    }

    fn value(&self, row: usize, column: usize) -> Option<f64> {
        self.cells.get(row)?.get(column).copied().filter(|v| v.abs() < 1e100)
    }

    /// Whether there is nothing to draw: no finite number.
    pub fn is_empty(&self) -> bool {
        let columns = self.names().len();
        !(0..self.rows.len()).any(|row| (0..columns).any(|column| self.value(row, column).is_some()))
    }

    /// The width in CSS pixels before scaling.
    pub(super) fn width(&self) -> f64 {
        self.grid().width
    }

    /// The map as an `<svg class="chart">` element without its own style; `None` if there is
    /// nothing to draw. On a page it is never wider than it is drawn, and shrinks only as far as
    /// its letters stay readable.
    pub fn svg(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let (grid, limit) = (self.grid(), self.limit());
        let mut out = format!(
            "<svg class=\"chart map\" viewBox=\"0 0 {} {}\" style=\"min-width:{}px;max-width:{}px\" \
             data-columns=\"{}\" role=\"img\" aria-label=\"{}\">\n",
            px(grid.width),
            px(grid.bottom),
            px((0.76 * grid.width).floor()),
            px(grid.width),
            grid.columns.len(),
            escaped(&self.title)
        );
        self.push_scale(&mut out, &grid, limit);
        self.push_names(&mut out, &grid);
        for row in 0..self.rows.len() {
            self.push_row(&mut out, &grid, row, limit);
        }
        Some(out + "</svg>\n")
    }

    fn grid(&self) -> Grid {
        let names = self.names();
        let (cell, height) = if names.len() <= MOST_NUMBERED { (CELL, CELL_HEIGHT) } else { (NARROW, NARROW_HEIGHT) };
        let longest = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or(0).min(LONGEST) as f64;
        let widest = longest(&mut self.rows.iter().map(|name| name.chars().count()));
        let highest = longest(&mut names.iter().map(|name| name.chars().count()));
        let turned = LETTER_WIDTH * highest > cell - 2.0;
        let left = 14.0 + LETTER_WIDTH * widest;
        let top = SCALE + GROUP + if turned { 8.0 + LETTER_WIDTH * highest } else { 20.0 };
        let mut columns = Vec::new();
        let mut at = left;
        for (_, names) in self.groups.iter().filter(|g| !g.1.is_empty()) {
            columns.extend((0..names.len()).map(|i| at + cell * i as f64));
            at += cell * names.len() as f64 + GAP;
        }
        let bottom = top + height * self.rows.len() as f64 + 6.0;
        Grid { left, top, cell, height, columns, turned, width: WIDTH.max(at + 6.0), bottom }
    }

    /// The magnitude that has the strongest colour.
    fn limit(&self) -> f64 {
        let all = (0..self.rows.len()).flat_map(|row| (0..self.names().len()).filter_map(move |c| self.value(row, c)));
        let mut sizes: Vec<f64> = all.map(f64::abs).collect();
        sizes.sort_by(f64::total_cmp);
        let largest = sizes.last().copied().unwrap_or(0.0);
        let usual = sizes.get(sizes.len() * 9 / 10).copied().unwrap_or(0.0);
        let limit = if usual > 0.0 && largest > FAR * usual { FAR * usual } else { largest };
        if limit > 0.0 { limit } else { 1.0 }
    }

    /// A swatch of each colour with the numbers at its ends.
    fn push_scale(&self, out: &mut String, grid: &Grid, limit: f64) {
        let (swatch, steps) = (14.0, f64::from(2 * STEPS + 1));
        let left = (grid.width - swatch * steps) / 2.0;
        for step in 0..=2 * STEPS {
            let at = px(left + swatch * f64::from(step));
            let _ = write!(out, "<path class=\"h{step}\" d=\"M{at} 4h{swatch}v12h-{swatch}z\"/>");
        }
        out.push_str("\n<g class=\"ax\">");
        let [below, above] = &self.ends;
        let right = left + swatch * steps;
        let ends = [
            (left - 6.0, "end", format!("{below} {}", signed(-limit))),
            (left + swatch * steps / 2.0, "middle", "0".into()),
            (right + 6.0, "start", format!("{} {above}", signed(limit))),
        ];
        for (i, (x, anchor, text)) in ends.iter().enumerate() {
            let y = if i == 1 { 30.0 } else { 14.0 };
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                px(*x),
                px(y),
                escaped(&short(text, LONGEST))
            );
        }
        out.push_str("</g>\n");
    }

    /// The names of groups, columns and rows.
    fn push_names(&self, out: &mut String, grid: &Grid) {
        out.push_str("<g class=\"ax\">");
        let mut first = 0;
        for (name, names) in self.groups.iter().filter(|g| !g.1.is_empty()) {
            let (x, y) = (grid.columns[first], SCALE + 14.0);
            let letters = ((grid.cell * names.len() as f64 + GAP) / LETTER_WIDTH) as usize;
            if letters >= 2 {
                let _ = write!(out, "<text x=\"{}\" y=\"{}\">{}</text>", px(x), px(y), escaped(&short(name, letters)));
            }
            first += names.len();
        }
        for (name, x) in self.names().iter().zip(&grid.columns) {
            let (x, y) = (px(x + grid.cell / 2.0 + if grid.turned { 4.0 } else { 0.0 }), px(grid.top - 6.0));
            let place = match grid.turned {
                true => format!("transform=\"translate({x} {y}) rotate(-90)\""),
                false => format!("x=\"{x}\" y=\"{y}\" text-anchor=\"middle\""),
            };
            let _ = write!(out, "<text {place}>{}</text>", escaped(&short(name, LONGEST)));
        }
        for (row, name) in self.rows.iter().enumerate() {
            let (x, y) = (px(grid.left - 6.0), px(grid.top + grid.height * (row as f64 + 0.5) + 4.0));
            let _ =
                write!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>", escaped(&short(name, LONGEST)));
        }
        out.push_str("</g>\n");
    }

    /// The cells of a row, each with its label, then the numbers in them. A cell whose row and
    /// column have one name is framed.
    fn push_row(&self, out: &mut String, grid: &Grid, row: usize, limit: f64) {
        let (top, name) = (grid.top + grid.height * row as f64, &self.rows[row]);
        let mut numbers = String::new();
        for (column, (other, left)) in self.names().iter().zip(&grid.columns).enumerate() {
            let value = self.value(row, column);
            let (class, number) = match value {
                Some(v) => (format!("h{}", STEPS + step(v, limit)), signed(v)),
                None => ("hx".into(), "no score".into()),
            };
            let own = if name == other { " own" } else { "" };
            let (w, h) = (px(grid.cell - 1.0), px(grid.height - 1.0));
            let label = format!("{} on {}: {number}", short(name, LONGEST_LABEL), short(other, LONGEST_LABEL));
            let _ = writeln!(
                out,
                "<path class=\"c {class}{own}\" d=\"M{} {}h{w}v{h}h-{w}z\"><title>{}</title></path>",
                px(*left),
                px(top),
                escaped(&label)
            );
            if value.is_some() && grid.cell == CELL {
                let (x, y) = (px(left + (CELL - 1.0) / 2.0), px(top + CELL_HEIGHT / 2.0 + 3.0));
                let _ = write!(numbers, "<text x=\"{x}\" y=\"{y}\">{number}</text>");
            }
        }
        if !numbers.is_empty() {
            let _ = writeln!(out, "<g class=\"hv\">{numbers}</g>");
        }
    }
}

/// From `-STEPS` to `STEPS`.
fn step(value: f64, limit: f64) -> i32 {
    (f64::from(STEPS) * (value / limit).clamp(-1.0, 1.0)).round() as i32
}

/// A number with its sign, in at most six letters.
fn signed(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 1000.0 => format!("{value:+.0e}"),
        v if v >= 10.0 => format!("{value:+.0}"),
        v if v >= 1.0 => format!("{value:+.2}"),
        _ => format!("{value:+.3}"),
    };
    if ["+0.000", "-0.000"].contains(&text.as_str()) { "0".into() } else { text }
}

/// The CSS rules of heat maps.
pub(super) fn style_sheet(dark: bool, ink: &str) -> String {
    let [neutral, below, above] = if dark { DARK } else { LIGHT };
    let mut out = format!(".hv{{fill:{ink};stroke:none}}.hx{{fill:none}}.own{{stroke:{ink}}}");
    if !dark {
        out +=
            ".hv{font-size:10px;text-anchor:middle;pointer-events:none}.own{stroke-width:1.5}.hx{pointer-events:all}";
    }
    for step in -STEPS..=STEPS {
        let end = if step < 0 { below } else { above };
        let share = f64::from(step.abs()) / f64::from(STEPS);
        let channel = |i: usize| (f64::from(neutral[i]) * (1.0 - share) + f64::from(end[i]) * share).round() as u8;
        let _ = write!(out, ".h{}{{fill:#{:02X}{:02X}{:02X}}}", step + STEPS, channel(0), channel(1), channel(2));
    }
    out
}
