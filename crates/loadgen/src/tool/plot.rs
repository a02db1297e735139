//! Line and dot plots as SVG.

use std::fmt::Write as _;

use crate::axis::{Axis, escaped};

/// Plot with two axes.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) series: Vec<Series<'a>>,
    /// Range on the x axis that is shaded.
    pub(super) shaded: Option<(f64, f64)>,
    /// Value on the y axis that is marked by a line.
    pub(super) limit: Option<f64>,
}

/// Axis with labelled ticks.
#[derive(Debug)]
pub(super) struct Scale {
    pub(super) axis: Axis,
    pub(super) ticks: Vec<(f64, String)>,
}

/// Points of one color.
#[derive(Debug)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    pub(super) color: Color,
    /// Whether to draw dots instead of a line.
    pub(super) dots: bool,
    pub(super) points: Vec<(f64, f64)>,
}

/// Color of a series; follows the reader's light or dark mode.
#[derive(Debug, Clone, Copy)]
pub(super) enum Color {
    First,
    Second,
}

impl Scale {
    /// Returns a linear scale from zero.
    pub(super) fn from_zero(to: f64, ticks: usize, label: impl Fn(f64) -> String) -> Self {
        Self::new(Axis::linear(0.0, to), ticks, label)
    }

    /// Returns a scale for the values, logarithmic if they span a wide range.
    pub(super) fn around(values: impl Iterator<Item = f64>, label: impl Fn(f64) -> String) -> Self {
        let values: Vec<f64> = values.filter(|value| *value > 0.0).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        if values.is_empty() || most / least < WIDE_RANGE {
            return Self::from_zero(if values.is_empty() { 1.0 } else { most * HEADROOM }, Y_TICKS, label);
        }
        Self::new(Axis::logarithmic(least / HEADROOM, most * HEADROOM), Y_TICKS, label)
    }

    fn new(axis: Axis, ticks: usize, label: impl Fn(f64) -> String) -> Self {
        let ticks = axis.ticks(ticks).into_iter().map(|tick| (tick, label(tick))).collect();
        Self { axis, ticks }
    }
}

impl Plot<'_> {
    /// Draws the plot.
    pub(super) fn svg(&self) -> String {
        let x = |value: f64| LEFT + self.x.axis.position(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + (1.0 - self.y.axis.position(value)) * (HEIGHT - TOP - BOTTOM);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let title = escaped(self.title);
        let mut svg = format!(
            "<h2>{title}</h2>\n<div class=\"plot\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\
             <title>{title}</title>\n"
        );
        if let Some((from, to)) = self.shaded {
            let (from, to) = (x(from), x(to));
            _ = writeln!(
                svg,
                "<rect class=\"shaded\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                to - from,
                bottom - TOP
            );
        }
        for (tick, label) in &self.y.ticks {
            let (y, label) = (y(*tick), escaped(label));
            _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        for (tick, label) in &self.x.ticks {
            let (x, label) = (x(*tick), escaped(label));
            _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {bottom:.1}v4\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                HEIGHT - 8.0
            );
        }
        if let Some(limit) = self.limit {
            _ = writeln!(svg, "<path class=\"limit\" d=\"M{LEFT} {:.1}H{right:.1}\"/>", y(limit));
        }
        let mut legend_x = right;
        for series in self.series.iter().filter(|series| !series.points.is_empty()) {
            let class = series.color.class();
            if series.dots {
                for (at, value) in &series.points {
                    _ = writeln!(
                        svg,
                        "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
                        x(*at),
                        y(*value)
                    );
                }
            } else {
                let points =
                    series.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)));
                let points = points.collect::<Vec<_>>().join(" ");
                _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{points}\"/>");
            }
            if self.series.len() > 1 {
                let name = escaped(series.name);
                _ = writeln!(
                    svg,
                    "<text class=\"{class}\" x=\"{legend_x:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
                    TOP - 6.0
                );
                legend_x -= NAME_WIDTH * series.name.chars().count() as f64 + NAME_GAP;
            }
        }
        svg + "</svg></div>\n"
    }
}

impl Color {
    fn class(self) -> &'static str {
        match self {
            Self::First => "a",
            Self::Second => "b",
        }
    }
}

/// Ratio of maximum to minimum from which a scale is logarithmic.
const WIDE_RANGE: f64 = 8.0;
/// Factor between the highest value and the end of a scale.
const HEADROOM: f64 = 1.15;
/// Approximate number of ticks of a y axis.
pub(super) const Y_TICKS: usize = 4;
const WIDTH: f64 = 700.0;
const HEIGHT: f64 = 220.0;
/// Space for the labels of the y axis.
const LEFT: f64 = 84.0;
/// Space for half of the last label of the x axis.
const RIGHT: f64 = 24.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 28.0;
/// Approximate width of a character of the legend.
const NAME_WIDTH: f64 = 6.5;
const NAME_GAP: f64 = 14.0;

/// Style sheet of the plots.
pub(super) const STYLE: &str = ".plot{overflow-x:auto}.plot svg{width:100%;min-width:520px;display:block}\
    svg text{font-size:11px;fill:#57606a}.grid{stroke:#d8dee4}.shaded{fill:#eaeef2}\
    .limit{stroke:#8250df;stroke-width:1.5;stroke-dasharray:5 4}\
    polyline{fill:none;stroke-width:1.5}polyline.a{stroke:#0969da}polyline.b{stroke:#bc4c00}\
    circle.a,svg text.a{fill:#0969da}circle.b,svg text.b{fill:#bc4c00}\
    @media(prefers-color-scheme:dark){svg text{fill:#9da7b1}.grid{stroke:#30363d}.shaded{fill:#161b22}\
    .limit{stroke:#ab7df8}polyline.a{stroke:#4493f8}polyline.b{stroke:#f0883e}\
    circle.a,svg text.a{fill:#4493f8}circle.b,svg text.b{fill:#f0883e}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn label(value: f64) -> String {
        format!("{value} <s>")
    }

    #[test]
    fn draws_series_ticks_and_limit() {
        let series =
            |name, dots| Series { name, color: Color::First, dots, points: vec![(1.0, 2.0), (2.0, 8.0)] };
        let plot = Plot {
            title: "a & b",
            x: Scale::from_zero(2.0, 4, label),
            y: Scale::from_zero(10.0, 2, label),
            series: vec![
                series("line", false),
                series("dots", true),
                Series { name: "none", color: Color::Second, dots: true, points: Vec::new() },
            ],
            shaded: Some((0.0, 1.0)),
            limit: Some(5.0),
        };
        let svg = plot.svg();
        for (part, count) in [
            ("a &amp; b", 2),
            ("<polyline", 1),
            ("<circle", 2),
            ("class=\"shaded\"", 1),
            ("class=\"limit\"", 1),
            (">line</text>", 1),
            (">none</text>", 0),
            (">0.5 &lt;s&gt;</text>", 1),
            (">10 &lt;s&gt;</text>", 1),
        ] {
            assert_eq!(svg.matches(part).count(), count, "{part} in {svg}");
        }
    }

    #[test]
    fn wide_ranges_are_logarithmic() {
        assert!(Scale::around([1.0, 9.0].into_iter(), label).axis.is_logarithmic());
        assert!(!Scale::around([2.0, 9.0].into_iter(), label).axis.is_logarithmic());
        assert_eq!(Scale::around(std::iter::empty(), label).axis, Axis::linear(0.0, 1.0));
        let ticks = Scale::around([90.0, 1_000.0].into_iter(), label).ticks;
        assert!(ticks.iter().any(|(tick, _)| *tick == 100.0), "{ticks:?}");
    }
}
