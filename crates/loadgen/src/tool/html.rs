//! Report as a self-contained HTML page.

use std::fmt::Write as _;

use super::outcome::Outcome;
use super::plot::{self, Color, Plot, Scale, Series, Y_TICKS};
use super::summary::{summary, verdict};
use crate::axis::{Axis, escaped};
use crate::capacity::{Capacity, Verdict};
use crate::format::{duration, grouped, round_duration};
use crate::latencies::PercentileStep;
use crate::scenario::Sample;

/// Formats the page: the summary, the steps of a search, and plots.
pub(super) fn page(outcome: &Outcome) -> String {
    let title = format!("{} at {}", outcome.pattern, outcome.urls.join(", "));
    let mut body = format!("<h1>{}</h1>\n", escaped(&title));
    _ = writeln!(
        body,
        "<dl><dt>Date</dt><dd><time>{}</time></dd>\n<dt>Command</dt><dd><code>{}</code></dd>\n\
         <dt>Load generator</dt><dd>{}</dd></dl>\n<pre>{}</pre>",
        escaped(&outcome.date),
        escaped(&outcome.command),
        escaped(&outcome.machine.to_string()),
        escaped(&summary(outcome))
    );
    if let Some(capacity) = &outcome.capacity {
        body += &steps(capacity);
        if let Some(rate) = capacity.rate {
            _ = writeln!(
                body,
                "<p>The plots below show the run at {} messages per second.</p>",
                grouped(rate)
            );
        }
    }
    body += &percentile_plot(&outcome.percentiles);
    body += &time_plots(&outcome.samples);
    if let Some(histogram) = &outcome.report.histogram {
        _ = writeln!(
            body,
            "<details><summary>Latencies in nanoseconds for HdrHistogram tools (V2, compressed, base64)</summary>\
             <pre>{}</pre></details>",
            escaped(histogram)
        );
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{}</title><style>{STYLE}{}</style></head>\n\
         <body>\n{body}<p>Shaded: warm-up. Written by <code>roomcast bench</code> {}.</p>\n</body></html>\n",
        escaped(&title),
        plot::STYLE,
        outcome.version
    )
}

/// Formats the steps of a search as a table and a plot.
fn steps(capacity: &Capacity) -> String {
    let mut html = String::from(
        "<h2>Steps of the search</h2>\n<div class=\"plot\"><table><thead><tr><th>Messages/s</th><th>Delivered/s</th>\
         <th>p50</th><th>p99</th><th>Late</th><th>Phase</th><th>Verdict</th></tr></thead>\n<tbody>\n",
    );
    let latency = |micros: Option<f64>| micros.map_or_else(|| "–".into(), duration);
    for step in &capacity.steps {
        _ = writeln!(
            html,
            "<tr class=\"{}\"><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2} %</td><td>{}</td><td>{}</td></tr>",
            if step.verdict == Verdict::Ok { "a" } else { "b" },
            grouped(step.rate),
            grouped(step.delivered_rate),
            latency(step.p50_us),
            latency(step.p99_us),
            step.late_share * 100.0,
            step.phase.name(),
            escaped(&verdict(step))
        );
    }
    html += "</tbody></table></div>\n";
    let points = |ok: bool| -> Vec<(f64, f64)> {
        let steps = capacity.steps.iter().filter(|step| (step.verdict == Verdict::Ok) == ok);
        steps.filter_map(|step| Some((step.rate, step.limited_us?))).collect()
    };
    let (passed, failed) = (points(true), points(false));
    let all = || passed.iter().chain(&failed);
    if all().next().is_none() {
        return html;
    }
    let latencies = all().map(|point| point.1).chain([capacity.limit_us]);
    let plot = Plot {
        title: &format!("Latency by messages per second, limit {}", capacity.limit),
        x: Scale::around(all().map(|point| point.0), grouped),
        y: Scale::around(latencies, tick_duration),
        series: vec![
            Series { name: "failed", color: Color::Second, dots: true, points: failed.clone() },
            Series { name: "passed", color: Color::First, dots: true, points: passed.clone() },
        ],
        shaded: None,
        limit: Some(capacity.limit_us),
    };
    html + &plot.svg()
}

/// Plots the latency by percentile; the distance to 100 % is on a logarithmic scale.
fn percentile_plot(steps: &[PercentileStep]) -> String {
    // One message in this number takes longer.
    let one_in = |percentile: f64| 100.0 / (100.0 - percentile);
    let finite = steps.iter().map(|step| one_in(step.percentile)).filter(|value| value.is_finite());
    let most = finite.fold(10.0, f64::max);
    let points: Vec<(f64, f64)> =
        steps.iter().map(|step| (one_in(step.percentile).min(most), step.latency_us)).collect();
    if points.is_empty() {
        return String::new();
    }
    let ticks = std::iter::successors(Some(10.0), |tick| Some(tick * 10.0)).take_while(|tick| *tick <= most);
    let ticks = [1.0, 2.0].into_iter().chain(ticks).map(|tick| (tick, percentile_label(tick))).collect();
    let plot = Plot {
        title: "Latency by percentile",
        x: Scale { axis: Axis::logarithmic(1.0, most), ticks },
        y: Scale::around(points.iter().map(|point| point.1), tick_duration),
        series: vec![Series { name: "latency", color: Color::First, dots: false, points }],
        shaded: None,
        limit: None,
    };
    plot.svg()
}

/// Returns the percentile above which there is one message in `one_in`.
fn percentile_label(one_in: f64) -> String {
    let digits = (one_in.log10() - 2.0).max(0.0).round() as usize;
    format!("{:.digits$} %", 100.0 - 100.0 / one_in)
}

/// Value of a sample, if it was measured.
type Value = fn(&Sample) -> Option<f64>;

fn time_plots(samples: &[Sample]) -> String {
    let deliveries: (&str, Value) = ("deliveries", |it| Some(it.deliveries_per_s));
    let latencies: [(&str, Value); 2] = [("p99", |it| it.p99_us), ("p50", |it| it.p50_us)];
    let cores: (&str, Value) = ("cores", |it| it.server_cores);
    let memory: (&str, Value) = ("memory", |it| it.server_rss_bytes.map(|rss| rss as f64 / 1_048_576.0));
    [
        time_plot("Deliveries per second", samples, &[deliveries], tick_number),
        time_plot("Latency over time", samples, &latencies, tick_duration),
        time_plot("CPU cores used by the server", samples, &[cores], tick_number),
        time_plot("Resident memory of the server", samples, &[memory], |mib| {
            format!("{} MiB", tick_number(mib))
        }),
    ]
    .concat()
}

/// Plots values over time; returns an empty text if there are none.
fn time_plot(title: &str, samples: &[Sample], values: &[(&str, Value)], label: fn(f64) -> String) -> String {
    let colors = if values.len() == 1 { [Color::First; 2] } else { [Color::Second, Color::First] };
    let series: Vec<Series<'_>> = values
        .iter()
        .zip(colors)
        .map(|((name, value), color)| Series {
            name,
            color,
            dots: false,
            points: samples.iter().filter_map(|sample| Some((sample.at_s, value(sample)?))).collect(),
        })
        .collect();
    let most = series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    let last = samples.last().map_or(0.0, |sample| sample.at_s);
    if most <= 0.0 || last <= 0.0 {
        return String::new();
    }
    let warmup = samples.iter().take_while(|sample| !sample.measured).last().map(|sample| sample.at_s);
    let plot = Plot {
        title,
        x: Scale::from_zero(last, TIME_TICKS, |seconds| format!("{seconds} s")),
        y: Scale::from_zero(most * 1.1, Y_TICKS, label),
        series,
        shaded: warmup.map(|end| (0.0, end)),
        limit: None,
    };
    plot.svg()
}

fn tick_duration(micros: f64) -> String {
    if micros == 0.0 { "0".into() } else { round_duration(micros) }
}

fn tick_number(value: f64) -> String {
    if value >= 1000.0 { grouped(value) } else { value.to_string() }
}

const TIME_TICKS: usize = 6;
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:800px;margin:2rem auto;padding:0 1rem;\
    background:#fff;color:#1f2328}h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1rem;margin:1.5rem 0 .25rem}\
    dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:0 0 1rem}dt{color:#57606a}\
    dd{margin:0;overflow-wrap:anywhere}details{margin-top:1.5rem}\
    pre{background:#f6f8fa;padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}\
    table{border-collapse:collapse;font-variant-numeric:tabular-nums;white-space:nowrap}\
    th,td{padding:.15rem .75rem;text-align:right;border-bottom:1px solid #d8dee4}\
    th:nth-last-child(-n+2),td:nth-last-child(-n+2){text-align:left}\
    td:last-child{white-space:normal;min-width:8rem}\
    tr.a td:last-child{color:#0969da}tr.b td:last-child{color:#bc4c00}\
    @media(max-width:480px){dl{display:block}dd{margin-bottom:.5rem}}\
    @media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}dt{color:#9da7b1}pre{background:#161b22}\
    th,td{border-color:#30363d}tr.a td:last-child{color:#4493f8}tr.b td:last-child{color:#f0883e}}";
