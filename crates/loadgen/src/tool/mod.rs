//! `roomcast bench`: load generator for any WebSocket or Socket.IO server.
//!
//! Each message carries its sender, sequence number and send time, so each client detects messages that are lost,
//! duplicated, late, damaged, or in the wrong room. The server's message format does not matter: messages are sent from
//! templates, and the payload is searched for in everything received.

mod html;
mod outcome;
mod plot;
mod summary;
mod target;
mod view;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use outcome::{Outcome, percentiles};

use crate::Error;
use crate::capacity::{self, Capacity, LatencyLimit, Plan, Trial};
use crate::environment::{Machine, command_line, date_time, masked_query};
use crate::error::ErrorContext as _;
use crate::format;
use crate::report::Report;
use crate::scenario::{
    Filler, Habit, Kind, LATE_AFTER, LONGEST_PAYLOAD, SHORTEST_PAYLOAD, Sample, Scenario, Settings,
    WireProtocol, default_outstanding, max_outstanding, rate, run_watched, seconds,
};
use crate::tls::Trust;
use target::{Target, servers};
use view::View;

/// Load-test a WebSocket or Socket.IO server and verify every delivery
///
/// ws://HOST:PORT/PATH selects plain WebSocket. http://HOST:PORT selects Socket.IO v5, at /socket.io/ unless the URL
/// has a path. wss:// and https:// add TLS. Several URLs, such as the nodes of a cluster, share the clients in turn.
///
/// A message that is lost, duplicated, reordered, damaged or misdelivered is a fault, and any fault makes the exit code
/// 1. The values of --auth, --header and URL queries are not written to reports. Only test servers that you own or have permission to test.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Options {
    /// Server URL: ws:// or wss:// for plain WebSocket, http:// or https:// for Socket.IO
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Target>,
    /// Delivery pattern of the server
    #[arg(long, value_enum, default_value_t = Pattern::Echo)]
    pattern: Pattern,
    /// Number of clients
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Messages per second over all clients, at fixed times (open loop)
    ///
    /// Latency counts from the time at which a message was due, so a server that stops for a second cannot hide it. A
    /// message that leaves more than 1 ms late counts as a late send; with over 1 % late sends the result is marked
    /// INVALID, with the reason: the load generator was too slow, or the server did not keep up. By default, a client
    /// sends again once its last message has reached all recipients (closed loop).
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Find the highest rate within a latency limit, such as p99=50ms
    ///
    /// PERCENTILE is p50, p90, p99, p99.9 or max; DURATION has the unit us, ms or s. Each step is a new run with
    /// --rate: the rate doubles until a step fails, is then bisected to 5 %, and the result is run once more. A step
    /// passes if the latency is within the limit over --seconds, with no fault, at most 1 % late sends (by a tenth of
    /// the limit, at least 1 ms), and deliveries as fast as messages are due. Expect 10 to 20 steps. The exit code is 0
    /// if a rate passed, otherwise 1; Ctrl-C keeps the result so far. If the load generator is the limit, the result is
    /// a lower bound. A target that cannot be reached ends the search at once, with an error.
    #[arg(long, value_name = "PERCENTILE=DURATION", conflicts_with = "rate")]
    find_capacity: Option<LatencyLimit>,
    /// Messages per second of the first step of --find-capacity
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate, requires = "find_capacity")]
    start_rate: f64,
    /// Maximum number of messages in flight per sender
    ///
    /// With --rate it bounds how far a slow server can fall behind before sends are late.
    ///
    /// [default: 1; with --rate 1024; with --find-capacity twice as many as the limit needs; at most 65535 over all
    /// senders]
    #[arg(long, value_name = "N")]
    outstanding: Option<usize>,
    /// Number of sending clients [default: 1 for broadcast, 8 for rooms, all for echo]
    #[arg(long, value_name = "N")]
    senders: Option<usize>,
    /// Number of rooms; clients are spread evenly
    #[arg(long, value_name = "N", default_value_t = 10)]
    rooms: usize,
    /// Payload size, at least 32
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    payload: usize,
    /// Seconds of load before the measurement
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// Seconds to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// Seconds without a delivery after which the run is aborted
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    stall: Duration,
    /// Transport of Socket.IO clients
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    transport: Transport,
    /// Socket.IO namespace
    #[arg(long, default_value = "/")]
    namespace: String,
    /// Auth payload of Socket.IO clients as JSON, such as '{"token":"x"}'
    #[arg(long, value_name = "JSON")]
    auth: Option<String>,
    /// Additional request header, such as 'Authorization: Bearer x'; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// PEM file of trusted certificate authorities [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Accept any server certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Template of a message; must contain {payload}
    ///
    /// [default: {payload}; for Socket.IO ["echo","{payload}"] or ["msg","{payload}"]]
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Template of a join request, with {room} [default: J{room}; for Socket.IO ["join","{room}"]]
    #[arg(long, value_name = "TEXT")]
    join: Option<String>,
    /// Template of a message to a room [default: R{room} {payload}; for Socket.IO ["room","{room}","{payload}"]]
    #[arg(long, value_name = "TEXT")]
    room_message: Option<String>,
    /// Expect no delivery to the sender of a broadcast or room message
    #[arg(long)]
    without_sender: bool,
    /// Process id of a local server; reports its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Busy-poll, so that the server does not spend time on waking the clients; needs a dedicated core
    #[arg(long)]
    spin: bool,
    /// Write the report as JSON; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a self-contained HTML page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Delivery pattern of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pattern {
    /// Each message returns to its sender
    Echo,
    /// Each message goes to all clients
    Broadcast,
    /// Each message goes to the members of a room
    Rooms,
    /// Clients connect and send nothing; needs --pid
    Idle,
}

impl Pattern {
    /// Returns the name on the command line.
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Transport {
    Websocket,
    Polling,
}

/// Runs the load, shows its progress, and writes the reports.
///
/// Returns whether every delivery was correct or, with `--find-capacity`, whether a capacity was found. Ctrl-C ends the
/// run early with the measurements so far.
///
/// # Errors
///
/// Fails if the options are invalid, a host cannot be resolved, or a file cannot be written. Faults of the server are
/// part of the report. With `--find-capacity`, fails after writing the reports if the target cannot be reached or does
/// not take the clients: no rate can then be measured.
#[expect(clippy::disallowed_methods, reason = "the report has a date")]
pub fn run(options: &Options) -> Result<bool, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))
        .doing(|| "watch for Ctrl-C".into())?;
    let outcome = options.measure(SystemTime::now(), env::args().collect(), &stop)?;
    if options.prints_json() {
        println!("{}", outcome.json());
    }
    options.say(&summary::summary(&outcome));
    let write =
        |path: &PathBuf, text: String| fs::write(path, text).doing(|| format!("write {}", path.display()));
    if let Some(path) = options.json.as_ref().filter(|_| !options.prints_json()) {
        write(path, outcome.json() + "\n")?;
    }
    if let Some(path) = &options.html {
        write(path, html::page(&outcome))?;
    }
    match outcome.target_failure() {
        Some(problem) => Err(Error::Target(problem)),
        None => Ok(outcome.is_ok()),
    }
}

/// Run with its samples.
#[derive(Debug, Clone, Default)]
struct Run {
    report: Report,
    samples: Vec<Sample>,
}

impl AsRef<Report> for Run {
    fn as_ref(&self) -> &Report {
        &self.report
    }
}

impl Options {
    /// Runs the load or the search.
    fn measure(
        &self,
        started: SystemTime,
        arguments: Vec<String>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Outcome, Error> {
        let settings = self.settings()?;
        let (capacity, run) = match self.find_capacity {
            Some(limit) => {
                let (capacity, run) = self.search(&settings, limit, stop)?;
                (Some(capacity), run.unwrap_or_default())
            }
            None => (None, self.run_once(&settings, String::new(), stop)?),
        };
        Ok(Outcome {
            command: command_line(arguments),
            date: date_time(started),
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::read(),
            urls: self.urls.iter().map(|url| masked_query(&url.to_string())).collect(),
            pattern: self.pattern.name(),
            rate: self.rate,
            capacity,
            percentiles: percentiles(&run.report),
            samples: run.samples,
            report: run.report,
        })
    }

    fn run_once(&self, settings: &Settings, title: String, stop: &Arc<AtomicBool>) -> Result<Run, Error> {
        let mut view = View::new(self.warmup + self.seconds, Arc::clone(stop)).titled(title);
        let report = run_watched(settings, &mut view)?;
        Ok(Run { report, samples: view.finish() })
    }

    /// Searches for the capacity and prints each step.
    fn search(
        &self,
        settings: &Settings,
        limit: LatencyLimit,
        stop: &Arc<AtomicBool>,
    ) -> Result<(Capacity, Option<Run>), Error> {
        self.say(&(summary::steps_head(&limit.to_string()) + "\n"));
        let measure = |trial: Trial| {
            let Trial { rate, index, .. } = trial;
            let outstanding = self
                .outstanding
                .unwrap_or_else(|| capacity::outstanding(limit, rate, settings.senders))
                .min(max_outstanding(settings.senders));
            let settings = Settings { rate: Some(rate), outstanding, ..settings.clone() };
            let title = format!("step {}, {} messages per second", index + 1, format::grouped(rate));
            let run = self.run_once(&settings, title, stop)?;
            // A run that was ended early is not a measurement of the whole time.
            Ok((!stop.load(Ordering::Relaxed)).then_some(run))
        };
        let plan = Plan::new(self.start_rate, self.seconds);
        capacity::find(limit, &plan, measure, |step| self.say(&(summary::step_row(step) + "\n")))
    }

    fn prints_json(&self) -> bool {
        self.json.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// Prints text for people: on standard output, unless that is for JSON.
    fn say(&self, text: &str) {
        if self.prints_json() {
            eprint!("{text}");
        } else {
            print!("{text}");
        }
    }

    fn settings(&self) -> Result<Settings, Error> {
        let usage = |problem: &str| Err(Error::Usage(problem.into()));
        let (clients, rooms) = (usize::from(self.clients), self.rooms);
        let socket_io = self.urls[0].is_socket_io();
        if self.urls.iter().any(|url| url.is_socket_io() != socket_io) {
            return usage("ws:// and http:// URLs cannot be mixed");
        }
        let kind = match (socket_io, self.transport) {
            (false, Transport::Websocket) => Kind::Plain,
            (true, Transport::Websocket) => Kind::Sio,
            (true, Transport::Polling) => Kind::Poll,
            (false, Transport::Polling) => {
                return usage("--transport polling requires http:// or https:// URLs");
            }
        };
        if !(SHORTEST_PAYLOAD..=LONGEST_PAYLOAD).contains(&self.payload) {
            return usage("--payload must be between 32 and 524288");
        }
        let scenario = match self.pattern {
            Pattern::Echo => Scenario::Echo,
            Pattern::Broadcast => Scenario::Saturated,
            Pattern::Rooms => Scenario::Rooms,
            Pattern::Idle => Scenario::Idle,
        };
        let senders = match scenario {
            Scenario::Echo => clients,
            Scenario::Rooms => self.senders.unwrap_or_else(|| clients.min(8)),
            _ => self.senders.unwrap_or(1),
        };
        let outstanding =
            self.outstanding.unwrap_or_else(|| self.rate.map_or(1, |_| default_outstanding(senders)));
        if senders == 0 || senders > clients || outstanding == 0 {
            return usage("--senders must be between 1 and --clients, and --outstanding at least 1");
        }
        let outstanding = outstanding.min(max_outstanding(senders));
        let alone = match scenario {
            Scenario::Rooms if rooms == 0 || rooms > clients => {
                return usage("--rooms must be between 1 and --clients");
            }
            Scenario::Rooms => clients / rooms < 2,
            _ => clients < 2,
        };
        let without_sender = self.without_sender && scenario != Scenario::Echo;
        if without_sender && alone {
            return usage("--without-sender needs at least two clients, and two in each room");
        }
        if scenario == Scenario::Idle && (self.rate.is_some() || self.find_capacity.is_some()) {
            return usage("--pattern idle sends no messages: omit --rate and --find-capacity");
        }
        if scenario == Scenario::Idle && self.pid.is_none() {
            return usage("--pattern idle measures the server's CPU time and memory: pass --pid");
        }
        let trust = Trust { authorities: self.ca.clone(), anything: self.insecure, ..Trust::default() };
        let wire_protocol = self.wire_protocol(kind, scenario)?;
        let settings = Settings {
            servers: servers(&self.urls, kind, &self.headers, &trust)?,
            pid: self.pid,
            scenario,
            kind,
            wire_protocol: Arc::new(wire_protocol),
            clients,
            senders,
            outstanding,
            rate: self.rate,
            late_after: self.find_capacity.map_or(LATE_AFTER, capacity::late_after),
            groups: rooms,
            without_sender,
            payload: self.payload,
            filler: Filler::Dots,
            deflate: false,
            warmup: self.warmup,
            window: self.seconds,
            stall: self.stall,
            spin: self.spin,
            habit: Habit::Usual,
            exact: false,
            gentle: true,
        };
        Ok(settings)
    }

    fn wire_protocol(&self, kind: Kind, scenario: Scenario) -> Result<WireProtocol, Error> {
        let usage = |problem: String| Err(Error::Usage(problem));
        let [message, join, say] = match (kind, scenario) {
            (Kind::Plain, _) => ["{payload}", "J{room}", "R{room} {payload}"],
            (_, Scenario::Echo) => [r#"["echo","{payload}"]"#, "", ""],
            _ => [r#"["msg","{payload}"]"#, r#"["join","{room}"]"#, r#"["room","{room}","{payload}"]"#],
        };
        let message = self.message.as_deref().unwrap_or(message);
        let join = self.join.as_deref().unwrap_or(join);
        let say = self.room_message.as_deref().unwrap_or(say);
        for (flag, text) in [("--message", &self.message), ("--room-message", &self.room_message)] {
            if text.as_ref().is_some_and(|text| text.matches("{payload}").count() != 1) {
                return usage(format!("{flag} must contain {{payload}} exactly once"));
            }
        }
        if kind != Kind::Plain {
            for (flag, text) in [("--message", message), ("--join", join), ("--room-message", say)] {
                let array = serde_json::from_str::<Vec<serde_json::Value>>(text);
                let event = array.is_ok_and(|array| array.first().is_some_and(serde_json::Value::is_string));
                if !text.is_empty() && !event {
                    return usage(format!(
                        "{flag} must be a Socket.IO event such as [\"name\",\"{{payload}}\"], not {text}"
                    ));
                }
            }
        }
        let auth = self.auth.as_deref().unwrap_or_default();
        if !auth.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(auth).is_err() {
            return usage(format!("--auth must be JSON, not {auth}"));
        }
        if !self.namespace.starts_with('/') || self.namespace.contains(',') {
            return usage("--namespace must begin with / and contain no comma".into());
        }
        Ok(WireProtocol::any(kind, &self.namespace, auth, [message, join, say], self.payload))
    }
}

const EXAMPLES: &str = r#"Examples:
  The demo of `roomcast serve`:
    roomcast bench http://127.0.0.1:3000
  An echo server, 100 clients, at full speed:
    roomcast bench ws://127.0.0.1:8080/
  Broadcasts to 1,000 clients, 50 messages per second, with the server's CPU time and an HTML report:
    roomcast bench http://127.0.0.1:3000 --pattern broadcast --clients 1000 --rate 50 --pid $PID \
      --message '["everyone","{payload}"]' --html report.html
  Highest rate of echoes with 99 % of them within 50 ms, with a JSON report:
    roomcast bench http://127.0.0.1:3000 --find-capacity p99=50ms --json capacity.json
  Rooms of the demo, over TLS with a private certificate authority:
    roomcast bench https://localhost:3443 --ca own.crt --pattern rooms --rooms 100 --clients 1000 --rate 500
  A server that excludes the sender from broadcasts:
    roomcast bench ws://127.0.0.1:8080/ --pattern broadcast --without-sender"#;

#[cfg(test)]
mod tests;
