//! `roomcast bench`: load on any WebSocket or Socket.IO server, every delivery checked
//!
//! The clients send messages that know who sent them, which of how many they are, and when; so each client sees what it
//! lost, and what came twice, late, damaged, or to the wrong room. What a server has to do with a message is its own
//! affair: the texts to send are templates, and the message is looked for in whatever comes back.

mod html;
mod target;
mod view;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::error::Doing as _;
use crate::scenario::{
    Dialect, Filler, Kind, LONGEST_PAYLOAD, SHORTEST_PAYLOAD, Sample, Scenario, Settings, run_watched,
    seconds,
};
use crate::tls::Trust;
use crate::{Error, Report};
use target::{Target, servers};
use view::View;

/// Put load on a WebSocket or Socket.IO server, yours or another's, and check every delivery
///
/// ws://HOST:PORT/PATH speaks plain WebSocket, http://HOST:PORT speaks Socket.IO v5 at /socket.io/ unless the URL has
/// another path; wss:// and https:// do the same over TLS. With several URLs the clients are spread over them in turn, as over the nodes of a cluster.
///
/// Every message is checked: lost, doubled, out of order, damaged, or in the wrong place. Any such fault makes the
/// exit code 1. Only test servers that are yours, or whose owner agrees.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Options {
    /// Where the clients connect to: ws:// or http://, wss:// or https://
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Target>,
    /// What the server does with a message
    #[arg(long, value_enum, default_value_t = Pattern::Echo)]
    pattern: Pattern,
    /// Connected clients
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Messages a second, of all clients together; by default a client sends again when its message has reached
    /// everybody
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Messages that each sender has on their way at most [default: 1, with --rate 64]
    #[arg(long, value_name = "N")]
    outstanding: Option<usize>,
    /// Clients that send [default: 1 in broadcast, 8 in rooms; in echo all]
    #[arg(long, value_name = "N")]
    senders: Option<usize>,
    /// Rooms, over which the clients are spread evenly
    #[arg(long, value_name = "N", default_value_t = 10)]
    rooms: usize,
    /// Bytes of each message, at least 32
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    payload: usize,
    /// Seconds of load before the measurement
    #[arg(long, default_value = "1", value_parser = seconds)]
    warmup: Duration,
    /// Seconds that are measured
    #[arg(long, default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// Seconds without any delivery after which the run breaks off
    #[arg(long, default_value = "10", value_parser = seconds)]
    stall: Duration,
    /// How Socket.IO clients connect
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    transport: Transport,
    /// Socket.IO namespace
    #[arg(long, default_value = "/")]
    namespace: String,
    /// JSON that Socket.IO clients connect with, such as '{"token":"x"}'
    #[arg(long, value_name = "JSON")]
    auth: Option<String>,
    /// A further header of each request, such as 'Authorization: Bearer x'; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// PEM file with the certificate authorities to accept, instead of those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// What a client sends, with {payload} in it
    ///
    /// [default: {payload}; for Socket.IO ["echo","{payload}"] or ["msg","{payload}"]]
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// What a client sends to be in a room, with {room} in it [default: J{room}; ["join","{room}"]]
    #[arg(long, value_name = "TEXT")]
    join: Option<String>,
    /// What a client sends to a room [default: R{room} {payload}; ["room","{room}","{payload}"]]
    #[arg(long, value_name = "TEXT")]
    room_message: Option<String>,
    /// The server leaves out the sender of a broadcast or of a message to a room
    #[arg(long)]
    without_sender: bool,
    /// Process id of the server on this machine, for its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Never sleep, so that the server does not pay for waking the clients; wants a core of its own
    #[arg(long)]
    spin: bool,
    /// Write everything there as JSON; - is the standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots there, which needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What the server does with a message
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pattern {
    /// It comes back to its sender
    Echo,
    /// It goes to everybody
    Broadcast,
    /// It goes to the members of a room
    Rooms,
    /// Clients connect and say nothing; needs --pid
    Idle,
}

impl Pattern {
    /// The name on the command line
    fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Transport {
    Websocket,
    Polling,
}

/// Result of a run in the JSON file.
#[derive(Debug, Clone, serde::Serialize)]
struct Outcome {
    urls: Vec<String>,
    pattern: String,
    rate: Option<f64>,
    #[serde(flatten)]
    report: Report,
    samples: Vec<Sample>,
}

/// Puts load on the servers, shows how it goes, and writes the reports
///
/// Returns whether every delivery was correct. Ctrl-C ends the run early with the measurements so far.
///
/// # Errors
///
/// If the options make no sense, a host cannot be found, or a file cannot be written. What the server does wrong is part
/// of the report.
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
            return usage("ws:// and http:// cannot be mixed: all clients speak the same");
        }
        let kind = match (socket_io, self.transport) {
            (false, Transport::Websocket) => Kind::Plain,
            (true, Transport::Websocket) => Kind::Sio,
            (true, Transport::Polling) => Kind::Poll,
            (false, Transport::Polling) => {
                return usage("--transport polling is for Socket.IO, so for http:// URLs");
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
        let outstanding = self.outstanding.unwrap_or_else(|| if self.rate.is_some() { 64 } else { 1 });
        if senders == 0 || senders > clients || outstanding == 0 {
            return usage("--senders must be between 1 and --clients, and --outstanding at least 1");
        }
        // Messages on their way have numbers of two bytes.
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
            return usage("--without-sender needs two clients in each place, or nobody gets anything");
        }
        if scenario == Scenario::Idle && self.pid.is_none() {
            return usage("idle measures CPU and memory of the server: give its --pid");
        }
        let trust = Trust { authorities: self.ca.clone(), anything: self.insecure };
        let dialect = self.dialect(kind, scenario)?;
        let settings = Settings {
            servers: servers(&self.urls, kind, &self.headers, &trust)?,
            pid: self.pid,
            scenario,
            kind,
            dialect: Arc::new(dialect),
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

    fn dialect(&self, kind: Kind, scenario: Scenario) -> Result<Dialect, Error> {
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
                return usage(format!("{flag} must have {{payload}} in it, once"));
            }
        }
        if kind != Kind::Plain {
            for (flag, text) in [("--message", message), ("--join", join), ("--room-message", say)] {
                let array = serde_json::from_str::<Vec<serde_json::Value>>(text);
                let event = array.is_ok_and(|array| array.first().is_some_and(serde_json::Value::is_string));
                if !text.is_empty() && !event {
                    return usage(format!(
                        "{flag} must be a Socket.IO event, such as [\"name\",\"{{payload}}\"], and is {text}"
                    ));
                }
            }
        }
        let auth = self.auth.as_deref().unwrap_or_default();
        if !auth.is_empty() && serde_json::from_str::<serde::de::IgnoredAny>(auth).is_err() {
            return usage(format!("--auth is no JSON: {auth}"));
        }
        if !self.namespace.starts_with('/') || self.namespace.contains(',') {
            return usage("--namespace begins with / and has no comma".into());
        }
        Ok(Dialect::any(kind, &self.namespace, auth, [message, join, say], self.payload))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number")?;
    if (0.001..=10_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("must be between 0.001 and 10000000".into())
    }
}

fn json(outcome: &Outcome) -> String {
    serde_json::to_string_pretty(outcome).unwrap_or_default()
}

const EXAMPLES: &str = r#"Examples:
  The demo of `roomcast serve`:
    roomcast bench http://127.0.0.1:3000
  An echo server, 100 clients, as fast as it answers:
    roomcast bench ws://127.0.0.1:8080/
  A chat that everybody hears, 1,000 clients, 50 messages a second, with the server's CPU and a page of plots:
    roomcast bench http://127.0.0.1:3000 --pattern broadcast --clients 1000 --rate 50 --pid $PID \
      --message '["everyone","{payload}"]' --html report.html
  Rooms of the demo, by TLS with a certificate of one's own:
    roomcast bench https://localhost:3443 --ca own.crt --pattern rooms --rooms 100 --clients 1000 --rate 500
  A server that does not send a broadcast back to its sender:
    roomcast bench ws://127.0.0.1:8080/ --pattern broadcast --without-sender"#;

#[cfg(test)]
mod tests;
