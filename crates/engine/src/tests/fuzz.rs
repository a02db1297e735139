use proptest::prelude::*;

use super::*;

/// An operation of a driver, a client or an application.
#[derive(Debug, Clone)]
enum Op {
    Text(ConnectionRole, String),
    Binary(ConnectionRole, Vec<u8>),
    Open(ConnectionRole, TransportName),
    Lose(ConnectionRole),
    Activity(ConnectionRole),
    Advance(u16),
    Stall(u16),
    Accept,
    Refuse,
    Disconnect,
    Close,
}

fn role() -> impl Strategy<Value = ConnectionRole> {
    prop_oneof![3 => Just(ConnectionRole::Primary), 2 => Just(ConnectionRole::Probe)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["2probe", "3", "4", "4hello", "5", "6", "0"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["1", "2", "", "7", "é"]).prop_map(str::to_owned),
        1 => ".{0,8}",
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let transport = prop::sample::select(vec![POLLING, WEBSOCKET]);
    prop_oneof![
        12 => (role(), text()).prop_map(|(role, text)| Op::Text(role, text)),
        2 => (role(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(role, bytes)| Op::Binary(role, bytes)),
        6 => (role(), transport).prop_map(|(role, transport)| Op::Open(role, transport)),
        1 => role().prop_map(Op::Lose),
        2 => role().prop_map(Op::Activity),
        6 => any::<u16>().prop_map(Op::Advance),
        1 => any::<u16>().prop_map(Op::Stall),
        2 => Just(Op::Accept),
        1 => prop::sample::select(vec![Op::Refuse, Op::Disconnect, Op::Close]),
    ]
}

fn perform(pair: &mut Pair, op: Op) {
    let namespace = Namespace::main();
    match op {
        Op::Text(role, text) => pair.receive_on(role, text),
        Op::Binary(role, bytes) => pair.receive_on(role, Bytes::from(bytes)),
        Op::Open(role, transport) => pair.connection_opened(role, transport),
        Op::Lose(role) => pair.connection_closed(role, CloseReason::TransportError),
        Op::Activity(role) => pair.session.handle_activity(role, pair.now),
        Op::Advance(ms) => pair.advance(Duration::from_millis(ms.into())),
        Op::Stall(ms) => pair.stall(Duration::from_millis(ms.into())),
        Op::Accept => pair.accept(),
        Op::Refuse => pair.command(Command::Refuse { namespace, error: "{}".into() }),
        Op::Disconnect => pair.command(Command::Disconnect { namespace }),
        Op::Close => pair.command(Command::Close(CloseReason::ServerShutdown)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_input_keeps_session_invariants(begin in prop::bool::weighted(0.9), ops in prop::collection::vec(op(), 0..60)) {
        let mut pair = Pair::new(config());
        if begin {
            pair.connection_opened(ConnectionRole::Primary, POLLING);
            prop_assert!(pair.seen[0].starts_with("> 0"));
        }
        let mut promoted = 0;
        for op in ops {
            let could_upgrade = pair.session.can_upgrade();
            let from = pair.seen.len();
            perform(&mut pair, op);
            prop_assert!(pair.session.poll_action().is_none());
            let closed = pair.seen.iter().position(|seen| seen.starts_with("close: "));
            if let Some(closed) = closed {
                prop_assert_eq!(closed, pair.seen.len() - 1, "nothing follows the close");
                prop_assert_eq!(pair.session.poll_timeout(), None);
                prop_assert!(!pair.session.can_upgrade());
            } else if begin {
                prop_assert!(pair.session.poll_timeout().is_some(), "an open session always has a heartbeat deadline");
            }
            let new = &pair.seen[from..];
            promoted += new.iter().filter(|seen| *seen == "promote").count();
            prop_assert!(promoted <= 1);
            prop_assert!(!(could_upgrade && new.contains(&"promote".to_owned())), "no promotion without a probe");
        }
        // Without further input, a session ends by its heartbeat.
        if begin {
            pair.advance(INTERVAL + TIMEOUT + INTERVAL);
            prop_assert!(pair.seen.last().unwrap().starts_with("close: "));
        }
    }
}
