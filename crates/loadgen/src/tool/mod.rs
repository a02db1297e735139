//! `roomcast bench`: load generator for any WebSocket or Socket.IO server.
//!
//! Each message carries its sender, sequence number and send time, so each client detects messages that are lost,
//! duplicated, late, damaged, or in the wrong room. The server's message format does not matter: messages are sent from
//! templates, and the payload is searched for in everything received.

mod html;
mod target;
mod view;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::error::ErrorContext as _;
use crate::scenario::{
    Filler, Kind, LONGEST_PAYLOAD, SHORTEST_PAYLOAD, Sample, Scenario, Settings, WireProtocol,
    default_outstanding, rate, run_watched, seconds,
};
use crate::tls::Trust;
use crate::{Error, Report};
use target::{Target, servers};
use view::View;

/// Load-test a WebSocket or Socket.IO server and verify every delivery
///
/// ws://HOST:PORT/PATH selects plain WebSocket. http://HOST:PORT selects Socket.IO v5, at /socket.io/ unless the URL
/// has a path. wss:// and https:// add TLS. Several URLs, such as the nodes of a cluster, share the clients in turn.
///
/// A message that is lost, duplicated, reordered, damaged or misdelivered is a fault, and any fault makes the exit code
/// 1. Only test servers that you own or have permission to test.
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
    /// Messages per second, over all clients; by default a client sends again once its last message has reached all
    /// recipients
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Maximum number of messages in flight per sender [default: 1; with --rate 1024, but at most
    /// 65535 over all senders]
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

/// Result of a run, as written to the JSON report.
#[derive(Debug, Clone, serde::Serialize)]
struct Outcome {
    urls: Vec<String>,
    pattern: String,
    rate: Option<f64>,
    #[serde(flatten)]
    report: Report,
    samples: Vec<Sample>,
}

/// Runs the load, shows its progress, and writes the reports.
///
/// Returns whether every delivery was correct. Ctrl-C ends the run early with the measurements so far.
///
/// # Errors
///
/// Fails if the options are invalid, a host cannot be resolved, or a file cannot be written. Faults of the server are
/// part of the report.
pub fn run(options: &Options) -> Result<bool, Error> {
    let settings = options.settings()?;
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))
        .doing(|| "watch for Ctrl-C".into())?;
    let mut view = View::new(options.warmup + options.seconds, Arc::clone(&stop));
    let report = run_watched(&settings, &mut view)?;
    let outcome = Outcome {
        urls: options.urls.iter().map(ToString::to_string).collect(),
        pattern: options.pattern.name(),
        rate: options.rate,
        samples: view.finish(),
        report,
    };
    let to_stdout = options.json.as_ref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout {
        println!("{}", json(&outcome));
        eprint!("{}", view::summary(&outcome));
    } else {
        print!("{}", view::summary(&outcome));
    }
    let write =
        |path: &PathBuf, text: String| fs::write(path, text).doing(|| format!("write {}", path.display()));
    if let Some(path) = options.json.as_ref().filter(|_| !to_stdout) {
        write(path, json(&outcome) + "\n")?;
    }
    if let Some(path) = &options.html {
        write(path, html::page(&outcome))?;
    }
    Ok(outcome.report.ok)
}

impl Options {
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
        // A message in flight has a slot number of two bytes.
        let outstanding = outstanding.min(usize::from(u16::MAX) / senders);
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
        if scenario == Scenario::Idle && self.pid.is_none() {
            return usage("--pattern idle measures the server's CPU time and memory: pass --pid");
        }
        let trust = Trust { authorities: self.ca.clone(), anything: self.insecure, fresh: false };
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
            groups: rooms,
            without_sender,
            payload: self.payload,
            filler: Filler::Dots,
            deflate: false,
            warmup: self.warmup,
            window: self.seconds,
            stall: self.stall,
            spin: self.spin,
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

fn json(outcome: &Outcome) -> String {
    serde_json::to_string_pretty(outcome).unwrap_or_default()
}

const EXAMPLES: &str = r#"Examples:
  The demo of `roomcast serve`:
    roomcast bench http://127.0.0.1:3000
  An echo server, 100 clients, at full speed:
    roomcast bench ws://127.0.0.1:8080/
  Broadcasts to 1,000 clients, 50 messages per second, with the server's CPU time and an HTML report:
    roomcast bench http://127.0.0.1:3000 --pattern broadcast --clients 1000 --rate 50 --pid $PID \
      --message '["everyone","{payload}"]' --html report.html
  Rooms of the demo, over TLS with a private certificate authority:
    roomcast bench https://localhost:3443 --ca own.crt --pattern rooms --rooms 100 --clients 1000 --rate 500
  A server that excludes the sender from broadcasts:
    roomcast bench ws://127.0.0.1:8080/ --pattern broadcast --without-sender"#;

#[cfg(test)]
mod tests;
