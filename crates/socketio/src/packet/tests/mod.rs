//! Tests of the default parser's texts.

mod attachments;
mod attacks;
mod decode;
mod encode;
mod properties;

use std::sync::Arc;

use bytes::Bytes;
use roomcast_core::{
    AckId, AckRequest, AnswerSink, Args, ByteString, Codec, EncodeError, Event, Frame, Message, Namespace,
    SocketId,
};
use serde_json::Value;

use super::*;
use crate::{Decoder, DefaultCodec, Parser};

fn decoder() -> DefaultDecoder {
    DefaultDecoder::new(PacketLimits::default())
}

fn decode(text: &str) -> Result<Packet, DecodeError> {
    let mut decoder = decoder();
    let packet = decoder.decode(text.to_owned().into())?;
    Ok(packet.expect("a packet without attachments is complete"))
}

/// Decodes a text and its attachments; the last message completes the packet.
fn decode_all(text: &str, attachments: &[&'static [u8]]) -> Result<Packet, DecodeError> {
    let mut decoder = decoder();
    let mut packet = decoder.decode(text.to_owned().into())?;
    for attachment in attachments {
        assert!(packet.is_none() && decoder.is_waiting());
        packet = decoder.decode(Bytes::from_static(attachment).into())?;
    }
    assert!(!decoder.is_waiting());
    Ok(packet.expect("the packet is complete"))
}

fn packet(namespace: &'static str, body: Body) -> Packet {
    Packet { namespace: namespace.into(), body }
}

fn event(
    namespace: &'static str,
    ack: impl Into<Option<u64>>,
    name: &'static str,
    list: &'static str,
) -> Packet {
    packet(namespace, Body::Event { name: name.into(), args: args(list, &[]), ack: ack.into().map(AckId) })
}

fn args(list: &'static str, attachments: &[&'static [u8]]) -> Args {
    Args::from_json(list.into(), attachments.iter().map(|part| Bytes::from_static(part)).collect()).unwrap()
}

fn hole(num: impl std::fmt::Display) -> String {
    format!(r#"{{"_placeholder":true,"num":{num}}}"#)
}

/// Acknowledgement sink that ignores its calls.
struct Nobody;

impl AnswerSink for Nobody {
    fn requested(&self, _: &SocketId) {}
    fn answered(&self, _: &SocketId, _: Args) {}
    fn unanswered(&self, _: &SocketId) {}
}
