//! Messages of Node's sharded adapter and its streams adapter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Event, Namespace};
use roomcast_node_adapter::{
    Action, AdapterNamespace, Answer, ClusterBody, ClusterEncoding, ClusterMessage, CodecLimits, EntryId,
    Flags, Query, Recipients, Response, SessionRestore, ShardedConfig, ShardedNamespace, StreamEntry,
    StreamsConfig, StreamsNamespace, decode_cluster_message, decode_session, encode_cluster_message,
    encode_session,
};

use crate::msgpack::read;
use crate::node::is_json;

const UID: &str = "uid";

fn limits() -> CodecLimits {
    let mut limits = CodecLimits::default();
    limits.rooms = 20;
    limits.attachments = 5;
    limits.message_bytes = 4000;
    limits
}

/// A namespace of the sharded adapter accepts any messages, answers every request, and ends its own at their
/// deadlines. Decoded messages survive a round trip in either encoding.
///
/// The input is lines, each a message with the escapes of [`msgpack_packets`](crate::msgpack_packets). A line that
/// begins with `+` or `-` is a room that is created or deleted.
pub fn node_sharded(data: &[u8]) {
    let mut config = ShardedConfig::default();
    config.limits = limits();
    let mut node = ShardedNamespace::new(Arc::new(config), Namespace::main(), UID);
    let now = begin_requests(&mut node);
    let mut ended = 0;
    for line in data.split(|byte| *byte == b'\n') {
        let room = |name: &[u8]| String::from_utf8_lossy(name).into_owned().into();
        match line {
            [b'+', name @ ..] => node.room_created(&room(name)),
            [b'-', name @ ..] => node.room_deleted(&room(name)),
            message => {
                let payload = Bytes::from(read(message));
                comes_back(&payload);
                node.handle_message("channel", &payload, now, &|_| true);
            }
        }
        ended += drive(&mut node);
    }
    node.handle_timeout(now + Duration::from_secs(1));
    ended += drive(&mut node);
    assert_eq!((ended, node.pending_requests()), (4, 0));
    let before = node.subscriptions().count();
    node.close(now);
    let closed = std::iter::from_fn(|| node.poll_action())
        .filter(|action| matches!(action, Action::Unsubscribe { .. }))
        .count();
    assert_eq!((closed, node.subscriptions().count()), (before, 0));
}

/// A namespace of the streams adapter accepts any entries and messages; own events take effect once, in order.
///
/// The input is lines. The first byte of each selects the kind, the rest has the escapes of
/// [`msgpack_packets`](crate::msgpack_packets): `m` a message of pub/sub; `o` an own entry that comes back, with its
/// number; `f` the number of an own entry that was not stored; `s` a stored session; a digit a type, and the rest is
/// the data of an entry, which is also replayed to a returning client.
pub fn node_streams(data: &[u8]) {
    let mut config = StreamsConfig::default();
    config.limits = limits();
    let mut node = StreamsNamespace::new(Arc::new(config), Namespace::main(), UID);
    let now = begin_requests(&mut node);
    for name in OWN {
        let event = Event::new(Namespace::main(), name, Args::empty());
        node.broadcast(&Recipients::default(), &Flags::default(), &event, now).expect("encodes");
    }
    let (mut ended, mut delivered) = (0, Vec::new());
    for line in data.split(|byte| *byte == b'\n') {
        let Some((selector, rest)) = line.split_first() else { continue };
        let payload = Bytes::from(read(rest));
        let text = String::from_utf8_lossy(&payload).into_owned();
        if text.contains("own ") {
            // It could deliver an event of the same name.
            continue;
        }
        let number = text.parse().ok();
        match selector {
            b'm' => node.handle_message("channel", &payload, now, &|_| true),
            b'f' => node.handle_append_failure(number.unwrap_or(0)),
            b's' => restore(&text, &[]),
            b'o' => node.handle_entry(&entry(UID, "3", "", number), now),
            kind => {
                let entry = entry("other", char::from(*kind).to_string().as_str(), &text, number);
                node.handle_entry(&entry, now);
                restore(SESSION, &[entry]);
            }
        }
        ended += drive_with(&mut node, &mut delivered);
    }
    node.handle_timeout(now + Duration::from_secs(10));
    ended += drive_with(&mut node, &mut delivered);
    assert_eq!((ended, node.pending_requests(), node.unconfirmed_entries()), (4, 0, 0));
    let own: Vec<&ByteString> = delivered.iter().filter(|name| OWN.contains(&&***name)).collect();
    assert_eq!(own, OWN, "once, in order");
}

/// Names of own events; others are left out of the check.
const OWN: [&str; 3] = ["~own 1", "~own 2", "~own 3"];

/// Session of a socket `s` in the room `a`.
const SESSION: &str = "hKNzaWShc6NwaWShcKVyb29tc5Khc6FhpGRhdGHA";

fn entry(sender: &str, kind: &str, data: &str, number: Option<u64>) -> StreamEntry {
    StreamEntry {
        id: EntryId::new(9, 1),
        sender: sender.into(),
        namespace: "/".into(),
        kind: kind.into(),
        data: data.into(),
        number,
    }
}

/// Restores a stored session with these entries. A session that can be read survives a round trip.
fn restore(stored: &str, entries: &[StreamEntry]) {
    let main = Namespace::main();
    let restore = SessionRestore::new("p:", main, "secret", "9-0", 1000, limits());
    let mut restore = restore.expect("valid offset");
    if restore.handle_session(Some(stored), true).is_err() {
        return;
    }
    let session = decode_session(stored, &limits()).expect("readable");
    let restored = restore.handle_entries(entries, entries.last().map(|entry| entry.id), true);
    if let Ok(Some(restored)) = restored {
        assert_eq!(restored.session, session);
        assert!(restored.missed.iter().all(|event| event.offset.as_deref() == Some("9-1")));
    }
    if has_forged_placeholder(&session.data) {
        return;
    }
    let Ok(again) = encode_session(&session) else { return };
    let mut wide = limits();
    wide.rooms *= 2;
    wide.message_bytes *= 2;
    let again = decode_session(&again, &wide).expect("readable");
    assert_eq!((&again.id, &again.secret, &again.rooms), (&session.id, &session.secret, &session.rooms));
}

/// Begins one request of each kind in a cluster of three nodes.
fn begin_requests(node: &mut dyn AdapterNamespace) -> Instant {
    let now = Instant::now();
    let event = || Event::new(Namespace::main(), "e", Args::empty());
    for query in [
        Query::Count(Recipients::default()),
        Query::Fetch(Recipients::default()),
        Query::ServerSide("e".into(), Args::empty()),
        Query::Broadcast(Recipients::default(), Flags::default(), event()),
    ] {
        let request = node.begin(query, Duration::from_secs(1), now).expect("few requests are pending");
        node.handle_node_count(request, Some(3), now);
    }
    now
}

fn drive(node: &mut dyn AdapterNamespace) -> usize {
    drive_with(node, &mut Vec::new())
}

/// Performs all actions; returns how many requests have ended, and adds the names of delivered events.
fn drive_with(node: &mut dyn AdapterNamespace, delivered: &mut Vec<ByteString>) -> usize {
    let limits = limits();
    let mut ended = 0;
    while let Some(action) = node.poll_action() {
        match action {
            Action::Deliver { target, event } => {
                assert!(target.rooms.len() <= limits.rooms && target.except.len() <= limits.rooms);
                assert_eq!(event.args.check_placeholders(), Ok(()));
                delivered.push(event.name);
            }
            Action::Find { asker, .. } => {
                node.answer(&asker, &Response::Sockets(Vec::new())).expect("no arguments");
            }
            Action::ServerSide { args, asker: Some(asker), .. } => {
                // JSON text may be nested deeper than MessagePack with its envelope.
                let _ = node.answer(&asker, &Response::ServerSide(args));
            }
            Action::DeliverWithAck { asker, event, .. } => {
                node.answer(&asker, &Response::ClientCount(1)).expect("no arguments");
                let _ = node.answer(&asker, &Response::Ack(event.args));
            }
            Action::Answer { answer: Answer::Sockets(sockets), .. } => sockets.iter().for_each(is_json),
            Action::Done { .. } => ended += 1,
            _ => {}
        }
    }
    ended
}

/// A decoded message is encoded and decoded to the same.
fn comes_back(payload: &Bytes) {
    let main = Namespace::main();
    let decoded = decode_cluster_message(payload, &main, UID, &limits());
    let Ok(Some(ClusterMessage { sender, id, body })) = decoded else { return };
    let args = args_of(&body);
    if args.is_some_and(has_forged_placeholder) {
        return;
    }
    for encoding in [ClusterEncoding::JsonUnlessBinary, ClusterEncoding::MessagePack] {
        let Ok(again) = encode_cluster_message(&sender, &main, &id, &body, encoding) else { continue };
        let mut wide = CodecLimits::default();
        wide.rooms = 2 * limits().rooms;
        let again = decode_cluster_message(&again, &main, UID, &wide).expect("readable").expect("known");
        assert_eq!((&again.sender, &again.id), (&sender, &id));
        let attachments = args_of(&again.body).map(Args::attachments);
        assert_eq!(attachments.unwrap_or_default(), args.map(Args::attachments).unwrap_or_default());
        match (&again.body, &body) {
            (ClusterBody::Broadcast(to, flags, _), ClusterBody::Broadcast(other, others, _)) => {
                assert_eq!((to, flags.volatile, flags.compress), (other, others.volatile, others.compress));
            }
            (ClusterBody::Fetch(to), ClusterBody::Fetch(other)) => assert_eq!(to, other),
            (ClusterBody::Update(to, change), ClusterBody::Update(other, changes)) => {
                assert_eq!((to, change), (other, changes));
            }
            (ClusterBody::Disconnect(to, close), ClusterBody::Disconnect(other, closes)) => {
                assert_eq!((to, close), (other, closes));
            }
            (again, body) => assert_eq!(std::mem::discriminant(again), std::mem::discriminant(body)),
        }
    }
}

fn args_of(body: &ClusterBody) -> Option<&Args> {
    match body {
        ClusterBody::Broadcast(_, _, event) => Some(&event.args),
        ClusterBody::ServerSideEmit(_, args)
        | ClusterBody::Response(Response::ServerSide(args) | Response::Ack(args)) => Some(args),
        _ => None,
    }
}

/// Returns whether an application object looks like a placeholder, which it is from here on.
fn has_forged_placeholder(args: &Args) -> bool {
    args.json().matches("\"_placeholder\"").count() != args.attachments().len()
}
