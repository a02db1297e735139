//! The protocol of one client, without I/O

use std::fmt;
use std::time::Instant;

use bytestring::ByteString;

use crate::{AckId, Args, CloseReason, Delivery, Frame, Message, Namespace, SocketId, TransportName};

/// The protocol of one client, without I/O and without a clock.
///
/// One task, the driver, owns a session and calls it in this order:
///
/// 1. one `handle_*` method, with what has happened and the time, which never goes back;
/// 2. [`poll_action`](Self::poll_action) until it returns `None`, and performs each action in that order;
/// 3. it waits for the next thing to happen, at most until [`poll_timeout`](Self::poll_timeout), then calls
///    [`handle_timeout`](Self::handle_timeout).
///
/// So a session never waits and needs no waker. The first call is [`handle_lane_opened`](Self::handle_lane_opened) for
/// [`Lane::Primary`], before which it asks for nothing. After [`Action::Close`] or [`Action::Refuse`] it returns no further action,
/// whatever it is told; the driver may drop it. Between [`Action::Connect`] and the command that answers it, messages of the client
/// are to be kept, within a limit that [`is_congested`](Self::is_congested) reports.
///
/// `roomcast_testkit::session_conformance!` checks these rules.
///
/// # Examples
///
/// A protocol of one namespace, in which each message is the event `message`:
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use roomcast_core::{
///     Action, Actions, Args, ByteString, CloseReason, Command, Inbound, Lane, Message, Namespace, Session, TransportName,
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
///     fn handle_lane_opened(&mut self, _: Lane, _: TransportName, now: Instant) {
///         let (namespace, auth) = (Namespace::main(), ByteString::new());
///         self.actions.push(Action::Connect { namespace, auth });
///         self.handle_activity(Lane::Primary, now);
///     }
///
///     fn handle_message(&mut self, _: Lane, message: Message, _: Instant) {
///         let Message::Text(text) = message else { return self.close(CloseReason::ParseError) };
///         let (namespace, name) = (Namespace::main(), ByteString::from_static("message"));
///         self.actions.push(Action::Event(Inbound { namespace, name, args: Args::from_text(text), ack: None }));
///     }
///
///     fn handle_activity(&mut self, _: Lane, now: Instant) {
///         self.deadline = now.checked_add(Duration::from_secs(60));
///     }
///
///     fn handle_lane_closed(&mut self, _: Lane, reason: CloseReason, _: Instant) {
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
///     fn poll_timeout(&self) -> Option<Instant> {
///         self.deadline.filter(|_| !self.is_over)
///     }
/// }
/// # let (mut session, now) = (Bare::default(), Instant::now());
/// # session.handle_lane_opened(Lane::Primary, TransportName("x"), now);
/// # assert!(matches!(session.poll_action(), Some(Action::Connect { .. })));
/// # session.handle_message(Lane::Primary, "a".into(), now);
/// # assert!(matches!(session.poll_action(), Some(Action::Event(_))));
/// # session.handle_timeout(now + Duration::from_secs(60));
/// # assert!(matches!(session.poll_action(), Some(Action::Close(CloseReason::IdleTimeout))));
/// # assert!(session.poll_action().is_none() && session.poll_timeout().is_none());
/// ```
pub trait Session: Send + fmt::Debug {
    /// A message arrived on a lane
    fn handle_message(&mut self, lane: Lane, message: Message, now: Instant);

    /// A lane can carry messages
    fn handle_lane_opened(&mut self, lane: Lane, transport: TransportName, now: Instant);

    /// A lane is gone, for this reason
    fn handle_lane_closed(&mut self, lane: Lane, reason: CloseReason, now: Instant);

    /// Something arrived on a lane, whole message or not
    ///
    /// Also called while the driver itself holds back reading: a client is not judged by what nobody reads.
    fn handle_activity(&mut self, lane: Lane, now: Instant);

    /// The heartbeat that was asked for last has just reached the carrier, later than it was asked for.
    ///
    /// The time that the client has to answer starts at `at`. While it still waits, and the client takes other bytes, the
    /// time starts when it took the last of them. Not called where the heartbeat was written without delay.
    ///
    /// Default: does nothing.
    fn handle_heartbeat_sent(&mut self, _at: Instant) {}

    /// The primary lane takes bytes while a probe is open: a request that waits there can be answered.
    ///
    /// A client that moves its session to the probe first finishes the request that it has waiting. Called whenever the
    /// driver visits both lanes, so several times for one waiting request; the session may answer it after a delay.
    ///
    /// Default: does nothing.
    fn handle_writable(&mut self, _now: Instant) {}

    /// The application, or the server, wants something
    fn handle_command(&mut self, command: Command, now: Instant);

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come; harmless if it has not
    fn handle_timeout(&mut self, now: Instant);

    /// The next thing to be done, in order
    fn poll_action(&mut self) -> Option<Action>;

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing else happens before
    fn poll_timeout(&self) -> Option<Instant>;

    /// Whether the session holds so much for the application that the driver should read no more for now.
    ///
    /// Asked before each message; those that follow stay with the driver, so nothing has to be refused. Default: `false`.
    fn is_congested(&self) -> bool {
        false
    }

    /// Whether another lane may be opened now, to move the session there
    fn can_upgrade(&self) -> bool {
        false
    }
}

/// A connection's role in a session
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "sessions match every lane")]
pub enum Lane {
    /// Carries the session
    Primary,
    /// A candidate that has not proven itself
    Probe,
}

/// What a session asks its driver to do
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Send a frame
    Transmit {
        /// Where
        lane: Lane,
        /// What
        frame: Frame,
        /// `Protocol`, or `Volatile` for what makes sense only if it can leave at once
        delivery: Delivery,
    },
    /// Send a heartbeat of the protocol on the primary lane, ahead of everything that waits
    Heartbeat(Frame),
    /// Record that the client answered the last heartbeat: it has received everything written before that heartbeat.
    HeartbeatAnswered,
    /// Send the carrier's own sign of life
    Ping(Lane),
    /// The probe has proven itself: it becomes the primary lane, and the old one ends
    Promote,
    /// Close the probe; the session goes on
    CloseProbe,
    /// The client asks to join a namespace; to be answered with [`Command::Accept`] or [`Command::Refuse`]
    Connect {
        /// Which
        namespace: Namespace,
        /// What it shows for it, as JSON text; empty if nothing
        auth: ByteString,
    },
    /// The client asked to join one namespace more than it may be in; it has been told, so this is only to be counted
    Refused {
        /// Which
        namespace: Namespace,
    },
    /// The client emitted an event
    Event(Inbound),
    /// The client answered an event
    Answer {
        /// In which namespace
        namespace: Namespace,
        /// Which event
        id: AckId,
        /// With what
        args: Args,
    },
    /// The client left a namespace
    Leave {
        /// Which
        namespace: Namespace,
        /// Why
        reason: CloseReason,
    },
    /// The session is over; what was transmitted before is still sent where that is possible
    Close(CloseReason),
    /// The session is over, since the client was refused; its carrier says why as it closes, if it can
    Refuse {
        /// What the application said, for people
        message: ByteString,
    },
}

/// What the application or the server asks of a session
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// The client may join the namespace it asked for
    Accept {
        /// Which
        namespace: Namespace,
        /// Under which id
        socket: SocketId,
        /// With this secret it may come back and recover what it missed, if that is on
        recovery: Option<ByteString>,
    },
    /// The client may not join the namespace it asked for
    Refuse {
        /// Which
        namespace: Namespace,
        /// Why, as JSON text: an object with `message`, and `data` where there is some
        error: ByteString,
    },
    /// Take the client out of a namespace, and tell it
    Disconnect {
        /// Which
        namespace: Namespace,
    },
    /// End the session
    Close(CloseReason),
}

/// An event as a client sent it
#[derive(Debug, Clone)]
#[allow(clippy::exhaustive_structs, reason = "sessions build it")]
pub struct Inbound {
    /// In which namespace
    pub namespace: Namespace,
    /// Its name
    pub name: ByteString,
    /// Its arguments
    pub args: Args,
    /// Set when the client waits for an answer
    pub ack: Option<AckId>,
}
