//! State machine of one client's protocol, without I/O.

use std::fmt;
use std::time::{Duration, Instant};

use bytestring::ByteString;

use crate::{AckId, Args, CloseReason, Delivery, Frame, Message, Namespace, SocketId, TransportName};

/// State machine of one client's protocol, without I/O and without a clock.
///
/// A single task, the driver, owns a session. It repeats these steps:
///
/// 1. calls one `handle_*` method with the input and the current time, which never goes back;
/// 2. calls [`poll_action`](Self::poll_action) until it returns `None`, and performs each action in that order;
/// 3. waits for the next input, at most until [`poll_timeout`](Self::poll_timeout), then calls
///    [`handle_timeout`](Self::handle_timeout).
///
/// A session never waits and needs no waker. The first call is [`handle_connection_opened`](Self::handle_connection_opened) for
/// [`ConnectionRole::Primary`]; before it the session returns no action. After [`Action::Close`] or [`Action::Refuse`] it returns
/// no further action for any input, and the driver may drop it. Between [`Action::Connect`] and the command that
/// answers it, the session keeps the client's messages, up to a limit that [`is_congested`](Self::is_congested)
/// reports.
///
/// `roomcast_testkit::session_conformance!` checks these rules.
///
/// # Examples
///
/// A protocol with one namespace, in which each message is the event `message`:
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use roomcast_core::{
///     Action, Actions, Args, ByteString, CloseReason, Command, Inbound, ConnectionRole, Message, Namespace, Session,
///     TransportName,
/// };
///
/// #[derive(Debug, Default)]
/// struct Bare {
///     actions: Actions,
///     deadline: Option<Instant>,
///     is_over: bool,
/// }
///
/// impl Bare {
///     fn close(&mut self, reason: CloseReason) {
///         if !std::mem::replace(&mut self.is_over, true) {
///             self.actions.push(Action::Close(reason));
///         }
///     }
/// }
///
/// impl Session for Bare {
///     fn handle_connection_opened(&mut self, _: ConnectionRole, _: TransportName, now: Instant) {
///         let (namespace, auth) = (Namespace::main(), ByteString::new());
///         self.actions.push(Action::Connect { namespace, auth });
///         self.handle_activity(ConnectionRole::Primary, now);
///     }
///
///     fn handle_message(&mut self, _: ConnectionRole, message: Message, _: Instant) {
///         let Message::Text(text) = message else { return self.close(CloseReason::ParseError) };
///         let (namespace, name) = (Namespace::main(), ByteString::from_static("message"));
///         self.actions.push(Action::Event(Inbound { namespace, name, args: Args::from_text(text), ack: None }));
///     }
///
///     fn handle_activity(&mut self, _: ConnectionRole, now: Instant) {
///         self.deadline = now.checked_add(Duration::from_secs(60));
///     }
///
///     fn handle_connection_closed(&mut self, _: ConnectionRole, reason: CloseReason, _: Instant) {
///         self.close(reason);
///     }
///
///     fn handle_command(&mut self, command: Command, _: Instant) {
///         match command {
///             Command::Close(reason) => self.close(reason),
///             Command::Disconnect { .. } => self.close(CloseReason::ServerNamespaceDisconnect),
///             Command::Refuse { .. } => self.close(CloseReason::Refused),
///             _ => {} // a real session keeps messages until it is accepted
///         }
///     }
///
///     fn handle_timeout(&mut self, now: Instant) {
///         if self.deadline.is_some_and(|deadline| deadline <= now) {
///             self.close(CloseReason::IdleTimeout);
///         }
///     }
///
///     fn poll_action(&mut self) -> Option<Action> {
///         self.actions.pop()
///     }
///
///     fn release_memory(&mut self) {
///         self.actions.release();
///     }
///
///     fn poll_timeout(&self) -> Option<Instant> {
///         self.deadline.filter(|_| !self.is_over)
///     }
/// }
/// # let (mut session, now) = (Bare::default(), Instant::now());
/// # session.handle_connection_opened(ConnectionRole::Primary, TransportName("x"), now);
/// # assert!(matches!(session.poll_action(), Some(Action::Connect { .. })));
/// # session.handle_message(ConnectionRole::Primary, "a".into(), now);
/// # assert!(matches!(session.poll_action(), Some(Action::Event(_))));
/// # session.handle_timeout(now + Duration::from_secs(60));
/// # assert!(matches!(session.poll_action(), Some(Action::Close(CloseReason::IdleTimeout))));
/// # assert!(session.poll_action().is_none() && session.poll_timeout().is_none());
/// ```
pub trait Session: Send + fmt::Debug {
    /// Handles a message from a connection.
    fn handle_message(&mut self, role: ConnectionRole, message: Message, now: Instant);

    /// Handles a message, like [`handle_message`](Self::handle_message); may store the event that it causes in `event`.
    ///
    /// Returns `true` if it did. The driver then performs [`Action::Event`] with `event` before the queued actions, so a
    /// session does it only if no action is queued. Before the call, `event` is any event, nearly always the one of the
    /// message before: a session need not count references to a namespace and a name that stay the same, and the event
    /// is not moved through a queue.
    ///
    /// Default: calls [`handle_message`](Self::handle_message) and returns `false`.
    fn handle_message_into(
        &mut self,
        role: ConnectionRole,
        message: Message,
        now: Instant,
        _event: &mut Inbound,
    ) -> bool {
        self.handle_message(role, message, now);
        false
    }

    /// Handles a connection that can now carry messages.
    fn handle_connection_opened(&mut self, role: ConnectionRole, transport: TransportName, now: Instant);

    /// Handles the end of a connection, for the given reason.
    fn handle_connection_closed(&mut self, role: ConnectionRole, reason: CloseReason, now: Instant);

    /// Handles incoming bytes on a connection, whether or not they complete a message.
    ///
    /// The driver also calls it while it pauses reading, so that backpressure does not look like an idle client.
    fn handle_activity(&mut self, role: ConnectionRole, now: Instant);

    /// Handles a delayed heartbeat: the last one requested reached the carrier at `at`, later than requested.
    ///
    /// The client's time to answer starts at `at`. While the heartbeat still waits and the client takes other bytes,
    /// the time starts when it took the last of them. Not called for a heartbeat that was written without delay.
    ///
    /// Default: does nothing.
    fn handle_heartbeat_sent(&mut self, _at: Instant) {}

    /// Handles writability of the primary connection while a probe is open: a pending poll can be answered.
    ///
    /// A client that upgrades to the probing connection first finishes its pending poll. Called whenever the driver
    /// polls both connections, so several times for one poll; the session may answer it after a delay.
    ///
    /// Default: does nothing.
    fn handle_writable(&mut self, _now: Instant) {}

    /// Handles a command from the application or the server.
    fn handle_command(&mut self, command: Command, now: Instant);

    /// Handles the timeout returned by [`poll_timeout`](Self::poll_timeout). An early call has no effect.
    fn handle_timeout(&mut self, now: Instant);

    /// Returns the next action, in order.
    fn poll_action(&mut self) -> Option<Action>;

    /// Frees memory that only handling of inputs needs, such as that of [`Actions`](crate::Actions).
    ///
    /// The driver calls it before it waits for the next input. Default: does nothing.
    fn release_memory(&mut self) {}

    /// Returns when to call [`handle_timeout`](Self::handle_timeout) if no other input arrives before.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Returns whether the session has buffered so much for the application that the driver should pause reading.
    ///
    /// The driver asks before each message and keeps later messages, so none has to be refused. Default: `false`.
    fn is_congested(&self) -> bool {
        false
    }

    /// Returns whether a probing connection may be opened now, to upgrade the session. Default: `false`.
    fn can_upgrade(&self) -> bool {
        false
    }
}

/// Role of a connection in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "sessions match every lane")]
pub enum ConnectionRole {
    /// The connection that carries the session.
    Primary,
    /// A probing connection: a candidate for an upgrade that has not passed its probe.
    Probe,
}

/// Instruction of a session to its driver.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Send a frame.
    Transmit {
        /// Connection to send on.
        role: ConnectionRole,
        /// Frame to send.
        frame: Frame,
        /// `Protocol`, or `Volatile` for a frame that is useless unless sent at once.
        delivery: Delivery,
    },
    /// Send a heartbeat of the protocol on the primary connection, ahead of the queued frames.
    Heartbeat(Frame),
    /// Record that the client answered the last heartbeat. It has received everything written before that heartbeat.
    HeartbeatAnswered,
    /// Send the carrier's own ping.
    Ping(ConnectionRole),
    /// Upgrade: the probing connection becomes the primary one, and the old one closes.
    Promote,
    /// Close the probing connection. The session goes on.
    CloseProbe,
    /// The client requests to join a namespace. Answered with [`Command::Accept`] or [`Command::Refuse`].
    Connect {
        /// Requested namespace.
        namespace: Namespace,
        /// Credentials of the client as JSON text; empty if it sent none.
        auth: ByteString,
    },
    /// The client exceeded its limit of namespaces. It already has its answer; the driver only counts this.
    Refused {
        /// Requested namespace.
        namespace: Namespace,
    },
    /// The client emitted an event.
    Event(Inbound),
    /// The client acknowledged an event.
    Answer {
        /// Namespace of the event.
        namespace: Namespace,
        /// Id of the event.
        id: AckId,
        /// Arguments of the answer.
        args: Args,
    },
    /// The client left a namespace.
    Leave {
        /// Namespace that it left.
        namespace: Namespace,
        /// Reason.
        reason: CloseReason,
    },
    /// The session is over. Frames transmitted before are still sent where possible.
    Close(CloseReason),
    /// The session is over because the client was refused. The carrier sends the message as it closes, if it can.
    Refuse {
        /// Human-readable message from the application.
        message: ByteString,
    },
}

/// Instruction of the application or the server to a session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Accept the client in the requested namespace.
    Accept {
        /// Requested namespace.
        namespace: Namespace,
        /// Id of the new socket.
        socket: SocketId,
        /// Token with which the client may recover missed events later; `None` if recovery is off.
        recovery: Option<ByteString>,
    },
    /// Refuse the client in the requested namespace.
    Refuse {
        /// Requested namespace.
        namespace: Namespace,
        /// Reason as JSON text: an object with `message` and optional `data`.
        error: ByteString,
    },
    /// Suspend the time limit for joining the first namespace with `None`, or restart the suspended one.
    ///
    /// For a server that is not ready to decide. Sessions without such a limit ignore it.
    LimitConnect(Option<Duration>),
    /// Disconnect the client from a namespace, and notify it.
    Disconnect {
        /// Namespace to leave.
        namespace: Namespace,
    },
    /// End the session.
    Close(CloseReason),
}

/// Event as sent by a client.
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "sessions build it")]
pub struct Inbound {
    /// Namespace of the event.
    pub namespace: Namespace,
    /// Name of the event.
    pub name: ByteString,
    /// Arguments of the event.
    pub args: Args,
    /// Id for the acknowledgement; set if the client expects one.
    pub ack: Option<AckId>,
}
