//! Sessions under any sequence of client, driver and application operations.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{
    Action, CloseReason, Command, ConnectionRole, Frame, Message, Namespace, Session, Sid, SocketId,
    TransportName,
};
use roomcast_engine::{EngineConfig, EngineSession, OpenPacket, Version};
use roomcast_plain::{Mode, PlainConfig, PlainSession};
use roomcast_socketio::{SocketIoConfig, SocketIoSession};

use crate::packets::are_lawful;

/// An Engine.IO session keeps its invariants. The lines of `data` are operations, see [`Script`].
pub fn engine_session(data: &[u8]) {
    let session = EngineSession::new(engine_config(), handshake()).in_namespace(Namespace::main());
    Script::new(Box::new(session), Protocol::Engine, data).play();
}

/// A Socket.IO session keeps its invariants. The lines of `data` are operations, see [`Script`].
pub fn socketio_session(data: &[u8]) {
    let config = SocketIoConfig::new()
        .engine(engine_config())
        .connect_timeout(Duration::from_secs(4))
        .attachment_timeout(Duration::from_secs(5))
        .max_namespaces(3)
        .pending_limit(2000);
    let session = SocketIoSession::new(Arc::new(config), handshake());
    Script::new(Box::new(session), Protocol::SocketIo, data).play();
}

/// A session in plain mode keeps its invariants. The lines of `data` are operations, see [`Script`].
pub fn plain_session(data: &[u8]) {
    let session = PlainSession::new(Mode::Plain, plain_config(), Namespace::main());
    Script::new(Box::new(session), Protocol::Plain, data).play();
}

/// A session in JSON mode keeps its invariants. The lines of `data` are operations, see [`Script`].
pub fn plain_json_session(data: &[u8]) {
    let session = PlainSession::new(Mode::Json, plain_config(), Namespace::main());
    Script::new(Box::new(session), Protocol::Plain, data).play();
}

fn engine_config() -> Arc<EngineConfig> {
    Arc::new(
        EngineConfig::new()
            .ping_interval(Duration::from_secs(2))
            .ping_timeout(Duration::from_secs(3))
            .upgrade_timeout(Duration::from_secs(1))
            .upgrades(vec![WEBSOCKET])
            .polled(vec![POLLING])
            .pending_limit(2000),
    )
}

fn plain_config() -> Arc<PlainConfig> {
    Arc::new(
        PlainConfig::new()
            .ping_interval(Duration::from_secs(2))
            .ping_timeout(Duration::from_secs(3))
            .pending_limit(2000)
            .max_attachments(3)
            .max_event_bytes(5000)
            .attachment_timeout(Duration::from_secs(5)),
    )
}

fn handshake() -> OpenPacket {
    OpenPacket { sid: Sid::new("sid"), version: Version::V4 }
}

const POLLING: TransportName = TransportName("polling");
const WEBSOCKET: TransportName = TransportName("websocket");

#[derive(Debug, Clone, Copy, PartialEq)]
enum Protocol {
    Engine,
    SocketIo,
    Plain,
}

/// Operations on a session, line by line, and the actions it has requested.
///
/// The first byte of a line selects the operation, the rest is its argument. A capital letter is for the primary
/// connection, a lower-case one for the probe:
///
/// | | |
/// | --- | --- |
/// | `T` `t` | a text message |
/// | `B` `b` | a binary message |
/// | `O` `o` | a connection opens; its transport is WebSocket unless the rest is `polling` |
/// | `L` `l` | a connection is lost |
/// | `A` `a` | activity |
/// | `+` `-` | the application admits or rejects the client in the namespace |
/// | `!` | the application disconnects the client from the namespace |
/// | `W` | this many milliseconds pass, and each timer fires in time |
/// | `S` | this many milliseconds pass at once |
/// | `X` | the server closes the session |
struct Script<'a> {
    session: Box<dyn Session>,
    protocol: Protocol,
    lines: Vec<&'a [u8]>,
    now: Instant,
    beliefs: HashMap<Namespace, Belief>,
    opened: bool,
    closed: bool,
    promoted: bool,
}

/// Driver's view of a namespace.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Belief {
    Asked,
    In,
}

impl<'a> Script<'a> {
    fn new(session: Box<dyn Session>, protocol: Protocol, data: &'a [u8]) -> Self {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        Self {
            session,
            protocol,
            lines: data.split(|byte| *byte == b'\n').take(LINES).collect(),
            now: *BEGINNING,
            beliefs: HashMap::new(),
            opened: false,
            closed: false,
            promoted: false,
        }
    }

    fn play(mut self) {
        for line in std::mem::take(&mut self.lines) {
            if let Some((what, with)) = line.split_first() {
                self.happen(*what, with);
            }
            self.settle();
        }
        // Without further input, a session ends.
        if self.opened {
            self.wait(Duration::from_secs(60));
            assert!(self.closed, "{:?}", self.session);
        }
    }

    fn happen(&mut self, what: u8, with: &[u8]) {
        let (now, text) = (self.now, String::from_utf8_lossy(with).into_owned());
        let role = if what.is_ascii_lowercase() { ConnectionRole::Probe } else { ConnectionRole::Primary };
        let namespace = Namespace::new(if text.is_empty() { "/" } else { &*text });
        let millis = Duration::from_millis(text.parse::<u16>().unwrap_or(0).into());
        match what.to_ascii_uppercase() {
            b'T' => self.session.handle_message(role, Message::from(text), now),
            b'B' => self.session.handle_message(role, Message::Binary(Bytes::copy_from_slice(with)), now),
            b'O' => {
                // A session that has not opened has no probe.
                self.opened |= role == ConnectionRole::Primary;
                let name = if text == POLLING.0 { POLLING } else { WEBSOCKET };
                if self.opened {
                    self.session.handle_connection_opened(role, name, now);
                }
            }
            b'L' => self.session.handle_connection_closed(role, CloseReason::TransportError, now),
            b'A' => self.session.handle_activity(role, now),
            b'+' => {
                let socket = SocketId::new("socket");
                self.let_in(&namespace);
                self.session.handle_command(Command::Accept { namespace, socket, recovery: None }, now);
            }
            b'-' => {
                if self.protocol != Protocol::SocketIo && self.beliefs.get(&namespace) == Some(&Belief::Asked)
                {
                    self.beliefs.remove(&namespace);
                }
                self.session.handle_command(Command::Refuse { namespace, error: "{}".into() }, now);
            }
            b'!' => self.session.handle_command(Command::Disconnect { namespace }, now),
            b'W' => self.wait(millis),
            b'S' => {
                self.now += millis;
                self.session.handle_timeout(self.now);
            }
            b'X' => self.session.handle_command(Command::Close(CloseReason::ServerShutdown), now),
            _ => {}
        }
    }

    /// Marks the client as a member where the protocol sends no packet for it.
    fn let_in(&mut self, namespace: &Namespace) {
        if self.protocol != Protocol::SocketIo
            && let Some(belief) = self.beliefs.get_mut(namespace)
        {
            *belief = Belief::In;
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        let mut fired = 0;
        self.settle();
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.settle();
            fired += 1;
            assert!(fired < 1000, "a timer fires endlessly: {:?}", self.session);
        }
        self.now = end;
    }

    /// Takes every action and checks it against the previous ones.
    fn settle(&mut self) {
        while let Some(action) = self.session.poll_action() {
            assert!(!self.closed, "{action:?} after the close");
            self.follow(action);
        }
        if self.closed {
            assert_eq!(self.session.poll_timeout(), None);
            assert!(!self.session.can_upgrade());
        } else if self.opened {
            assert!(self.session.poll_timeout().is_some(), "an open session has a deadline");
        }
    }

    fn follow(&mut self, action: Action) {
        match action {
            Action::Connect { namespace, .. } => {
                let before = self.beliefs.insert(namespace, Belief::Asked);
                assert_eq!(before, None, "one connect request until answered, only from non-members");
            }
            Action::Event(inbound) => {
                assert_eq!(
                    self.beliefs.get(&inbound.namespace),
                    Some(&Belief::In),
                    "an event from a non-member"
                );
                are_lawful(&inbound.args);
            }
            Action::Answer { namespace, args, .. } => {
                assert_eq!(self.beliefs.get(&namespace), Some(&Belief::In), "an answer from a non-member");
                are_lawful(&args);
            }
            Action::Leave { namespace, .. } => {
                assert_eq!(self.beliefs.remove(&namespace), Some(Belief::In), "only members leave");
            }
            Action::Transmit { frame, .. } | Action::Heartbeat(frame) => self.follow_frame(&frame),
            Action::Promote => {
                assert!(!std::mem::replace(&mut self.promoted, true), "promoted twice");
            }
            Action::Close(_) | Action::Refuse { .. } => self.closed = true,
            _ => {}
        }
    }

    /// A session's own packets follow its protocol's grammar.
    fn follow_frame(&mut self, frame: &Frame) {
        for message in frame.messages() {
            let Message::Text(text) = message else { panic!("unexpected {message:?}") };
            match self.protocol {
                Protocol::Plain => assert!(text.starts_with("[{") && text.ends_with("}]"), "{text}"),
                Protocol::Engine => {
                    assert!(["0", "1", "2", "3", "6"].contains(&&text[..1]), "{text}");
                }
                Protocol::SocketIo => match text.strip_prefix('4') {
                    Some(packet) => self.follow_packet(packet),
                    None => assert!(["0", "1", "2", "3", "6"].contains(&&text[..1]), "{text}"),
                },
            }
        }
    }

    fn follow_packet(&mut self, packet: &str) {
        let (kind, rest) = packet.split_at(1);
        let name = if rest.starts_with('/') { rest.split(',').next().unwrap_or_default() } else { "/" };
        let namespace = Namespace::new(name);
        match kind {
            "0" => {
                let before = self.beliefs.insert(namespace, Belief::In);
                assert_eq!(before, Some(Belief::Asked), "admitted without a request");
            }
            // Also unrequested, when the client exceeds a limit.
            "4" => assert_ne!(self.beliefs.remove(&namespace), Some(Belief::In), "a member is refused"),
            "1" => assert!(self.beliefs.remove(&namespace).is_some(), "a non-member is removed"),
            _ => panic!("{packet} is not a protocol packet"),
        }
    }
}

/// More lines find no more bugs and take longer.
const LINES: usize = 300;
