use std::fmt::{self, Write as _};

use super::latency::{self, BEST_PEER};
use super::load::Rate;
use super::{Load, Run};
use crate::summary::Summary;
use roomcast_loadgen::Report;
use roomcast_loadgen::scenario::Scenario;

/// Result of a load: a row per server, cheapest first.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    columns: Columns,
}

/// Columns besides the CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    Deliveries,
    Idle,
    Connections,
    Chat,
    Latency,
    Cluster,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) server: String,
    runs: usize,
    failed: usize,
    /// Number of counted runs in which other processes used the CPU.
    noisy: usize,
    /// CPU time relative to the baseline in the same round.
    pub(super) ratio: Option<Summary>,
    /// CPU time per delivery, or per accepted connection in the scenario `idle`.
    cpu_us: Option<Summary>,
    p50_us: Option<Summary>,
    p99_us: Option<Summary>,
    deliveries_per_s: Option<Summary>,
    pub(super) rss_bytes_per_connection: Option<Summary>,
    base_rss_bytes: Option<Summary>,
    cpu_us_per_idle_second: Option<Summary>,
    connect_s: Option<Summary>,
    kernel_bytes_per_connection: Option<Summary>,
    cpu_us_per_heartbeat: Option<Summary>,
    p999_us: Option<Summary>,
    rate: Option<Summary>,
    late_share: Option<Summary>,
    chat_p50_us: Option<Summary>,
    chat_p99_us: Option<Summary>,
    chat_max_us: Option<Summary>,
    quiet_p99_us: Option<Summary>,
    broadcast_us: Option<Summary>,
    /// p99 of the chat latency relative to the duration of a broadcast in the same run.
    pub(super) share_of_broadcast: Option<Summary>,
    looked_p99_us: Option<Summary>,
    sender_us: Option<Summary>,
    receiver_us: Option<Summary>,
    local_us: Option<Summary>,
    send_us: Option<Summary>,
    redis_us: Option<Summary>,
}

impl Table {
    /// Returns the table of the servers that ran under this load.
    pub(super) fn new(load: &Load, base: &str, runs: &[Run]) -> Self {
        let name = load.to_string();
        let runs: Vec<&Run> = runs.iter().filter(|run| run.load == name).collect();
        let mut servers: Vec<&str> = Vec::new();
        for run in &runs {
            if !servers.contains(&run.server.as_str()) {
                servers.push(&run.server);
            }
        }
        let mut rows: Vec<Row> = servers.iter().map(|server| Row::new(server, base, load, &runs)).collect();
        let fallback = |row: &Row| if load.rate.is_some() { row.p99_us } else { row.cpu_us };
        let key =
            |row: &Row| row.ratio.or_else(|| fallback(row)).map_or(f64::INFINITY, |summary| summary.median);
        rows.sort_by(|one, other| key(one).total_cmp(&key(other)));
        let columns = match load.scenario {
            Scenario::Idle if load.heartbeats => Columns::Connections,
            Scenario::Idle => Columns::Idle,
            Scenario::Chat => Columns::Chat,
            _ if load.rate.is_some() => Columns::Latency,
            _ if load.cluster.is_some() => Columns::Cluster,
            _ => Columns::Deliveries,
        };
        Self { rows, columns }
    }
}

impl Row {
    fn new(server: &str, base: &str, load: &Load, runs: &[&Run]) -> Self {
        let idle = load.scenario == Scenario::Idle;
        let own: Vec<&Run> = runs.iter().copied().filter(|run| run.server == server).collect();
        let good: Vec<&Run> = own.iter().copied().filter(|run| run.report.ok).collect();
        let summary = |value: &dyn Fn(&Report) -> Option<f64>| {
            Summary::of(good.iter().filter_map(|run| value(&run.report)))
        };
        Self {
            server: server.into(),
            runs: own.len(),
            failed: own.len() - good.len(),
            noisy: good.iter().filter(|run| run.noisy).count(),
            ratio: match load.rate {
                None => paired(runs.iter().copied(), server, base, cpu_us),
                // Twice the capacity is half the cost.
                Some(Rate::Capacity | Rate::All) => {
                    paired(runs.iter().copied(), server, base, |report| latency::rate(report).map(f64::recip))
                }
                Some(Rate::Share(_)) => paired(runs.iter().copied(), server, base, |report| report.p99_us),
            },
            cpu_us: summary(&cpu_us),
            p50_us: summary(&|report| report.p50_us),
            p99_us: summary(&|report| report.p99_us),
            deliveries_per_s: summary(&|report| (!idle).then_some(report.deliveries_per_s)),
            rss_bytes_per_connection: summary(&|report| Some(report.idle?.rss_bytes_per_connection)),
            base_rss_bytes: summary(&|report| Some(report.idle?.base_rss_bytes as f64)),
            cpu_us_per_idle_second: summary(&|report| Some(report.idle?.cpu_us_per_idle_second)),
            connect_s: summary(&|report| Some(report.idle?.connect_s)),
            kernel_bytes_per_connection: summary(&|report| report.idle?.kernel_bytes_per_connection),
            cpu_us_per_heartbeat: summary(&|report| report.idle?.cpu_us_per_heartbeat),
            p999_us: summary(&|report| report.p999_us),
            rate: summary(&latency::rate),
            late_share: summary(&|report| Some(report.open_loop?.late_share)),
            chat_p50_us: summary(&|report| Some(report.chat?.p50_us)),
            chat_p99_us: summary(&|report| Some(report.chat?.p99_us)),
            chat_max_us: summary(&|report| Some(report.chat?.max_us)),
            quiet_p99_us: summary(&|report| Some(report.chat?.quiet_p99_us)),
            broadcast_us: summary(&|report| Some(report.chat?.broadcast_us)),
            share_of_broadcast: summary(&|report| Some(report.chat?.share_of_broadcast())),
            looked_p99_us: summary(&|report| Some(report.chat?.looked_p99_us)),
            sender_us: summary(&|report| Some(report.cluster?.sender_us)),
            receiver_us: summary(&|report| Some(report.cluster?.receiver_us)),
            local_us: summary(&|report| Some(report.cluster?.local_us)),
            send_us: summary(&|report| Some(report.cluster?.send_us)),
            redis_us: summary(&|report| Some(report.cluster?.redis_us)),
        }
    }

    fn remarks(&self) -> String {
        let mut remarks = format!("{}", self.runs - self.failed);
        if self.failed > 0 {
            _ = write!(remarks, ", {} failed", self.failed);
        }
        if self.noisy > 0 {
            _ = write!(remarks, ", {} noisy", self.noisy);
        }
        remarks
    }
}

/// Computes the ratio of a server to its baseline per round, over all rounds in which both were faultless.
///
/// The baseline [`BEST_PEER`] is the lowest value among other projects' servers in the round.
pub(super) fn paired<'a>(
    runs: impl Iterator<Item = &'a Run> + Clone,
    server: &str,
    base: &str,
    value: impl Fn(&Report) -> Option<f64>,
) -> Option<Summary> {
    let good = runs.filter(|run| run.report.ok);
    let ratios = good.clone().filter(|run| run.server == server).filter_map(|run| {
        let mut same_round = good.clone().filter(|other| other.round == run.round && other.server == base);
        let base = if base == BEST_PEER {
            latency::best_peer(good.clone(), run.round, &value)
        } else {
            value(&same_round.next()?.report)
        };
        Some(value(&run.report)? / base.filter(|&base| base > 0.0)?)
    });
    Summary::of(ratios)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = |summary: &Option<Summary>, decimals: usize| {
            summary.as_ref().map_or_else(none, |summary| format!("{:.decimals$}", summary.median))
        };
        let mut lines = vec![["server", "ratio", "min..max", "95 % interval"].map(str::to_owned).to_vec()];
        lines[0].extend(
            match self.columns {
                Columns::Idle => {
                    ["CPU µs/accept", "RSS B/conn", "base RSS KiB", "idle CPU µs/s", "connect s"].as_slice()
                }
                Columns::Connections => &[
                    "CPU µs/accept",
                    "RSS B/conn",
                    "kernel B/conn",
                    "CPU µs/heartbeat",
                    "idle CPU µs/s",
                    "connect s",
                ],
                Columns::Chat => CHAT_TITLES,
                Columns::Latency => {
                    &["messages/s", "late %", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/delivery"]
                }
                Columns::Cluster => &[
                    "CPU µs/message",
                    "sender µs",
                    "receiver µs",
                    "alone µs",
                    "send µs",
                    "Redis µs",
                    "messages/s",
                ],
                Columns::Deliveries => &["CPU µs/delivery", "p50 µs", "p99 µs", "deliveries/s"],
            }
            .iter()
            .map(|&title| title.to_owned()),
        );
        lines[0].push("runs".to_owned());
        for row in &self.rows {
            let mut line = vec![row.server.clone()];
            line.push(median(&row.ratio, 2));
            line.push(row.ratio.map_or_else(none, |ratio| format!("{:.2}..{:.2}", ratio.min, ratio.max)));
            line.push(row.ratio.map_or_else(none, interval));
            if self.columns == Columns::Latency {
                line.push(median(&row.rate, 1));
                let percent = row.late_share.map(|share| share.scaled(100.0));
                line.push(median(&percent, 2));
                for time in [row.p50_us, row.p99_us, row.p999_us] {
                    line.push(median(&time, 0));
                }
            }
            line.push(median(&row.cpu_us, 3));
            if self.columns == Columns::Chat {
                for time in
                    [row.chat_p50_us, row.chat_p99_us, row.chat_max_us, row.quiet_p99_us, row.broadcast_us]
                {
                    line.push(median(&time, 0));
                }
                line.push(median(&row.share_of_broadcast, 3));
                line.push(median(&row.looked_p99_us, 0));
            } else if self.columns == Columns::Connections {
                line.push(median(&row.rss_bytes_per_connection, 0));
                line.push(median(&row.kernel_bytes_per_connection, 0));
                line.push(median(&row.cpu_us_per_heartbeat, 2));
                line.push(median(&row.cpu_us_per_idle_second, 0));
                line.push(median(&row.connect_s, 2));
            } else if self.columns == Columns::Idle {
                line.push(median(&row.rss_bytes_per_connection, 0));
                let kib = row.base_rss_bytes.map_or_else(none, |rss| format!("{:.0}", rss.median / 1024.0));
                line.push(kib);
                line.push(median(&row.cpu_us_per_idle_second, 0));
                line.push(median(&row.connect_s, 2));
            } else if self.columns == Columns::Cluster {
                for time in [row.sender_us, row.receiver_us, row.local_us, row.send_us, row.redis_us] {
                    line.push(median(&time, 2));
                }
                line.push(median(&row.deliveries_per_s, 0));
            } else if self.columns == Columns::Deliveries {
                line.push(median(&row.p50_us, 0));
                line.push(median(&row.p99_us, 0));
                line.push(median(&row.deliveries_per_s, 0));
            }
            line.push(row.remarks());
            lines.push(line);
        }
        f.write_str(&aligned(&lines))
    }
}

const CHAT_TITLES: &[&str] = &[
    "CPU µs/delivery",
    "chat p50 µs",
    "chat p99 µs",
    "chat max µs",
    "quiet p99 µs",
    "broadcast µs",
    "p99/broadcast",
    "looked p99 µs",
];

/// Returns a one-line summary of a run.
pub(super) fn progress(run: &Run) -> String {
    let Run { round, load, server, repeated, noisy, report, .. } = run;
    let mut line = format!("round {round} {load} {server}: ");
    line += &match (report.ok, &report.error, cpu_us(report)) {
        (true, _, Some(cpu)) => format!("{cpu:.3} µs"),
        (true, ..) => "no delivery".to_owned(),
        (false, Some(error), _) => format!("FAILED, {error}"),
        (false, None, _) => format!("FAILED, {:?}", report.faults),
    };
    if *repeated > 0 {
        _ = write!(line, ", repeated {repeated} times");
    }
    if *noisy {
        _ = write!(
            line,
            ", noisy ({:.2} cores used by other processes)",
            report.foreign_cores.unwrap_or(0.0)
        );
    }
    line
}

/// Returns the server's CPU time per delivery, or per accepted connection.
pub(super) fn cpu_us(report: &Report) -> Option<f64> {
    report.idle.map(|idle| idle.cpu_us_per_connection).or(report.cpu_us_per_delivery)
}

/// Formats the 95 % interval of a median, if there were enough rounds.
pub(super) fn interval(summary: Summary) -> String {
    summary.interval.map_or_else(none, |(low, high)| format!("{low:.2}..{high:.2}"))
}

pub(super) fn none() -> String {
    "–".to_owned()
}

/// Formats a Markdown table with aligned columns.
pub(super) fn aligned(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            _ = match column {
                0 => write!(text, "| {cell:<width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
        if number == 0 {
            for (column, &width) in widths.iter().enumerate() {
                _ = match column {
                    0 => write!(text, "|{:-<width$}--|", ""),
                    _ => write!(text, "{:-<width$}-:|", ""),
                };
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn run(round: usize, server: &str, cpu: f64, ok: bool) -> Run {
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
        Table::new(&"paced".parse().unwrap(), "limit-write", runs)
    }

    #[test]
    fn computes_ratios_within_rounds() {
        // The host slows down from round to round; the ratio stays the same.
        let mut runs: Vec<Run> = (1..=4)
            .flat_map(|round| {
                let base = round as f64;
                [run(round, "roomcast-plain", base * 1.5, true), run(round, "limit-write", base, true)]
            })
            .collect();
        runs.push(run(5, "limit-write", 1.0, true));
        runs.push(run(5, "roomcast-plain", 100.0, false));
        runs.push(run(6, "roomcast-plain", 100.0, true));
        let table = table(&runs);
        let (base, product) = (&table.rows[0], &table.rows[1]);
        let ratio = product.ratio.unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max, ratio.count), (1.5, 1.5, 1.5, 4));
        assert_eq!((product.runs, product.failed, product.noisy), (6, 1, 1));
        assert_eq!((base.server.as_str(), base.ratio.unwrap().median), ("limit-write", 1.0));
    }

    #[test]
    fn aligns_table_columns() {
        let text = table(&[run(1, "limit-write", 2.0, true), run(1, "limit-batch", 1.0, true)]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        let widths: Vec<usize> = lines.iter().map(|line| line.chars().count()).collect();
        assert_eq!(lines.len(), 4);
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(lines[2].starts_with("| limit-batch |  0.50 |"), "{text}");
    }
}
