//! Session and client in virtual time.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{
    Action, CloseReason, Command, ConnectionRole, Delivery, Message, Namespace, Session, SocketId,
    TransportName,
};

/// Session and client in virtual time: no connection, no task, and a clock that moves only on request.
///
/// The pair performs the steps of a server's driver in the same order and records the session's actions. Incoming
/// messages reach the session at once; [`advance`](Self::advance) advances the clock and handles every timeout
/// when it is due.
///
/// ```
/// # use roomcast_core::{CloseReason, Session, TransportName};
/// # use roomcast_testkit::Pair;
/// # use std::time::Duration;
/// fn a_client_that_answers_lives_on(session: impl Session) {
///     let mut pair = Pair::new(session).accepting();
///     pair.client.answers("2", "3");
///     pair.open(TransportName("websocket"));
///     pair.advance(Duration::from_secs(3600));
///     assert_eq!(pair.closed(), None);
///     pair.client.stops_answering();
///     pair.advance(Duration::from_secs(45));
///     assert_eq!(pair.closed(), Some(CloseReason::PingTimeout));
/// }
/// ```
///
/// # Panics
///
/// Every operation panics if the session breaks a general rule: an action after the close,
/// a timeout in the past after timeouts were handled, a packet on a missing connection, a promotion without a
/// probe, a protocol packet sent as an event; or if session and client loop without time passing.
pub struct Pair<S> {
    /// Session, for operations without a method here; call [`drive`](Self::drive) after changing it.
    pub session: S,
    /// Client at the other end.
    pub client: ScriptedClient,
    started: Instant,
    now: Instant,
    admission: Option<Verdict>,
    sockets: usize,
    opened: bool,
    probing: bool,
    log: Vec<Action>,
    sent: [Vec<Message>; 2],
    closed: Option<CloseReason>,
}

#[derive(Debug, Clone, Copy)]
enum Verdict {
    Accept,
    Refuse,
}

/// Maximum number of steps without time passing.
const PATIENCE: usize = 10_000;

impl<S: Session> Pair<S> {
    /// Creates a pair whose primary connection is not open yet and whose application has decided nothing.
    pub fn new(session: S) -> Self {
        let now = start();
        Self {
            session,
            client: ScriptedClient::default(),
            started: now,
            now,
            admission: None,
            sockets: 0,
            opened: false,
            probing: false,
            log: Vec::new(),
            sent: [Vec::new(), Vec::new()],
            closed: None,
        }
    }

    /// Makes the application accept every connect, with the ids `socket-1`, `socket-2` and so on.
    #[must_use]
    pub fn accepting(mut self) -> Self {
        self.admission = Some(Verdict::Accept);
        self
    }

    /// Makes the application refuse every connect, with `{"message":"no"}`.
    #[must_use]
    pub fn refusing(mut self) -> Self {
        self.admission = Some(Verdict::Refuse);
        self
    }

    /// Opens the primary connection of the session.
    pub fn open(&mut self, transport: TransportName) {
        self.opened = true;
        self.session.handle_connection_opened(ConnectionRole::Primary, transport, self.now);
        self.drive();
    }

    /// Opens another connection for a transport upgrade.
    pub fn open_probe(&mut self, transport: TransportName) {
        self.probing = true;
        self.session.handle_connection_opened(ConnectionRole::Probe, transport, self.now);
        self.drive();
    }

    /// Loses a connection.
    pub fn lose(&mut self, role: ConnectionRole, reason: CloseReason) {
        self.client.forget(role);
        self.probing &= role == ConnectionRole::Primary;
        self.session.handle_connection_closed(role, reason, self.now);
        self.drive();
    }

    /// Sends a client message on the primary connection.
    pub fn receive(&mut self, message: impl Into<Message>) {
        self.receive_on(ConnectionRole::Primary, message);
    }

    /// Sends a client message.
    pub fn receive_on(&mut self, role: ConnectionRole, message: impl Into<Message>) {
        self.client.send(role, message);
        self.drive();
    }

    /// Passes a command of the application or the server.
    pub fn command(&mut self, command: Command) {
        self.session.handle_command(command, self.now);
        self.drive();
    }

    /// Accepts the client into a namespace, under the next id.
    pub fn accept(&mut self, namespace: impl Into<Namespace>) {
        let command = self.verdict(Verdict::Accept, namespace.into());
        self.command(command);
    }

    /// Refuses the client a namespace.
    pub fn refuse(&mut self, namespace: impl Into<Namespace>) {
        let command = self.verdict(Verdict::Refuse, namespace.into());
        self.command(command);
    }

    /// Advances the clock; each timeout is handled when due.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.drive();
            let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
        }
        self.now = end;
    }

    /// Advances the clock without handling timeouts, as in a suspended process.
    pub fn stall(&mut self, by: Duration) {
        self.now += by;
    }

    /// Performs all steps that need no time.
    pub fn drive(&mut self) {
        for _ in 0..PATIENCE {
            if !self.step() {
                return;
            }
        }
        panic!("session and client loop without end; last action {:?}", self.log.last());
    }

    /// Performs one step that needs no time; returns `false` if there is none.
    ///
    /// Takes the first of these: an action of the session, a client message, a timeout.
    pub fn step(&mut self) -> bool {
        if let Some(action) = self.session.poll_action() {
            self.perform(action);
        } else if let Some((role, arrival)) = self.client.arriving.pop_front() {
            self.session.handle_activity(role, self.now);
            if let Some(message) = arrival {
                self.session.handle_message(role, message, self.now);
            }
        } else if self.session.poll_timeout().is_some_and(|due| due <= self.now) {
            self.session.handle_timeout(self.now);
            assert!(
                self.session.poll_timeout().is_none_or(|next| next > self.now),
                "timeout in the past after it was handled"
            );
        } else {
            return false;
        }
        true
    }

    /// Returns the current virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns the time since the pair was created.
    pub fn elapsed(&self) -> Duration {
        self.now - self.started
    }

    /// Returns the time until the session's next timeout, if any.
    pub fn timeout(&self) -> Option<Duration> {
        self.session.poll_timeout().map(|due| due.saturating_duration_since(self.now))
    }

    /// Returns why the session ended, if it has.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Returns the session's actions since the last call, in order.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.log)
    }

    /// Returns the session's actions since the last call, one line per action.
    ///
    /// Examples: `> packet`, `probe> packet`, `> packet if waiting` for volatile packets, `ping`, `promote`,
    /// `close probe`, `connect / {"auth":1}`, `event / name("arguments") ack 7`, `answer / 7("arguments")`,
    /// `leave /: reason` and `close: reason`. Messages of one frame are joined by ` + `, attachments too. Answered
    /// heartbeats have no line.
    pub fn seen(&mut self) -> Vec<String> {
        let actions = self.actions();
        let visible = actions.iter().filter(|action| !matches!(action, Action::HeartbeatAnswered));
        visible.map(|action| Line(action).to_string()).collect()
    }

    /// Returns the messages sent to the client on a connection since the last call, in order.
    ///
    /// A promoted connection continues as the primary one.
    pub fn sent(&mut self, role: ConnectionRole) -> Vec<Message> {
        std::mem::take(&mut self.sent[role as usize])
    }

    /// Returns the messages sent to the client on a connection since the last call, in order, as text.
    ///
    /// # Panics
    ///
    /// Panics if a message is binary and not UTF-8.
    pub fn sent_texts(&mut self, role: ConnectionRole) -> Vec<String> {
        let text =
            |message: &Message| str::from_utf8(message.as_bytes()).expect("message is UTF-8").to_owned();
        self.sent(role).iter().map(text).collect()
    }

    fn perform(&mut self, action: Action) {
        assert!(self.closed.is_none(), "{action:?} after the close");
        match &action {
            Action::Transmit { role, frame, delivery } => {
                assert!(*delivery != Delivery::Reliable, "protocol packet sent as an event");
                assert!(self.is_connected(*role), "{action:?} on a missing connection");
                for message in frame.messages() {
                    self.sent[*role as usize].push(message.clone());
                    self.client.answer(*role, message);
                }
            }
            Action::Heartbeat(frame) => {
                assert!(self.is_connected(ConnectionRole::Primary), "{action:?} on a missing connection");
                for message in frame.messages() {
                    self.sent[ConnectionRole::Primary as usize].push(message.clone());
                    self.client.answer(ConnectionRole::Primary, message);
                }
            }
            Action::Ping(role) => {
                assert!(self.is_connected(*role), "{action:?} on a missing connection");
                self.client.pong(*role);
            }
            Action::Promote => {
                assert!(std::mem::take(&mut self.probing), "promotion without a probe");
                self.client.promote();
            }
            Action::CloseProbe => {
                self.probing = false;
                self.client.forget(ConnectionRole::Probe);
            }
            Action::Connect { namespace, .. } => {
                if let Some(verdict) = self.admission {
                    let command = self.verdict(verdict, namespace.clone());
                    self.session.handle_command(command, self.now);
                }
            }
            Action::Close(_) | Action::Refuse { .. } => {
                self.closed = Some(match action {
                    Action::Close(reason) => reason,
                    _ => CloseReason::Refused,
                });
                self.probing = false;
                self.client.arriving.clear();
            }
            _ => {}
        }
        self.log.push(action);
    }

    fn is_connected(&self, role: ConnectionRole) -> bool {
        if role == ConnectionRole::Primary { self.opened } else { self.probing }
    }

    fn verdict(&mut self, verdict: Verdict, namespace: Namespace) -> Command {
        match verdict {
            Verdict::Accept => {
                self.sockets += 1;
                let socket = SocketId::new(format!("socket-{}", self.sockets));
                Command::Accept { namespace, socket, recovery: None }
            }
            Verdict::Refuse => Command::Refuse { namespace, error: r#"{"message":"no"}"#.into() },
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Pair<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("session", &self.session)
            .field("elapsed", &(self.now - self.started))
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Client of a [`Pair`]: sends messages on request and answers by rule.
///
/// It answers transport-level heartbeats, such as a WebSocket ping, until it
/// [stops answering](Self::stops_answering).
#[derive(Debug, Default)]
pub struct ScriptedClient {
    answers: Vec<(Message, Message)>,
    /// Messages sent; `None` is a pong of the transport.
    arriving: VecDeque<(ConnectionRole, Option<Message>)>,
    silent: bool,
}

impl ScriptedClient {
    /// Queues a message, which arrives when the pair is next driven.
    pub fn send(&mut self, role: ConnectionRole, message: impl Into<Message>) {
        self.arriving.push_back((role, Some(message.into())));
    }

    /// Answers each `question` at once, on the connection it arrived on.
    pub fn answers(&mut self, question: impl Into<Message>, answer: impl Into<Message>) {
        self.answers.push((question.into(), answer.into()));
    }

    /// Stops all answers, including transport answers.
    ///
    /// Explicitly queued messages are still sent.
    pub fn stops_answering(&mut self) {
        self.silent = true;
    }

    fn answer(&mut self, role: ConnectionRole, question: &Message) {
        if self.silent {
            return;
        }
        let answers = self.answers.iter().filter(|(asked, _)| asked == question);
        self.arriving.extend(answers.map(|(_, answer)| (role, Some(answer.clone()))));
    }

    fn pong(&mut self, role: ConnectionRole) {
        if !self.silent {
            self.arriving.push_back((role, None));
        }
    }

    /// Drops the old connection with the messages in flight on it, and makes the probe primary.
    fn promote(&mut self) {
        self.forget(ConnectionRole::Primary);
        self.arriving.iter_mut().for_each(|(role, _)| *role = ConnectionRole::Primary);
    }

    fn forget(&mut self, lost: ConnectionRole) {
        self.arriving.retain(|(role, _)| *role != lost);
    }
}

/// Formats an action as one line of text.
struct Line<'a>(&'a Action);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Action::Transmit { role, frame, delivery } => {
                let condition = if *delivery == Delivery::Volatile { " if waiting" } else { "" };
                let messages: Vec<_> = frame.messages().iter().map(readable).collect();
                write!(f, "{}> {}{condition}", prefix(*role, ""), messages.join(" + "))
            }
            Action::Heartbeat(frame) => {
                let messages: Vec<_> = frame.messages().iter().map(readable).collect();
                write!(f, "> {}", messages.join(" + "))
            }
            Action::Ping(role) => write!(f, "{}ping", prefix(*role, " ")),
            Action::Promote => f.write_str("promote"),
            Action::CloseProbe => f.write_str("close probe"),
            Action::Connect { namespace, auth } if auth.is_empty() => write!(f, "connect {namespace}"),
            Action::Connect { namespace, auth } => write!(f, "connect {namespace} {auth}"),
            Action::Refused { namespace } => write!(f, "refused {namespace}"),
            Action::Event(event) => {
                write!(f, "event {} {}({})", event.namespace, event.name, event.args.json())?;
                event.args.attachments().iter().try_for_each(|part| write!(f, " + {part:?}"))?;
                event.ack.map_or(Ok(()), |id| write!(f, " ack {id}"))
            }
            Action::Answer { namespace, id, args } => {
                write!(f, "answer {namespace} {id}({})", args.json())?;
                args.attachments().iter().try_for_each(|part| write!(f, " + {part:?}"))
            }
            Action::Leave { namespace, reason } => write!(f, "leave {namespace}: {reason}"),
            Action::Close(reason) => write!(f, "close: {reason}"),
            Action::Refuse { message } => write!(f, "close, refused: {message}"),
            other => write!(f, "{other:?}"),
        }
    }
}

fn prefix(role: ConnectionRole, separator: &'static str) -> String {
    if role == ConnectionRole::Primary { String::new() } else { format!("probe{separator}") }
}

fn readable(message: &Message) -> String {
    match message {
        Message::Text(text) => text.to_string(),
        Message::Binary(bytes) => format!("{:?}", Bytes::clone(bytes)),
    }
}

/// Arbitrary origin; all other times are offsets from it.
#[expect(clippy::disallowed_methods, reason = "an `Instant` has no other constructor")]
fn start() -> Instant {
    Instant::now()
}
