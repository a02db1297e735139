//! Dot plots with whiskers, as SVG.

use std::fmt::Write as _;

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
    let scale = Scale::new(dots, marks);
    let height = TOP + ROW * dots.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"22\">{title}</text>\n",
        title = escaped(title)
    );
    let bottom = height - BOTTOM;
    for tick in scale.ticks() {
        let x = scale.x(tick);
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
        if scale.logarithmic { ", logarithmic" } else { "" }
    );
    for (value, name) in marks {
        let x = scale.x(*value);
        _ = writeln!(
            svg,
            "<path class=\"mark\" d=\"M{x:.1} {TOP}V{bottom}\"><title>{name}: {value}</title></path>"
        );
    }
    for (index, dot) in dots.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        let class = if dot.ours { "ours" } else { "other" };
        let (low, high) = dot.value.interval.unwrap_or((dot.value.min, dot.value.max));
        let (from, to, x) = (scale.x(low), scale.x(high), scale.x(dot.value.median));
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

struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    fn new(dots: &[Dot], marks: &[(f64, &str)]) -> Self {
        let ends = dots.iter().flat_map(|dot| [dot.value.min, dot.value.max]);
        let values: Vec<f64> = ends.chain(marks.iter().map(|mark| mark.0)).filter(|it| *it > 0.0).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        if values.is_empty() {
            return Self { from: 0.0, to: 1.0, logarithmic: false };
        }
        let logarithmic = most / least > 8.0;
        if logarithmic {
            return Self { from: 0.8 * least, to: most * 1.25, logarithmic };
        }
        // The scale does not start at zero, so that differences are visible.
        let room = (most - least).max(0.05 * most) * 0.15;
        Self { from: (least - room).max(0.0), to: most + room, logarithmic }
    }

    fn x(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.from).ln() - self.from.ln()) / (self.to.ln() - self.from.ln())
        } else {
            (value - self.from) / (self.to - self.from)
        };
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// Returns round numbers inside the scale.
    fn ticks(&self) -> Vec<f64> {
        let inside = |tick: &f64| (self.from..=self.to).contains(tick);
        if self.logarithmic {
            let decades = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
            let ticks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| rounded(digit, decade)));
            return ticks.filter(inside).collect();
        }
        let rough = (self.to - self.from) / 6.0;
        let decade = rough.log10().floor() as i32;
        let digit =
            [1.0, 2.0, 5.0].into_iter().find(|&digit| rounded(digit, decade) >= rough).unwrap_or(10.0);
        let first = (self.from / rounded(digit, decade)).ceil() as i64;
        let ticks = (first..first + 20).map(|tick| rounded(tick as f64 * digit, decade));
        ticks.filter(inside).collect()
    }
}

/// Returns `digits` times a power of ten, without the rounding error of negative powers.
fn rounded(digits: f64, decade: i32) -> f64 {
    if decade < 0 { digits / 10_f64.powi(-decade) } else { digits * 10_f64.powi(decade) }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 760.0;
/// Space for names.
const LEFT: f64 = 190.0;
/// Space for the value after the last dot.
const RIGHT: f64 = 64.0;
const TOP: f64 = 38.0;
const BOTTOM: f64 = 46.0;
const ROW: f64 = 22.0;
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
        let scale = Scale::new(&dots, &[]);
        assert_eq!(scale.ticks(), [1.0, 1.2, 1.4]);
        assert!(scale.x(1.0) >= LEFT && scale.x(1.5) <= WIDTH - RIGHT);
    }

    #[test]
    fn distant_values_use_logarithmic_scale() {
        let scale = Scale::new(&[dot("ours", &[1.0]), dot("other", &[70.0])], &[]);
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        let step = scale.x(10.0) - scale.x(1.0);
        assert!((scale.x(50.0) - scale.x(5.0) - step).abs() < 1e-9);
        assert!(plot("", "ratio", &[], &[]).contains("</svg>"));
    }
}
