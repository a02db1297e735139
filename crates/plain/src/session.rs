//! Session of a plain WebSocket client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{
    Action, Actions, Args, CloseReason, Command, ConnectionRole, Delivery, Frame, Inbound, IntoArgs, Message,
    Namespace, Session, TransportName,
};

use crate::codec::{self, MESSAGE};
use crate::frame::{JsonFrame, Kind};
use crate::grammar_error::GrammarError;
use crate::{Mode, PlainConfig};

/// Session of a plain WebSocket client.
///
/// It requests its namespace as soon as its connection opens. A client cannot leave without closing, so removal from
/// the namespace ends the session. Use it with the [codec](Mode::codec) of its mode.
///
/// The connection must provide its own heartbeat, such as WebSocket pings.
#[derive(Debug)]
pub struct PlainSession {
    config: Arc<PlainConfig>,
    namespace: Namespace,
    actions: Actions,
    /// An event with incomplete binary.
    partial: Option<Box<Partial>>,
    /// Time of the last input.
    last_input: Option<Instant>,
    next_ping: Option<Instant>,
    /// Messages received while [`Phase::Pending`]; beside the phase, which is then a byte.
    buffered: Option<Box<BufferedMessages>>,
    phase: Phase,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The connection is not open yet.
    Opening,
    /// The application has not decided; messages from the client are buffered.
    Pending,
    Accepted,
    /// The session is over.
    Closed,
}

#[derive(Debug, Default)]
struct BufferedMessages {
    messages: Vec<Message>,
    bytes: usize,
}

#[derive(Debug)]
struct Partial {
    kind: Kind,
    list: ByteString,
    attachments: Vec<Bytes>,
    missing: usize,
    bytes: usize,
    deadline: Option<Instant>,
}

/// Overhead of a buffered message in bytes.
const MESSAGE_COST: usize = 64;

impl PlainSession {
    /// Creates a session whose connection is not open yet.
    pub fn new(mode: Mode, config: Arc<PlainConfig>, namespace: Namespace) -> Self {
        Self {
            config,
            namespace,
            actions: Actions::default(),
            partial: None,
            last_input: None,
            next_ping: None,
            buffered: None,
            phase: Phase::Opening,
            mode,
        }
    }

    fn receive(&mut self, message: Message, now: Instant) {
        let outcome = match (self.mode, message) {
            (Mode::Plain, message) => {
                self.emit(ByteString::from_static(MESSAGE), one_argument(message), None);
                Ok(())
            }
            (Mode::Json, Message::Text(text)) => self.receive_text(&text, now),
            (Mode::Json, Message::Binary(bytes)) => self.receive_binary(bytes),
        };
        if let Err(violation) = outcome {
            self.refuse(violation);
        }
    }

    fn receive_text(&mut self, text: &ByteString, now: Instant) -> Result<(), GrammarError> {
        if self.partial.is_some() {
            return Err(GrammarError::ExpectedBinary);
        }
        let Some(frame) = JsonFrame::parse(text, self.config.max_attachments)? else { return Ok(()) };
        let JsonFrame { kind, list, attachments: missing } = frame;
        if missing == 0 {
            self.deliver(kind, Args::from_validated(list, Vec::new()));
            return Ok(());
        }
        let deadline = now.checked_add(self.config.attachment_timeout);
        let bytes = text.len();
        self.partial =
            Some(Box::new(Partial { kind, list, attachments: Vec::new(), missing, bytes, deadline }));
        self.check_size(bytes)
    }

    fn receive_binary(&mut self, attachment: Bytes) -> Result<(), GrammarError> {
        let Some(partial) = &mut self.partial else { return Err(GrammarError::UnexpectedBinary) };
        partial.bytes += attachment.len();
        partial.missing -= 1;
        partial.attachments.push(attachment);
        let bytes = partial.bytes;
        self.check_size(bytes)?;
        if let Some(whole) = self.partial.take_if(|partial| partial.missing == 0) {
            let Partial { kind, list, attachments, .. } = *whole;
            let args = Args::from_validated(list, attachments);
            args.check_placeholders().map_err(|_| GrammarError::Placeholder)?;
            self.deliver(kind, args);
        }
        Ok(())
    }

    fn check_size(&self, bytes: usize) -> Result<(), GrammarError> {
        let limit = self.config.max_event_bytes;
        if bytes > limit { Err(GrammarError::TooLarge { limit }) } else { Ok(()) }
    }

    fn deliver(&mut self, kind: Kind, args: Args) {
        match kind {
            Kind::Event { name, ack } => self.emit(name, args, ack),
            Kind::Answer { id } => {
                self.actions.push(Action::Answer { namespace: self.namespace.clone(), id, args });
            }
        }
    }

    fn emit(&mut self, name: ByteString, args: Args, ack: Option<roomcast_core::AckId>) {
        let inbound = Inbound { namespace: self.namespace.clone(), name, args, ack };
        self.actions.push(Action::Event(inbound));
    }

    fn accept(&mut self, welcome: impl FnOnce() -> Frame, now: Instant) {
        self.phase = Phase::Accepted;
        if self.mode == Mode::Json {
            self.transmit(welcome());
        }
        for message in self.buffered.take().map(|buffered| buffered.messages).unwrap_or_default() {
            if self.phase != Phase::Accepted {
                return;
            }
            self.receive(message, now);
        }
    }

    /// Ends the session of a client that violated the grammar, and sends it the cause.
    fn refuse(&mut self, violation: GrammarError) {
        if self.mode == Mode::Json {
            self.transmit(codec::error(&codec::error_object(&violation.to_string())));
        }
        self.close(CloseReason::ParseError);
    }

    fn transmit(&mut self, frame: Frame) {
        self.actions.push(Action::Transmit {
            role: ConnectionRole::Primary,
            frame,
            delivery: Delivery::Protocol,
        });
    }

    fn close(&mut self, reason: CloseReason) {
        self.end(Action::Close(reason));
    }

    fn end(&mut self, action: Action) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.partial = None;
        self.buffered = None;
        self.actions.push(action);
    }

    /// Returns the deadline after which a silent client counts as idle.
    fn idle_at(&self) -> Option<Instant> {
        let idle_timeout: Duration = self.config.ping_interval.saturating_add(self.config.ping_timeout);
        self.last_input?.checked_add(idle_timeout)
    }

    fn attachment_deadline(&self) -> Option<Instant> {
        self.partial.as_ref()?.deadline
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Pending | Phase::Accepted)
    }
}

impl Session for PlainSession {
    fn handle_message(&mut self, role: ConnectionRole, message: Message, now: Instant) {
        self.handle_activity(role, now);
        match self.phase {
            Phase::Pending if role == ConnectionRole::Primary => {
                if self.is_congested() {
                    return self.close(CloseReason::Overloaded);
                }
                let buffered = self.buffered.get_or_insert_default();
                buffered.bytes += message.len() + MESSAGE_COST;
                buffered.messages.push(message);
            }
            Phase::Accepted if role == ConnectionRole::Primary => self.receive(message, now),
            _ => {}
        }
    }

    fn handle_message_into(
        &mut self,
        role: ConnectionRole,
        message: Message,
        now: Instant,
        event: &mut Inbound,
    ) -> bool {
        let is_event = self.mode == Mode::Plain
            && self.phase == Phase::Accepted
            && role == ConnectionRole::Primary
            && self.actions.is_empty();
        if !is_event {
            self.handle_message(role, message, now);
            return false;
        }
        self.handle_activity(role, now);
        if event.namespace != self.namespace {
            event.namespace = self.namespace.clone();
        }
        if event.name != MESSAGE {
            event.name = ByteString::from_static(MESSAGE);
        }
        event.args = one_argument(message);
        event.ack = None;
        true
    }

    fn handle_connection_opened(&mut self, role: ConnectionRole, _: TransportName, now: Instant) {
        if role != ConnectionRole::Primary || self.phase != Phase::Opening {
            return;
        }
        self.phase = Phase::Pending;
        self.last_input = Some(now);
        self.next_ping = now.checked_add(self.config.ping_interval);
        self.actions.push(Action::Connect { namespace: self.namespace.clone(), auth: ByteString::new() });
    }

    fn handle_connection_closed(&mut self, role: ConnectionRole, reason: CloseReason, _: Instant) {
        if role == ConnectionRole::Primary {
            self.close(reason);
        }
    }

    fn handle_activity(&mut self, role: ConnectionRole, now: Instant) {
        if role == ConnectionRole::Primary {
            self.last_input = Some(now);
        }
    }

    fn handle_heartbeat_sent(&mut self, now: Instant) {
        // Equivalent to input one interval ago: the client's time to answer starts here.
        let assumed_input = now.checked_sub(self.config.ping_interval);
        self.last_input = self.last_input.max(assumed_input);
    }

    fn handle_command(&mut self, command: Command, now: Instant) {
        let pending = self.phase == Phase::Pending;
        match command {
            Command::Accept { namespace, socket, recovery } if pending && namespace == self.namespace => {
                self.accept(|| codec::welcome(&socket, recovery.as_deref()), now);
            }
            Command::Refuse { namespace, error } if pending && namespace == self.namespace => {
                // In plain mode the client gets only the close frame.
                if self.mode == Mode::Json {
                    self.transmit(codec::error(&error));
                }
                self.end(Action::Refuse { message: message_of(&error) });
            }
            Command::Disconnect { namespace } if namespace == self.namespace => {
                self.close(CloseReason::ServerNamespaceDisconnect);
            }
            Command::Close(reason) => self.close(reason),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if !self.is_running() {
            return;
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.idle_at()) {
            self.close(CloseReason::IdleTimeout);
        } else if is_due(self.attachment_deadline()) {
            self.refuse(GrammarError::Incomplete);
        } else if is_due(self.next_ping) {
            self.next_ping = now.checked_add(self.config.ping_interval);
            self.actions.push(Action::Ping(ConnectionRole::Primary));
        }
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    fn release_memory(&mut self) {
        self.actions.release();
    }

    fn is_congested(&self) -> bool {
        self.buffered.as_ref().is_some_and(|buffered| buffered.bytes > self.config.pending_limit)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_running() {
            return None;
        }
        [self.idle_at(), self.attachment_deadline(), self.next_ping].into_iter().flatten().min()
    }
}

/// Returns the text of the JSON object that explains a rejection, if any.
fn message_of(error: &str) -> ByteString {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }

    serde_json::from_str::<Refusal>(error).map(|refusal| refusal.message.into()).unwrap_or_default()
}

/// Returns the arguments of a bare message's event.
fn one_argument(message: Message) -> Args {
    match message {
        Message::Text(text) => Args::from_text(text),
        // Serializing bytes cannot fail.
        Message::Binary(bytes) => bytes.into_args().unwrap_or_default(),
    }
}
