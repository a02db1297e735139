use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// An operation of a driver, a client or an application.
#[derive(Debug, Clone)]
enum Op {
    Text(ConnectionRole, String),
    Binary(ConnectionRole, Vec<u8>),
    Open(ConnectionRole, TransportName),
    Lose(ConnectionRole),
    Advance(u16),
    Accept(&'static str),
    Refuse(&'static str),
    TakeOut(&'static str),
    Close(CloseReason),
}

const NAMESPACES: [&str; 3] = ["/", "/a", "/b"];

fn role() -> impl Strategy<Value = ConnectionRole> {
    prop_oneof![9 => Just(ConnectionRole::Primary), 1 => Just(ConnectionRole::Probe)]
}

/// Generates mostly operations that keep a session alive, to reach deeper states.
fn text() -> impl Strategy<Value = String> {
    let valid = vec![
        "40",
        "40/a",
        "40/b,{\"auth\":1}",
        "41",
        "41/a",
        "41/b,",
        "42[\"x\"]",
        "42/a,[\"x\",1]",
        "42/b,7[\"x\"]",
        "431[]",
        "43/a,2[1]",
        "3",
    ];
    let attached = vec!["451-[\"x\",{\"_placeholder\":true,\"num\":0}]", "452-/a,[\"x\"]", "461-/b,3[]"];
    let engine = vec!["2probe", "5", "6"];
    let invalid = vec!["44", "42{}", "4", "450-[\"x\"]", "1", "2", "", "é", "40/c", "42/c,[\"x\"]"];
    prop_oneof![
        20 => prop::sample::select(valid).prop_map(str::to_owned),
        4 => prop::sample::select(attached).prop_map(str::to_owned),
        4 => prop::sample::select(engine).prop_map(str::to_owned),
        1 => prop::sample::select(invalid).prop_map(str::to_owned),
        1 => "4?[0-6]?.{0,8}",
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let namespace = prop::sample::select(NAMESPACES.to_vec());
    let transport = prop::sample::select(vec![POLLING, WEBSOCKET]);
    let reason = prop::sample::select(vec![CloseReason::ForcedServerClose, CloseReason::ServerShutdown]);
    prop_oneof![
        20 => (role(), text()).prop_map(|(role, text)| Op::Text(role, text)),
        4 => (role(), prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(role, bytes)| Op::Binary(role, bytes)),
        3 => (role(), transport).prop_map(|(role, transport)| Op::Open(role, transport)),
        1 => role().prop_map(Op::Lose),
        4 => any::<u16>().prop_map(Op::Advance),
        12 => namespace.clone().prop_map(Op::Accept),
        2 => namespace.clone().prop_map(Op::Refuse),
        2 => namespace.prop_map(Op::TakeOut),
        1 => reason.prop_map(Op::Close),
    ]
}

fn perform(pair: &mut Pair, op: &Op) {
    match op {
        Op::Text(role, text) => pair.receive_on(*role, text.clone()),
        Op::Binary(role, bytes) => pair.receive_on(*role, Bytes::from(bytes.clone())),
        Op::Open(role, transport) => pair.connection_opened(*role, *transport),
        Op::Lose(role) => pair.connection_closed(*role, CloseReason::TransportError),
        Op::Advance(ms) => pair.advance(Duration::from_millis((*ms).into())),
        Op::Accept(namespace) => pair.accept(namespace),
        Op::Refuse(namespace) => pair.refuse(namespace),
        Op::TakeOut(namespace) => pair.take_out(namespace),
        Op::Close(reason) => pair.command(Command::Close(*reason)),
    }
}

/// A namespace's state as the driver derives it from the actions.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Belief {
    Asked,
    In,
}

/// Checks one action against the previous ones.
fn follow(beliefs: &mut HashMap<String, Belief>, seen: &str) -> Result<(), TestCaseError> {
    if let Some(connect) = seen.strip_prefix("connect ") {
        let namespace = connect.split(' ').next().unwrap_or_default();
        let before = beliefs.insert(namespace.to_owned(), Belief::Asked);
        prop_assert_eq!(before, None, "one connect request until answered, only from non-members");
    } else if let Some(leave) = seen.strip_prefix("leave ") {
        let namespace = leave.split(':').next().unwrap_or_default();
        prop_assert_eq!(beliefs.remove(namespace), Some(Belief::In));
    } else if let Some(packet) = seen.strip_prefix("> 4") {
        let (kind, rest) = packet.split_at(1);
        let namespace = if rest.starts_with('/') { rest.split(',').next().unwrap_or_default() } else { "/" };
        match kind {
            "0" => prop_assert_eq!(beliefs.insert(namespace.to_owned(), Belief::In), Some(Belief::Asked)),
            "4" => prop_assert_eq!(beliefs.remove(namespace), Some(Belief::Asked)),
            "1" => prop_assert!(beliefs.remove(namespace).is_some()),
            _ => prop_assert!(false, "{} is not a protocol packet", packet),
        }
    } else if seen.starts_with('/') {
        let namespace = seen.split(' ').next().unwrap_or_default();
        prop_assert_eq!(beliefs.get(namespace), Some(&Belief::In), "only members send events");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_input_keeps_session_invariants(ops in prop::collection::vec(op(), 0..60)) {
        let mut pair = Pair::new(SocketIoConfig { max_namespaces: 4, pending_limit: 4000, ..config() });
        pair.connection_opened(ConnectionRole::Primary, POLLING);
        pair.seen.clear();
        let mut beliefs = HashMap::new();
        let mut closed = false;
        for op in &ops {
            perform(&mut pair, op);
            for seen in pair.seen() {
                prop_assert!(!closed, "{} after the close", seen);
                closed = seen.starts_with("close: ");
                follow(&mut beliefs, &seen)?;
            }
            prop_assert!(pair.session.poll_action().is_none());
            prop_assert_eq!(pair.session.poll_timeout().is_none(), closed);
            if closed {
                prop_assert!(!pair.session.can_upgrade());
            }
        }
        pair.advance(Duration::from_secs(70));
        prop_assert!(closed || pair.seen().last().unwrap().starts_with("close: "), "an idle session ends");
    }
}
