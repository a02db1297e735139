//! Session of a Socket.IO client.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use roomcast_core::{
    Action, CloseReason, Command, ConnectionRole, Delivery, Frame, Inbound, Message, Namespace, Session,
    SocketId, TransportName,
};
use roomcast_engine::{Actions, Engine, OpenPacket};

use crate::{Body, DecodeError, Decoder, Packet, SocketIoConfig};

/// Session of a Socket.IO client: Engine.IO with namespaces.
///
/// Packets for a namespace that the application has not admitted yet are buffered and released after the response, so
/// the client need not wait for it. Violations of Socket.IO close the whole connection as [`CloseReason::ForcedClose`],
/// as on Node; violations of Engine.IO as [`CloseReason::ParseError`] or [`CloseReason::TransportError`].
///
/// [`Action::Close`] covers all namespaces at once: no [`Action::Leave`] is given for the client's namespaces.
/// [`Command::Close`] with [`CloseReason::ForcedServerClose`] sends a DISCONNECT in each namespace, so that the client
/// does not reconnect by itself; with any other reason it only closes.
#[derive(Debug)]
pub struct SocketIoSession {
    config: Arc<SocketIoConfig>,
    engine: Engine,
    decoder: Box<dyn Decoder>,
    // Few entries, so a scan is as good as a map and needs no memory when empty.
    memberships: Vec<Membership>,
    /// Deadline of the close for `close_reason`.
    close_at: Option<Instant>,
    /// No namespace joined, or a violation.
    close_reason: CloseReason,
    /// Whether the server has suspended the limit for the first join.
    is_limit_suspended: bool,
    /// Deadline of the attachments of an incomplete packet.
    attachment_deadline: Option<Instant>,
    actions: Actions,
}

/// A client's membership of a namespace.
#[derive(Debug)]
struct Membership {
    namespace: Namespace,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Requested; the application has not decided.
    Pending(Box<BufferedMessages>),
    Joined,
    /// Removed, possibly unknown to the client: packets in transit are no violation.
    Removed,
}

/// Packets buffered for a namespace that the client is still joining.
#[derive(Debug)]
struct BufferedMessages {
    packets: Vec<Packet>,
    bytes: usize,
}

impl SocketIoSession {
    /// Creates a session whose primary connection is not open yet.
    pub fn new(config: Arc<SocketIoConfig>, handshake: OpenPacket) -> Self {
        Self {
            engine: Engine::new(config.engine.clone(), handshake),
            decoder: config.parser.decoder(&config.limits),
            memberships: Vec::new(),
            close_at: None,
            close_reason: CloseReason::ConnectTimeout,
            is_limit_suspended: false,
            attachment_deadline: None,
            actions: Actions::new(),
            config,
        }
    }

    /// Decodes a message; returns the packet that it completes.
    #[inline]
    fn receive(&mut self, role: ConnectionRole, message: Message, now: Instant) -> Option<Packet> {
        let content = match &message {
            Message::Text(text) => self.engine.content_of(role, text),
            Message::Binary(_) => None,
        };
        let decoded = match (message, content) {
            (Message::Text(text), Some(at)) => self.decoder.decode_after(text, at),
            (message, _) => {
                let content = self.engine.handle_message(role, message, now, &mut self.actions)?;
                self.decoder.decode(content)
            }
        };
        self.handle_decoded(decoded, now)
    }

    fn handle_decoded(
        &mut self,
        decoded: Result<Option<Packet>, DecodeError>,
        now: Instant,
    ) -> Option<Packet> {
        let Ok(packet) = decoded else {
            self.close(CloseReason::ForcedClose);
            return None;
        };
        if !self.decoder.is_waiting() {
            self.attachment_deadline = None;
        } else if self.attachment_deadline.is_none() {
            self.attachment_deadline = now.checked_add(self.config.attachment_timeout);
        }
        packet
    }

    fn handle_packet(&mut self, packet: Packet) {
        let at = self.position(&packet.namespace);
        let Some(membership) = at.and_then(|at| self.memberships.get_mut(at)) else {
            return match packet.body {
                Body::Connect { auth } => self.connect(&packet.namespace, auth),
                _ => self.close(CloseReason::ForcedClose),
            };
        };
        let namespace = membership.namespace.clone();
        match (packet.body, &membership.state) {
            (Body::ConnectError, _) | (Body::Connect { .. }, State::Joined) => {
                self.close(CloseReason::ForcedClose);
            }
            (Body::Connect { auth }, State::Removed) => {
                self.forget(at);
                self.connect(&packet.namespace, auth);
            }
            // Not requested yet, or no longer relevant.
            (Body::Ack { .. }, State::Pending(_) | State::Removed) | (Body::Event { .. }, State::Removed) => {
            }
            (body, State::Pending(_)) => self.buffer_packet(at, Packet { namespace: packet.namespace, body }),
            (Body::Event { name, args, ack }, State::Joined) => {
                self.actions.push(Action::Event(Inbound { namespace, name, args, ack }));
            }
            (Body::Ack { id, args }, State::Joined) => {
                self.actions.push(Action::Answer { namespace, id, args });
            }
            (Body::Disconnect, State::Removed) => self.forget(at),
            (Body::Disconnect, State::Joined) => {
                self.forget(at);
                let reason = CloseReason::ClientNamespaceDisconnect;
                self.actions.push(Action::Leave { namespace, reason });
            }
        }
    }

    /// Handles a CONNECT for a namespace that the client is not in.
    fn connect(&mut self, name: &ByteString, auth: ByteString) {
        let namespace = if name == "/" { main_namespace() } else { Namespace::new(&**name) };
        if self.memberships.len() >= self.config.max_namespaces {
            self.forget(self.memberships.iter().position(|member| matches!(member.state, State::Removed)));
        }
        if self.memberships.len() >= self.config.max_namespaces {
            self.transmit(self.config.parser.encode_connect_error(&namespace, TOO_MANY_NAMESPACES));
            self.actions.push(Action::Refused { namespace });
            return;
        }
        let bytes = name.len() + auth.len() + PACKET_COST;
        if !self.has_room_for_pending() {
            return self.close(CloseReason::Overloaded);
        }
        let backlog = Box::new(BufferedMessages { packets: Vec::new(), bytes });
        if self.memberships.is_empty() {
            // Most clients use one namespace.
            self.memberships.reserve_exact(1);
        }
        self.memberships.push(Membership { namespace: namespace.clone(), state: State::Pending(backlog) });
        self.actions.push(Action::Connect { namespace, auth });
    }

    /// Buffers a packet until the application has decided.
    fn buffer_packet(&mut self, at: Option<usize>, packet: Packet) {
        let room = self.has_room_for_pending();
        let membership = at.and_then(|at| self.memberships.get_mut(at));
        match membership.map(|membership| &mut membership.state) {
            Some(State::Pending(backlog)) if room => {
                backlog.bytes += byte_len(&packet) + PACKET_COST;
                backlog.packets.push(packet);
            }
            _ => self.close(CloseReason::Overloaded),
        }
    }

    fn has_room_for_pending(&self) -> bool {
        let bytes = |membership: &Membership| match &membership.state {
            State::Pending(backlog) => backlog.bytes,
            State::Joined | State::Removed => 0,
        };
        self.memberships.iter().map(bytes).sum::<usize>() <= self.config.pending_limit
    }

    fn accept(&mut self, namespace: &Namespace, socket: &SocketId, recovery: Option<&str>, now: Instant) {
        let at = self.position(namespace.as_str());
        let Some(membership) = at.and_then(|at| self.memberships.get_mut(at)) else { return };
        if !matches!(membership.state, State::Pending(_)) {
            return;
        }
        let state = std::mem::replace(&mut membership.state, State::Joined);
        if self.close_reason == CloseReason::ConnectTimeout {
            self.close_at = None;
        }
        self.is_limit_suspended = false;
        self.transmit(self.config.parser.encode_connect(namespace, socket, recovery));
        if let State::Pending(backlog) = state {
            self.handle_buffered(backlog.packets, now);
        }
    }

    /// Handles the packets that arrived before admission.
    fn handle_buffered(&mut self, packets: Vec<Packet>, now: Instant) {
        for packet in packets {
            let joined = self.position(&packet.namespace).is_some();
            if joined && matches!(packet.body, Body::Connect { .. }) {
                // A repeated CONNECT is a violation, but the client still gets the response to the first.
                self.close_at = now.checked_add(CLOSE_DELAY);
                self.close_reason = CloseReason::ForcedClose;
                return;
            }
            self.handle_packet(packet);
            if self.engine.is_closed() {
                return;
            }
        }
    }

    fn refuse(&mut self, namespace: &Namespace, error: &str) {
        let at = self.position(namespace.as_str());
        let state = at.and_then(|at| self.memberships.get(at)).map(|membership| &membership.state);
        if matches!(state, Some(State::Pending(_))) {
            self.forget(at);
            self.transmit(self.config.parser.encode_connect_error(namespace, error));
        }
    }

    /// Suspends the limit for the first join, or restarts a suspended one.
    fn limit_connect(&mut self, limit: Option<Duration>, now: Instant) {
        let is_limited = self.close_at.is_some() && self.close_reason == CloseReason::ConnectTimeout;
        match limit {
            None if is_limited => {
                self.close_at = None;
                self.is_limit_suspended = true;
            }
            Some(limit) if std::mem::take(&mut self.is_limit_suspended) && self.close_at.is_none() => {
                self.close_at = now.checked_add(limit);
                self.close_reason = CloseReason::ConnectTimeout;
            }
            _ => {}
        }
    }

    fn disconnect_namespace(&mut self, namespace: &Namespace) {
        let at = self.position(namespace.as_str());
        let Some(membership) = at.and_then(|at| self.memberships.get_mut(at)) else { return };
        if !matches!(membership.state, State::Removed) {
            membership.state = State::Removed;
            self.transmit(self.config.parser.encode_disconnect(namespace));
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.engine.close(reason, &mut self.actions);
    }

    fn transmit(&mut self, frame: Frame) {
        self.actions.push(Action::Transmit {
            role: ConnectionRole::Primary,
            frame,
            delivery: Delivery::Protocol,
        });
    }

    /// Returns the namespace with this name if the client has joined it.
    fn joined(&self, namespace: &str) -> Option<&Namespace> {
        let membership = self.memberships.get(self.position(namespace)?)?;
        matches!(membership.state, State::Joined).then_some(&membership.namespace)
    }

    fn position(&self, namespace: &str) -> Option<usize> {
        self.memberships.iter().position(|membership| membership.namespace.as_str() == namespace)
    }

    fn forget(&mut self, at: Option<usize>) {
        if let Some(at) = at {
            self.memberships.swap_remove(at);
        }
    }
}

impl Session for SocketIoSession {
    fn handle_message(&mut self, role: ConnectionRole, message: Message, now: Instant) {
        if let Some(packet) = self.receive(role, message, now) {
            self.handle_packet(packet);
        }
    }

    fn handle_message_into(
        &mut self,
        role: ConnectionRole,
        message: Message,
        now: Instant,
        event: &mut Inbound,
    ) -> bool {
        let Some(packet) = self.receive(role, message, now) else { return false };
        let joined = if self.actions.is_empty() { self.joined(&packet.namespace) } else { None };
        match (packet.body, joined) {
            (Body::Event { name, args, ack }, Some(namespace)) => {
                if event.namespace != *namespace {
                    event.namespace = namespace.clone();
                }
                event.name = name;
                event.args = args;
                event.ack = ack;
                true
            }
            (body, _) => {
                self.handle_packet(Packet { namespace: packet.namespace, body });
                false
            }
        }
    }

    fn handle_connection_opened(&mut self, role: ConnectionRole, transport: TransportName, now: Instant) {
        let was_open = self.engine.is_open();
        self.engine.handle_connection_opened(role, transport, now, &mut self.actions);
        if !was_open && self.engine.is_open() {
            self.close_at = now.checked_add(self.config.connect_timeout);
            self.close_reason = CloseReason::ConnectTimeout;
        }
    }

    fn handle_connection_closed(&mut self, role: ConnectionRole, reason: CloseReason, _: Instant) {
        self.engine.handle_connection_closed(role, reason, &mut self.actions);
    }

    fn handle_activity(&mut self, role: ConnectionRole, now: Instant) {
        self.engine.handle_activity(role, now);
    }

    fn handle_heartbeat_sent(&mut self, now: Instant) {
        self.engine.handle_heartbeat_sent(now);
    }

    fn handle_writable(&mut self, now: Instant) {
        self.engine.handle_writable(now);
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        if self.engine.is_closed() {
            return;
        }
        match command {
            Command::Accept { namespace, socket, recovery } => {
                self.accept(&namespace, &socket, recovery.as_deref(), now);
            }
            Command::Refuse { namespace, error } => self.refuse(&namespace, &error),
            Command::LimitConnect(limit) => self.limit_connect(limit, now),
            Command::Disconnect { namespace } => self.disconnect_namespace(&namespace),
            Command::Close(reason) => {
                if reason == CloseReason::ForcedServerClose {
                    let joined =
                        self.memberships.iter().filter(|member| matches!(member.state, State::Joined));
                    let joined: Vec<_> = joined.map(|member| member.namespace.clone()).collect();
                    joined.iter().for_each(|namespace| self.disconnect_namespace(namespace));
                }
                self.close(reason);
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now, &mut self.actions);
        if self.close_at.take_if(|at| *at <= now).is_some() {
            self.close(self.close_reason);
        }
        if self.attachment_deadline.take_if(|at| *at <= now).is_some() {
            self.close(CloseReason::ForcedClose);
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    fn release_memory(&mut self) {
        self.actions.release();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.engine.is_closed() {
            return None;
        }
        [self.engine.poll_timeout(), self.close_at, self.attachment_deadline].into_iter().flatten().min()
    }

    fn is_congested(&self) -> bool {
        !self.has_room_for_pending()
    }

    fn can_upgrade(&self) -> bool {
        self.engine.can_upgrade()
    }
}

/// Overhead of a buffered packet in bytes.
const PACKET_COST: usize = 256;

/// Time a client with a repeated CONNECT has to receive the response to the first.
const CLOSE_DELAY: Duration = Duration::from_millis(100);

const TOO_MANY_NAMESPACES: &str = r#"{"message":"Too many namespaces"}"#;

fn byte_len(packet: &Packet) -> usize {
    match &packet.body {
        Body::Connect { auth } => auth.len(),
        Body::Event { name, args, .. } => name.len() + args.byte_len(),
        Body::Ack { args, .. } => args.byte_len(),
        Body::Disconnect | Body::ConnectError => 0,
    }
}

fn main_namespace() -> Namespace {
    static MAIN: LazyLock<Namespace> = LazyLock::new(Namespace::main);
    MAIN.clone()
}
