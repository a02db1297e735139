//! Crowd that stops reading during a broadcast, next to a client that keeps reading.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "it waits on the wall clock")]

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use roomcast_server::emit::{Overflow, Receipt};
use roomcast_server::socket::CloseReason;
use roomcast_server::{Ack, Config, Io, Server, Socket};
use roomcast_testkit::socket::dial::Dial;
use roomcast_testkit::socket::ws::{Ended, Message, Ws};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

#[test]
fn closes_slow_crowd_and_spares_reader() {
    let mut stage = Stage::open(STALL_TIMEOUT, HARD_CAP);
    let before = resident();
    let (mut emitted, mut most_waiting) = (0, 0);
    // Emits until every client is over its limit; from then on its stall time runs.
    while stage.sockets.iter().filter(|socket| socket.waiting_bytes() > OUTBOX).count() < CROWD {
        let receipt = stage.emit(emitted, Overflow::Close);
        emitted += 1;
        assert_eq!((receipt.dropped, receipt.overflowed), (0, 0));
        most_waiting = most_waiting.max(stage.waiting());
        assert!(emitted < ENOUGH, "{receipt:?} after {emitted} events");
        if stage.io.metrics().slow_consumers() > 0 {
            break;
        }
    }
    let full = Instant::now();
    wait_for(|| stage.io.metrics().slow_consumers() == CROWD as u64);
    println!("all closed {:?} after the last was over its limit", full.elapsed());
    // Closed once the stall time is over, allowing ten times the expected second.
    assert!(full.elapsed() < STALL_TIMEOUT + Duration::from_secs(10));
    stage.tell("closed", emitted, most_waiting, before);
    let other: Vec<_> =
        stage.reasons.iter().take(CROWD).filter(|reason| *reason != CloseReason::SlowConsumer).collect();
    assert_eq!(other, []);
    assert_eq!(stage.io.metrics().slow_consumers(), CROWD as u64);
    // Only the reader is left, and the state is as before.
    assert_eq!(stage.emit(emitted, Overflow::Close), Receipt { queued: 1, ..Receipt::default() });
    // A flusher may still hold the last frames.
    wait_for(|| stage.waiting() < CROWD * 128);
    // A client that reads again receives the beginning of its backlog and the close reason.
    for client in &mut stage.crowd {
        let mut heard = 0;
        let end = loop {
            match client.hear() {
                Heard::Number(number) => {
                    assert_eq!(number, heard);
                    heard += 1;
                }
                Heard::Ping => {}
                other => break other,
            }
        };
        assert_eq!(end, Heard::Close(1008, "slow consumer".into()));
        assert!(heard < emitted);
    }
}

#[test]
fn drop_newest_keeps_oldest_events() {
    keeps(Overflow::DropNewest, |numbers, all| {
        assert!(numbers.starts_with(&BEGINNING) && numbers.len() < all, "{numbers:?}");
        assert!(numbers.last() < Some(&(all - 1)), "contains the newest: {numbers:?}");
    });
}

#[test]
fn drop_oldest_keeps_newest_events() {
    keeps(Overflow::DropOldest, |numbers, all| {
        assert!(numbers.len() < all && numbers.ends_with(&[all - 2, all - 1]), "{numbers:?}");
    });
}

#[test]
fn latest_keeps_last_event() {
    keeps(Overflow::KeepLatest, |numbers, all| {
        assert!(numbers.len() < all && numbers.last() == Some(&(all - 1)), "{numbers:?}");
    });
}

/// Emits until every client has lost events, and checks what arrives against the policy.
fn keeps(overflow: Overflow, holds: impl Fn(&[usize], usize)) {
    // An ack may exceed the limit; the hard cap is high enough that no client is closed for it.
    let mut stage = Stage::open(NEVER, BACKLOG);
    let opened = Instant::now();
    let before = resident();
    let (mut emitted, mut full, mut most_waiting) = (0, 0, 0);
    while full < 20 {
        let receipt = stage.emit(emitted, overflow);
        emitted += 1;
        assert_eq!(receipt.closed, 0);
        full += usize::from(receipt.dropped == CROWD);
        most_waiting = most_waiting.max(stage.waiting());
        assert!(emitted < ENOUGH, "{receipt:?} after {emitted} events");
    }
    // Backlog becomes stalled bytes once the client refuses it, so the next emits bring it below the limit.
    while overflow != Overflow::DropNewest
        && stage.sockets.iter().any(|socket| socket.waiting_bytes() > OUTBOX + SMALL)
    {
        stage.emit(emitted, overflow);
        emitted += 1;
        assert!(emitted < ENOUGH, "more than the limit waits after {emitted} events");
    }
    stage.tell(&format!("{overflow:?}"), emitted, most_waiting, before);
    // An ack and a ping while the outbox is full.
    stage.crowd.iter_mut().for_each(|client| client.send(r#"427["echo","x"]"#));
    wait_for(|| stage.echoes.load(Ordering::Relaxed) == CROWD);
    std::thread::sleep((PING_INTERVAL + Duration::from_millis(500)).saturating_sub(opened.elapsed()));
    for client in &mut stage.crowd {
        let mut numbers = Vec::new();
        let (mut answered, mut pinged) = (false, false);
        while !answered || !pinged {
            match client.hear() {
                Heard::Number(number) => numbers.push(number),
                Heard::Ping => pinged = true,
                Heard::Answer => answered = true,
                Heard::Close(code, reason) => panic!("closed with {code} {reason}"),
            }
        }
        // Filling the kernel buffers adds gaps, but the order holds.
        assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?}");
        holds(&numbers, emitted);
    }
    assert_eq!(stage.io.metrics().slow_consumers(), 0);
    assert!(stage.reasons.try_recv().is_err(), "no client was closed");
}

/// Server with its crowd and the reading client.
struct Stage {
    crowd: Vec<Client>,
    reader: Client,
    sockets: Vec<Socket>,
    reasons: Receiver<CloseReason>,
    echoes: Arc<AtomicUsize>,
    io: Io,
    runtime: Option<Runtime>,
    // Memory is process-wide, so only one stage runs at a time.
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    fn open(stall_timeout: Duration, outbox_max: usize) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        allow_many_files();
        let config = Config::new()
            .limits(|limits| limits.outbox_limit(OUTBOX).outbox_max(outbox_max))
            .timeouts(|timeouts| {
                timeouts
                    .stall_timeout(stall_timeout)
                    .ping_interval(PING_INTERVAL)
                    .ping_timeout(NEVER)
                    .close_timeout(NEVER)
            });
        let io = Io::builder().config(config).build();
        let (told_socket, sockets) = channel();
        let (told_reason, reasons) = channel();
        let echoes = Arc::new(AtomicUsize::new(0));
        io.on_connect(move |socket: Socket| {
            let _ = told_socket.send(socket);
            async {}
        });
        io.on_disconnect(move |reason: CloseReason| {
            let _ = told_reason.send(reason);
            async {}
        });
        let counter = echoes.clone();
        io.on("echo", move |ack: Ack, text: String| {
            let answered = ack.send(text).map(drop);
            counter.fetch_add(1, Ordering::Relaxed);
            async { answered }
        });
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let bound = Server::new(io.clone()).bind("127.0.0.1:0").expect("a free port");
        let address = bound.address();
        runtime.spawn(bound.serve());
        let crowd = (0..CROWD).map(|_| Client::connect(address)).collect();
        let reader = Client::connect(address);
        let sockets = sockets.iter().take(CROWD + 1).collect();
        Self { crowd, reader, sockets, reasons, echoes, io, runtime: Some(runtime), _alone: alone }
    }

    /// Emits to all clients and waits for the reader; checks that the backlog of the others stays bounded.
    fn emit(&mut self, number: usize, overflow: Overflow) -> Receipt {
        let target = self.io.main().target();
        let target = match overflow {
            Overflow::KeepLatest => target.latest("number"),
            other => target.overflow(other),
        };
        let receipt = target.emit("number", (number, "x".repeat(EVENT))).expect("a valid name");
        loop {
            match self.reader.hear() {
                Heard::Number(heard) => {
                    break assert_eq!(heard, number, "the reader gets everything in order");
                }
                Heard::Ping => self.reader.send("3"),
                other => panic!("{other:?}"),
            }
        }
        let most = if overflow == Overflow::Close { usize::MAX } else { BACKLOG + SMALL };
        for socket in &self.sockets {
            assert!(socket.waiting_bytes() <= most);
        }
        receipt
    }

    fn waiting(&self) -> usize {
        self.sockets.iter().map(Socket::waiting_bytes).sum()
    }

    /// Reports the cost; frames waiting for many clients exist once.
    fn tell(&self, case: &str, emitted: usize, most_waiting: usize, before: usize) {
        let grown = resident().saturating_sub(before);
        println!(
            "{case}: {CROWD} clients, {emitted} events of {EVENT} bytes; at most {} KiB waited, memory grew by {} KiB",
            most_waiting / 1024,
            grown / 1024,
        );
        assert!(most_waiting <= CROWD * BACKLOG);
        assert!(grown < MEMORY, "memory grew by {grown} bytes");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Socket.IO client on a WebSocket with a small receive buffer.
struct Client(Ws);

#[derive(Debug, PartialEq)]
enum Heard {
    Number(usize),
    Answer,
    Ping,
    Close(u16, String),
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let dial = Dial::Narrow(address);
        let mut client = Self(Ws::open(&dial, "/socket.io/?EIO=4&transport=websocket", None));
        assert!(client.text().is_ok_and(|text| text.starts_with("0{")));
        client.send("40");
        assert!(client.text().is_ok_and(|text| text.starts_with("40{")));
        client
    }

    fn send(&mut self, text: &str) {
        self.0.send(text.into());
    }

    fn hear(&mut self) -> Heard {
        match self.text().as_deref() {
            Ok("2") => Heard::Ping,
            Ok(r#"437["x"]"#) => Heard::Answer,
            Ok(text) => {
                let (number, rest) = text
                    .strip_prefix(r#"42["number","#)
                    .and_then(|rest| rest.split_once(','))
                    .unwrap_or_else(|| panic!("{text:.80}"));
                assert_eq!(rest.len(), EVENT + 3, "whole");
                Heard::Number(number.parse().expect("a number"))
            }
            Err(Ended { code, reason }) => Heard::Close(code.expect("a close frame"), reason.clone()),
        }
    }

    fn text(&mut self) -> Result<String, Ended> {
        self.0.receive().map(|message| match message {
            Message::Text(text) => text,
            other => panic!("no text but {other:?}"),
        })
    }
}

fn wait_for(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "the condition was not met in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the resident memory of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("/proc is readable");
    let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}

/// Both ends of each connection are in this process.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

const CROWD: usize = 1000;
/// Long enough to fill all outboxes.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that may wait for a stalled client before a policy applies.
const OUTBOX: usize = 64 * 1024;
/// Bytes that may wait for a client before the server first tries to write to it. This is the server's debt; a policy
/// makes room below the limit only once the client refuses more.
const BACKLOG: usize = 16 * OUTBOX;
/// More than is ever emitted here.
const HARD_CAP: usize = 64 * 1024 * 1024;
/// Slack for protocol packets and acks beyond both limits: a ping and an ack of a few bytes.
const SMALL: usize = 1024;
/// Bytes of an event.
const EVENT: usize = 8 * 1024;
/// Events that fit every client's buffers.
const BEGINNING: [usize; 4] = [0, 1, 2, 3];
/// Events that exceed what a client, the kernel and an outbox can hold together.
const ENOUGH: usize = 3000;
/// Memory limit while over 64 MiB wait for a crowd: the frames once, and a queue of references for each client.
const MEMORY: usize = 24 * 1024 * 1024;
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// Clients that read late are not closed here.
const NEVER: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(60);
