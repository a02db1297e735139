//! Single-threaded load scenarios that verify every delivery and measure the server's CPU time per delivery.
//!
//! A run connects its clients, probes that all of them are reachable, warms up, measures for a window, and then waits
//! for all messages in flight. Each message carries its sender, sequence number and room, so clients detect messages
//! that are lost, duplicated, late or misdelivered.

mod chat;
mod client_pool;
mod exchange;
mod fanout;
mod habit;
mod idle;
mod inflate;
mod meter;
mod msgpack;
mod open_loop;
mod polling;
mod probes;
mod probing;
mod session;
mod settings;
mod stamp;
mod verifier;
mod violation;
mod watch;
mod wire_protocol;

use std::sync::Arc;
use std::time::Duration;

use crate::error::ErrorContext as _;
use crate::process::{only_cpu, raise_open_files, run_on};
use crate::{Error, Failure, Report};
pub use habit::Habit;
pub(crate) use open_loop::{LATE_AFTER, default_outstanding, max_outstanding};
pub(crate) use settings::{Server, Settings};
pub(crate) use stamp::Filler;
use watch::Unwatched;
pub(crate) use watch::{Sample, Watch};
pub(crate) use wire_protocol::WireProtocol;

/// Load-test a server, verify every delivery, and print the result as one line of JSON
///
/// With --pid the result includes the server's CPU time per delivery and its memory. A run with a wrong delivery has
/// "ok":false and exit code 1, and must not be counted. A run is aborted when nothing arrives for --stall seconds.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "loadgen")]
pub struct Options {
    /// Port of the server on 127.0.0.1
    #[arg(long)]
    pub port: u16,
    /// Process id of the server; reports its CPU time and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// Load pattern
    #[arg(long, value_enum)]
    pub scenario: Scenario,
    /// Protocol of the clients
    #[arg(long, value_enum, default_value_t = Kind::Plain)]
    pub kind: Kind,
    /// Path and query of the server's endpoint
    ///
    /// [default: / for plain clients, otherwise /socket.io/ with the query of the transport]
    #[arg(long)]
    pub path: Option<String>,
    /// Number of clients
    ///
    /// [default: paced and saturated 1000, echo 64, rooms 4000 in rooms of ten, idle and chat 10000]
    #[arg(long)]
    pub clients: Option<usize>,
    /// Number of sending clients
    ///
    /// [default: paced 1, saturated and rooms 8, echo all]
    #[arg(long)]
    pub senders: Option<usize>,
    /// Messages per second over all senders, at fixed times (open loop)
    ///
    /// Latencies then count from the time at which a message was due, also if it leaves late. By default, a sender
    /// sends again once its last message has reached all recipients (closed loop). A message is late if it leaves more
    /// than 1 ms after it was due. A result with over 1 % late messages must not be counted: "invalid" is then the
    /// reason. Not for idle and chat.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// Messages in flight per sender; with --rate, the maximum
    ///
    /// [default: paced 1, saturated 8, echo 16, rooms 4; with --rate 1024, but at most 65535 over all senders]
    #[arg(long)]
    pub outstanding: Option<usize>,
    /// Payload size in bytes, at least 32
    #[arg(long, default_value_t = DEFAULT_PAYLOAD)]
    pub payload: usize,
    /// Fill messages with record-like text instead of dots, for realistic compression
    #[arg(long)]
    pub records: bool,
    /// Negotiate permessage-deflate; the server must compress, the clients do not
    #[arg(long)]
    pub deflate: bool,
    /// Use TLS and accept any certificate
    #[arg(long)]
    pub tls: bool,
    /// Resume TLS sessions of earlier connections
    #[arg(long, requires = "tls")]
    pub resume: bool,
    /// Seconds of load before the measurement
    #[arg(long, default_value = "0.6", value_parser = seconds)]
    pub warmup: Duration,
    /// Seconds to measure; for idle, seconds to hold all connections
    #[arg(long, default_value = "1.2", value_parser = seconds)]
    pub window: Duration,
    /// Seconds without a delivery after which the run is aborted
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub stall: Duration,
    /// Busy-poll, so that the server does not spend time on waking the load generator; needs a dedicated core
    #[arg(long)]
    pub spin: bool,
    /// Habit to vary; it shows how much a result depends on the load generator
    #[arg(long, value_enum, default_value_t = Habit::Usual)]
    pub habit: Habit,
    /// CPU to run on
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Load pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Scenario {
    /// One client broadcasts; each message waits until all clients have the previous one
    Paced,
    /// Several clients broadcast, each with several messages in flight
    Saturated,
    /// Each client receives its own messages, with several in flight
    Echo,
    /// Several clients send to random rooms of ten
    Rooms,
    /// Clients connect and send nothing
    Idle,
    /// One client broadcasts to a large room, one message at a time, while two other clients chat in a second room
    Chat,
}

/// Protocol of the clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Plain WebSocket; for rooms, the commands `J<room>` and `R<room> <text>`
    Plain,
    /// Socket.IO v5 over WebSocket; events `msg`, `echo`, `join` and `room`
    Sio,
    /// Socket.IO v5 over WebSocket with packets of socket.io-msgpack-parser; the same events
    Msgpack,
    /// Socket.IO v5 over long-polling; event `msg`; for paced, saturated and idle
    Poll,
}

/// Runs a scenario against a server.
///
/// The report contains every fault of the server, and the reason of an early end.
///
/// # Errors
///
/// Fails if the options are invalid or a system resource is not available before the first connection.
pub fn run(options: &Options) -> Result<Report, Error> {
    options.check()?;
    if let Some(cpu) = options.cpu {
        only_cpu(cpu).and_then(|cpu| run_on(&cpu)).doing(|| format!("run on CPU {cpu}"))?;
    }
    let mut settings = options.settings();
    if options.tls {
        let server = Server::local(options.port, options.path(), options.kind).with_tls(options.resume)?;
        settings.servers = vec![Arc::new(server)];
    }
    run_watched(&settings, &mut Unwatched)
}

/// Runs with validated settings and an observer.
pub(crate) fn run_watched(settings: &Settings, watch: &mut dyn Watch) -> Result<Report, Error> {
    let mut report = Report {
        scenario: settings.scenario.name(),
        kind: settings.kind.name(),
        clients: settings.clients,
        payload: settings.payload,
        window_s: settings.window.as_secs_f64(),
        failure: Some(Failure::Setup),
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
    match &outcome {
        Ok(()) => report.failure = None,
        Err(Error::Unreachable { .. }) => report.failure = Some(Failure::Unreachable),
        // The scenario has set the stage.
        Err(_) => {}
    }
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
            return usage("at most 65535 clients, and as many messages in flight");
        }
        if self.scenario == Scenario::Rooms && !self.clients().is_multiple_of(MEMBERS_PER_ROOM) {
            return usage("--clients must be a multiple of ten for --scenario rooms");
        }
        if self.rate.is_some() && matches!(self.scenario, Scenario::Idle | Scenario::Chat) {
            return usage("--rate does not apply to the scenarios idle and chat");
        }
        if self.deflate && self.kind == Kind::Poll {
            return usage("--deflate requires a WebSocket --kind");
        }
        if self.kind == Kind::Poll
            && matches!(self.scenario, Scenario::Echo | Scenario::Rooms | Scenario::Chat)
        {
            return usage("--kind poll supports only the scenarios paced, saturated and idle");
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
        let open_loop = self.rate.map(|_| default_outstanding(self.senders()));
        self.outstanding.or(open_loop).unwrap_or(match self.scenario {
            Scenario::Paced | Scenario::Idle | Scenario::Chat => 1,
            Scenario::Saturated => 8,
            Scenario::Echo => 16,
            Scenario::Rooms => 4,
        })
    }

    fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(match self.kind {
            Kind::Plain => "/",
            Kind::Sio | Kind::Msgpack => "/socket.io/?EIO=4&transport=websocket",
            Kind::Poll => "/socket.io/?EIO=4&transport=polling",
        })
    }

    fn settings(&self) -> Settings {
        Settings {
            servers: vec![Arc::new(Server::local(self.port, self.path(), self.kind))],
            pid: self.pid,
            scenario: self.scenario,
            kind: self.kind,
            wire_protocol: Arc::new(WireProtocol::strict(self.kind, self.scenario, self.payload)),
            clients: self.clients(),
            senders: self.senders(),
            outstanding: self.outstanding(),
            rate: self.rate,
            late_after: LATE_AFTER,
            groups: self.clients() / MEMBERS_PER_ROOM,
            without_sender: false,
            payload: self.payload,
            filler: if self.records { Filler::Records } else { Filler::Dots },
            deflate: self.deflate,
            warmup: self.warmup,
            window: self.window,
            stall: self.stall,
            spin: self.spin && self.habit != Habit::Blocking,
            habit: self.habit,
            exact: true,
            gentle: false,
        }
    }
}

impl Scenario {
    /// Returns the name on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Returns the default number of clients.
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
    /// Returns the name on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Parses a number of seconds on the command line.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= LONGEST_TIME => Ok(duration),
        _ => Err(format!("must be between 0 and {} seconds", LONGEST_TIME.as_secs())),
    }
}

/// Parses a number of messages per second on the command line.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number")?;
    if (MIN_RATE..=MAX_RATE).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("must be between {MIN_RATE} and {MAX_RATE}"))
    }
}

/// Default payload size in bytes.
pub const DEFAULT_PAYLOAD: usize = 64;

/// Minimum payload size in bytes: the length of a stamp.
pub(crate) const SHORTEST_PAYLOAD: usize = stamp::LENGTH;
const MEMBERS_PER_ROOM: usize = 10;
pub(crate) const LONGEST_PAYLOAD: usize = 512 << 10;
const MIN_RATE: f64 = 0.001;
/// Highest rate that can be requested, in messages per second.
pub(crate) const MAX_RATE: f64 = 10_000_000.0;
const LONGEST_TIME: Duration = Duration::from_secs(3600);
/// Descriptors not used by clients.
const SPARE_FILES: usize = 100;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::Faults;
    use roomcast_compare::limit::testing::{Fault, Running};
    use roomcast_compare::limit::{Pattern, Send};

    /// Runs a short load against a limit server in this process.
    fn run_against(send: Send, pattern: Pattern, arguments: &str) -> Report {
        load(&Running::new(send, pattern), arguments)
    }

    fn load(server: &Running, arguments: &str) -> Report {
        let port = server.address.port();
        let line = format!("loadgen --port {port} --warmup 0.05 --window 0.3 {arguments}");
        run(&Options::parse_from(line.split(' '))).unwrap()
    }

    #[test]
    fn scenarios_pass_against_both_limits() {
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
    fn every_habit_delivers_correctly() {
        for habit in Habit::ALL {
            for (pattern, load) in [
                (Pattern::Echo, "--scenario echo --clients 20 --spin"),
                (Pattern::Broadcast, "--scenario saturated --clients 50 --spin"),
                (Pattern::Poll, "--kind poll --scenario saturated --clients 50 --spin"),
            ] {
                let report = run_against(Send::Batch, pattern, &format!("{load} --habit {}", habit.name()));
                assert!(report.ok && report.deliveries >= 50, "{habit:?} {load}: {report:?}");
            }
        }
    }

    #[test]
    fn open_loop_keeps_rate_in_every_scenario() {
        for (pattern, arguments, copies) in [
            (Pattern::Broadcast, "--scenario paced --clients 20 --rate 500", 20),
            (Pattern::Broadcast, "--scenario saturated --clients 20 --rate 500", 20),
            (Pattern::Echo, "--scenario echo --clients 20 --rate 500 --spin", 1),
            (Pattern::Room, "--scenario rooms --clients 40 --rate 500", 10),
            (Pattern::Poll, "--kind poll --scenario paced --clients 20 --rate 500", 20),
        ] {
            let report = run_against(Send::Write, pattern, arguments);
            assert!(report.ok, "{arguments}: {report:?}");
            let open_loop = report.open_loop.unwrap();
            // On a busy machine, a part may be sent after the window.
            assert!((149..=300).contains(&open_loop.due), "{arguments}: {report:?}");
            assert!(report.sent * 10 >= open_loop.due * 8, "{arguments}: {report:?}");
            assert!(report.deliveries >= copies * report.sent / 2, "{arguments}: {report:?}");
            assert!((0.0..=1.0).contains(&open_loop.generator_busy), "{arguments}: {report:?}");
            assert!(report.p50_us <= report.p999_us && report.p999_us <= report.max_us.map(|max| max * 1.01));
            assert!(report.histogram.unwrap().starts_with("HISTF"), "{arguments}");
        }
    }

    #[test]
    fn bound_in_flight_marks_result_invalid() {
        // Delivery to 2,000 clients takes milliseconds, so one message in flight is too few for the rate.
        let arguments = "--scenario paced --clients 2000 --rate 5000 --outstanding 1";
        let report = run_against(Send::Write, Pattern::Broadcast, arguments);
        assert!(report.ok, "{report:?}");
        let open_loop = report.open_loop.unwrap();
        assert!(open_loop.late_share > 0.5 && open_loop.late_bound > open_loop.late_generator, "{report:?}");
        assert!(report.invalid().is_some(), "{report:?}");
        assert!(open_loop.late_max_us > 50_000.0, "{report:?}");
        // Latencies count from the due time.
        assert!(report.max_us.unwrap() > 50_000.0, "{report:?}");
    }

    #[test]
    fn wrong_server_pattern_fails_run() {
        let echoed = run_against(Send::Write, Pattern::Echo, "--scenario paced --clients 5 --stall 0.5");
        assert!(!echoed.ok && echoed.error.unwrap().contains("1 of 5 clients"));
        let broadcast = run_against(Send::Batch, Pattern::Broadcast, "--scenario echo --clients 5");
        assert!(!broadcast.ok && broadcast.faults.misdelivered > 0, "{:?}", broadcast.faults);
    }

    #[test]
    fn polling_clients_answer_heartbeats_while_connecting() {
        let report = load(&Running::pinging(), "--kind poll --scenario paced --clients 400");
        assert!(report.ok && report.deliveries >= 400, "{report:?}");
    }

    #[test]
    fn chat_latency_includes_unsplit_broadcast() {
        let report = run_against(Send::Write, Pattern::Room, "--scenario chat --clients 1000");
        assert!(report.ok && report.sent > 0, "{report:?}");
        let chat = report.chat.unwrap();
        assert!(chat.p50_us <= chat.p99_us && chat.p99_us <= chat.max_us, "{chat:?}");
        assert!(chat.quiet_p50_us < chat.broadcast_us && chat.quiet_p50_us < chat.p99_us, "{chat:?}");
        assert!(chat.looked_p99_us < chat.broadcast_us, "{chat:?}");
        // The limit finishes a broadcast before it handles a chat message.
        assert!(chat.share_of_broadcast() > 0.3, "{chat:?}");
        let alone = run_against(Send::Write, Pattern::Broadcast, "--scenario chat --clients 5 --stall 0.5");
        assert!(!alone.ok, "{alone:?}");
    }

    #[test]
    fn server_without_socket_io_stalls_run() {
        let report =
            run_against(Send::Write, Pattern::Echo, "--kind sio --scenario paced --clients 2 --stall 0.2");
        assert!(report.error.unwrap().contains("0 of 2 clients connected"));
    }

    #[test]
    fn detects_every_fault_over_sockets() {
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
    fn rejects_invalid_options() {
        for arguments in [
            "--scenario rooms --clients 15",
            "--scenario echo --kind poll",
            "--scenario paced --kind poll --deflate",
            "--scenario paced --payload 31",
            "--scenario saturated --clients 4",
            "--scenario paced --outstanding 0",
            "--scenario idle --pid 1 --rate 10",
            "--scenario chat --rate 10",
        ] {
            let line = format!("loadgen --port 1 {arguments}");
            assert!(
                matches!(run(&Options::parse_from(line.split(' '))), Err(Error::Usage(_))),
                "{arguments}"
            );
        }
    }
}
