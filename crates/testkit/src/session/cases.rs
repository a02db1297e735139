//! The rules for sessions, one function each; see [`session_conformance!`](crate::session_conformance).
//!
//! Some rules hold in every case, because [`Pair`] itself checks them.

use std::time::Duration;

use bytes::Bytes;
use roomcast_core::{Action, CloseReason, Command, Lane, Message, Namespace, Session};

pub use super::chaos::whatever_happens_the_rules_hold;
use super::samples::{LONG, POLLING, TEXTS, WEBSOCKET};
use crate::Pair;

const REASONS: [CloseReason; 4] = [
    CloseReason::TransportClose,
    CloseReason::TransportError,
    CloseReason::ServerShutdown,
    CloseReason::ForcedServerClose,
];

/// Input before the connection is open is ignored.
pub fn nothing_happens_before_the_connection_is_open<S: Session>(make: impl Fn() -> S) {
    let mut pair = Pair::new(make());
    assert_eq!(pair.timeout(), None, "there is nobody to wait for");
    for message in assorted() {
        pair.receive(message.clone());
        pair.receive_on(Lane::Probe, message);
    }
    pair.accept(Namespace::main());
    pair.refuse(Namespace::main());
    pair.session.handle_timeout(pair.now());
    pair.drive();
    assert_eq!(pair.seen(), [""; 0]);
    assert!(!pair.session.can_upgrade());
    pair.open(WEBSOCKET);
    assert_eq!(pair.closed(), None, "and it is forgotten");
}

/// The primary lane opens once.
pub fn a_session_opens_once<S: Session>(make: impl Fn() -> S) {
    let mut pair = opened(make());
    let due = pair.session.poll_timeout();
    pair.open(WEBSOCKET);
    pair.open(POLLING);
    assert_eq!((pair.seen(), pair.session.poll_timeout()), (vec![], due));
}

/// A session without heartbeat answers ends.
pub fn a_client_that_says_nothing_is_closed<S: Session>(make: impl Fn() -> S) {
    for pair in [Pair::new(make()), Pair::new(make()).accepting()] {
        let mut pair = pair;
        pair.client.falls_silent();
        pair.open(WEBSOCKET);
        pair.advance(LONG);
        assert!(pair.closed().is_some(), "it waits for a client that is gone");
        assert_eq!(pair.timeout(), None);
    }
}

/// A client gets heartbeats repeatedly, from its transport or its protocol.
pub fn a_client_that_answers_for_its_transport_is_asked_again<S: Session>(make: impl Fn() -> S) {
    let mut pair = Pair::new(make()).accepting();
    pair.open(WEBSOCKET);
    let admitted = pair.actions().len();
    assert!(admitted > 0, "an open session asks for something: to be let in, or for the client to be told");
    pair.advance(LONG);
    let asked =
        |action: &Action| matches!(action, Action::Heartbeat(_) | Action::Ping(_) | Action::Transmit { .. });
    assert!(pair.actions().iter().any(asked), "it does not ask whether its client is there");
}

/// A timeout only makes the session check the time.
pub fn a_timeout_that_comes_early_does_nothing<S: Session>(make: impl Fn() -> S) {
    let mut pair = opened(make());
    pair.client.falls_silent();
    while let Some(due) = pair.timeout() {
        let at = pair.session.poll_timeout();
        for part in [Duration::ZERO, due / 2, due / 2 - Duration::from_nanos(1)] {
            pair.stall(part);
            pair.session.handle_timeout(pair.now());
            let action = pair.session.poll_action();
            assert!(action.is_none(), "{action:?} came early");
            assert_eq!(pair.session.poll_timeout(), at);
        }
        pair.stall(due);
        pair.drive();
    }
    assert!(pair.closed().is_some());
}

/// After timeouts are handled, the next one lies ahead, however late the call was.
pub fn timeouts_lie_ahead<S: Session>(make: impl Fn() -> S) {
    for stall in [0, 1, 24, 25, 44, 46, 70, 1_000, 1_000_000] {
        let mut pair = opened(make());
        pair.client.falls_silent();
        let mut rounds = 0;
        while let Some(due) = pair.timeout() {
            pair.stall(due + Duration::from_secs(stall));
            // The pair itself checks that time advances.
            pair.drive();
            rounds += 1;
            assert!(rounds < 1_000, "it never ends");
        }
        assert!(pair.closed().is_some());
    }
}

/// Losing the primary lane ends the session with the same reason.
pub fn without_its_primary_lane_a_session_ends<S: Session>(make: impl Fn() -> S) {
    for reason in REASONS {
        for mut pair in [Pair::new(make()), opened(make()), probing(make())] {
            pair.lose(Lane::Primary, reason);
            assert_eq!(pair.closed(), Some(reason));
            assert_eq!(pair.timeout(), None);
        }
    }
}

/// Losing a probe does not end the session, whether or not there was one.
pub fn the_loss_of_a_probe_is_not_the_end<S: Session>(make: impl Fn() -> S) {
    for mut pair in [opened(make()), probing(make())] {
        let could_upgrade = pair.session.can_upgrade();
        pair.lose(Lane::Probe, CloseReason::TransportError);
        assert_eq!(pair.closed(), None);
        assert_eq!(pair.seen(), [""; 0]);
        assert!(pair.session.can_upgrade() || !could_upgrade);
    }
}

/// The application's close reason is the session's.
pub fn whoever_closes_it_gives_the_reason<S: Session>(make: impl Fn() -> S) {
    for reason in REASONS {
        for mut pair in [Pair::new(make()), opened(make()), probing(make())] {
            pair.command(Command::Close(reason));
            assert_eq!(pair.closed(), Some(reason));
            assert_eq!(pair.timeout(), None);
        }
    }
}

/// A closed session stays closed under any input.
pub fn nothing_follows_the_close<S: Session>(make: impl Fn() -> S) {
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
            pair.receive_on(Lane::Probe, message);
        }
        pair.lose(Lane::Probe, CloseReason::TransportError);
        pair.lose(Lane::Primary, CloseReason::TransportError);
        pair.stall(LONG);
        pair.session.handle_timeout(pair.now());
        pair.drive();
        assert_eq!((pair.seen(), pair.timeout()), (vec![], None));
        assert!(!pair.session.can_upgrade());
    }
}

/// The application may answer a connect that was never requested or is obsolete.
pub fn verdicts_about_unknown_namespaces_change_nothing<S: Session>(make: impl Fn() -> S) {
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
pub fn a_second_verdict_changes_nothing<S: Session>(make: impl Fn() -> S) {
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
        asked(&mut pair).expect("somebody asks to be let in")
    });
    pair.accept(namespace.clone());
    pair.actions();
    pair.accept(namespace.clone());
    pair.refuse(namespace);
    assert_eq!(pair.seen(), [""; 0]);
    assert_eq!(pair.closed(), None);
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
        pair.receive_on(Lane::Probe, "2probe");
    }
    pair.actions();
    pair
}

fn assorted() -> Vec<Message> {
    let texts = TEXTS.into_iter().map(Message::from);
    texts.chain([Bytes::new().into(), Bytes::from_static(b"\x00\xff").into()]).collect()
}
