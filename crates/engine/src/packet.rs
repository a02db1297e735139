//! Engine.IO packets: a type digit and data.

use std::fmt::Write;
use std::sync::LazyLock;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use roomcast_core::{Frame, Message, Sid, TransportName};
use serde_json::Value;

use crate::EngineConfig;

/// A packet from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// A type that is meaningless from a client, and harmless.
    Ignored,
    Close,
    /// Carries `probe` on a probe connection.
    Ping {
        probe: bool,
    },
    Pong,
    Message(Message),
    Upgrade,
}

impl Packet {
    /// Parses a packet; returns `None` if it is empty or of unknown type.
    ///
    /// A binary message has no type digit and may be empty. A client without binary support sends it as `b` and base64,
    /// on every transport.
    pub(crate) fn decode(message: Message) -> Option<Self> {
        let Message::Text(text) = message else {
            return Some(Self::Message(message));
        };
        let (kind, data) = text.as_bytes().split_first()?;
        Some(match kind {
            b'0' | b'6' => Self::Ignored,
            b'1' => Self::Close,
            b'2' => Self::Ping { probe: data == b"probe" },
            b'3' => Self::Pong,
            // An ASCII byte is always followed by a character boundary.
            b'4' => Self::Message(text.slice_ref(text.get(1..)?).into()),
            b'5' => Self::Upgrade,
            b'b' => Self::Message(Message::Binary(BASE64.decode(data).ok()?.into())),
            _ => return None,
        })
    }
}

/// Standard base64 with padding, which some clients omit.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns the handshake and the optional initial message in one frame, so nothing comes between them.
pub(crate) fn open(sid: &Sid, upgrades: impl Iterator<Item = TransportName>, config: &EngineConfig) -> Frame {
    let mut text = String::with_capacity(OPEN_PACKET);
    // Writing to a String cannot fail.
    let _ = write!(text, r#"0{{"sid":{},"upgrades":["#, Value::from(sid.expose()));
    for (index, name) in upgrades.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{}", Value::from(name.0));
    }
    let _ = write!(
        text,
        r#"],"pingInterval":{},"pingTimeout":{},"maxPayload":{}}}"#,
        config.ping_interval.as_millis(),
        config.ping_timeout.as_millis(),
        config.max_payload,
    );
    match &config.initial_message {
        None => Frame::new(text),
        Some(initial) => Frame::from_messages(vec![text.into(), message(initial.clone())]),
    }
}

/// Bytes that a usual open packet fits into.
const OPEN_PACKET: usize = 128;

/// Returns a message packet.
pub(crate) fn message(data: Message) -> Message {
    match data {
        Message::Text(text) => {
            let mut packet = String::with_capacity(1 + text.len());
            packet.push('4');
            packet.push_str(&text);
            packet.into()
        }
        Message::Binary(_) => data,
    }
}

// A single frame of each per process, so each transport renders it once.

/// Returns a packet with its own payload: the official client handles it at once, but packets before it a tick later.
pub(crate) fn close() -> Frame {
    static FRAME: LazyLock<Frame> = LazyLock::new(|| Frame::new("1").in_own_payload());
    FRAME.clone()
}

pub(crate) fn ping() -> Frame {
    static FRAME: LazyLock<Frame> = LazyLock::new(|| Frame::new("2"));
    FRAME.clone()
}

pub(crate) fn probe_pong() -> Frame {
    static FRAME: LazyLock<Frame> = LazyLock::new(|| Frame::new("3probe"));
    FRAME.clone()
}

pub(crate) fn noop() -> Frame {
    static FRAME: LazyLock<Frame> = LazyLock::new(|| Frame::new("6"));
    FRAME.clone()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &'static str) -> Option<Packet> {
        Packet::decode(text.into())
    }

    #[test]
    fn decodes_type_from_ascii_digit() {
        assert_eq!(decode("0"), Some(Packet::Ignored));
        assert_eq!(decode("1"), Some(Packet::Close));
        assert_eq!(decode("2"), Some(Packet::Ping { probe: false }));
        assert_eq!(decode("2prob"), Some(Packet::Ping { probe: false }));
        assert_eq!(decode("2probe"), Some(Packet::Ping { probe: true }));
        assert_eq!(decode("2probes"), Some(Packet::Ping { probe: false }));
        assert_eq!(decode("3probe"), Some(Packet::Pong));
        assert_eq!(decode("4"), Some(Packet::Message("".into())));
        assert_eq!(decode("4é"), Some(Packet::Message("é".into())));
        assert_eq!(decode("5"), Some(Packet::Upgrade));
        assert_eq!(decode("6"), Some(Packet::Ignored));
        for unknown in ["", "7", "9", "abc", " 4", "b4", "b!!!!", "\u{0}", "é", "éabcd", "\u{664}x", "-1"] {
            assert_eq!(decode(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn slices_message_from_input() {
        let text = roomcast_core::ByteString::from("4hello".to_owned());
        let start = text.as_bytes().as_ptr() as usize;
        let Some(Packet::Message(Message::Text(data))) = Packet::decode(text.into()) else { panic!() };
        assert_eq!((&*data, data.as_bytes().as_ptr() as usize), ("hello", start + 1));
    }

    #[test]
    fn decodes_binary_without_type_digit() {
        for bytes in [Bytes::new(), Bytes::from_static(b"4\x00")] {
            let message = Message::Binary(bytes);
            assert_eq!(Packet::decode(message.clone()), Some(Packet::Message(message)));
        }
    }

    #[test]
    fn decodes_binary_from_base64() {
        for (text, bytes) in [("b", &b""[..]), ("bAAEC", b"\0\x01\x02"), ("bAQ==", b"\x01"), ("bAQ", b"\x01")]
        {
            assert_eq!(
                decode(text),
                Some(Packet::Message(Message::Binary(Bytes::from_static(bytes)))),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_decodes_or_is_refused(text in ".*") {
            let known = text.starts_with(|first: char| ('0'..='6').contains(&first));
            prop_assume!(!text.starts_with('b'));
            prop_assert_eq!(Packet::decode(text.into()).is_some(), known);
        }

        #[test]
        fn messages_round_trip(text in ".*") {
            let sent = Message::from(text);
            prop_assert_eq!(Packet::decode(message(sent.clone())), Some(Packet::Message(sent)));
        }
    }
}
