//! Memory budget of a server with clients that do not read. A separate binary, since a process has one ledger.

#![allow(clippy::disallowed_methods, reason = "it waits on the wall clock")]

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use roomcast_core::memory::{self, Charge};
use roomcast_server::socket::{CloseReason, SocketId};
use roomcast_server::{Ack, Config, EmitError, Io, Server, Socket};
use roomcast_testkit::socket::dial::Dial;
use roomcast_testkit::socket::ws::{Message, Ws};
use tokio::runtime::{Builder, Runtime};

#[test]
fn evicts_longest_stalled_and_no_reader() {
    let stage = Stage::open();
    let mut reader = Client::connect(stage.address);
    let reading = stage.socket();
    // The clients stall one after the other while their backlogs keep growing.
    let mut crowd = Vec::new();
    for _ in 0..3 {
        let client = Client::connect(stage.address);
        let socket = stage.socket();
        stall(&socket);
        crowd.push((client, socket));
    }
    let mut heard = 0;
    for evicted in 0..crowd.len() {
        while crowd[evicted].1.is_connected() {
            for (_, socket) in &crowd[evicted..] {
                // The evicted client's emit may fail; the test checks that below.
                let _ = socket.emit("flood", &*BODY);
            }
            stage.io.main().target().to(reading.id()).emit("tick", heard).expect("a client was evicted");
            assert_eq!(reader.text(), format!(r#"42["tick",{heard}]"#));
            heard += 1;
        }
        assert!(memory::in_use() <= BUDGET as usize, "{}", memory::in_use());
        assert_eq!(
            stage.reasons.recv_timeout(PATIENCE),
            Ok((crowd[evicted].1.id().clone(), CloseReason::SlowConsumer))
        );
        assert!(
            crowd[evicted + 1..].iter().all(|(_, socket)| socket.is_connected()),
            "one eviction was enough"
        );
        assert_eq!(stage.io.metrics().clients_evicted(), evicted as u64 + 1);
    }
    assert!(reading.is_connected() && stage.reasons.try_recv().is_err());
    let metrics = stage.runtime.block_on(stage.io.openmetrics());
    for line in ["roomcast_clients_evicted_total 3", &format!("roomcast_memory_budget_bytes {BUDGET}")] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[test]
fn emit_fails_until_memory_is_released() {
    let stage = Stage::open();
    let mut reader = Client::connect(stage.address);
    let socket = stage.socket();
    let held = Charge::new(2 * BUDGET as usize);
    for outcome in [socket.emit("one", 1), stage.io.emit("all", 2), stage.io.to("room").emit("room", 3)] {
        let Err(error) = outcome else { panic!("{outcome:?}") };
        assert!(
            matches!(error, EmitError::OverBudget { held, budget } if held > budget && budget == BUDGET as usize),
            "{error:?}"
        );
        assert!(error.to_string().contains("`memory_budget`"), "{error}");
    }
    reader.send(r#"427["echo","x"]"#);
    let answered = stage.answers.recv_timeout(PATIENCE).expect("a handler");
    assert!(matches!(answered, Err(EmitError::OverBudget { .. })), "{answered:?}");
    assert!(socket.is_connected());
    assert_eq!((stage.io.metrics().clients_evicted(), stage.reasons.try_recv().is_err()), (0, true));

    drop(held);
    assert!(socket.emit("one", 4).is_ok() && stage.io.emit("all", 5).is_ok());
    reader.send(r#"428["echo","y"]"#);
    assert!(matches!(stage.answers.recv_timeout(PATIENCE), Ok(Ok(true))));
    // No failed emit was sent.
    assert_eq!(
        [reader.text(), reader.text(), reader.text()],
        [r#"42["one",4]"#, r#"42["all",5]"#, r#"438["y"]"#]
    );
}

#[test]
fn replay_respects_memory_budget() {
    let stage = Stage::open_with(|config| config.recovery(|recovery| recovery));
    // Without memory, a client that missed nothing and a client that missed an event; with memory, a client that missed
    // one.
    for (misses, is_short, recovers) in [(false, true, true), (true, true, false), (true, false, true)] {
        let (client, welcome) = Client::enter(stage.address, "");
        let pid = field(&welcome, "pid");
        let id = stage.socket().id().clone();
        drop(client);
        assert_eq!(stage.reasons.recv_timeout(PATIENCE), Ok((id.clone(), CloseReason::TransportClose)));
        if misses {
            assert!(stage.io.emit("missed", 1).is_ok());
        }
        let held = is_short.then(|| Charge::new(2 * BUDGET as usize));
        let (mut client, welcome) = Client::enter(stage.address, &format!(r#"{{"pid":"{pid}"}}"#));
        drop(held);
        assert_eq!(field(&welcome, "sid") == id.as_str(), recovers, "{misses} {is_short}: {welcome}");
        let socket = stage.socket();
        socket.emit("next", 2).expect("there is memory again");
        assert!(client.text().starts_with(r#"42["next",2"#));
        drop(client);
        assert!(stage.reasons.recv_timeout(PATIENCE).is_ok());
    }
}

/// Returns a field of the welcome.
fn field(welcome: &str, name: &str) -> String {
    let rest = welcome.split_once(&format!(r#""{name}":""#)).expect("it is there").1;
    rest.split_once('"').expect("a string").0.to_owned()
}

/// Emits until the kernel accepts no more, so that the client makes no further progress.
fn stall(socket: &Socket) {
    let deadline = Instant::now() + PATIENCE;
    let mut blocked_since = None;
    loop {
        assert!(Instant::now() < deadline, "the kernel accepted everything");
        match (socket.waiting_bytes(), blocked_since) {
            (0, _) => {
                blocked_since = None;
                socket.emit("flood", &*BODY).expect("it is within the budget");
            }
            (waiting, Some((before, since))) if waiting == before => {
                if Instant::now().duration_since(since) > Duration::from_millis(300) {
                    return;
                }
            }
            (waiting, _) => blocked_since = Some((waiting, Instant::now())),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Server and the reports of its handlers.
struct Stage {
    io: Io,
    address: SocketAddr,
    sockets: Receiver<Socket>,
    reasons: Receiver<(SocketId, CloseReason)>,
    answers: Receiver<Result<bool, EmitError>>,
    runtime: Runtime,
    // The ledger is process-wide, so only one stage runs at a time.
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    fn open() -> Self {
        Self::open_with(|config| config)
    }

    fn open_with(change: impl FnOnce(Config) -> Config) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let config = Config::new()
            // No other limit closes a client.
            .limits(|limits| limits.memory_budget(BUDGET).outbox_limit(64 * 1024 * 1024))
            .timeouts(|timeouts| timeouts.stall_timeout(NEVER).ping_interval(NEVER));
        let io = Io::builder().config(change(config)).build();
        let (told_socket, sockets) = sync_channel(16);
        let (told_reason, reasons) = sync_channel(16);
        let (told_answer, answers) = sync_channel(16);
        io.on_connect(move |socket: Socket| {
            let _ = told_socket.send(socket);
            async {}
        });
        io.on_disconnect(move |socket: Socket, reason: CloseReason| {
            let _ = told_reason.send((socket.id().clone(), reason));
            async {}
        });
        io.on("echo", move |ack: Ack, text: String| {
            let _ = told_answer.send(ack.send(text));
            async {}
        });
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let bound = Server::new(io.clone()).bind("127.0.0.1:0").expect("a free port");
        let address = bound.address();
        runtime.spawn(bound.serve());
        Self { io, address, sockets, reasons, answers, runtime, _alone: alone }
    }

    fn socket(&self) -> Socket {
        self.sockets.recv_timeout(PATIENCE).expect("a client connected")
    }
}

/// Socket.IO client on a WebSocket with a small kernel buffer.
struct Client(Ws);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        Self::enter(address, "").0
    }

    /// Connects with this auth and returns the welcome; skips missed events.
    fn enter(address: SocketAddr, auth: &str) -> (Self, String) {
        let dial = Dial::Narrow(address);
        let mut client = Self(Ws::open(&dial, "/socket.io/?EIO=4&transport=websocket", None));
        assert!(client.text().starts_with("0{"));
        client.send(&format!("40{auth}"));
        let mut texts = std::iter::from_fn(|| Some(client.text()));
        let welcome = texts.find(|text| text.starts_with("40{")).expect("the client connects");
        (client, welcome)
    }

    fn send(&mut self, text: &str) {
        self.0.send(text.into());
    }

    fn text(&mut self) -> String {
        match self.0.receive() {
            Ok(Message::Text(text)) => text,
            other => panic!("no text but {other:?}"),
        }
    }
}

const BUDGET: u64 = 4 * 1024 * 1024;
static BODY: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| "x".repeat(32 * 1024));
/// Only the budget closes stalled clients here.
const NEVER: Duration = Duration::from_secs(24 * 3600);
const PATIENCE: Duration = Duration::from_secs(60);
