//! A plot of CPU against listeners for the README: both axes logarithmic, for light and dark pages.

use std::fmt::Write as _;

/// The line of one server: points of (listeners, percent of a core).
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Marks the line of the daemon, which is highlighted.
    pub(crate) ours: bool,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Margins around the plot: for numbers on the left and below, for names on the right.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// The least distance between two names.
const NAME_HEIGHT: f64 = 17.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#333}.axis{stroke:#ddd}.line{fill:none;stroke:#888;stroke-width:1.5}\
.dot{fill:#888}.ours{stroke:#c33;stroke-width:3}.dot.ours{fill:#c33;stroke:none}text.ours{fill:#c33;font-weight:600;stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#ccc}.axis{stroke:#444}.ours{stroke:#f77}.dot.ours,text.ours{fill:#f77}}";

/// A logarithmic axis between two powers of ten.
struct Axis {
    /// The exponents of ten at both ends.
    from: f64,
    to: f64,
    /// The position in the picture.
    at: f64,
    length: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, at: f64, length: f64) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let most = values.fold(f64::NEG_INFINITY, f64::max).log10().ceil();
        Axis { from: least, to: most.max(least + 1.0), at, length }
    }

    fn place(&self, value: f64) -> f64 {
        self.at + (value.log10() - self.from) / (self.to - self.from) * self.length
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|power| 10f64.powi(power))
    }
}

/// Returns the picture; `None` without data.
pub(crate) fn svg(title: &str, lines: &[Line]) -> Option<String> {
    let points = lines.iter().flat_map(|line| &line.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    points.clone().next()?;
    let x = Axis::new(points.clone().map(|point| point.0), LEFT, WIDTH - LEFT - RIGHT);
    let y = Axis::new(points.map(|point| point.1), HEIGHT - BOTTOM, TOP + BOTTOM - HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n"
    );
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"20\">{title}</text>");
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for value in x.powers() {
        let at = x.place(value);
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            bottom + 18.0
        );
    }
    for value in y.powers() {
        let at = y.place(value);
        let _ = writeln!(
            out,
            "<path class=\"axis\" d=\"M{LEFT} {at:.1}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value} %</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">listeners</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 8.0
    );
    for line in lines {
        let class = if line.ours { " ours" } else { "" };
        let places: Vec<(f64, f64)> =
            line.points.iter().map(|(at, value)| (x.place(*at), y.place(*value))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let _ = writeln!(out, "<path class=\"line{class}\" d=\"M{}\"/>", path.join("L"));
        for (x, y) in places {
            let _ = writeln!(out, "<circle class=\"dot{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
    }
    // Names at the ends of the lines, moved apart if they overlap.
    let mut ends: Vec<(&Line, f64, f64)> = lines
        .iter()
        .filter_map(|line| line.points.last().map(|(at, value)| (line, x.place(*at), y.place(*value))))
        .collect();
    ends.sort_by(|a, b| a.2.total_cmp(&b.2));
    let mut free = TOP;
    for (line, at, height) in ends {
        let height = height.max(free);
        free = height + NAME_HEIGHT;
        let class = if line.ours { " class=\"ours\"" } else { "" };
        let _ = writeln!(
            out,
            "<text{class} x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            at + 10.0,
            height + 4.0,
            line.name
        );
    }
    out += "</svg>\n";
    Some(out)
}
