//! A million Socket.IO sessions in one process: `million_sessions [SESSIONS]`.
//!
//! The sessions run through the public server, from the HTTP request on, over carriers in memory instead of sockets: no
//! kernel memory, no system calls, and no limit of open files. The clients answer handshakes and heartbeats at once.
//! The clock is virtual, so that an interval between heartbeats takes only the time of its work.
//!
//! Prints the memory per session and the time to connect all, for one heartbeat of each, and for one broadcast, and
//! checks that the sessions of silent clients time out, and no others. A million sessions need about 2.5 GiB.
//!
//! ```sh
//! cargo run --profile dist -p roomcast-benches --example million_sessions
//! ```

#![allow(clippy::disallowed_methods, reason = "the program measures times")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use roomcast::{Config, Io};
use roomcast_core::{
    Capabilities, CloseReason, Connection, ConnectionError, Exchange, Frame, FrameSink, Message, Outbox,
    Readiness, Received, RejectedExchange, Rejection, Transport, TransportName,
};
use tower_service::Service;

const PING_INTERVAL: Duration = Duration::from_secs(25);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// One of so many clients is silent in the end.
const SILENT: usize = 1000;
const DEFAULT_SESSIONS: usize = 1_000_000;

fn main() {
    let sessions = std::env::args().nth(1).map_or(Ok(DEFAULT_SESSIONS), |word| word.parse());
    let Ok(sessions) = sessions else {
        eprintln!("usage: million_sessions [SESSIONS]");
        std::process::exit(2);
    };
    println!("{}", run(sessions));
}

/// Result of a run.
#[derive(Debug)]
struct Figures {
    sessions: usize,
    /// Resident memory per session, with its carrier.
    bytes: f64,
    /// Resident memory per carrier.
    carrier_bytes: f64,
    connecting: Duration,
    /// Time for a heartbeat of each session and its answer.
    heartbeats: Duration,
    broadcast: Duration,
    timed_out: usize,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, bytes, carrier_bytes, connecting, heartbeats, broadcast, timed_out } = self;
        let each = |time: &Duration| time.as_secs_f64() * 1e6 / *sessions as f64;
        writeln!(f, "sessions: {sessions}")?;
        writeln!(
            f,
            "memory: {bytes:.0} bytes per session, of which {carrier_bytes:.0} for its carrier in memory"
        )?;
        for (name, time) in [("connect", connecting), ("heartbeat", heartbeats), ("broadcast", broadcast)] {
            writeln!(f, "{name}: {:.2} s for all, {:.2} µs each", time.as_secs_f64(), each(time))?;
        }
        write!(f, "timed out: {timed_out}, the silent ones")
    }
}

/// Runs all phases on this thread.
///
/// # Panics
///
/// Panics if a session lacks a heartbeat or an event, or times out although its client answers.
fn run(sessions: usize) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(phases(sessions))
}

async fn phases(sessions: usize) -> Figures {
    let counts = Arc::new(Counts::default());
    let before = resident_bytes();
    let clients: Vec<Arc<Client>> = (0..sessions).map(|_| Arc::new(Client::new(&counts))).collect();
    let carriers = resident_bytes();

    let config = Config::new()
        .timeouts(|timeouts| timeouts.ping_interval(PING_INTERVAL).ping_timeout(PING_TIMEOUT))
        .limits(|limits| limits.max_sessions(sessions));
    let io = Io::builder().config(config).transport(MemoryTransport).build();
    let began = Instant::now();
    for (number, client) in clients.iter().enumerate() {
        connect(&io, client).await;
        // The number of sessions that have not joined a namespace is limited.
        if number % 256 == 0 {
            until(&counts.connected, number).await;
        }
    }
    until(&counts.connected, sessions).await;
    let connecting = began.elapsed();
    let connected = resident_bytes();

    let began = Instant::now();
    pass(PING_INTERVAL).await;
    until(&counts.answered, sessions).await;
    let heartbeats = began.elapsed();
    assert_eq!(counts.pings.load(Ordering::Relaxed), sessions, "one heartbeat each");

    let began = Instant::now();
    io.emit("news", "the same text for all").expect("a valid event");
    until(&counts.events, sessions).await;
    let broadcast = began.elapsed();

    let silent = sessions.div_ceil(SILENT);
    clients.iter().take(silent).for_each(|client| client.silent.store(true, Ordering::Relaxed));
    pass(PING_INTERVAL).await;
    until(&counts.pings, 2 * sessions).await;
    pass(PING_TIMEOUT).await;
    until(&counts.closed, silent).await;
    let timed_out = counts.closed.load(Ordering::Relaxed);
    assert_eq!(timed_out, silent, "only silent clients time out");
    assert_eq!(counts.events.load(Ordering::Relaxed), sessions, "one event each");

    let per_session = |bytes: u64| bytes.saturating_sub(before) as f64 / sessions as f64;
    Figures {
        sessions,
        bytes: per_session(connected),
        carrier_bytes: per_session(carriers),
        connecting,
        heartbeats,
        broadcast,
        timed_out,
    }
}

async fn connect(io: &Io, client: &Arc<Client>) {
    let request = Request::get("/socket.io/?EIO=4&transport=memory").extension(Link(Arc::clone(client)));
    let request = request.body(Empty::<Bytes>::new()).expect("a valid request");
    let response: Result<Response<_>, Infallible> = io.service().call(request).await;
    let Ok(response) = response;
    assert_eq!(response.status(), StatusCode::OK, "the server accepts the connection");
}

/// Advances the virtual clock, and a little further, while all tasks run.
async fn pass(time: Duration) {
    for _ in 0..=time.as_secs() {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
}

/// Runs all tasks until the count is reached.
async fn until(count: &AtomicUsize, goal: usize) {
    let mut rounds = 0;
    while count.load(Ordering::Relaxed) < goal {
        tokio::task::yield_now().await;
        rounds += 1;
        assert!(rounds < 2_000_000, "{} of {goal}", count.load(Ordering::Relaxed));
        // A flusher may wait for a millisecond.
        if rounds % 256 == 0 {
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }
}

/// Returns the resident memory of this process, or 0 where it is unknown.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Packets of all clients.
#[derive(Debug, Default)]
struct Counts {
    connected: AtomicUsize,
    pings: AtomicUsize,
    /// Answers to pings that the server has read.
    answered: AtomicUsize,
    events: AtomicUsize,
    closed: AtomicUsize,
}

/// Client end of a connection, which answers the server's packets.
#[derive(Debug)]
struct Client {
    counts: Arc<Counts>,
    silent: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    to_server: Option<Message>,
    /// Waker of the server's task.
    owner: Option<Waker>,
}

/// Request extension that leads the transport to the client.
#[derive(Debug, Clone)]
struct Link(Arc<Client>);

impl Client {
    fn new(counts: &Arc<Counts>) -> Self {
        Self { counts: Arc::clone(counts), silent: AtomicBool::new(false), state: Mutex::default() }
    }

    fn receive(&self, message: &Message) {
        let Message::Text(text) = message else { return };
        let answer = match &text.as_bytes()[..] {
            [b'0', ..] => "40",
            b"2" => {
                self.counts.pings.fetch_add(1, Ordering::Relaxed);
                if self.silent.load(Ordering::Relaxed) {
                    return;
                }
                "3"
            }
            [b'4', b'0', ..] => {
                self.counts.connected.fetch_add(1, Ordering::Relaxed);
                return;
            }
            [b'4', b'2', ..] => {
                self.counts.events.fetch_add(1, Ordering::Relaxed);
                return;
            }
            _ => return,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.to_server = Some(Message::from(answer));
        let owner = state.owner.take();
        drop(state);
        owner.into_iter().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct MemoryTransport;

impl Transport for MemoryTransport {
    fn name(&self) -> TransportName {
        TransportName("memory")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { begins: true, upgrades_from: false, upgrades_to: false, polled: false }
    }

    fn open(&self, mut exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        let Some(Link(client)) = Arc::make_mut(&mut exchange.request).extensions.remove::<Link>() else {
            let rejection =
                Rejection::new(StatusCode::BAD_REQUEST, "this is no request of a client in memory");
            return Err(RejectedExchange::new(exchange, rejection));
        };
        // The benchmark waits for the response, so it is not dropped.
        let _ = exchange.respond.send(Response::default());
        Ok(Box::new(MemoryConnection { client }))
    }
}

#[derive(Debug)]
struct MemoryConnection {
    client: Arc<Client>,
}

impl Connection for MemoryConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        let rejection = Rejection::new(StatusCode::BAD_REQUEST, "a connection in memory takes no requests");
        Err(RejectedExchange::new(exchange, rejection))
    }

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
        Poll::Ready(Ok(Box::new(MemorySink { client: Arc::clone(&self.client) })))
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        _: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>> {
        let mut state = self.client.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(message) = state.to_server.take() else {
            state.owner = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if matches!(&message, Message::Text(text) if text.as_bytes()[..] == *b"3") {
            self.client.counts.answered.fetch_add(1, Ordering::Relaxed);
        }
        messages.push(message);
        Poll::Ready(Ok(Received::Activity))
    }

    fn ping(&mut self, _: &Outbox, _: u32) -> bool {
        false
    }

    fn start_close(&mut self, _: CloseReason, _: &Outbox) {}

    fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.client.counts.closed.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct MemorySink {
    client: Arc<Client>,
}

impl FrameSink for MemorySink {
    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        for frame in batch.drain(..) {
            frame.messages().iter().for_each(|message| self.client.receive(message));
        }
        Ok(Readiness::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_is_served() {
        let figures = run(10_000);
        assert_eq!(figures.timed_out, 10);
        let text = figures.to_string();
        assert!(text.contains("sessions: 10000") && text.contains("heartbeat: "), "{text}");
        if cfg!(target_os = "linux") {
            // A lower bound for the state of a session; an upper bound depends on the build.
            assert!(figures.bytes > figures.carrier_bytes + 500.0, "{text}");
        }
    }
}
