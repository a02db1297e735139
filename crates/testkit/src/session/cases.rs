//! The rules for sessions, one function each; see [`session_conformance!`](crate::session_conformance).
//!
//! Some rules hold in every case, because [`Pair`] itself checks them.

use std::time::Duration;

use bytes::Bytes;
use roomcast_core::{
    AckId, Action, Args, ByteString, CloseReason, Command, ConnectionRole, Inbound, Message, Namespace,
    Session,
};

pub use super::chaos::keeps_rules_in_random_sequences;
use super::samples::{LONG, POLLING, TEXTS, WEBSOCKET};
use crate::Pair;
use crate::rng::SeededRng;

const REASONS: [CloseReason; 4] = [
    CloseReason::TransportClose,
    CloseReason::TransportError,
    CloseReason::ServerShutdown,
    CloseReason::ForcedServerClose,
];

/// Input before the connection is open is ignored.
pub fn ignores_input_before_open<S: Session>(make: impl Fn() -> S) {
    let mut pair = Pair::new(make());
    assert_eq!(pair.timeout(), None, "there is no client to wait for");
    for message in assorted() {
        pair.receive(message.clone());
        pair.receive_on(ConnectionRole::Probe, message);
    }
    pair.accept(Namespace::main());
    pair.refuse(Namespace::main());
    pair.session.handle_timeout(pair.now());
    pair.drive();
    assert_eq!(pair.seen(), [""; 0]);
    assert!(!pair.session.can_upgrade());
    pair.open(WEBSOCKET);
    assert_eq!(pair.closed(), None, "earlier input has no effect");
}

/// The primary connection opens once.
pub fn session_opens_only_once<S: Session>(make: impl Fn() -> S) {
    let mut pair = opened(make());
    let due = pair.session.poll_timeout();
    pair.open(WEBSOCKET);
    pair.open(POLLING);
    assert_eq!((pair.seen(), pair.session.poll_timeout()), (vec![], due));
}

/// A session without heartbeat answers ends.
pub fn closes_silent_client<S: Session>(make: impl Fn() -> S) {
    for pair in [Pair::new(make()), Pair::new(make()).accepting()] {
        let mut pair = pair;
        pair.client.stops_answering();
        pair.open(WEBSOCKET);
        pair.advance(LONG);
        assert!(pair.closed().is_some(), "the session outlives its client");
        assert_eq!(pair.timeout(), None);
    }
}

/// A client gets heartbeats repeatedly, from its transport or its protocol.
pub fn sends_heartbeats_repeatedly<S: Session>(make: impl Fn() -> S) {
    let mut pair = Pair::new(make()).accepting();
    pair.open(WEBSOCKET);
    let admitted = pair.actions().len();
    assert!(admitted > 0, "an open session returns an action: a connect or a transmission");
    pair.advance(LONG);
    let asked =
        |action: &Action| matches!(action, Action::Heartbeat(_) | Action::Ping(_) | Action::Transmit { .. });
    assert!(pair.actions().iter().any(asked), "the session sends no heartbeat");
}

/// A timeout only makes the session check the time.
pub fn ignores_early_timeouts<S: Session>(make: impl Fn() -> S) {
    let mut pair = opened(make());
    pair.client.stops_answering();
    while let Some(due) = pair.timeout() {
        let at = pair.session.poll_timeout();
        for part in [Duration::ZERO, due / 2, due / 2 - Duration::from_nanos(1)] {
            pair.stall(part);
            pair.session.handle_timeout(pair.now());
            let action = pair.session.poll_action();
            assert!(action.is_none(), "early action {action:?}");
            assert_eq!(pair.session.poll_timeout(), at);
        }
        pair.stall(due);
        pair.drive();
    }
    assert!(pair.closed().is_some());
}

/// After timeouts are handled, the next one is in the future, however late the call was.
pub fn sets_timeouts_in_the_future<S: Session>(make: impl Fn() -> S) {
    for stall in [0, 1, 24, 25, 44, 46, 70, 1_000, 1_000_000] {
        let mut pair = opened(make());
        pair.client.stops_answering();
        let mut rounds = 0;
        while let Some(due) = pair.timeout() {
            pair.stall(due + Duration::from_secs(stall));
            // The pair itself checks that time advances.
            pair.drive();
            rounds += 1;
            assert!(rounds < 1_000, "the session never ends");
        }
        assert!(pair.closed().is_some());
    }
}

/// Losing the primary connection ends the session with the same reason.
pub fn ends_with_its_primary_connection<S: Session>(make: impl Fn() -> S) {
    for reason in REASONS {
        for mut pair in [Pair::new(make()), opened(make()), probing(make())] {
            pair.lose(ConnectionRole::Primary, reason);
            assert_eq!(pair.closed(), Some(reason));
            assert_eq!(pair.timeout(), None);
        }
    }
}

/// Losing a probe does not end the session, whether or not there was one.
pub fn survives_loss_of_probe<S: Session>(make: impl Fn() -> S) {
    for mut pair in [opened(make()), probing(make())] {
        let could_upgrade = pair.session.can_upgrade();
        pair.lose(ConnectionRole::Probe, CloseReason::TransportError);
        assert_eq!(pair.closed(), None);
        assert_eq!(pair.seen(), [""; 0]);
        assert!(pair.session.can_upgrade() || !could_upgrade);
    }
}

/// The application's close reason is the session's.
pub fn keeps_reason_of_application_close<S: Session>(make: impl Fn() -> S) {
    for reason in REASONS {
        for mut pair in [Pair::new(make()), opened(make()), probing(make())] {
            pair.command(Command::Close(reason));
            assert_eq!(pair.closed(), Some(reason));
            assert_eq!(pair.timeout(), None);
        }
    }
}

/// A closed session stays closed under any input.
pub fn stays_closed_under_any_input<S: Session>(make: impl Fn() -> S) {
    for mut pair in [Pair::new(make()), opened(make()), probing(make())] {
        pair.command(Command::Close(CloseReason::ServerShutdown));
        pair.actions();
        let again = [
            Command::Close(CloseReason::ForcedServerClose),
            Command::Disconnect { namespace: Namespace::main() },
            Command::Disconnect { namespace: Namespace::new("/chat") },
        ];
        again.into_iter().for_each(|command| pair.command(command));
        for namespace in [Namespace::main(), Namespace::new("/chat")] {
            pair.accept(namespace.clone());
            pair.refuse(namespace);
        }
        pair.open(WEBSOCKET);
        pair.open_probe(WEBSOCKET);
        for message in assorted() {
            pair.receive(message.clone());
            pair.receive_on(ConnectionRole::Probe, message);
        }
        pair.lose(ConnectionRole::Probe, CloseReason::TransportError);
        pair.lose(ConnectionRole::Primary, CloseReason::TransportError);
        pair.stall(LONG);
        pair.session.handle_timeout(pair.now());
        pair.drive();
        assert_eq!((pair.seen(), pair.timeout()), (vec![], None));
        assert!(!pair.session.can_upgrade());
    }
}

/// The application may answer a connect that was never requested or is obsolete.
pub fn ignores_verdicts_for_unknown_namespaces<S: Session>(make: impl Fn() -> S) {
    let mut pair = opened(make());
    let due = pair.session.poll_timeout();
    for name in ["/nobody-asked", "", "no-slash", "/a,b"] {
        let namespace = Namespace::new(name);
        pair.accept(namespace.clone());
        pair.refuse(namespace.clone());
        pair.command(Command::Disconnect { namespace });
    }
    assert_eq!((pair.seen(), pair.session.poll_timeout()), (vec![], due));
    assert_eq!(pair.closed(), None);
}

/// The first of two answers to one connect counts.
pub fn ignores_second_verdict<S: Session>(make: impl Fn() -> S) {
    let mut pair = Pair::new(make());
    pair.open(WEBSOCKET);
    let asked = |pair: &mut Pair<S>| {
        pair.actions().into_iter().find_map(|action| match action {
            Action::Connect { namespace, .. } => Some(namespace),
            _ => None,
        })
    };
    // The initiator depends on the protocol: the session or its client.
    let namespace = asked(&mut pair).unwrap_or_else(|| {
        pair.receive("40");
        asked(&mut pair).expect("the session or its client requests a connect")
    });
    pair.accept(namespace.clone());
    pair.actions();
    pair.accept(namespace.clone());
    pair.refuse(namespace);
    assert_eq!(pair.seen(), [""; 0]);
    assert_eq!(pair.closed(), None);
}

/// A message has the same actions whether its event is stored or queued, independent of the event stored before.
pub fn stored_events_equal_queued_events<S: Session>(make: impl Fn() -> S) {
    for seed in 0..500 {
        let mut rng = SeededRng::new(seed);
        let (mut queuing, mut storing) = (Pair::new(make()).accepting(), Pair::new(make()).accepting());
        let mut event = Inbound {
            namespace: Namespace::new("/before"),
            name: ByteString::from_static("before"),
            args: Args::from_text("before".into()),
            ack: Some(AckId(9)),
        };
        for pair in [&mut queuing, &mut storing] {
            pair.open(WEBSOCKET);
            pair.actions();
        }
        for _ in 0..20 {
            let message = match rng.below(8) {
                0 => Bytes::from_static(b"\x00\xff").into(),
                // The last ten violate at least one protocol.
                _ => Message::from(rng.of(&TEXTS[..TEXTS.len() - 10])),
            };
            queuing.receive(message.clone());
            let now = storing.now();
            let mut actions = Vec::new();
            if storing.session.handle_message_into(ConnectionRole::Primary, message, now, &mut event) {
                actions.push(Action::Event(event.clone()));
            }
            storing.drive();
            actions.extend(storing.actions());
            assert_eq!(format!("{actions:?}"), format!("{:?}", queuing.actions()), "seed {seed}");
        }
    }
}

/// Returns a session started on a WebSocket, with no recorded actions.
fn opened<S: Session>(session: S) -> Pair<S> {
    let mut pair = Pair::new(session);
    pair.open(WEBSOCKET);
    pair.actions();
    pair
}

/// Returns a session started on polling and probed, if it supports that.
fn probing<S: Session>(session: S) -> Pair<S> {
    let mut pair = Pair::new(session);
    pair.open(POLLING);
    if pair.session.can_upgrade() {
        pair.open_probe(WEBSOCKET);
        pair.receive_on(ConnectionRole::Probe, "2probe");
    }
    pair.actions();
    pair
}

fn assorted() -> Vec<Message> {
    let texts = TEXTS.into_iter().map(Message::from);
    texts.chain([Bytes::new().into(), Bytes::from_static(b"\x00\xff").into()]).collect()
}
