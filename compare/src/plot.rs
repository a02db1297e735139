//! Dot plots with whiskers, as SVG.

use std::fmt::Write as _;

use roomcast_loadgen::axis::{Axis, escaped};

use super::summary::{Summary, thousands};

/// Value of a server in a plot.
#[derive(Debug, Clone)]
pub(super) struct Dot {
    pub(super) label: String,
    pub(super) value: Summary,
    /// Whether to highlight it as a Roomcast server.
    pub(super) ours: bool,
}

/// Values of servers with an axis, next to others in a plot.
#[derive(Debug, Clone)]
pub(super) struct Panel<'a> {
    pub(super) axis: &'a str,
    pub(super) dots: Vec<Dot>,
    /// Values marked across all lines.
    pub(super) marks: Vec<(f64, &'static str)>,
}

/// Draws a line per server: its median as a dot, with the 95 % interval, or the range if there are too few rounds.
///
/// Panels are drawn next to each other and share the names, in the order of the first panel. A scale is logarithmic for
/// a wide range of values. Colors follow the reader's light or dark mode.
pub(super) fn plot(title: &str, panels: &[Panel<'_>]) -> String {
    let mut names: Vec<(&str, bool)> = Vec::new();
    for dot in panels.iter().flat_map(|panel| &panel.dots) {
        if !names.iter().any(|name| name.0 == dot.label) {
            names.push((&dot.label, dot.ours));
        }
    }
    let height = TOP + ROW * names.len() as f64 + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"16\" y=\"22\">{title}</text>\n",
        title = escaped(title)
    );
    for (index, (name, ours)) in names.iter().enumerate() {
        let (class, y) = (if *ours { "ours" } else { "other" }, middle(index) + 4.0);
        _ = writeln!(
            svg,
            "<g class=\"{class}\"><text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text></g>",
            LEFT - 12.0,
            escaped(name)
        );
    }
    let width = (WIDTH - LEFT) / panels.len().max(1) as f64;
    for (index, panel) in panels.iter().enumerate() {
        let left = LEFT + width * index as f64;
        panel.draw(&mut svg, (left, left + width - RIGHT), &names, height - BOTTOM);
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel<'_> {
    /// Draws scale and values between two horizontal positions.
    fn draw(&self, svg: &mut String, (left, right): (f64, f64), names: &[(&str, bool)], bottom: f64) {
        let scale = Scale::new(&self.dots, &self.marks, left, right);
        let labels = scale.labels();
        for tick in scale.ticks() {
            let x = scale.x(tick);
            _ = write!(svg, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
            if labels.contains(&tick) {
                let (y, label) = (bottom + 16.0, label(tick));
                _ = write!(
                    svg,
                    "<text class=\"faint\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{label}</text>"
                );
            }
            svg.push('\n');
        }
        _ = writeln!(
            svg,
            "<text class=\"faint\" x=\"{left:.1}\" y=\"{:.1}\">{}{}</text>",
            bottom + 34.0,
            escaped(self.axis),
            if scale.logarithmic { ", logarithmic" } else { "" }
        );
        // Names to both sides, so that they do not overlap.
        let highest = self.marks.iter().map(|mark| mark.0).fold(0.0, f64::max);
        for (value, name) in &self.marks {
            let x = scale.x(*value);
            let (at, anchor) = if *value < highest { (x - 3.0, "end") } else { (x + 3.0, "start") };
            _ = writeln!(
                svg,
                "<path class=\"mark\" d=\"M{x:.1} {:.1}V{bottom}\"><title>{name}: {value}</title></path>\
                 <text class=\"faint\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{name}</text>",
                TOP - 12.0,
                TOP - 4.0
            );
        }
        for dot in &self.dots {
            let index = names.iter().position(|name| name.0 == dot.label).unwrap_or_default();
            let y = middle(index);
            let class = if dot.ours { "ours" } else { "other" };
            let (low, high) = dot.value.interval.unwrap_or((dot.value.min, dot.value.max));
            let (from, to, x) = (scale.x(low), scale.x(high), scale.x(dot.value.median));
            _ = writeln!(
                svg,
                "<g class=\"{class}\"><path d=\"M{from:.1} {y:.1}H{to:.1}\"/>\
                 <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\"/><text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
                to.max(x + 4.5) + 6.0,
                y + 4.0,
                short(dot.value.median)
            );
        }
    }
}

/// Returns the vertical position of a line.
fn middle(index: usize) -> f64 {
    TOP + ROW * (index as f64 + 0.5)
}

struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
    /// Distance of the ticks, unless it is logarithmic.
    step: f64,
    /// Horizontal positions of the ends.
    left: f64,
    right: f64,
}

impl Scale {
    /// Returns a scale whose ends are ticks, so that all values are between two of them.
    fn new(dots: &[Dot], marks: &[(f64, &str)], left: f64, right: f64) -> Self {
        let ends = dots.iter().flat_map(|dot| {
            let (low, high) = dot.value.interval.unwrap_or((dot.value.min, dot.value.max));
            [low, high]
        });
        let values: Vec<f64> = ends.chain(marks.iter().map(|mark| mark.0)).filter(|it| *it > 0.0).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let (from, to, logarithmic, step) = if values.is_empty() {
            (0.0, 1.0, false, 0.5)
        } else if most / least > 8.0 {
            (round_tick(least, false), round_tick(most, true), true, 1.0)
        } else {
            // The scale does not start at zero, so that differences are visible.
            let room = (most - least).max(0.05 * most) * 0.05;
            let (least, most) = (least - room, most + room);
            let intervals = ((right - left) / 48.0).floor().clamp(4.0, 10.0);
            let ends = |step: f64| ((least / step).floor().max(0.0) * step, (most / step).ceil() * step);
            let mut step = round_tick((most - least) / intervals, true);
            let (mut from, mut to) = ends(step);
            // The ends, at ticks, may need one interval more.
            while (to - from) / step > intervals + 0.5 {
                step = round_tick(1.5 * step, true);
                (from, to) = ends(step);
            }
            (from, to, false, step)
        };
        Self { from, to, logarithmic, step, left, right }
    }

    fn x(&self, value: f64) -> f64 {
        let axis = if self.logarithmic { Axis::logarithmic } else { Axis::linear };
        self.left + axis(self.from, self.to).position(value) * (self.right - self.left)
    }

    /// Returns the round numbers of the scale: 1, 2 and 5 times powers of ten, or multiples of one of them.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let decades = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
            let ticks = decades.flat_map(|decade| DIGITS.map(|digit| rounded(digit, decade)));
            return ticks.filter(|tick| (self.from..=self.to).contains(tick)).collect();
        }
        let (first, last) = ((self.from / self.step).round() as i64, (self.to / self.step).round() as i64);
        (first..=last).map(|tick| decimal(tick as f64 * self.step)).collect()
    }

    /// Returns the ticks with a label: all, or only powers of ten if the others have no room.
    fn labels(&self) -> Vec<f64> {
        let ticks = self.ticks();
        let half = |tick: f64| 3.5 * label(tick).len() as f64;
        let fits = |pair: &[f64]| self.x(pair[1]) - half(pair[1]) > self.x(pair[0]) + half(pair[0]) + 4.0;
        if !self.logarithmic || ticks.windows(2).all(fits) {
            return ticks;
        }
        ticks.into_iter().filter(|tick| tick.log10().fract() == 0.0).collect()
    }
}

/// Returns the next 1, 2 or 5 times a power of ten, up or down.
fn round_tick(value: f64, up: bool) -> f64 {
    let decade = value.log10().floor() as i32;
    let mut ticks = (decade - 1..=decade + 1).flat_map(|decade| DIGITS.map(|digit| rounded(digit, decade)));
    let found = if up {
        ticks.find(|tick| *tick >= value * (1.0 - 1e-9))
    } else {
        ticks.rfind(|tick| *tick <= value * (1.0 + 1e-9))
    };
    found.unwrap_or(value)
}

const DIGITS: [f64; 3] = [1.0, 2.0, 5.0];

/// Removes the rounding error of a product.
fn decimal(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// Formats a tick with separators.
fn label(tick: f64) -> String {
    if tick >= 1000.0 { thousands(tick) } else { tick.to_string() }
}

/// Returns `digits` times a power of ten, without the rounding error of negative powers.
fn rounded(digits: f64, decade: i32) -> f64 {
    if decade < 0 { digits / 10_f64.powi(-decade) } else { digits * 10_f64.powi(decade) }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => thousands(value),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

const WIDTH: f64 = 760.0;
/// Space for names.
const LEFT: f64 = 214.0;
/// Space for the value after the last dot.
const RIGHT: f64 = 64.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 46.0;
const ROW: f64 = 22.0;
const STYLE: &str = ".ground{fill:#fff}.title{font-weight:600;font-size:14px}text{fill:#24292f}.faint{fill:#6e7781}\
                     .grid{stroke:#eaeef2}.value{stroke:#fff;stroke-width:4px;paint-order:stroke}.mark{stroke:#bf8700;stroke-dasharray:4 3}\
                     .ours path{stroke:#0969da;stroke-width:3}.ours circle{fill:#0969da}.ours text{font-weight:600}\
                     .other path{stroke:#8c959f;stroke-width:3}.other circle{fill:#57606a}\
                     @media(prefers-color-scheme:dark){.ground{fill:#0d1117}.value{stroke:#0d1117}text{fill:#e6edf3}.faint{fill:#8d96a0}\
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

    fn panel(dots: &[Dot]) -> Panel<'static> {
        Panel { axis: "ratio", dots: dots.to_vec(), marks: vec![(1.1, "must")] }
    }

    #[test]
    fn near_values_use_linear_scale() {
        let dots = [dot("ours", &[1.0, 1.1, 1.2]), dot("a < b", &[1.5])];
        let svg = plot("title", &[panel(&dots)]);
        assert!(svg.contains("a &lt; b") && svg.contains(">1.10</text>") && svg.contains("must: 1.1"));
        assert!(!svg.contains("logarithmic"));
        assert_eq!(svg.matches("<circle").count(), 2);
        let scale = Scale::new(&dots, &[], 100.0, 600.0);
        assert_eq!(scale.ticks(), [0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]);
        assert_eq!((scale.x(0.9), scale.x(1.6)), (100.0, 600.0));
    }

    #[test]
    fn distant_values_use_logarithmic_scale() {
        let dots = [dot("ours", &[1.0]), dot("other", &[70.0])];
        let scale = Scale::new(&dots, &[], 0.0, 500.0);
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let step = scale.x(10.0) - scale.x(1.0);
        assert!((scale.x(50.0) - scale.x(5.0) - step).abs() < 1e-9);
        assert_eq!(scale.labels(), scale.ticks());
        assert_eq!(Scale::new(&dots, &[], 0.0, 100.0).labels(), [1.0, 10.0, 100.0]);
        assert!(plot("", &[panel(&[])]).contains("</svg>"));
    }

    #[test]
    fn ticks_are_round_at_any_magnitude() {
        for (value, up, down) in
            [(3.0, 5.0, 2.0), (0.07, 0.1, 0.05), (1200.0, 2000.0, 1000.0), (0.5, 0.5, 0.5)]
        {
            assert_eq!((round_tick(value, true), round_tick(value, false)), (up, down), "{value}");
        }
        let scale = Scale::new(&[dot("ours", &[2471.0]), dot("other", &[7201.0])], &[], 0.0, 500.0);
        assert_eq!(scale.ticks(), [2000.0, 3000.0, 4000.0, 5000.0, 6000.0, 7000.0, 8000.0]);
        assert_eq!(label(2000.0), "2,000");
    }

    #[test]
    fn narrow_panels_have_few_ticks() {
        let dots = [dot("ours", &[0.97]), dot("other", &[2.64])];
        assert_eq!(Scale::new(&dots, &[], 0.0, 120.0).ticks(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(Scale::new(&dots, &[], 0.0, 480.0).ticks().len(), 11, "0.8 to 2.8");
    }

    #[test]
    fn panels_share_names() {
        let (one, two) = ([dot("a", &[2.0]), dot("b", &[1.0])], [dot("b", &[3.0]), dot("c", &[4.0])]);
        let svg = plot("", &[panel(&one), panel(&two)]);
        assert_eq!(svg.matches("<circle").count(), 4);
        for name in ["a", "b", "c"] {
            assert_eq!(svg.matches(&format!(">{name}</text>")).count(), 1, "{name} in {svg}");
        }
    }
}
