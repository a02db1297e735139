//! Protocol tests in virtual time.

mod closing;
mod events;
mod fuzz;
mod namespaces;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{
    Action, Capabilities, CloseReason, Command, ConnectionRole, Delivery, Frame, Message, Namespace, Session,
    Sid, SocketId, TransportName,
};
use roomcast_engine::{EngineConfig, OpenPacket, Version};

use crate::{SocketIoConfig, SocketIoSession};

const POLLING: TransportName = TransportName("polling");
const WEBSOCKET: TransportName = TransportName("websocket");
const MS: Duration = Duration::from_millis(1);

fn config() -> SocketIoConfig {
    let polling = Capabilities { begins: true, upgrades_from: true, upgrades_to: false, polled: true };
    let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
    let engine = EngineConfig::default().transports([(POLLING, polling), (WEBSOCKET, websocket)]);
    SocketIoConfig { engine: Arc::new(engine), ..SocketIoConfig::default() }
}

/// A session with a log of its actions, one line each.
struct Pair {
    session: SocketIoSession,
    now: Instant,
    seen: Vec<String>,
}

impl Pair {
    fn new(config: SocketIoConfig) -> Self {
        let handshake = OpenPacket { sid: Sid::new("s3cret"), version: Version::V4 };
        Self { session: SocketIoSession::new(Arc::new(config), handshake), now: start(), seen: vec![] }
    }

    /// Opens a session on a WebSocket, without a namespace.
    fn open() -> Self {
        Self::open_with(config())
    }

    fn open_with(config: SocketIoConfig) -> Self {
        let mut pair = Self::new(config);
        pair.connection_opened(ConnectionRole::Primary, WEBSOCKET);
        assert!(pair.seen()[0].starts_with("> 0{\"sid\":\"s3cret\""));
        pair
    }

    /// Opens a session in the main namespace.
    fn joined() -> Self {
        let mut pair = Self::open();
        pair.join("/");
        pair
    }

    fn join(&mut self, namespace: &'static str) {
        self.receive(format!("40{namespace},"));
        self.accept(namespace);
        self.seen.clear();
    }

    fn receive(&mut self, message: impl Into<Message>) {
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

    fn command(&mut self, command: Command) {
        self.session.handle_command(command, self.now);
        self.drain();
    }

    fn accept(&mut self, namespace: &str) {
        let (namespace, socket) = (Namespace::new(namespace), SocketId::new("socket"));
        self.command(Command::Accept { namespace, socket, recovery: None });
    }

    fn refuse(&mut self, namespace: &str) {
        let error = r#"{"message":"Invalid namespace"}"#.into();
        self.command(Command::Refuse { namespace: Namespace::new(namespace), error });
    }

    fn take_out(&mut self, namespace: &str) {
        self.command(Command::Disconnect { namespace: Namespace::new(namespace) });
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

    /// Advances time for a client that answers its pings.
    fn advance_alive(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.advance(Duration::from_secs(1).min(end - self.now));
            if self.seen.last().is_some_and(|seen| seen == "> 2") {
                self.seen.pop();
                self.receive("3");
            }
        }
    }

    /// Returns the actions since the last call.
    fn seen(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    fn drain(&mut self) {
        while let Some(action) = self.session.poll_action() {
            // Covered by the tests of the engine.
            if !matches!(action, Action::HeartbeatAnswered) {
                self.seen.push(describe(&action));
            }
        }
    }

    /// Asserts that the main namespace is joined and works.
    fn assert_alive(mut self) {
        self.seen.clear();
        self.receive("42[\"alive\"]");
        assert_eq!(self.seen(), ["/ alive()"]);
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
        Action::Promote => "promote".into(),
        Action::CloseProbe => "close probe".into(),
        Action::Connect { namespace, auth } => format!("connect {namespace} {auth}").trim_end().to_owned(),
        Action::Event(event) => {
            let ack = event.ack.map_or(String::new(), |id| format!(" ack {id}"));
            let attachments = attachments(event.args.attachments());
            format!("{} {}({}){attachments}{ack}", event.namespace, event.name, event.args.json())
        }
        Action::Answer { namespace, id, args } => {
            format!("{namespace} answer {id}({}){}", args.json(), attachments(args.attachments()))
        }
        Action::Refused { namespace } => format!("refused {namespace}"),
        Action::Leave { namespace, reason } => format!("leave {namespace}: {reason}"),
        Action::Close(reason) => format!("close: {reason}"),
        other => format!("{other:?}"),
    }
}

fn attachments(parts: &[Bytes]) -> String {
    parts.iter().map(|part| format!("+{}", String::from_utf8_lossy(part))).collect()
}

fn texts(frame: &Frame) -> String {
    let texts: Vec<_> =
        frame.messages().iter().map(|message| String::from_utf8_lossy(message.as_bytes())).collect();
    texts.join(" ")
}

fn binary(bytes: &'static str) -> Message {
    Bytes::from_static(bytes.as_bytes()).into()
}

#[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
fn start() -> Instant {
    Instant::now()
}
