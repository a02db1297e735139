//! Session of a plain Engine.IO client.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{
    Action, CloseReason, Command, ConnectionRole, Inbound, IntoArgs, Message, Namespace, Session,
    TransportName,
};

use crate::{Actions, Engine, EngineConfig, OpenPacket};

/// Session of a plain Engine.IO client.
///
/// It joins a single namespace, `/` by default, automatically when it opens. Each message from the client is an event
/// named `message` with one argument: text is a string, binary an attachment. Use it with
/// [`EngineCodec`](crate::EngineCodec).
///
/// The protocol cannot report a rejected connect or a removal to the client, so both end the session.
#[derive(Debug)]
pub struct EngineSession {
    engine: Engine,
    namespace: Namespace,
    pending_limit: usize,
    phase: Phase,
    actions: Actions,
}

#[derive(Debug)]
enum Phase {
    /// The application has not decided; messages from the client are buffered.
    Pending(Box<BufferedMessages>),
    Accepted,
}

#[derive(Debug, Default)]
struct BufferedMessages {
    messages: Vec<Message>,
    bytes: usize,
}

impl EngineSession {
    /// Creates a session whose primary connection is not open yet.
    pub fn new(config: Arc<EngineConfig>, handshake: OpenPacket) -> Self {
        Self {
            namespace: main_namespace(),
            pending_limit: config.pending_limit,
            engine: Engine::new(config, handshake),
            phase: Phase::Pending(Box::default()),
            actions: Actions::new(),
        }
    }

    /// Sets the namespace of the client.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    fn receive(&mut self, message: Message) {
        let Phase::Pending(backlog) = &mut self.phase else {
            return self.actions.push(event(&self.namespace, message));
        };
        if backlog.bytes > self.pending_limit {
            return self.engine.close(CloseReason::Overloaded, &mut self.actions);
        }
        backlog.bytes += message.len() + MESSAGE_COST;
        backlog.messages.push(message);
    }
}

impl Session for EngineSession {
    fn handle_message(&mut self, role: ConnectionRole, message: Message, now: Instant) {
        if let Some(message) = self.engine.handle_message(role, message, now, &mut self.actions) {
            self.receive(message);
        }
    }

    fn handle_connection_opened(&mut self, role: ConnectionRole, transport: TransportName, now: Instant) {
        let was_open = self.engine.is_open();
        self.engine.handle_connection_opened(role, transport, now, &mut self.actions);
        if !was_open && self.engine.is_open() {
            self.actions.push(Action::Connect { namespace: self.namespace.clone(), auth: ByteString::new() });
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

    fn handle_command(&mut self, command: Command, _: Instant) {
        let pending = matches!(self.phase, Phase::Pending(_));
        match command {
            Command::Accept { namespace, .. }
                if pending && namespace == self.namespace && self.engine.is_open() =>
            {
                let phase = std::mem::replace(&mut self.phase, Phase::Accepted);
                if let Phase::Pending(backlog) = phase {
                    for message in backlog.messages {
                        self.actions.push(event(&self.namespace, message));
                    }
                }
            }
            Command::Refuse { namespace, .. }
                if pending && namespace == self.namespace && self.engine.is_open() =>
            {
                self.engine.close(CloseReason::ForcedServerClose, &mut self.actions);
            }
            Command::Disconnect { namespace } if namespace == self.namespace => {
                self.engine.close(CloseReason::ServerNamespaceDisconnect, &mut self.actions);
            }
            Command::Close(reason) => self.engine.close(reason, &mut self.actions),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now, &mut self.actions);
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    fn release_memory(&mut self) {
        self.actions.release();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    fn is_congested(&self) -> bool {
        matches!(&self.phase, Phase::Pending(backlog) if backlog.bytes > self.pending_limit)
    }

    fn can_upgrade(&self) -> bool {
        self.engine.can_upgrade()
    }
}

/// The only event name of plain Engine.IO.
pub(crate) const EVENT: &str = "message";

/// Overhead of a buffered message in bytes.
const MESSAGE_COST: usize = 64;

fn event(namespace: &Namespace, message: Message) -> Action {
    let args = match message {
        Message::Text(text) => text.into_args(),
        Message::Binary(bytes) => bytes.into_args(),
    };
    Action::Event(Inbound {
        namespace: namespace.clone(),
        name: ByteString::from_static(EVENT),
        // Serializing a string or bytes cannot fail.
        args: args.unwrap_or_default(),
        ack: None,
    })
}

fn main_namespace() -> Namespace {
    static MAIN: LazyLock<Namespace> = LazyLock::new(Namespace::main);
    MAIN.clone()
}
