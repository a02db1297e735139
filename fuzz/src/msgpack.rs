//! Socket.IO packets in MessagePack.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_core::{AckRequest, Codec as _, Event, Message, Namespace};
use roomcast_socketio::{Body, Packet, PacketLimits, Parser as _};
use roomcast_socketio_msgpack::MsgpackCodec;

use crate::packets::{Nobody, is_lawful};

/// Decoded packets are valid, within the limits, and survive a round trip.
///
/// The input is one message. Printable bytes represent themselves; `~` and two hexadecimal digits represent any other
/// byte.
pub fn msgpack_packets(data: &[u8]) {
    let limits = PacketLimits::new().attachments(3).packet_bytes(2000).namespace_bytes(20);
    let Some(packet) = decode(read(data), &limits) else { return };
    assert!(packet.namespace.len() <= limits.namespace_bytes);
    is_lawful(&packet, &limits);
    comes_back(&packet);
}

fn decode(message: Vec<u8>, limits: &PacketLimits) -> Option<Packet> {
    let mut decoder = MsgpackCodec::default().decoder(limits);
    let packet = decoder.decode(Message::Binary(Bytes::from(message))).ok()?;
    assert!(!decoder.is_waiting());
    Some(packet.expect("a packet is one message"))
}

/// Reads bytes in their printable form.
pub(crate) fn read(data: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = data;
    while let [first, behind @ ..] = rest {
        let escaped = (*first == b'~').then(|| behind.get(..2)).flatten();
        let digits = escaped.and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        message.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    message
}

fn comes_back(packet: &Packet) {
    let (Body::Event { args, .. } | Body::Ack { args, .. }) = &packet.body else { return };
    if args.json().matches("\"_placeholder\"").count() != args.attachments().len() {
        // An application object that looks like a placeholder is read as one from here on.
        return;
    }
    let namespace = Namespace::new(&*packet.namespace);
    let frame = match &packet.body {
        Body::Event { name, args, ack } => {
            let mut event = Event::new(namespace, name.clone(), args.clone());
            event.ack = ack.map(|id| AckRequest { id, answers: Arc::new(Nobody) });
            MsgpackCodec::default().encode(&event)
        }
        Body::Ack { id, args } => MsgpackCodec::default().encode_answer(&namespace, *id, args),
        Body::Connect { .. } | Body::Disconnect | Body::ConnectError => return,
    };
    let frame = frame.expect("decoded packets can be encoded");
    let [message] = frame.messages() else { panic!("a packet is one message") };
    let limits = PacketLimits::new().packet_bytes(100_000);
    assert_eq!(decode(message.as_bytes().to_vec(), &limits).as_ref(), Some(packet));
}
