//! Figures for sizing a machine: costs per unit of work, and examples computed from them.

use std::fmt::Write as _;

use super::figures::{NOT_MEASURED, PRODUCTS};
use crate::Run;
use crate::load::Load;
use crate::slope::USUAL_PING_INTERVAL;
use crate::summary::{Summary, thousands};
use crate::table::cpu_us;
use roomcast_loadgen::Report;

/// Costs of the three kinds of client.
#[derive(Debug)]
pub(super) struct Sizing {
    plain: Costs,
    sio: Costs,
    polling: Costs,
}

/// Costs of a client: µs of CPU time, and bytes.
#[derive(Debug, Default)]
struct Costs {
    /// Delivery with a separate write, under the loads of [`SINGLE`].
    single: [Option<Summary>; SINGLE.len()],
    /// Delivery of messages that arrive faster than they are written.
    batched: Option<Summary>,
    /// Message from a client, with handler and answer; sixteen share the system calls.
    echo: Option<Summary>,
    accept: Option<Summary>,
    /// Heartbeats of an idle connection, per second.
    heartbeats: Option<Summary>,
    rss_bytes: Option<Summary>,
    kernel_bytes: Option<Summary>,
    tls: Tls,
}

/// Costs of a client with TLS.
#[derive(Debug, Default)]
struct Tls {
    single: Option<Summary>,
    batched: Option<Summary>,
    accept: Option<Summary>,
    resume: Option<Summary>,
    rss_bytes: Option<Summary>,
}

/// Example of an application.
struct Example {
    title: &'static str,
    kind: fn(&Sizing) -> &Costs,
    connections: f64,
    /// Messages from clients, per second.
    messages: f64,
    /// Messages to clients, per second.
    deliveries: f64,
    /// Deliveries in a write.
    per_write: f64,
}

impl Sizing {
    pub(super) fn new(runs: &[Run]) -> Self {
        let summary = |load: &str, server: &str, value: &dyn Fn(&Report) -> Option<f64>| {
            let load = load.parse::<Load>().ok()?.to_string();
            let runs = runs.iter().filter(|run| run.load == load && run.server == server && run.report.ok);
            Summary::of(runs.filter_map(|run| value(&run.report)))
        };
        let rss_bytes = |report: &Report| Some(report.idle?.rss_bytes_per_connection);
        let tls = |server| {
            let encrypted = format!("{server}-tls");
            Tls {
                single: summary("tls-paced", &encrypted, &cpu_us),
                batched: summary("tls-saturated", &encrypted, &cpu_us),
                accept: summary("tls-idle", &encrypted, &cpu_us),
                resume: summary("tls-idle", &format!("{encrypted}-resumed"), &cpu_us),
                rss_bytes: summary("tls-idle", &encrypted, &rss_bytes),
            }
        };
        let costs = |server| Costs {
            single: SINGLE.map(|(load, _)| summary(load, server, &cpu_us)),
            batched: summary("saturated", server, &cpu_us),
            echo: summary("echo", server, &cpu_us),
            accept: summary("idle", server, &cpu_us),
            heartbeats: summary("connections:10000", server, &|report| {
                Some(report.idle?.cpu_us_per_heartbeat? / USUAL_PING_INTERVAL.as_secs_f64())
            }),
            tls: tls(server),
            rss_bytes: summary("idle", server, &rss_bytes),
            // Over loopback the kernel has both ends of a connection.
            kernel_bytes: summary("connections:10000", server, &|report| {
                let idle = report.idle?;
                Some(idle.kernel_bytes_per_connection? / idle.sockets_per_connection?)
            }),
        };
        let polling = Costs {
            single: SINGLE.map(|(load, _)| summary(&format!("poll-{load}"), PRODUCTS[1], &cpu_us)),
            batched: summary("poll-saturated", PRODUCTS[1], &cpu_us),
            ..Costs::default()
        };
        Self { plain: costs(PRODUCTS[0]), sio: costs(PRODUCTS[1]), polling }
    }

    /// Formats the table of costs.
    pub(super) fn costs(&self) -> String {
        let mut text = "| Cost | plain WebSocket | Socket.IO | Socket.IO over long-polling |\n\
                        | --- | --- | --- | --- |\n"
            .to_owned();
        let mut row = |label: &str, unit: &str, value: &dyn Fn(&Costs) -> Option<Summary>| {
            _ = write!(text, "| {label} |");
            // The comparison has few scenarios by long-polling.
            for (costs, none) in
                [(&self.plain, NOT_MEASURED), (&self.sio, NOT_MEASURED), (&self.polling, "–")]
            {
                let cell = value(costs).map(|it| format!("{} {unit}", it.text(2)));
                _ = write!(text, " {} |", cell.as_deref().unwrap_or(none));
            }
            text.push('\n');
        };
        for (index, (_, label)) in SINGLE.iter().enumerate() {
            row(&format!("*d*: delivery, one at a time, {label}"), "µs", &|costs| costs.single[index]);
        }
        row("*b*: delivery, many at a time, 1,000 clients, 64 B", "µs", &|costs| costs.batched);
        row("*e*: message from a client with its answer, sixteen at a time", "µs", &|costs| costs.echo);
        row("*a*: accepted connection, with a browser's headers", "µs", &|costs| costs.accept);
        row("*h*: heartbeats of a connection, per second, at an interval of 25 s", "µs", &|costs| {
            costs.heartbeats
        });
        row("*r*: memory of an idle connection in the process", "KiB", &|costs| {
            costs.rss_bytes.map(|bytes| bytes.scaled(1.0 / KIB))
        });
        row("*k*: its memory in the kernel", "KiB", &|costs| {
            costs.kernel_bytes.map(|bytes| bytes.scaled(1.0 / KIB))
        });
        row("*d* with TLS, 1,000 clients, 64 B", "µs", &|costs| costs.tls.single);
        row("*b* with TLS", "µs", &|costs| costs.tls.batched);
        row("*a* with TLS, full handshake", "µs", &|costs| costs.tls.accept);
        row("*a* with TLS, resumed session", "µs", &|costs| costs.tls.resume);
        row("*r* with TLS", "KiB", &|costs| costs.tls.rss_bytes.map(|bytes| bytes.scaled(1.0 / KIB)));
        text
    }

    /// Formats a table of cores and memory by connections and messages.
    pub(super) fn deliveries(&self) -> String {
        let mut text = "| Connections | Memory | Accepting them | ".to_owned();
        for rate in RATES {
            _ = write!(text, "{rate} per second | ");
        }
        text += "100 per second, ten in a write |\n";
        text += &"| --- ".repeat(4 + RATES.len());
        text += "|\n";
        let single = self.sio.single_us();
        let batched = single.zip(self.sio.batched).map(|(single, batched)| single / 10.0 + batched.median);
        for connections in [1_000.0, 10_000.0, 100_000.0, 1_000_000.0] {
            let memory = self.sio.memory(connections).map(gib);
            let accept =
                self.sio.accept.map(|it| format!("{} s", significant(it.median * connections / 1e6)));
            let heartbeats = self.sio.heartbeats.map_or(0.0, |it| it.median);
            let cores =
                |rate: f64, us: Option<f64>| us.map(|us| cores(connections * (rate * us + heartbeats) / 1e6));
            let cells = [memory, accept].into_iter().chain(RATES.map(|rate| cores(rate, single)));
            _ = write!(text, "| {} |", thousands(connections));
            for cell in cells.chain([cores(100.0, batched)]) {
                _ = write!(text, " {} |", cell.as_deref().unwrap_or(NOT_MEASURED));
            }
            text.push('\n');
        }
        text
    }

    /// Formats the examples with their calculation.
    pub(super) fn examples(&self) -> String {
        let mut text = "| Application | Messages and deliveries per second | CPU | Memory |\n\
                        | --- | --- | --- | --- |\n"
            .to_owned();
        for example in EXAMPLES {
            let costs = (example.kind)(self);
            let cpu = example.cpu(costs).unwrap_or_else(|| NOT_MEASURED.into());
            let memory = costs.rss_bytes.map_or_else(
                || NOT_MEASURED.into(),
                |bytes| {
                    format!(
                        "{} × ({:.1} + {:.1}) KiB = {}",
                        thousands(example.connections),
                        bytes.median / KIB,
                        costs.kernel_bytes() / KIB,
                        gib(example.connections * (bytes.median + costs.kernel_bytes()))
                    )
                },
            );
            _ = writeln!(
                text,
                "| {} | {} and {} | {cpu} | {memory} |",
                example.title,
                thousands(example.messages),
                thousands(example.deliveries)
            );
        }
        let costs = [&self.plain, &self.sio];
        if costs.iter().any(|costs| costs.heartbeats.is_none()) {
            text += "\nHeartbeats are not included, since they are not measured in this run.\n";
        }
        if costs.iter().any(|costs| costs.kernel_bytes.is_none()) {
            _ = writeln!(
                text,
                "\nMemory in the kernel is not measured in this run: it is taken as {:.1} KiB, the pages of a slab by \
                 the objects\nin it (`/proc/slabinfo`, Linux 6.18, 2026-11-29) of a TCP socket, its inode, file, \
                 directory entry and epoll entry.",
                KERNEL_BYTES / KIB
            );
        }
        text
    }
}

impl Costs {
    /// Returns the memory of a connection in the kernel, from the sizes of its objects if it is not measured.
    fn kernel_bytes(&self) -> f64 {
        self.kernel_bytes.map_or(KERNEL_BYTES, |bytes| bytes.median)
    }

    /// Returns the highest median cost of a single delivery of 64 bytes.
    fn single_us(&self) -> Option<f64> {
        let small = self.single.iter().zip(SINGLE).filter(|(_, (_, label))| label.ends_with("64 B"));
        small.filter_map(|(cost, _)| Some((*cost)?.median)).max_by(f64::total_cmp)
    }

    /// Returns the memory of connections in bytes, in the process and in the kernel.
    fn memory(&self, connections: f64) -> Option<f64> {
        Some(connections * (self.rss_bytes?.median + self.kernel_bytes()))
    }
}

impl Example {
    /// Formats the calculation of the cores.
    fn cpu(&self, costs: &Costs) -> Option<String> {
        let single = costs.single_us()?;
        let writes = self.deliveries / self.per_write;
        let mut text = format!("{} × {} µs", thousands(writes), significant(single));
        let mut us = writes * single;
        if self.per_write > 1.0 {
            let batched = costs.batched?.median;
            us += self.deliveries * batched;
            _ = write!(text, " + {} × {} µs", thousands(self.deliveries), significant(batched));
        }
        if self.messages > 0.0 {
            let echo = costs.echo?.median;
            us += self.messages * (echo + single);
            let (echo, single) = (significant(echo), significant(single));
            _ = write!(text, " + {} × ({echo} + {single}) µs", thousands(self.messages));
        }
        if let Some(heartbeats) = costs.heartbeats {
            us += self.connections * heartbeats.median;
            let heartbeats = significant(heartbeats.median);
            _ = write!(text, " + {} × {heartbeats} µs", thousands(self.connections));
        }
        let busy = us / 1e6;
        _ = write!(text, " = {}; plan {:.0}", cores(busy), (2.0 * busy).ceil());
        Some(text)
    }
}

fn cores(cores: f64) -> String {
    if cores < 0.01 { "< 0.01 cores".into() } else { format!("{} cores", significant(cores)) }
}

fn gib(bytes: f64) -> String {
    let gib = bytes / KIB.powi(3);
    if gib < 0.1 { format!("{:.0} MiB", bytes / KIB.powi(2)) } else { format!("{gib:.1} GiB") }
}

/// Formats a number with two significant digits, without an exponent.
fn significant(value: f64) -> String {
    let decimals = if value > 0.0 { 1.0 - value.log10().floor() } else { 0.0 };
    if decimals <= 0.0 {
        let unit = 10_f64.powf(-decimals);
        return thousands((value / unit).round() * unit);
    }
    format!("{value:.0$}", decimals as usize)
}

const KIB: f64 = 1024.0;

/// Kernel memory of an idle TCP connection: the socket, its inode, file, directory entry and epoll entry.
///
/// Pages of a slab by the objects in it, from `/proc/slabinfo` of Linux 6.18, 2026-11-29.
const KERNEL_BYTES: f64 =
    8.0 * 4096.0 / 13.0 + 4.0 * 4096.0 / 19.0 + 4096.0 / 21.0 + 4096.0 / 21.0 + 4096.0 / 32.0;

/// Loads of single deliveries.
const SINGLE: [(&str, &str); 4] = [
    ("rooms", "rooms of ten among 4,000 clients, 64 B"),
    ("paced:4000:64", "4,000 clients, 64 B"),
    ("paced:1000:1024", "1,000 clients, 1 KiB"),
    // Without sizes: long-polling has fewer clients.
    ("paced", "1,000 clients (500 by long-polling), 64 B"),
];

/// Messages that each client receives per second, in the table by connections.
const RATES: [f64; 3] = [0.1, 1.0, 10.0];

const EXAMPLES: [Example; 6] = [
    Example {
        title: "Notifications: 1,000,000 plain clients, each receives a message per minute",
        kind: |sizing| &sizing.plain,
        connections: 1e6,
        messages: 0.0,
        deliveries: 1e6 / 60.0,
        per_write: 1.0,
    },
    Example {
        title: "Chat: 100,000 Socket.IO clients in rooms of 50, each sends a message per minute",
        kind: |sizing| &sizing.sio,
        connections: 1e5,
        messages: 1e5 / 60.0,
        deliveries: 1e5 / 60.0 * 50.0,
        per_write: 1.0,
    },
    Example {
        title: "Game: 5,000 plain clients in rooms of 10, each sends 20 messages per second",
        kind: |sizing| &sizing.plain,
        connections: 5e3,
        messages: 1e5,
        deliveries: 1e6,
        per_write: 1.0,
    },
    Example {
        title: "Ticker: 100,000 Socket.IO clients in one room, 10 messages per second",
        kind: |sizing| &sizing.sio,
        connections: 1e5,
        messages: 0.0,
        deliveries: 1e6,
        per_write: 1.0,
    },
    Example {
        title: "The same with 100 messages per second, each written alone",
        kind: |sizing| &sizing.sio,
        connections: 1e5,
        messages: 0.0,
        deliveries: 1e7,
        per_write: 1.0,
    },
    Example {
        title: "The same, collected and sent ten times per second",
        kind: |sizing| &sizing.sio,
        connections: 1e5,
        messages: 0.0,
        deliveries: 1e7,
        per_write: 10.0,
    },
];
