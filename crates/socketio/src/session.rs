//! The session of a Socket.IO client

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use roomcast_core::{
    Action, CloseReason, Command, Delivery, Frame, Inbound, Lane, Message, Namespace, Session, SocketId,
    TransportName,
};
use roomcast_engine::{Actions, Engine, Handshake};

use crate::{Body, Decoder, Packet, SocketIoConfig};

/// The session of a Socket.IO client: Engine.IO below, namespaces above
///
/// What the client sends to a namespace while the application has not yet decided about it is kept, and released
/// behind the answer: a client need not wait for it. Whatever breaks the rules of Socket.IO closes the whole
/// connection as [`CloseReason::ForcedClose`], as on Node; what breaks those of Engine.IO below is a
/// [`CloseReason::ParseError`] or a [`CloseReason::TransportError`].
///
/// [`Action::Close`] stands for all namespaces at once: no [`Action::Leave`] is given for those that the client
/// was in. [`Command::Close`] with [`CloseReason::ForcedServerClose`] tells the client in each of its namespaces
/// that it is out, so that it does not come back by itself; with any other reason it only closes.
#[derive(Debug)]
pub struct SocketIoSession {
    config: Arc<SocketIoConfig>,
    engine: Engine,
    decoder: Box<dyn Decoder>,
    // Few, so a scan is as good as a map, and takes no memory for what is not there.
    memberships: Vec<Membership>,
    /// Closes the session then, and why: it joined nothing, or has broken a rule
    close_at: Option<(Instant, CloseReason)>,
    /// The attachments of the packet that has begun must be here by then
    attachments_by: Option<Instant>,
    actions: Actions,
}

/// A client in a namespace
#[derive(Debug)]
struct Membership {
    namespace: Namespace,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It asked to join, and the application has not decided
    Pending(Box<Backlog>),
    Joined,
    /// It was taken out, and may not know yet: what is still on its way is no offence
    TakenOut,
}

/// What a client has sent to a namespace that it is not in yet
#[derive(Debug)]
struct Backlog {
    packets: Vec<Packet>,
    bytes: usize,
}

impl SocketIoSession {
    /// A session that waits for its primary lane to open
    pub fn new(config: Arc<SocketIoConfig>, handshake: Handshake) -> Self {
        Self {
            engine: Engine::new(config.engine.clone(), handshake),
            decoder: config.parser.decoder(&config.limits),
            memberships: Vec::new(),
            close_at: None,
            attachments_by: None,
            actions: Actions::new(),
            config,
        }
    }

    fn receive(&mut self, message: Message, now: Instant) {
        let Ok(packet) = self.decoder.decode(message) else {
            return self.close(CloseReason::ForcedClose);
        };
        if !self.decoder.is_waiting() {
            self.attachments_by = None;
        } else if self.attachments_by.is_none() {
            self.attachments_by = now.checked_add(self.config.attachment_timeout);
        }
        if let Some(packet) = packet {
            self.handle_packet(packet);
        }
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
            (Body::Connect { auth }, State::TakenOut) => {
                self.forget(at);
                self.connect(&packet.namespace, auth);
            }
            // It was not asked anything yet, or what it was asked is no longer of interest.
            (Body::Ack { .. }, State::Pending(_) | State::TakenOut)
            | (Body::Event { .. }, State::TakenOut) => {}
            (body, State::Pending(_)) => self.keep(at, Packet { namespace: packet.namespace, body }),
            (Body::Event { name, args, ack }, State::Joined) => {
                self.actions.push(Action::Event(Inbound { namespace, name, args, ack }));
            }
            (Body::Ack { id, args }, State::Joined) => {
                self.actions.push(Action::Answer { namespace, id, args });
            }
            (Body::Disconnect, State::TakenOut) => self.forget(at),
            (Body::Disconnect, State::Joined) => {
                self.forget(at);
                let reason = CloseReason::ClientNamespaceDisconnect;
                self.actions.push(Action::Leave { namespace, reason });
            }
        }
    }

    /// The client asks to join a namespace that it is not in
    fn connect(&mut self, name: &ByteString, auth: ByteString) {
        let namespace = if name == "/" { main_namespace() } else { Namespace::new(&**name) };
        if self.memberships.len() >= self.config.max_namespaces {
            self.forget(self.memberships.iter().position(|member| matches!(member.state, State::TakenOut)));
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
        let backlog = Box::new(Backlog { packets: Vec::new(), bytes });
        if self.memberships.is_empty() {
            // Most clients are in one.
            self.memberships.reserve_exact(1);
        }
        self.memberships.push(Membership { namespace: namespace.clone(), state: State::Pending(backlog) });
        self.actions.push(Action::Connect { namespace, auth });
    }

    /// Keeps a packet until the application has decided
    fn keep(&mut self, at: Option<usize>, packet: Packet) {
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
            State::Joined | State::TakenOut => 0,
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
        self.close_at = self.close_at.filter(|(_, reason)| *reason != CloseReason::ConnectTimeout);
        self.transmit(self.config.parser.encode_connect(namespace, socket, recovery));
        if let State::Pending(backlog) = state {
            self.release(backlog.packets, now);
        }
    }

    /// Does what a client asked for before it was in
    fn release(&mut self, packets: Vec<Packet>, now: Instant) {
        for packet in packets {
            let joined = self.position(&packet.namespace).is_some();
            if joined && matches!(packet.body, Body::Connect { .. }) {
                // It asked twice, which is an offence, but it should still hear the answer to the first.
                self.close_at = now.checked_add(CLOSE_DELAY).map(|at| (at, CloseReason::ForcedClose));
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

    fn take_out(&mut self, namespace: &Namespace) {
        let at = self.position(namespace.as_str());
        let Some(membership) = at.and_then(|at| self.memberships.get_mut(at)) else { return };
        if !matches!(membership.state, State::TakenOut) {
            membership.state = State::TakenOut;
            self.transmit(self.config.parser.encode_disconnect(namespace));
        }
    }

    fn close(&mut self, reason: CloseReason) {
        self.engine.close(reason, &mut self.actions);
    }

    fn transmit(&mut self, frame: Frame) {
        self.actions.push(Action::Transmit { lane: Lane::Primary, frame, delivery: Delivery::Protocol });
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
    fn handle_message(&mut self, lane: Lane, message: Message, now: Instant) {
        if let Some(message) = self.engine.handle_message(lane, message, now, &mut self.actions) {
            self.receive(message, now);
        }
    }

    fn handle_lane_opened(&mut self, lane: Lane, transport: TransportName, now: Instant) {
        let was_open = self.engine.is_open();
        self.engine.handle_lane_opened(lane, transport, now, &mut self.actions);
        if !was_open && self.engine.is_open() {
            let timeout = now.checked_add(self.config.connect_timeout);
            self.close_at = timeout.map(|at| (at, CloseReason::ConnectTimeout));
        }
    }

    fn handle_lane_closed(&mut self, lane: Lane, reason: CloseReason, _: Instant) {
        self.engine.handle_lane_closed(lane, reason, &mut self.actions);
    }

    fn handle_activity(&mut self, lane: Lane, now: Instant) {
        self.engine.handle_activity(lane, now);
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
            Command::Disconnect { namespace } => self.take_out(&namespace),
            Command::Close(reason) => {
                if reason == CloseReason::ForcedServerClose {
                    let joined =
                        self.memberships.iter().filter(|member| matches!(member.state, State::Joined));
                    let joined: Vec<_> = joined.map(|member| member.namespace.clone()).collect();
                    joined.iter().for_each(|namespace| self.take_out(namespace));
                }
                self.close(reason);
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now, &mut self.actions);
        if let Some((_, reason)) = self.close_at.take_if(|(at, _)| *at <= now) {
            self.close(reason);
        }
        if self.attachments_by.take_if(|at| *at <= now).is_some() {
            self.close(CloseReason::ForcedClose);
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.engine.is_closed() {
            return None;
        }
        let close_at = self.close_at.map(|(at, _)| at);
        [self.engine.poll_timeout(), close_at, self.attachments_by].into_iter().flatten().min()
    }

    fn is_congested(&self) -> bool {
        !self.has_room_for_pending()
    }

    fn can_upgrade(&self) -> bool {
        self.engine.can_upgrade()
    }
}

/// What a packet that is kept costs besides its bytes
const PACKET_COST: usize = 256;

/// How long a client that has asked twice to join may still hear the answer to the first time
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
