//! Report as a self-contained HTML page.

use std::fmt::Write as _;

use super::Outcome;
use super::view::{duration, grouped, summary};
use crate::scenario::Sample;

/// Formats the page: the summary, and plots over time.
pub(super) fn page(outcome: &Outcome) -> String {
    let title = format!("{} at {}", outcome.pattern, outcome.urls.join(", "));
    let mut body = format!("<h1>{}</h1>\n<pre>{}</pre>\n", escaped(&title), escaped(&summary(outcome)));
    let samples = &outcome.samples;
    let deliveries = Line { name: "deliveries", class: "a", value: |it| Some(it.deliveries_per_s) };
    body += &plot("Deliveries per second", grouped, &[deliveries], samples);
    let p99 = Line { name: "p99", class: "b", value: |it| it.p99_us };
    let p50 = Line { name: "p50", class: "a", value: |it| it.p50_us };
    body += &plot("Latency", duration, &[p99, p50], samples);
    let server_cores = Line { name: "cores", class: "a", value: |it| it.server_cores };
    body += &plot("CPU cores used by the server", cores, &[server_cores], samples);
    let memory = Line { name: "memory", class: "a", value: |it| it.server_rss_bytes.map(|rss| rss as f64) };
    body += &plot("Resident memory of the server", mebibytes, &[memory], samples);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title><style>{STYLE}</style></head>\n\
         <body>\n{body}<p>Shaded: warm-up. Written by <code>roomcast bench</code> {}.</p>\n\
         </body></html>\n",
        escaped(&title),
        env!("CARGO_PKG_VERSION")
    )
}

struct Line {
    name: &'static str,
    class: &'static str,
    value: fn(&Sample) -> Option<f64>,
}

/// Plots values over time; returns an empty text if there are none.
fn plot(title: &str, unit: fn(f64) -> String, lines: &[Line], samples: &[Sample]) -> String {
    let values = lines.iter().flat_map(|line| samples.iter().filter_map(|sample| (line.value)(sample)));
    let most = values.fold(0.0, f64::max);
    let last = samples.last().map_or(0.0, |sample| sample.at_s);
    if most <= 0.0 || last <= 0.0 {
        return String::new();
    }
    let x = |seconds: f64| LEFT + seconds / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (1.0 - value / (most * 1.1)) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<h2>{title}</h2>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title>\n"
    );
    let warmup =
        samples.iter().take_while(|sample| !sample.measured).last().map_or(0.0, |sample| sample.at_s);
    _ = writeln!(
        svg,
        "<rect class=\"warmup\" x=\"{LEFT}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        x(warmup) - LEFT,
        HEIGHT - TOP - BOTTOM
    );
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        let y = y(value);
        _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0,
            unit(value)
        );
    }
    for (share, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{:.0} s</text>",
            x(last * share),
            HEIGHT - 8.0,
            last * share
        );
    }
    for (index, line) in lines.iter().enumerate() {
        let points: Vec<String> = samples
            .iter()
            .filter_map(|sample| Some(format!("{:.1},{:.1}", x(sample.at_s), y((line.value)(sample)?))))
            .collect();
        _ = writeln!(svg, "<polyline class=\"{}\" points=\"{}\"/>", line.class, points.join(" "));
        if lines.len() > 1 {
            let x = WIDTH - RIGHT - 8.0 - 48.0 * index as f64;
            _ = writeln!(
                svg,
                "<text class=\"{}\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                line.class,
                TOP - 4.0,
                line.name
            );
        }
    }
    svg + "</svg>\n"
}

fn cores(value: f64) -> String {
    format!("{value:.2}")
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.1} MiB", bytes / 1_048_576.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 26.0;
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:800px;margin:2rem auto;padding:0 1rem}\
                     pre{background:#f6f8fa;padding:1rem;overflow:auto}h2{font-size:1rem;margin:1.5rem 0 0}\
                     svg{width:100%}svg text{font-size:11px;fill:#57606a}.grid{stroke:#d8dee4}.warmup{fill:#eaeef2}\
                     polyline{fill:none;stroke-width:1.5}polyline.a{stroke:#0969da}polyline.b{stroke:#bc4c00}\
                     text.a{fill:#0969da}text.b{fill:#bc4c00}\
                     @media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}\
                     .grid{stroke:#30363d}.warmup{fill:#161b22}polyline.a{stroke:#4493f8}polyline.b{stroke:#f0883e}\
                     svg text{fill:#8d96a0}text.a{fill:#4493f8}text.b{fill:#f0883e}}";
