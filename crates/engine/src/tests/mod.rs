//! Protocol tests in virtual time.

mod fuzz;
mod heartbeat;
mod lifecycle;
mod upgrade;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{
    Action, Capabilities, CloseReason, Command, ConnectionRole, Delivery, Frame, Message, Namespace, Session,
    Sid, SocketId, TransportName,
};

use crate::{EngineConfig, EngineSession, OpenPacket, Version};

const POLLING: TransportName = TransportName("polling");
const WEBSOCKET: TransportName = TransportName("websocket");

const INTERVAL: Duration = Duration::from_millis(25_000);
const TIMEOUT: Duration = Duration::from_millis(20_000);

fn config() -> EngineConfig {
    let polling = Capabilities { begins: true, upgrades_from: true, upgrades_to: false, polled: true };
    let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
    EngineConfig::default().transports([(POLLING, polling), (WEBSOCKET, websocket)])
}

/// A session with a log of its actions, one line each.
struct Pair {
    session: EngineSession,
    now: Instant,
    seen: Vec<String>,
}

impl Pair {
    fn new(config: EngineConfig) -> Self {
        let handshake = OpenPacket { sid: Sid::new("s3cret"), version: Version::V4 };
        Self { session: EngineSession::new(Arc::new(config), handshake), now: start(), seen: vec![] }
    }

    /// Opens a session on this transport, admitted and with an empty log.
    fn open(transport: TransportName) -> Self {
        let mut pair = Self::new(config());
        pair.connection_opened(ConnectionRole::Primary, transport);
        pair.accept();
        pair.seen.clear();
        pair
    }

    /// Opens a session on polling with an answered probe.
    fn answered_probe() -> Self {
        let mut pair = Self::open(POLLING);
        pair.connection_opened(ConnectionRole::Probe, WEBSOCKET);
        pair.receive_on(ConnectionRole::Probe, "2probe");
        assert_eq!(pair.seen(), ["probe> 3probe"]);
        pair
    }

    fn upgraded() -> Self {
        let mut pair = Self::answered_probe();
        pair.receive_on(ConnectionRole::Probe, "5");
        assert_eq!(pair.seen(), ["> 6 if waiting", "promote"]);
        pair
    }

    fn receive(&mut self, message: &'static str) {
        self.receive_on(ConnectionRole::Primary, message);
    }

    fn receive_on(&mut self, lane: ConnectionRole, message: impl Into<Message>) {
        self.session.handle_message(lane, message.into(), self.now);
        self.drain();
    }

    fn connection_opened(&mut self, lane: ConnectionRole, transport: TransportName) {
        self.session.handle_connection_opened(lane, transport, self.now);
        self.drain();
    }

    fn connection_closed(&mut self, lane: ConnectionRole, reason: CloseReason) {
        self.session.handle_connection_closed(lane, reason, self.now);
        self.drain();
    }

    fn writable(&mut self) {
        self.session.handle_writable(self.now);
        self.drain();
    }

    fn command(&mut self, command: Command) {
        self.session.handle_command(command, self.now);
        self.drain();
    }

    fn accept(&mut self) {
        let (namespace, socket) = (Namespace::main(), SocketId::new("socket"));
        self.command(Command::Accept { namespace, socket, recovery: None });
    }

    /// Advances time and handles timeouts when they are due.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
            assert!(self.session.poll_timeout().is_none_or(|next| next > self.now), "time does not advance");
            self.drain();
        }
        self.now = end;
    }

    /// Advances time without handling timeouts, as in a stopped process.
    fn stall(&mut self, by: Duration) {
        self.now += by;
    }

    /// Returns the actions since the last call.
    fn seen(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            self.seen.push(describe(&action));
        }
    }
}

fn describe(action: &Action) -> String {
    match action {
        Action::Transmit { role: lane, frame, delivery } => {
            let lane = if *lane == ConnectionRole::Primary { "" } else { "probe" };
            let condition = match delivery {
                Delivery::Protocol => "",
                Delivery::Volatile => " if waiting",
                Delivery::Reliable => panic!("protocol packets must not be queued with events"),
            };
            format!("{lane}> {}{condition}", texts(frame))
        }
        Action::Heartbeat(frame) => format!("> {}", texts(frame)),
        Action::HeartbeatAnswered => "answered".into(),
        Action::Promote => "promote".into(),
        Action::CloseProbe => "close probe".into(),
        Action::Connect { namespace, auth } => format!("connect {namespace}{auth}"),
        Action::Event(event) => {
            assert_eq!((event.namespace.as_str(), &*event.name, event.ack), ("/", "message", None));
            let attachments = event.args.attachments();
            format!("event {} {attachments:?}", event.args.json()).trim_end_matches(" []").to_owned()
        }
        Action::Close(reason) => format!("close: {reason}"),
        other => format!("{other:?}"),
    }
}

fn texts(frame: &Frame) -> String {
    let texts: Vec<_> =
        frame.messages().iter().map(|message| String::from_utf8_lossy(message.as_bytes())).collect();
    texts.join("\u{1e}")
}

fn binary(bytes: &'static [u8]) -> Message {
    Bytes::from_static(bytes).into()
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
fn start() -> Instant {
    Instant::now()
}
