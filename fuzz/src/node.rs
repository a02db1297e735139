//! Messages of Node's classic Redis adapter.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{Args, Event, Namespace};
use roomcast_node_adapter::{
    Channels, ClassicAction, ClassicConfig, ClassicNamespace, CodecLimits, Flags, Query, Recipients,
    Response, SocketDescription, decode_broadcast, encode_broadcast,
};

use crate::msgpack::read;

/// A namespace accepts any messages, answers every request, and ends its own at their deadlines.
///
/// The input is lines. The first byte of each selects the channel: `b` broadcast, `r` broadcast to a room, `q` request,
/// `a` answer; the rest is the message, with the escapes of [`msgpack_packets`](crate::msgpack_packets).
pub fn node_messages(data: &[u8]) {
    let mut config = ClassicConfig::default();
    config.limits.rooms = 20;
    config.limits.attachments = 5;
    config.limits.message_bytes = 4000;
    let limits = config.limits;
    let mut now = Instant::now();
    let mut node = ClassicNamespace::new(Arc::new(config), Namespace::main(), "uid");
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
    let channels = node.channels().clone();
    let mut ended = 0;
    for line in data.split(|byte| *byte == b'\n') {
        let Some((selector, message)) = line.split_first() else { continue };
        let payload = Bytes::from(read(message));
        let channel = match selector {
            b'b' => channels.broadcast(&[]),
            b'r' => channels.broadcast(&["room".into()]),
            b'q' => channels.request().clone(),
            _ => channels.own_response().clone(),
        };
        comes_back(&payload, &limits);
        node.handle_message(&channel, &payload, now, |room| room == "room");
        ended += drive(&mut node, &channels, &limits);
        now += Duration::from_millis(1);
    }
    node.handle_timeout(now + Duration::from_secs(1));
    ended += drive(&mut node, &channels, &limits);
    assert_eq!((ended, node.pending_requests()), (4, 0));
}

/// Performs all actions; returns how many requests have ended.
fn drive(node: &mut ClassicNamespace, channels: &Channels, limits: &CodecLimits) -> usize {
    let mut ended = 0;
    while let Some(action) = node.poll_action() {
        match action {
            ClassicAction::Find { asker, target, .. } => {
                assert!(target.rooms.len() <= limits.rooms && target.except.len() <= limits.rooms);
                node.answer(&asker, &Response::Sockets(Vec::new())).expect("no arguments");
            }
            ClassicAction::ServerSide { args, asker: Some(asker), .. } => {
                node.answer(&asker, &Response::ServerSide(args)).expect("received arguments can be sent");
            }
            ClassicAction::DeliverWithAck { asker, event, .. } => {
                assert_eq!(event.args.check_placeholders(), Ok(()));
                node.answer(&asker, &Response::ClientCount(1)).expect("no arguments");
                node.answer(&asker, &Response::Ack(event.args)).expect("received arguments can be sent");
            }
            ClassicAction::Answer { answer: roomcast_node_adapter::Answer::Sockets(sockets), .. } => {
                sockets.iter().for_each(is_json);
            }
            ClassicAction::Publish { channel, .. } => assert!(channels.classify(&channel).is_some()),
            ClassicAction::Done { .. } => ended += 1,
            _ => {}
        }
    }
    ended
}

pub(crate) fn is_json(socket: &SocketDescription) {
    for text in [&socket.handshake, &socket.data] {
        assert!(text.is_empty() || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok(), "{text}");
    }
}

/// A decoded broadcast is encoded and decoded to the same.
fn comes_back(payload: &Bytes, limits: &CodecLimits) {
    let main = Namespace::main();
    let Ok(Some(message)) = decode_broadcast(payload, &main, "uid", limits) else { return };
    let args = &message.event.args;
    assert!(args.attachments().len() <= limits.attachments && args.byte_len() <= limits.message_bytes);
    assert_eq!(args.check_placeholders(), Ok(()));
    if args.json().matches("\"_placeholder\"").count() != args.attachments().len() {
        // An application object that looks like a placeholder is read as one from here on.
        return;
    }
    let Ok(again) = encode_broadcast("other", &message.recipients, &message.flags, &message.event) else {
        return;
    };
    let mut wide = CodecLimits::default();
    wide.rooms = 2 * limits.rooms;
    let again = decode_broadcast(&again, &main, "uid", &wide).expect("readable").expect("of this namespace");
    assert_eq!(again.recipients, message.recipients);
    assert_eq!(again.event.name, message.event.name);
    assert_eq!(&again.event.args, args);
}
