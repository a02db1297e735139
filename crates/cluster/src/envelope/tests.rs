use std::time::Duration;

use proptest::prelude::*;
use roomcast_core::{Namespace, Room};

use super::*;
use crate::action::Publication;

fn channels() -> impl Strategy<Value = Channel> {
    prop_oneof![
        Just(Channel::Nodes),
        any::<u64>().prop_map(|node| Channel::Inbox(NodeId::new(node))),
        any::<u64>().prop_map(|node| Channel::Ids(NodeId::new(node))),
        Just(Channel::Namespace(Namespace::main())),
        "[a-c]{0,3}".prop_map(|room| Channel::Room(Namespace::from("/n"), Room::from(room))),
    ]
}

fn bodies() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn rooms() -> impl Strategy<Value = Vec<Room>> {
    prop::collection::vec("[a-cé]{0,4}".prop_map(Room::from), 0..4)
}

fn spans() -> impl Strategy<Value = Duration> {
    (0..100_000_u64).prop_map(Duration::from_millis)
}

fn tails() -> impl Strategy<Value = Vec<Tail>> {
    let tail = (any::<u64>(), 1..=frame::MAX_SEQ, spans()).prop_map(|(digest, seq, age)| Tail {
        digest,
        seq,
        run: seq - 1,
        age,
    });
    prop::collection::vec(tail, 0..5)
}

fn omissions() -> impl Strategy<Value = Option<Omission>> {
    prop::option::of((any::<u64>(), spans()).prop_map(|(number, age)| Omission { number, age }))
}

fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (rooms(), rooms(), any::<u32>(), bodies(), any::<Option<u64>>(), any::<u64>()).prop_map(
            |(rooms, except, kind, body, copy, after)| {
                let after = if copy.is_some() { 0 } else { after };
                let namespace = Namespace::from("/n");
                Frame::Publish {
                    publication: Publication { namespace, rooms, except, kind, body },
                    copy,
                    after,
                }
            }
        ),
        (any::<u64>(), any::<u32>(), spans(), bodies())
            .prop_map(|(request, kind, timeout, body)| Frame::Request { request, kind, timeout, body }),
        (any::<u64>(), any::<u64>(), any::<Option<u32>>(), prop::option::of(bodies()))
            .prop_map(|(request, asker, expected, part)| Frame::Answer { request, asker, expected, part }),
        (any::<u64>(), any::<u64>(), any::<u64>(), bodies())
            .prop_map(|(index, count, len, body)| Frame::Part { index, count, len, body }),
        (any::<bool>(), tails(), omissions()).prop_map(|(hello, tails, omission)| Frame::Heartbeat {
            hello,
            tails,
            omission
        }),
        (tails(), omissions()).prop_map(|(tails, omission)| Frame::Goodbye { tails, omission }),
        (any::<u64>(), any::<u64>()).prop_map(|(stale, known)| Frame::Fence { stale, known }),
    ]
}

fn positions() -> impl Strategy<Value = Option<Position>> {
    prop::option::of((1..=frame::MAX_SEQ, any::<u64>(), spans()).prop_map(|(seq, run, idle)| {
        let run = run % seq;
        Position { seq, run, idle: if run == 0 { Duration::ZERO } else { idle } }
    }))
}

/// Returns what a receiver of the channel reads: omitted names come from the channel.
fn as_read(frame: Frame, channel: &Channel) -> Frame {
    let Frame::Publish { mut publication, copy, after } = frame else { return frame };
    if let Channel::Namespace(namespace) | Channel::Room(namespace, _) = channel {
        publication.namespace = namespace.clone();
    }
    if let (Channel::Room(_, room), true) = (channel, publication.rooms.is_empty()) {
        publication.rooms.push(room.clone());
    }
    Frame::Publish { publication, copy, after }
}

fn write(parts: &[(Option<Position>, Frame)], channel: &Channel) -> Bytes {
    let mut out = EnvelopeWriter::new(NodeId::new(5), 77, 3);
    parts.iter().for_each(|(position, frame)| out.push(*position, &encode_frame(frame, channel)));
    out.finish()
}

fn read(payload: &Bytes, channel: &Channel) -> Vec<(Option<Position>, Frame)> {
    let mut envelope = Envelope::decode(payload).expect("envelope");
    assert_eq!(envelope.node, NodeRef { id: NodeId::new(5), incarnation: 77 });
    assert_eq!(envelope.heartbeat, 3);
    std::iter::from_fn(|| envelope.next_frame(channel)).map(|frame| frame.expect("frame")).collect()
}

/// Envelope of a later version: each part has unknown fields, and there is an unknown frame between two others.
fn write_later(parts: &[(Option<Position>, Frame)], channel: &Channel, field: u64) -> Bytes {
    let mut out = EnvelopeWriter::new(NodeId::new(5), 77, 3);
    let extra = |out: &mut FieldWriter| {
        out.number(field, u64::MAX);
        out.bytes(field + 1, b"unknown");
        out.bytes(field + 2, b"");
    };
    extra(&mut out.0);
    for (position, frame) in parts {
        let mut bytes = FieldWriter::default();
        extra(&mut bytes);
        bytes.raw(&encode_frame(frame, channel));
        extra(&mut bytes);
        out.push(*position, &bytes.into_bytes());
        let mut unknown = FieldWriter::default();
        unknown.number(1, 1000);
        extra(&mut unknown);
        out.push(None, &unknown.into_bytes());
        extra(&mut out.0);
    }
    out.finish()
}

proptest! {
    #[test]
    fn frames_round_trip(
        channel in channels(),
        parts in prop::collection::vec((positions(), frames()), 0..5),
    ) {
        let expected: Vec<_> = parts.iter()
            .map(|(position, frame)| (*position, as_read(frame.clone(), &channel)))
            .collect();
        let payload = write(&parts, &channel);
        prop_assert_eq!(read(&payload, &channel), expected);
        prop_assert_eq!(check_message(&channel, &payload), Ok(parts.len()));
    }

    #[test]
    fn unknown_fields_are_ignored(
        channel in channels(),
        parts in prop::collection::vec((positions(), frames()), 0..5),
        field in 21..u64::MAX >> 2,
    ) {
        let expected: Vec<_> = parts.iter()
            .map(|(position, frame)| (*position, as_read(frame.clone(), &channel)))
            .collect();
        let found = read(&write_later(&parts, &channel, field), &channel);
        let known: Vec<_> = found.into_iter().filter(|(_, frame)| *frame != Frame::Unknown).collect();
        prop_assert_eq!(known, expected);
    }

    #[test]
    fn decoder_never_panics(
        channel in channels(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        version in prop::bool::ANY,
    ) {
        let mut bytes = bytes;
        if version && !bytes.is_empty() {
            bytes[0] = VERSION;
        }
        let _ = check_message(&channel, &Bytes::from(bytes));
    }

    #[test]
    fn changed_envelopes_never_panic(
        channel in channels(),
        parts in prop::collection::vec((positions(), frames()), 0..5),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write(&parts, &channel).to_vec();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = check_message(&channel, &Bytes::from(bytes));
    }
}

#[test]
fn other_version_is_rejected() {
    let mut bytes = write(&[], &Channel::Nodes).to_vec();
    bytes[0] = VERSION + 1;
    assert_eq!(check_message(&Channel::Nodes, &bytes.into()), Err(DecodeError::Version(VERSION + 1)));
    assert_eq!(check_message(&Channel::Nodes, &Bytes::new()), Err(DecodeError::Truncated));
}

#[test]
fn bad_frame_spares_the_others() {
    let mut out = EnvelopeWriter::new(NodeId::new(5), 77, 3);
    out.push(None, b"\xff");
    out.push(None, &encode_frame(&Frame::Fence { stale: 1, known: 2 }, &Channel::Nodes));
    let mut envelope = Envelope::decode(&out.finish()).expect("envelope");
    assert_eq!(envelope.next_frame(&Channel::Nodes), Some(Err(DecodeError::Truncated)));
    let fence = (None, Frame::Fence { stale: 1, known: 2 });
    assert_eq!(envelope.next_frame(&Channel::Nodes), Some(Ok(fence)));
    assert_eq!(envelope.next_frame(&Channel::Nodes), None);
}

#[test]
fn room_list_is_bounded() {
    let publication = Publication {
        namespace: Namespace::main(),
        rooms: vec![Room::from(""); MAX_ROOMS + 1],
        except: Vec::new(),
        kind: 0,
        body: Bytes::new(),
    };
    let frame = Frame::Publish { publication, copy: None, after: 0 };
    let payload = write(&[(None, frame)], &Channel::Nodes);
    assert_eq!(check_message(&Channel::Nodes, &payload), Err(DecodeError::TooManyRooms));
}
