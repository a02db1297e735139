//! Cost per connection as the slope over several numbers of connections.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use roomcast_loadgen::environment::Machine;
use roomcast_loadgen::{IdleReport, KernelSource};

use super::table::{aligned, none};
use super::trial::PING_INTERVAL;
use super::{Load, Run};

/// Interval between heartbeats for which the CPU time is stated: the default of Socket.IO.
pub(super) const USUAL_PING_INTERVAL: Duration = Duration::from_secs(25);

/// Returns the section of the slopes, or nothing without two numbers of connections.
pub(super) fn section(runs: &[Run], machine: &Machine) -> String {
    let runs: Vec<&Run> = runs
        .iter()
        .filter(|run| run.report.ok && run.load.parse::<Load>().is_ok_and(|load| load.heartbeats))
        .collect();
    let sizes: BTreeSet<usize> = runs.iter().map(|run| run.report.clients).collect();
    if sizes.len() < 2 {
        return String::new();
    }
    let mut servers: Vec<&str> = Vec::new();
    for run in &runs {
        if !servers.contains(&run.server.as_str()) {
            servers.push(&run.server);
        }
    }
    let titles = ["server", "RSS B", "kernel B", "accept CPU µs", "CPU µs/s at 25 s"];
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    for server in servers {
        let slope = |value: &dyn Fn(&IdleReport, f64) -> Option<f64>| {
            let of_server = runs.iter().filter(|run| run.server == server);
            let points = of_server.filter_map(|run| {
                let clients = run.report.clients as f64;
                Some((clients, value(run.report.idle.as_ref()?, clients)?))
            });
            slope(&points.collect::<Vec<_>>())
        };
        let number = |slope: Option<f64>, decimals: usize| {
            slope.map_or_else(none, |slope| format!("{slope:.decimals$}"))
        };
        let frequency = PING_INTERVAL.as_secs_f64() / USUAL_PING_INTERVAL.as_secs_f64();
        lines.push(vec![
            server.to_owned(),
            number(slope(&|idle, clients| Some(idle.rss_bytes_per_connection * clients)), 0),
            number(slope(&|idle, clients| Some(idle.kernel_bytes_per_connection? * clients)), 0),
            number(slope(&|idle, clients| Some(idle.cpu_us_per_connection * clients)), 1),
            number(
                slope(&|idle, _| idle.cpu_us_per_heartbeat.map(|_| idle.cpu_us_per_idle_second * frequency)),
                2,
            ),
        ]);
    }
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    let source = match runs.iter().find_map(|run| run.report.idle?.kernel_source) {
        Some(KernelSource::Slabinfo) => "objects in use by `/proc/slabinfo`",
        Some(KernelSource::Meminfo) => "`Slab` of `/proc/meminfo`",
        None => "not readable here",
    };
    let mut text = String::from("\n### Slope per connection\n\n");
    _ = write!(
        text,
        "Least squares over runs with {} connections ({}). Kernel memory is {source} for both ends of a connection, \
         since the clients are on the same machine. The CPU time is measured with heartbeats every {} s and scaled to \
         {} s: all connections are opened within a short time, so their heartbeats come equally close together at any \
         interval. Servers without a heartbeat in the measured time have none.\n\n{}",
        sizes.join(", "),
        machine.describe_open_files(),
        PING_INTERVAL.as_secs(),
        USUAL_PING_INTERVAL.as_secs(),
        aligned(&lines)
    );
    text
}

/// Returns the slope of the line with the least squared errors, or `None` without two different positions.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |value: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(&|point| point.0), mean(&|point| point.1));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in points {
        covariance += (x - mean_x) * (y - mean_y);
        variance += (x - mean_x).powi(2);
    }
    (variance > 0.0).then(|| covariance / variance)
}

#[cfg(test)]
mod tests {
    use roomcast_loadgen::Report;

    use super::*;

    #[test]
    fn fits_line_through_points() {
        assert_eq!(slope(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]), Some(2.0));
        assert_eq!(slope(&[(0.0, 0.0), (1.0, 3.0), (2.0, 3.0)]), Some(1.5));
        assert_eq!(slope(&[(1.0, 5.0), (1.0, 7.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    fn run(clients: usize, heartbeat_us: Option<f64>) -> Run {
        let connections = clients as f64;
        let idle = IdleReport {
            // 2 KiB each, besides 1 MiB for the process.
            rss_bytes_per_connection: 2048.0 + 1_048_576.0 / connections,
            cpu_us_per_connection: 20.0,
            cpu_us_per_idle_second: 300.0 + heartbeat_us.unwrap_or(0.0) * connections / 2.0,
            cpu_us_per_heartbeat: heartbeat_us,
            kernel_bytes_per_connection: Some(9000.0),
            kernel_source: Some(KernelSource::Meminfo),
            ..IdleReport::default()
        };
        let report = Report { ok: true, clients, idle: Some(idle), ..Report::default() };
        let (load, server) = (format!("connections:{clients}"), "roomcast-sio".into());
        Run { round: 1, load, server, repeated: 0, noisy: false, report }
    }

    #[test]
    fn states_costs_without_fixed_part() {
        let runs = [run(5000, Some(15.0)), run(10_000, Some(15.0)), run(19_800, Some(15.0))];
        let text = section(&runs, &Machine::read());
        let row = text.lines().find(|line| line.starts_with("| roomcast-sio")).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // 15 µs each 25 s.
        assert_eq!(cells[2..6], ["2048", "9000", "20.0", "0.60"], "{text}");
        for part in ["5000, 10000, 19800 connections", "open files per process", "`/proc/meminfo`"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let silent = section(&[run(5000, None), run(10_000, None)], &Machine::read());
        assert!(
            silent.lines().any(|line| line.starts_with("| roomcast-sio") && line.contains("– |")),
            "{silent}"
        );
        assert_eq!(section(&runs[..1], &Machine::read()), "");
    }
}
