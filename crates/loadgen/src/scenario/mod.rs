//! Puts load on a server from one thread, checks every delivery, and charges the server's CPU to the deliveries
//!
//! A run connects its clients, makes sure with probes that all of them are reachable, warms up, measures for a
//! window, and then waits until everything on its way has landed. A message knows its sender, its number and its
//! room, so a lost, doubled, late or misdelivered one is seen by the client that got it or did not.

mod chat;
mod dialect;
mod exchange;
mod fanout;
mod idle;
mod inflate;
mod meter;
mod polling;
mod probes;
mod probing;
mod session;
mod settings;
mod stamp;
mod swarm;
mod verifier;
mod violation;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use crate::error::Doing as _;
use crate::process::{only_cpu, raise_open_files, run_on};
use crate::{Error, Report};
pub(crate) use dialect::Dialect;
pub(crate) use settings::{Server, Settings};
pub(crate) use stamp::Filler;
use watch::Unwatched;
pub(crate) use watch::{Sample, Watch};

/// Puts load on a server, checks every delivery, and prints what it found as one line of JSON
///
/// With --pid it also reads the CPU time and memory of the server process, and charges them to the deliveries. A run
/// with a single wrong delivery says "ok":false, ends with exit code 1, and must not be counted. Every run is bounded:
/// it breaks off when nothing has arrived for --stall seconds.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "loadgen")]
pub struct Options {
    /// Port of the server on 127.0.0.1
    #[arg(long)]
    pub port: u16,
    /// Process id of the server, to read its CPU time and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// Pattern of load
    #[arg(long, value_enum)]
    pub scenario: Scenario,
    /// What the clients speak
    #[arg(long, value_enum, default_value_t = Kind::Plain)]
    pub kind: Kind,
    /// Path and query of the server's endpoint
    ///
    /// [default: / for plain clients, /socket.io/ with the fitting query for the others]
    #[arg(long)]
    pub path: Option<String>,
    /// Connected clients
    ///
    /// [default: paced and saturated 1000, echo 64, rooms 4000 in rooms of ten, idle and chat 10000]
    #[arg(long)]
    pub clients: Option<usize>,
    /// Clients that send
    ///
    /// [default: paced 1, saturated and rooms 8; in echo all send]
    #[arg(long)]
    pub senders: Option<usize>,
    /// Messages that each sender keeps on their way
    ///
    /// [default: paced 1, saturated 8, echo 16, rooms 4]
    #[arg(long)]
    pub outstanding: Option<usize>,
    /// Length of each message's text in bytes, at least 32
    #[arg(long, default_value_t = DEFAULT_PAYLOAD)]
    pub payload: usize,
    /// Fill messages with text like records of a database, instead of dots that compress to nothing
    #[arg(long)]
    pub records: bool,
    /// Agree on permessage-deflate with the server, which then has to compress; the clients do not
    #[arg(long)]
    pub deflate: bool,
    /// Seconds of load before the window
    #[arg(long, default_value = "0.6", value_parser = seconds)]
    pub warmup: Duration,
    /// Seconds that are measured; in idle, seconds to hold all connections
    #[arg(long, default_value = "1.2", value_parser = seconds)]
    pub window: Duration,
    /// Seconds without any delivery after which the run breaks off
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub stall: Duration,
    /// Never sleep, so that the server does not pay for waking the load generator; wants a core of its own
    #[arg(long)]
    pub spin: bool,
    /// Run on this CPU only
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Pattern of load
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Scenario {
    /// One client sends to all; the next message follows when the former has reached everybody
    Paced,
    /// Several clients send to all, each with several messages on their way
    Saturated,
    /// Every client gets its own messages back, several on their way
    Echo,
    /// Several clients send to random rooms of ten
    Rooms,
    /// Clients connect and say nothing
    Idle,
    /// One client sends to a room with all the others, one message after the other, while two more chat in a room of
    /// their own
    Chat,
}

/// What the clients speak
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// WebSocket with nothing above it; in rooms the commands `J<room>` and `R<room> <text>`
    Plain,
    /// Socket.IO v5 over WebSocket, events `msg`, `echo`, `join` and `room`
    Sio,
    /// Socket.IO v5 by long-polling, event `msg`; for paced, saturated and idle
    Poll,
}

/// Runs one scenario against one server
///
/// The report contains every fault of the server, and the reason of an early end.
///
/// # Errors
///
/// If the options are invalid or the system refuses a resource before the first connection.
pub fn run(options: &Options) -> Result<Report, Error> {
    options.check()?;
    if let Some(cpu) = options.cpu {
        only_cpu(cpu).and_then(|cpu| run_on(&cpu)).doing(|| format!("run on CPU {cpu}"))?;
    }
    run_watched(&options.settings(), &mut Unwatched)
}

/// Runs with validated settings and an observer.
pub(crate) fn run_watched(settings: &Settings, watch: &mut dyn Watch) -> Result<Report, Error> {
    let mut report = Report {
        scenario: settings.scenario.name(),
        kind: settings.kind.name(),
        clients: settings.clients,
        payload: settings.payload,
        window_s: settings.window.as_secs_f64(),
        ..Report::default()
    };
    let files = raise_open_files().doing(|| "raise the limit of open files".into())?;
    if files < (settings.sockets() + SPARE_FILES) as u64 {
        let clients = settings.clients;
        return Err(Error::Usage(format!(
            "{clients} clients need more than the {files} open files allowed; raise the hard limit (ulimit -n)"
        )));
    }
    let outcome = match settings.scenario {
        Scenario::Idle => idle::run(settings, watch, &mut report),
        Scenario::Chat => chat::run(settings, watch, &mut report),
        _ => fanout::run(settings, watch, &mut report),
    };
    report.error = outcome.err().map(|error| error.to_string());
    report.ok = report.error.is_none() && report.faults.is_empty();
    Ok(report)
}

impl Options {
    fn check(&self) -> Result<(), Error> {
        let usage = |problem: &str| Err(Error::Usage(problem.into()));
        if self.payload < SHORTEST_PAYLOAD || self.payload > LONGEST_PAYLOAD {
            return usage("--payload must be between 32 and 524288");
        }
        if self.clients() == 0 || self.senders() == 0 || self.outstanding() == 0 {
            return usage("--clients, --senders and --outstanding must be at least 1");
        }
        if self.senders() > self.clients() {
            return usage("--senders cannot be more than --clients");
        }
        if self.senders() * self.outstanding() > usize::from(u16::MAX)
            || self.clients() > usize::from(u16::MAX)
        {
            return usage("at most 65535 clients, and as many messages on their way");
        }
        if self.scenario == Scenario::Rooms && !self.clients().is_multiple_of(MEMBERS_PER_ROOM) {
            return usage("--clients must be a multiple of ten for rooms");
        }
        if self.deflate && self.kind == Kind::Poll {
            return usage("--deflate is for WebSocket");
        }
        if self.kind == Kind::Poll
            && matches!(self.scenario, Scenario::Echo | Scenario::Rooms | Scenario::Chat)
        {
            return usage("polling clients only broadcast: choose paced, saturated or idle");
        }
        Ok(())
    }

    fn clients(&self) -> usize {
        self.clients.unwrap_or_else(|| self.scenario.default_clients())
    }

    fn senders(&self) -> usize {
        match self.scenario {
            Scenario::Echo => self.clients(),
            Scenario::Paced | Scenario::Idle | Scenario::Chat => self.senders.unwrap_or(1),
            Scenario::Saturated | Scenario::Rooms => self.senders.unwrap_or(8),
        }
    }

    fn outstanding(&self) -> usize {
        self.outstanding.unwrap_or(match self.scenario {
            Scenario::Paced | Scenario::Idle | Scenario::Chat => 1,
            Scenario::Saturated => 8,
            Scenario::Echo => 16,
            Scenario::Rooms => 4,
        })
    }

    fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(match self.kind {
            Kind::Plain => "/",
            Kind::Sio => "/socket.io/?EIO=4&transport=websocket",
            Kind::Poll => "/socket.io/?EIO=4&transport=polling",
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            servers: vec![Arc::new(Server::local(self.port, self.path(), self.kind))],
            pid: self.pid,
            scenario: self.scenario,
            kind: self.kind,
            dialect: Arc::new(Dialect::strict(self.kind, self.scenario, self.payload)),
            clients: self.clients(),
            senders: self.senders(),
            outstanding: self.outstanding(),
            rate: None,
            groups: self.clients() / MEMBERS_PER_ROOM,
            without_sender: false,
            payload: self.payload,
            filler: if self.records { Filler::Records } else { Filler::Dots },
            deflate: self.deflate,
            warmup: self.warmup,
            window: self.window,
            stall: self.stall,
            spin: self.spin,
            exact: true,
            gentle: false,
        }
    }
}

impl Scenario {
    /// The name on the command line
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Default number of connected clients.
    pub fn default_clients(self) -> usize {
        match self {
            Self::Paced | Self::Saturated => 1000,
            Self::Echo => 64,
            Self::Rooms => 4000,
            Self::Idle | Self::Chat => 10_000,
        }
    }
}

impl Kind {
    /// The name on the command line
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A number of seconds on the command line
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= LONGEST_TIME => Ok(duration),
        _ => Err(format!("must be between 0 and {} seconds", LONGEST_TIME.as_secs())),
    }
}

/// Default size of a message's text in bytes.
pub const DEFAULT_PAYLOAD: usize = 64;

/// Minimum payload in bytes: the length of a message header.
pub(crate) const SHORTEST_PAYLOAD: usize = stamp::LENGTH;
const MEMBERS_PER_ROOM: usize = 10;
pub(crate) const LONGEST_PAYLOAD: usize = 512 << 10;
const LONGEST_TIME: Duration = Duration::from_secs(3600);
/// Descriptors for other things than clients
const SPARE_FILES: usize = 100;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::Faults;
    use roomcast_compare::limit::testing::{Fault, Running};
    use roomcast_compare::limit::{Pattern, Send};

    /// A short run against a limit server in this process
    fn run_against(send: Send, pattern: Pattern, arguments: &str) -> Report {
        load(&Running::new(send, pattern), arguments)
    }

    fn load(server: &Running, arguments: &str) -> Report {
        let port = server.address.port();
        let line = format!("loadgen --port {port} --warmup 0.05 --window 0.3 {arguments}");
        run(&Options::parse_from(line.split(' '))).unwrap()
    }

    #[test]
    fn every_scenario_passes_against_both_limits() {
        for send in [Send::Write, Send::Batch] {
            for (pattern, arguments, at_once) in [
                (Pattern::Broadcast, "--scenario paced --clients 50", 50),
                (Pattern::Broadcast, "--scenario saturated --clients 50 --payload 1024", 50),
                (Pattern::Echo, "--scenario echo --clients 20", 20),
                (Pattern::Room, "--scenario rooms --clients 100", 10),
                (Pattern::Room, "--scenario chat --clients 50", 50),
                (Pattern::Poll, "--kind poll --scenario paced --clients 50", 50),
                (Pattern::Poll, "--kind poll --scenario saturated --clients 50", 50),
            ] {
                let report = run_against(send, pattern, arguments);
                assert!(report.ok, "{send:?} {arguments}: {report:?}");
                assert!(report.deliveries >= at_once, "{send:?} {arguments}: {report:?}");
                assert!(report.p50_us.unwrap() > 1.0 && report.p50_us <= report.p99_us, "{report:?}");
            }
        }
    }

    #[test]
    fn a_server_of_the_wrong_pattern_fails_the_run() {
        let echoed = run_against(Send::Write, Pattern::Echo, "--scenario paced --clients 5 --stall 0.5");
        assert!(!echoed.ok && echoed.error.unwrap().contains("1 of 5 clients"));
        let broadcast = run_against(Send::Batch, Pattern::Broadcast, "--scenario echo --clients 5");
        assert!(!broadcast.ok && broadcast.faults.misdelivered > 0, "{:?}", broadcast.faults);
    }

    #[test]
    fn clients_that_poll_answer_heartbeats_while_others_connect() {
        let report = load(&Running::pinging(), "--kind poll --scenario paced --clients 400");
        assert!(report.ok && report.deliveries >= 400, "{report:?}");
    }

    #[test]
    fn a_chat_waits_for_a_broadcast_that_is_served_in_one_go_and_not_for_the_generator() {
        let report = run_against(Send::Write, Pattern::Room, "--scenario chat --clients 1000");
        assert!(report.ok && report.sent > 0, "{report:?}");
        let chat = report.chat.unwrap();
        assert!(chat.p50_us <= chat.p99_us && chat.p99_us <= chat.max_us, "{chat:?}");
        assert!(chat.quiet_p50_us < chat.broadcast_us && chat.quiet_p50_us < chat.p99_us, "{chat:?}");
        assert!(chat.looked_p99_us < chat.broadcast_us, "{chat:?}");
        // The limit's whole broadcast stands before a chat message that comes while it is written.
        assert!(chat.share_of_broadcast() > 0.3, "{chat:?}");
        let alone = run_against(Send::Write, Pattern::Broadcast, "--scenario chat --clients 5 --stall 0.5");
        assert!(!alone.ok, "{alone:?}");
    }

    #[test]
    fn a_server_that_does_not_speak_socket_io_stalls_the_run() {
        let report =
            run_against(Send::Write, Pattern::Echo, "--kind sio --scenario paced --clients 2 --stall 0.2");
        assert!(report.error.unwrap().contains("0 of 2 clients are connected"));
    }

    #[test]
    fn every_kind_of_fault_is_seen_through_real_sockets() {
        for (fault, expected) in [
            (Fault::Lose, Faults { lost: 1, ..Faults::default() }),
            (Fault::Double, Faults { duplicate: 1, ..Faults::default() }),
            (Fault::Swap, Faults { reordered: 1, ..Faults::default() }),
            (Fault::Misdeliver, Faults { lost: 1, misdelivered: 1, ..Faults::default() }),
            (Fault::Damage, Faults { damaged: 1, ..Faults::default() }),
        ] {
            let report = load(&Running::faulty(fault), "--scenario echo --clients 2 --stall 0.5");
            assert!(!report.ok && report.error.is_none(), "{fault:?}: {report:?}");
            assert_eq!(report.faults, expected, "{fault:?}");
            assert!(report.deliveries > 0, "{fault:?}: {report:?}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for arguments in [
            "--scenario rooms --clients 15",
            "--scenario echo --kind poll",
            "--scenario paced --kind poll --deflate",
            "--scenario paced --payload 31",
            "--scenario saturated --clients 4",
            "--scenario paced --outstanding 0",
        ] {
            let line = format!("loadgen --port 1 {arguments}");
            assert!(
                matches!(run(&Options::parse_from(line.split(' '))), Err(Error::Usage(_))),
                "{arguments}"
            );
        }
    }
}
