//! Socket.IO packets.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{AckRequest, AnswerSink, Args, Codec as _, Event, Message, Namespace, SocketId};
use roomcast_socketio::{Body, DefaultCodec, Packet, PacketLimits, Parser as _};
use serde_json::Value;

/// Decoded packets are valid, within the limits, and survive a round trip.
///
/// Messages are lines; binary ones begin with `b`, as does the text of a packet without Engine.IO's digit.
pub fn socketio_packets(data: &[u8]) {
    let limits = PacketLimits::new().attachments(3).packet_bytes(2000).namespace_bytes(20);
    let mut decoder = DefaultCodec::default().decoder(&limits);
    for line in data.split(|byte| *byte == b'\n') {
        let message = match line.split_first() {
            Some((b'b', bytes)) => Message::Binary(Bytes::copy_from_slice(bytes)),
            _ => match str::from_utf8(line) {
                Ok(text) => Message::from(text.to_owned()),
                Err(_) => continue,
            },
        };
        match decoder.decode(message) {
            Ok(Some(packet)) => {
                assert!(!decoder.is_waiting());
                assert!(
                    packet.namespace.starts_with('/') && packet.namespace.len() <= limits.namespace_bytes
                );
                is_lawful(&packet, &limits);
                comes_back(&packet);
            }
            Ok(None) => assert!(decoder.is_waiting(), "a packet is incomplete"),
            // The connection is closed.
            Err(_) => return,
        }
    }
}

/// Checks that a decoded packet is valid and within the limits on its namespace.
pub(crate) fn is_lawful(packet: &Packet, limits: &PacketLimits) {
    match &packet.body {
        Body::Connect { auth } => {
            assert!(
                auth.is_empty() || serde_json::from_str::<Value>(auth).map_or(true, |auth| auth.is_object())
            );
        }
        Body::Event { args, .. } | Body::Ack { args, .. } => {
            are_lawful(args);
            assert!(args.attachments().len() <= limits.attachments);
        }
        Body::Disconnect | Body::ConnectError => {}
    }
}

/// Checks that arguments passed to an application are JSON and refer only to existing attachments.
pub(crate) fn are_lawful(args: &Args) {
    let checked = Args::from_json(args.list().clone(), args.attachments().to_vec());
    assert_eq!(checked.as_ref(), Ok(args));
    assert_eq!(args.check_placeholders(), Ok(()));
}

fn comes_back(packet: &Packet) {
    let namespace = Namespace::new(&*packet.namespace);
    let frame = match &packet.body {
        Body::Event { name, args, ack } => {
            let mut event = Event::new(namespace, name.clone(), args.clone());
            event.ack = ack.map(|id| AckRequest { id, answers: Arc::new(Nobody) });
            DefaultCodec::default().encode(&event)
        }
        Body::Ack { id, args } => DefaultCodec::default().encode_answer(&namespace, *id, args),
        Body::Connect { .. } | Body::Disconnect | Body::ConnectError => return,
    };
    let frame = frame.expect("decoded packets can be encoded");
    let mut decoder = DefaultCodec::default().decoder(&PacketLimits::default());
    let mut decoded = None;
    for message in frame.messages() {
        assert_eq!(decoded, None, "nothing follows a complete packet");
        let message = match message {
            Message::Text(text) => {
                let packet = text.strip_prefix('4').expect("an Engine.IO message");
                Message::from(ByteString::from(packet))
            }
            Message::Binary(_) => message.clone(),
        };
        decoded = decoder.decode(message).expect("encoded packets are valid");
    }
    assert_eq!(decoded.as_ref(), Some(packet));
}

pub(crate) struct Nobody;

impl AnswerSink for Nobody {
    fn requested(&self, _: &SocketId) {}
    fn answered(&self, _: &SocketId, _: Args) {}
    fn unanswered(&self, _: &SocketId) {}
}
