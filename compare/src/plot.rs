//! Dot plots with whiskers, as SVG.

use std::fmt::Write as _;

use roomcast_loadgen::axis::{Axis, escaped};

use super::summary::Summary;

/// Value of a server in a plot.
#[derive(Debug, Clone)]
pub(super) struct Dot {
    pub(super) label: String,
    pub(super) value: Summary,
    /// Whether to highlight it as a Roomcast server.
    pub(super) ours: bool,
}

/// Draws a line per server: its median as a dot, with the 95 % interval, or the range if there are too few rounds.
///
/// `marks` are drawn across all lines. The scale is logarithmic for a wide range of values. Colors follow the reader's
/// light or dark mode.
pub(super) fn plot(title: &str, axis: &str, dots: &[Dot], marks: &[(f64, &str)]) -> String {
    let scale = axis_of(dots, marks);
    let x_of = |value| x_of(&scale, value);
    let height = TOP + ROW * dots.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"22\">{title}</text>\n",
        title = escaped(title)
    );
    let bottom = height - BOTTOM;
    for tick in scale.ticks(TICKS) {
        let x = x_of(tick);
        _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/><text class=\"faint\" x=\"{x:.1}\" y=\"{:.1}\" \
             text-anchor=\"middle\">{tick}</text>",
            bottom + 16.0
        );
    }
    _ = writeln!(
        svg,
        "<text class=\"faint\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}{}</text>",
        WIDTH - RIGHT,
        bottom + 34.0,
        escaped(axis),
        if scale.is_logarithmic() { ", logarithmic" } else { "" }
    );
    for (value, name) in marks {
        let x = x_of(*value);
        _ = writeln!(
            svg,
            "<path class=\"mark\" d=\"M{x:.1} {TOP}V{bottom}\"><title>{name}: {value}</title></path>"
        );
    }
    for (index, dot) in dots.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        let class = if dot.ours { "ours" } else { "other" };
        let (low, high) = dot.value.interval.unwrap_or((dot.value.min, dot.value.max));
        let (from, to, x) = (x_of(low), x_of(high), x_of(dot.value.median));
        _ = writeln!(
            svg,
            "<g class=\"{class}\"><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <path d=\"M{from:.1} {y:.1}H{to:.1}\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            LEFT - 12.0,
            y + 4.0,
            escaped(&dot.label),
            to.max(x) + 10.0,
            y + 4.0,
            short(dot.value.median)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the axis for all values; logarithmic for a wide range.
fn axis_of(dots: &[Dot], marks: &[(f64, &str)]) -> Axis {
    let ends = dots.iter().flat_map(|dot| [dot.value.min, dot.value.max]);
    let values: Vec<f64> = ends.chain(marks.iter().map(|mark| mark.0)).filter(|it| *it > 0.0).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    if values.is_empty() {
        return Axis::linear(0.0, 1.0);
    }
    if most / least > 8.0 {
        return Axis::logarithmic(0.8 * least, most * 1.25);
    }
    // The axis does not start at zero, so that differences are visible.
    let room = (most - least).max(0.05 * most) * 0.15;
    Axis::linear((least - room).max(0.0), most + room)
}

/// Returns the coordinate of a value.
fn x_of(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.position(value) * (WIDTH - LEFT - RIGHT)
}

fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

const WIDTH: f64 = 760.0;
/// Space for names.
const LEFT: f64 = 190.0;
/// Space for the value after the last dot.
const RIGHT: f64 = 64.0;
const TOP: f64 = 38.0;
const BOTTOM: f64 = 46.0;
const ROW: f64 = 22.0;
/// Approximate number of ticks of an axis.
const TICKS: usize = 6;
const STYLE: &str = ".ground{fill:#fff}.title{font-weight:600;font-size:14px}text{fill:#24292f}.faint{fill:#6e7781}\
                     .grid{stroke:#eaeef2}.mark{stroke:#bf8700;stroke-dasharray:4 3}\
                     .ours path{stroke:#0969da;stroke-width:3}.ours circle{fill:#0969da}.ours text{font-weight:600}\
                     .other path{stroke:#8c959f;stroke-width:3}.other circle{fill:#57606a}\
                     @media(prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#e6edf3}.faint{fill:#8d96a0}\
                     .grid{stroke:#21262d}.mark{stroke:#d29922}.ours path{stroke:#4493f8}.ours circle{fill:#4493f8}\
                     .other path{stroke:#656c76}.other circle{fill:#b1bac4}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(label: &str, values: &[f64]) -> Dot {
        Dot {
            label: label.into(),
            value: Summary::of(values.iter().copied()).unwrap(),
            ours: label == "ours",
        }
    }

    #[test]
    fn near_values_use_linear_scale() {
        let dots = [dot("ours", &[1.0, 1.1, 1.2]), dot("a < b", &[1.5])];
        let svg = plot("title", "ratio", &dots, &[(1.12, "must")]);
        assert!(svg.contains("a &lt; b") && svg.contains(">1.10</text>") && svg.contains("must: 1.12"));
        assert!(!svg.contains("logarithmic"));
        assert_eq!(svg.matches("<circle").count(), 2);
        let scale = axis_of(&dots, &[]);
        assert_eq!(scale.ticks(TICKS), [1.0, 1.2, 1.4]);
        assert!(x_of(&scale, 1.0) >= LEFT && x_of(&scale, 1.5) <= WIDTH - RIGHT);
    }

    #[test]
    fn distant_values_use_logarithmic_scale() {
        let scale = axis_of(&[dot("ours", &[1.0]), dot("other", &[70.0])], &[]);
        assert_eq!(scale.ticks(TICKS), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        let step = x_of(&scale, 10.0) - x_of(&scale, 1.0);
        assert!((x_of(&scale, 50.0) - x_of(&scale, 5.0) - step).abs() < 1e-9);
        assert!(plot("", "ratio", &[], &[]).contains("</svg>"));
    }
}
