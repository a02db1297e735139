//! A session and its client in virtual time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_core::{
    Action, ByteString, Bytes, CloseReason, Command, ConnectionRole, Delivery, Inbound, Message, Namespace,
    Session, SocketId, TransportName,
};
use roomcast_plain::{Mode, PlainConfig, PlainSession};

pub(crate) struct Client {
    session: PlainSession,
    now: Instant,
}

impl Client {
    /// Creates a client whose connection is not open yet.
    pub(crate) fn new(mode: Mode, config: PlainConfig) -> Self {
        let session = PlainSession::new(mode, Arc::new(config), Namespace::new("/chat"));
        Self { session, now: start() }
    }

    /// Creates a client that awaits admission.
    pub(crate) fn knocking(mode: Mode, config: PlainConfig) -> Self {
        let mut client = Self::new(mode, config);
        client.session.handle_connection_opened(
            ConnectionRole::Primary,
            TransportName("websocket"),
            client.now,
        );
        let Some(Action::Connect { namespace, auth }) = client.next() else {
            panic!("expected a connect request")
        };
        assert_eq!((namespace, &*auth), (Namespace::new("/chat"), ""));
        client
    }

    /// Creates an admitted client that has received the welcome.
    pub(crate) fn admitted(mode: Mode) -> Self {
        Self::admitted_with(mode, PlainConfig::default())
    }

    pub(crate) fn admitted_with(mode: Mode, config: PlainConfig) -> Self {
        let mut client = Self::knocking(mode, config);
        client.command(Self::accept());
        if mode == Mode::Json {
            assert_eq!(client.told(), r#"[{"sid":"s1"}]"#);
        }
        client.assert_idle();
        client
    }

    pub(crate) fn accept() -> Command {
        Self::accept_with(None)
    }

    pub(crate) fn accept_with(recovery: Option<ByteString>) -> Command {
        Command::Accept { namespace: Namespace::new("/chat"), socket: SocketId::new("s1"), recovery }
    }

    pub(crate) fn refuse() -> Command {
        let error = r#"{"message":"not you","data":{"code":7}}"#.into();
        Command::Refuse { namespace: Namespace::new("/chat"), error }
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.message(ByteString::from(text));
    }

    pub(crate) fn binary(&mut self, bytes: &'static [u8]) {
        self.message(Bytes::from_static(bytes));
    }

    pub(crate) fn message(&mut self, message: impl Into<Message>) {
        self.session.handle_message(ConnectionRole::Primary, message.into(), self.now);
    }

    pub(crate) fn message_on(&mut self, role: ConnectionRole, text: &'static str) {
        self.session.handle_message(role, text.into(), self.now);
    }

    pub(crate) fn activity(&mut self) {
        self.session.handle_activity(ConnectionRole::Primary, self.now);
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.session.handle_command(command, self.now);
    }

    pub(crate) fn connection_closed(&mut self, role: ConnectionRole, reason: CloseReason) {
        self.session.handle_connection_closed(role, reason, self.now);
    }

    /// Advances time without notifying the session.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Advances time to the session's deadline; returns the elapsed time.
    pub(crate) fn pass_to_timeout(&mut self) -> Duration {
        let at = self.session.poll_timeout().expect("a timer is armed");
        let passed = at - self.now;
        self.now = at;
        self.timeout();
        passed
    }

    pub(crate) fn timeout(&mut self) {
        self.session.handle_timeout(self.now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        self.session.poll_timeout().map(|at| at - self.now)
    }

    pub(crate) fn next(&mut self) -> Option<Action> {
        self.session.poll_action()
    }

    pub(crate) fn event(&mut self) -> Inbound {
        match self.next() {
            Some(Action::Event(inbound)) => {
                assert_eq!(inbound.namespace, Namespace::new("/chat"));
                inbound
            }
            other => panic!("expected an event, got {other:?}"),
        }
    }

    /// Returns the next message to the client, which must be a text.
    pub(crate) fn told(&mut self) -> String {
        let Some(Action::Transmit { role: ConnectionRole::Primary, frame, delivery: Delivery::Protocol }) =
            self.next()
        else {
            panic!("expected a protocol message");
        };
        let [Message::Text(text)] = frame.messages() else { panic!("expected one text, got {frame:?}") };
        text.to_string()
    }

    pub(crate) fn assert_idle(&mut self) {
        let action = self.next();
        assert!(action.is_none(), "{action:?}");
    }

    /// Asserts that the session ends for this reason and stays ended.
    pub(crate) fn assert_ends(&mut self, reason: CloseReason) {
        let action = self.next();
        assert!(matches!(action, Some(Action::Close(ended)) if ended == reason), "{action:?}");
        self.assert_over();
    }

    /// Asserts that the session ends with this final message and stays ended.
    pub(crate) fn assert_turned_away(&mut self, said: &str) {
        let action = self.next();
        assert!(matches!(&action, Some(Action::Refuse { message }) if message == said), "{action:?}");
        self.assert_over();
    }

    fn assert_over(&mut self) {
        self.text(r#"["late"]"#);
        self.binary(b"late");
        self.command(Self::accept());
        self.command(Self::refuse());
        self.command(Command::Close(CloseReason::ForcedServerClose));
        self.connection_closed(ConnectionRole::Primary, CloseReason::TransportClose);
        self.pass(Duration::from_secs(1_000));
        self.timeout();
        self.assert_idle();
        assert_eq!(self.poll_timeout(), None);
    }

    /// Asserts that the session ends for a violation, reported with a text that contains `part`.
    pub(crate) fn assert_refused(&mut self, part: &str) {
        let told = self.told();
        let frame: serde_json::Value = serde_json::from_str(&told).expect("valid JSON");
        let message = frame[0]["error"]["message"].as_str().expect("the error has a message");
        assert!(message.contains(part), "{message}");
        self.assert_ends(CloseReason::ParseError);
    }
}

/// Returns an arbitrary instant, from which the tests compute all others.
#[expect(clippy::disallowed_methods, reason = "virtual time needs a start")]
fn start() -> Instant {
    Instant::now()
}
