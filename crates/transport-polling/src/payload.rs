//! Payloads: several messages in the body of one HTTP request or response.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use roomcast_core::{Message, Wire, WireKey};

/// Iterator over the decoded messages of a payload.
///
/// Ends after the first malformed message. An empty payload is one empty message, as in other implementations. Runs in
/// time linear in the bytes, however they are split; text is not copied.
#[derive(Debug, Clone)]
pub struct Payload {
    rest: Option<Bytes>,
}

impl Payload {
    /// Creates a decoder for a whole body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { rest: Some(body.into()) }
    }
}

impl Iterator for Payload {
    type Item = Result<Message, PayloadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.take()?;
        let packet = match memchr::memchr(SEPARATOR, &rest) {
            Some(end) => {
                let packet = rest.split_to(end);
                self.rest = Some(rest.slice(1..));
                packet
            }
            None => rest,
        };
        let message = decode(packet);
        if message.is_err() {
            self.rest = None;
        }
        Some(message)
    }
}

impl std::iter::FusedIterator for Payload {}

/// Errors in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// A text message is not UTF-8.
    #[error("text message is not UTF-8; a POST body must be UTF-8")]
    Utf8,
    /// A binary message is not base64.
    #[error("binary message is not base64; `b` must be followed by standard base64")]
    Base64,
}

/// Renders a frame as a payload: messages joined by `0x1e`, binary as `b` and base64.
///
/// A single text is shared, not copied.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct PollingWire;

impl PollingWire {
    /// Returns the length of the output of [`render`](Wire::render) in bytes.
    pub fn len_of(messages: &[Message]) -> usize {
        let separators = messages.len().saturating_sub(1);
        messages.iter().map(encoded_len).sum::<usize>() + separators
    }

    /// Appends the output of [`render`](Wire::render).
    pub fn put(out: &mut BytesMut, messages: &[Message]) {
        for (at, message) in messages.iter().enumerate() {
            if at > 0 {
                out.put_u8(SEPARATOR);
            }
            put(out, message);
        }
    }
}

impl Wire for PollingWire {
    fn key(&self) -> WireKey {
        WireKey::of::<Self>(PROTOCOL)
    }

    fn render(&self, messages: &[Message]) -> Bytes {
        if let [Message::Text(text)] = messages {
            return text.as_bytes().clone();
        }
        let mut out = BytesMut::with_capacity(Self::len_of(messages));
        Self::put(&mut out, messages);
        out.freeze()
    }
}

/// Separator between two messages of a payload.
pub(crate) const SEPARATOR: u8 = 0x1e;
/// Prefix of base64, in place of a text packet's type digit.
const BINARY: u8 = b'b';
/// Protocol version of this framing; version 3 has others.
const PROTOCOL: u32 = 4;

/// Standard base64 with padding, which some clients omit.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn decode(packet: Bytes) -> Result<Message, PayloadError> {
    if let Some((&BINARY, encoded)) = packet.split_first() {
        let bytes = BASE64.decode(encoded).map_err(|_| PayloadError::Base64)?;
        return Ok(Message::Binary(bytes.into()));
    }
    let text = ByteString::try_from(packet).map_err(|_| PayloadError::Utf8)?;
    Ok(Message::Text(text))
}

fn encoded_len(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        // Three bytes are four characters, and a remainder counts as three bytes.
        Message::Binary(bytes) => 1 + bytes.len().div_ceil(3) * 4,
    }
}

fn put(out: &mut BytesMut, message: &Message) {
    match message {
        Message::Text(text) => out.extend_from_slice(text.as_bytes()),
        Message::Binary(bytes) => {
            let start = out.len() + 1;
            out.put_u8(BINARY);
            out.resize(start - 1 + encoded_len(message), 0);
            let written = BASE64.encode_slice(bytes, &mut out[start..]);
            debug_assert_eq!(written, Ok(out.len() - start), "length differs from estimate");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(body: &'static [u8]) -> Vec<Result<Message, PayloadError>> {
        Payload::new(body).collect()
    }

    fn text(text: &'static str) -> Result<Message, PayloadError> {
        Ok(text.into())
    }

    fn binary(bytes: &'static [u8]) -> Result<Message, PayloadError> {
        Ok(Bytes::from_static(bytes).into())
    }

    #[test]
    fn splits_messages_at_separators() {
        assert_eq!(decoded(b"4hello"), [text("4hello")]);
        assert_eq!(decoded(b"4a\x1e2\x1ebAQIDBA=="), [text("4a"), text("2"), binary(&[1, 2, 3, 4])]);
        assert_eq!(decoded("4€\x1e4ü".as_bytes()), [text("4€"), text("4ü")]);
        assert_eq!(decoded(b""), [text("")]);
        assert_eq!(decoded(b"\x1e"), [text(""), text("")]);
        assert_eq!(decoded(b"4a\x1e"), [text("4a"), text("")]);
        assert_eq!(decoded(b"b\x1eb"), [binary(b""), binary(b"")]);
    }

    #[test]
    fn accepts_base64_without_padding() {
        assert_eq!(decoded(b"bAQI\x1ebAQI="), [binary(&[1, 2]), binary(&[1, 2])]);
    }

    #[test]
    fn ignores_input_after_malformed_message() {
        assert_eq!(decoded(b"4a\x1eb!\x1e4b"), [text("4a"), Err(PayloadError::Base64)]);
        assert_eq!(decoded(b"4a\x1e4\xff\x1e4b"), [text("4a"), Err(PayloadError::Utf8)]);
        for malformed in
            [&b"bA"[..], b"bAQI==", b"bAQ I", b"b_-8=", b"bAQIDB===", b"b=", "b\u{e9}".as_bytes()]
        {
            assert_eq!(Payload::new(malformed).next(), Some(Err(PayloadError::Base64)), "{malformed:?}");
        }
    }

    #[test]
    fn slices_text_from_body() {
        let body = Bytes::from(b"4first\x1e4second".to_vec());
        let messages: Vec<_> = Payload::new(body.clone()).map(Result::unwrap).collect();
        assert_eq!(messages[1].as_bytes().as_ptr(), body[7..].as_ptr());
    }

    #[test]
    fn renders_single_text_without_copying() {
        let text = ByteString::from("4hello".to_owned());
        let rendered = PollingWire.render(&[text.clone().into()]);
        assert_eq!(rendered.as_ptr(), text.as_ptr());
    }

    #[test]
    fn joins_and_encodes_frames() {
        let messages = ["451-[]".into(), Bytes::from_static(&[1, 2, 3, 4]).into(), Bytes::new().into()];
        assert_eq!(PollingWire.render(&messages), "451-[]\x1ebAQIDBA==\x1eb");
        assert_eq!(PollingWire.render(&[]), "");
    }

    /// Generates text like that of the protocols above.
    fn carried() -> impl Strategy<Value = Message> {
        prop_oneof![
            "[0-6][^\x1e]{0,40}".prop_map(Message::from),
            proptest::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Bytes::from(bytes).into()),
        ]
    }

    proptest! {
        #[test]
        fn rendered_messages_decode_unchanged(messages in proptest::collection::vec(carried(), 1..20)) {
            let rendered = PollingWire.render(&messages);
            prop_assert_eq!(rendered.len(), PollingWire::len_of(&messages));
            let decoded: Result<Vec<_>, _> = Payload::new(rendered).collect();
            prop_assert_eq!(decoded, Ok(messages));
        }

        #[test]
        fn random_bytes_decode_without_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let len = body.len();
            let packets = body.iter().filter(|byte| **byte == SEPARATOR).count() + 1;
            let decoded: Vec<_> = Payload::new(body).collect();
            prop_assert!(decoded.len() <= packets);
            let bytes: usize = decoded.iter().flatten().map(Message::len).sum();
            prop_assert!(bytes <= len);
            let malformed = decoded.iter().filter(|message| message.is_err()).count();
            prop_assert!(malformed == 0 || malformed == 1 && decoded.last().unwrap().is_err());
        }

        #[test]
        fn splits_random_payloads_like_definition(body in "[\x1eb0-6AQ=+/ü]{0,200}") {
            for message in Payload::new(body.clone()).flatten() {
                if let Message::Text(text) = &message {
                    prop_assert!(body.contains(&**text));
                }
            }
        }
    }
}
