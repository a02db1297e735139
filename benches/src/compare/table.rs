use std::fmt;

use super::{Contender, Load, Run};
use crate::Report;
use crate::loadgen::Scenario;
use crate::stats::Summary;

/// The result of one load: a row for each server
#[derive(Debug, serde::Serialize)]
pub(super) struct Table {
    load: String,
    base: &'static str,
    rows: Vec<Row>,
    #[serde(skip)]
    idle: bool,
}

#[derive(Debug, serde::Serialize)]
struct Row {
    server: String,
    runs: usize,
    failed: usize,
    /// Runs that count though others used the CPU
    noisy: usize,
    /// CPU of this server divided by that of the limit in the same round
    ratio: Option<Summary>,
    /// For each delivery, or for each accepted connection if the load is idle
    cpu_us: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_us: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_us: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_per_s: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rss_bytes_per_connection: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_rss_bytes: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_us_per_idle_second: Option<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_s: Option<Summary>,
}

impl Table {
    pub(super) fn new<'a>(
        load: &Load,
        contenders: impl Iterator<Item = &'a Contender>,
        runs: &[Run],
    ) -> Self {
        let name = load.to_string();
        let runs: Vec<&Run> = runs.iter().filter(|run| run.load == name).collect();
        let idle = load.scenario == Scenario::Idle;
        let rows = contenders.map(|contender| Row::new(contender.name(), load.base(), idle, &runs)).collect();
        Self { load: name, base: load.base(), rows, idle }
    }
}

impl Row {
    fn new(server: &str, base: &str, idle: bool, runs: &[&Run]) -> Self {
        let own: Vec<&Run> = runs.iter().copied().filter(|run| run.server == server).collect();
        let good: Vec<&Run> = own.iter().copied().filter(|run| run.report.ok).collect();
        let ratios = good.iter().filter_map(|run| {
            let same_round =
                |other: &&&Run| other.round == run.round && other.server == base && other.report.ok;
            let base = cpu_us(&runs.iter().find(same_round)?.report).filter(|&base| base > 0.0)?;
            Some(cpu_us(&run.report)? / base)
        });
        let summary = |value: &dyn Fn(&Report) -> Option<f64>| {
            Summary::of(good.iter().filter_map(|run| value(&run.report)))
        };
        Self {
            server: server.into(),
            runs: own.len(),
            failed: own.len() - good.len(),
            noisy: good.iter().filter(|run| run.noisy).count(),
            ratio: Summary::of(ratios),
            cpu_us: summary(&cpu_us),
            p50_us: summary(&|report| report.p50_us),
            p99_us: summary(&|report| report.p99_us),
            deliveries_per_s: summary(&|report| (!idle).then_some(report.deliveries_per_s)),
            rss_bytes_per_connection: summary(&|report| Some(report.idle?.rss_bytes_per_connection)),
            base_rss_bytes: summary(&|report| Some(report.idle?.base_rss_bytes as f64)),
            cpu_us_per_idle_second: summary(&|report| Some(report.idle?.cpu_us_per_idle_second)),
            connect_s: summary(&|report| Some(report.idle?.connect_s)),
        }
    }

    fn remarks(&self) -> String {
        let mut remarks = format!("{}", self.runs - self.failed);
        if self.failed > 0 {
            remarks += &format!(", {} failed", self.failed);
        }
        if self.noisy > 0 {
            remarks += &format!(", {} noisy", self.noisy);
        }
        remarks
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {} (ratios to {})\n", self.load, self.base)?;
        let median = |summary: &Option<Summary>, decimals: usize| {
            summary.as_ref().map_or_else(none, |summary| format!("{:.decimals$}", summary.median))
        };
        let mut lines = vec![["server", "ratio", "min..max", "95 % interval"].map(str::to_owned).to_vec()];
        lines[0].extend(
            if self.idle {
                ["CPU µs/accept", "RSS B/conn", "base RSS KiB", "idle CPU µs/s", "connect s"].as_slice()
            } else {
                ["CPU µs/delivery", "p50 µs", "p99 µs", "deliveries/s"].as_slice()
            }
            .iter()
            .map(|&title| title.to_owned()),
        );
        lines[0].push("runs".to_owned());
        for row in &self.rows {
            let mut line = vec![row.server.clone()];
            line.push(median(&row.ratio, 2));
            line.push(row.ratio.map_or_else(none, |ratio| format!("{:.2}..{:.2}", ratio.min, ratio.max)));
            let interval = row.ratio.and_then(|ratio| ratio.interval);
            line.push(interval.map_or_else(none, |(low, high)| format!("{low:.2}..{high:.2}")));
            line.push(median(&row.cpu_us, 3));
            if self.idle {
                line.push(median(&row.rss_bytes_per_connection, 0));
                let kib = row.base_rss_bytes.map_or_else(none, |rss| format!("{:.0}", rss.median / 1024.0));
                line.push(kib);
                line.push(median(&row.cpu_us_per_idle_second, 0));
                line.push(median(&row.connect_s, 2));
            } else {
                line.push(median(&row.p50_us, 0));
                line.push(median(&row.p99_us, 0));
                line.push(median(&row.deliveries_per_s, 0));
            }
            line.push(row.remarks());
            lines.push(line);
        }
        write_aligned(f, &lines)
    }
}

/// One line that tells how a run went
pub(super) fn progress(run: &Run) -> String {
    let Run { load, server, repeated, noisy, report, .. } = run;
    let mut line = format!("{load} {server}: ");
    match (report.ok, &report.error, cpu_us(report)) {
        (true, _, Some(cpu)) => line += &format!("{cpu:.3} µs"),
        (true, ..) => line += "no delivery",
        (false, Some(error), _) => line += &format!("FAILED, {error}"),
        (false, None, _) => line += &format!("FAILED, {:?}", report.faults),
    }
    if *repeated > 0 {
        line += &format!(", repeated {repeated} times");
    }
    if *noisy {
        line += &format!(", noisy ({:.2} cores used by others)", report.foreign_cores.unwrap_or(0.0));
    }
    line
}

fn cpu_us(report: &Report) -> Option<f64> {
    report.idle.map(|idle| idle.cpu_us_per_connection).or(report.cpu_us_per_delivery)
}

fn none() -> String {
    "–".to_owned()
}

/// A Markdown table that is also readable as plain text
fn write_aligned(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(f, "| {cell:<width$} |")?,
                _ => write!(f, " {cell:>width$} |")?,
            }
        }
        writeln!(f)?;
        if number == 0 {
            for (column, &width) in widths.iter().enumerate() {
                match column {
                    0 => write!(f, "|{:-<width$}--|", "")?,
                    _ => write!(f, "{:-<width$}-:|", "")?,
                }
            }
            writeln!(f)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn run(round: usize, server: &str, cpu: f64, ok: bool) -> Run {
        let report =
            Report { ok, cpu_us_per_delivery: Some(cpu), p99_us: Some(10.0 * cpu), ..Report::default() };
        Run {
            round,
            load: "paced:1000:64".into(),
            server: server.into(),
            repeated: 0,
            noisy: round == 3,
            report,
        }
    }

    fn table(runs: &[Run]) -> Table {
        let built_in = Contender::built_in(Path::new("limit"), Path::new("fanout_server"));
        Table::new(&"paced".parse().unwrap(), built_in.iter().take(3), runs)
    }

    #[test]
    fn ratios_are_formed_inside_a_round_and_only_of_good_runs() {
        // The host gets slower from round to round; the ratio does not.
        let mut runs: Vec<Run> = (1..=4)
            .flat_map(|round| {
                let base = round as f64;
                [run(round, "limit-write", base, true), run(round, "roomcast-plain", base * 1.5, true)]
            })
            .collect();
        runs.push(run(5, "limit-write", 1.0, true));
        runs.push(run(5, "roomcast-plain", 100.0, false));
        runs.push(run(6, "roomcast-plain", 100.0, true));
        let table = table(&runs);
        let product = &table.rows[2];
        let ratio = product.ratio.unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max, ratio.count), (1.5, 1.5, 1.5, 4));
        assert_eq!((product.runs, product.failed, product.noisy), (6, 1, 1));
        assert_eq!(table.rows[0].ratio.unwrap().median, 1.0);
        assert!(table.rows[1].ratio.is_none() && table.rows[1].runs == 0);
    }

    #[test]
    fn columns_stand_below_each_other() {
        let text = table(&[run(1, "limit-write", 2.0, true), run(1, "limit-batch", 1.0, true)]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "### paced:1000:64 (ratios to limit-write)");
        let widths: Vec<usize> = lines[2..].iter().map(|line| line.chars().count()).collect();
        assert_eq!(lines.len(), 7);
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(lines[5].starts_with("| limit-batch    |  0.50 |"), "{text}");
    }
}
