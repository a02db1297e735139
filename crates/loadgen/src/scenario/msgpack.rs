//! Socket.IO packets in MessagePack, as `socket.io-msgpack-parser` has them.
//!
//! A packet is a map of `type`, `nsp` and `data`. Received packets are decoded in full, but in place: the generator
//! reads millions of them per second, and a codec of the server under test could not show that server's faults.

use super::stamp::Action;

/// CONNECT packet for the main namespace.
pub(super) const CONNECT: &[u8] = b"\x82\xa4type\x00\xa3nsp\xa1/";

/// Appends the event that requests `action`, with the keys of the official client; the payload has `len` bytes.
pub(super) fn write(action: Action, out: &mut Vec<u8>, len: usize, write_payload: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"\x84\xa4type\x02\xa4data");
    let (name, room) = match action {
        Action::Broadcast => ("msg", None),
        Action::Echo => ("echo", None),
        Action::Join(room) => ("join", Some(room)),
        Action::Room(room) => ("room", Some(room)),
    };
    let has_payload = !matches!(action, Action::Join(_));
    out.push(FIX_ARRAY | (1 + u8::from(room.is_some()) + u8::from(has_payload)));
    text(out, name.as_bytes());
    if let Some(room) = room {
        text(out, format!("r{room}").as_bytes());
    }
    if has_payload {
        text_head(out, len);
        write_payload(out);
    }
    out.extend_from_slice(b"\xa7options\x81\xa8compress\xc3\xa3nsp\xa1/");
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    text_head(out, text.len());
    out.extend_from_slice(text);
}

fn text_head(out: &mut Vec<u8>, len: usize) {
    match len {
        0..32 => out.push(FIX_TEXT | len as u8),
        32..0x100 => out.extend_from_slice(&[TEXT_8, len as u8]),
        0x100..0x1_0000 => {
            out.push(TEXT_16);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(TEXT_32);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// Returns whether a packet confirms the connect to the main namespace.
pub(super) fn is_connected(packet: &[u8]) -> bool {
    Packet::decode(packet).is_some_and(|packet| packet.kind == 0 && packet.data.is_some())
}

/// Returns whether a packet rejects the connect.
pub(super) fn is_rejected(packet: &[u8]) -> bool {
    Packet::decode(packet).is_some_and(|packet| packet.kind == 4)
}

/// Returns the payload of an event `msg` or `echo`, which may end with a recovery offset.
pub(super) fn event_payload(packet: &[u8]) -> Option<&[u8]> {
    let Packet { kind: 2, data: Some(mut data) } = Packet::decode(packet)? else { return None };
    let count = data.array()?;
    let name = data.text()?;
    if !(2..=3).contains(&count) || !["msg", "echo"].contains(&name) {
        return None;
    }
    let payload = data.text()?;
    if count == 3 {
        data.text()?;
    }
    data.0.is_empty().then_some(payload.as_bytes())
}

/// Packet of the main namespace.
struct Packet<'a> {
    kind: u64,
    /// Encoded value of the key `data`.
    data: Option<Reader<'a>>,
}

impl<'a> Packet<'a> {
    /// Decodes a packet; returns `None` if it is malformed, truncated, too long or of another namespace.
    fn decode(packet: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(packet);
        let (mut kind, mut namespace, mut data) = (None, None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                "type" => kind = Some(reader.integer()?),
                "nsp" => namespace = Some(reader.text()?),
                "data" => data = Some(Reader(reader.skip(DEEPEST)?)),
                _ => _ = reader.skip(DEEPEST)?,
            }
        }
        (reader.0.is_empty() && namespace == Some("/")).then_some(Self { kind: kind?, data })
    }
}

/// Rest of an encoded text.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// Reads a number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn len(&mut self, bytes: usize) -> Option<usize> {
        usize::try_from(self.number(bytes)?).ok()
    }

    fn map(&mut self) -> Option<usize> {
        match self.byte()? {
            head @ FIX_MAP..FIX_ARRAY => Some(usize::from(head & 0xf)),
            0xde => self.len(2),
            0xdf => self.len(4),
            _ => None,
        }
    }

    fn array(&mut self) -> Option<usize> {
        match self.byte()? {
            head @ FIX_ARRAY..FIX_TEXT => Some(usize::from(head & 0xf)),
            0xdc => self.len(2),
            0xdd => self.len(4),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = match self.byte()? {
            head @ FIX_TEXT..NIL => usize::from(head & 0x1f),
            TEXT_8 => self.len(1)?,
            TEXT_16 => self.len(2)?,
            TEXT_32 => self.len(4)?,
            _ => return None,
        };
        str::from_utf8(self.take(len)?).ok()
    }

    /// Reads an integer that is not negative.
    fn integer(&mut self) -> Option<u64> {
        match self.byte()? {
            value @ ..FIX_MAP => Some(u64::from(value)),
            head @ 0xcc..=0xcf => self.number(1 << (head - 0xcc)),
            _ => None,
        }
    }

    /// Reads a value of any type and returns its encoding.
    fn skip(&mut self, depth: usize) -> Option<&'a [u8]> {
        let before = self.0;
        let depth = depth.checked_sub(1)?;
        match *before.first()? {
            FIX_MAP..FIX_ARRAY | 0xde..=0xdf => {
                for _ in 0..self.map()? {
                    self.text()?;
                    self.skip(depth)?;
                }
            }
            FIX_ARRAY..FIX_TEXT | 0xdc..=0xdd => {
                for _ in 0..self.array()? {
                    self.skip(depth)?;
                }
            }
            FIX_TEXT..NIL | TEXT_8..=TEXT_32 => _ = self.text()?,
            head => {
                self.byte()?;
                let len = match head {
                    ..FIX_MAP | NIL | 0xc2 | 0xc3 | 0xe0.. => 0,
                    // Binary, and extensions with their type.
                    0xc4..=0xc6 => self.len(1 << (head - 0xc4))?,
                    0xc7..=0xc9 => self.len(1 << (head - 0xc7))?.checked_add(1)?,
                    // Floats and integers.
                    0xca => 4,
                    0xcb => 8,
                    0xcc..=0xcf => 1 << (head - 0xcc),
                    0xd0..=0xd3 => 1 << (head - 0xd0),
                    0xd4..=0xd8 => (1 << (head - 0xd4)) + 1,
                    _ => return None,
                };
                self.take(len)?;
            }
        }
        Some(&before[..before.len() - self.0.len()])
    }
}

const FIX_MAP: u8 = 0x80;
const FIX_ARRAY: u8 = 0x90;
const FIX_TEXT: u8 = 0xa0;
const NIL: u8 = 0xc0;
const TEXT_8: u8 = 0xd9;
const TEXT_16: u8 = 0xda;
const TEXT_32: u8 = 0xdb;
/// Maximum depth of values.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use roomcast_core::{Args, Codec as _, Event, Message, Namespace, SocketId};
    use roomcast_socketio::{Body, PacketLimits, Parser as _};
    use roomcast_socketio_msgpack::MsgpackCodec;

    use super::*;

    fn said(action: Action, payload: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write(action, &mut out, payload.len(), |out| out.extend_from_slice(payload.as_bytes()));
        out
    }

    #[test]
    fn server_codec_decodes_requests() {
        for len in [32, 64, 255, 256, 1024, 65_535, 65_536] {
            let payload = "x".repeat(len);
            for (action, name, args) in [
                (Action::Broadcast, "msg", format!("[\"{payload}\"]")),
                (Action::Echo, "echo", format!("[\"{payload}\"]")),
                (Action::Join(7), "join", "[\"r7\"]".into()),
                (Action::Room(399), "room", format!("[\"r399\",\"{payload}\"]")),
            ] {
                let message = Message::Binary(said(action, &payload).into());
                let mut decoder = MsgpackCodec::shared().decoder(&PacketLimits::default());
                let packet = decoder.decode(message).unwrap().unwrap();
                let Body::Event { name: found, args: decoded, .. } = packet.body else {
                    panic!("{action:?}")
                };
                assert_eq!((&*found, decoded.json()), (name, &args[1..args.len() - 1]), "{len}");
            }
        }
    }

    #[test]
    fn decodes_events_of_server_codec() {
        for len in [0, 31, 32, 64, 1024, 70_000] {
            let payload = "y".repeat(len);
            for name in ["msg", "echo", "other"] {
                let args = Args::from_text((&*payload).into());
                let mut event = Event::new(Namespace::main(), name, args);
                for offset in [None, Some("a7")] {
                    event.offset = offset.map(Into::into);
                    let frame = MsgpackCodec::shared().encode(&event).unwrap();
                    let packet = frame.messages()[0].as_bytes().to_vec();
                    let expected = (name != "other").then_some(payload.as_bytes());
                    assert_eq!(event_payload(&packet), expected, "{name} {len}");
                    // Each truncated or longer packet is an error.
                    let step = 1 + packet.len() / 50;
                    for cut in (0..packet.len()).step_by(step) {
                        assert_eq!(event_payload(&packet[..cut]), None, "{name} {len} cut at {cut}");
                    }
                    assert_eq!(event_payload(&[&packet[..], &[0]].concat()), None);
                }
            }
        }
    }

    #[test]
    fn tells_connect_from_rejection() {
        let id = SocketId::new("abc");
        let connect = MsgpackCodec::shared().encode_connect(&Namespace::main(), &id, Some("pid"));
        let connect = connect.messages()[0].as_bytes();
        assert!(is_connected(connect) && !is_rejected(connect));
        let rejection =
            MsgpackCodec::shared().encode_connect_error(&Namespace::main(), r#"{"message":"no"}"#);
        let rejection = rejection.messages()[0].as_bytes();
        assert!(is_rejected(rejection) && !is_connected(rejection));
        assert!(!is_connected(b"40") && !is_rejected(b"44"));
    }

    #[test]
    fn skips_values_of_every_type() {
        let values: [&[u8]; 12] = [
            b"\xc0",
            b"\xc3",
            b"\xff",
            b"\xcb\0\0\0\0\0\0\0\0",
            b"\xd1\0\0",
            b"\xcf\0\0\0\0\0\0\0\0",
            b"\xc4\x02ab",
            b"\xd4\0\0",
            b"\xd8\0aaaaaaaaaaaaaaaa",
            b"\xc7\x01\0a",
            b"\x92\xa1a\x81\xa1b\x01",
            b"\xde\0\x01\xa1b\x01",
        ];
        for value in values {
            let packet = [b"\x83\xa4type\x02\xa1x", value, b"\xa3nsp\xa1/"].concat();
            assert!(
                Packet::decode(&packet).is_some_and(|it| it.kind == 2 && it.data.is_none()),
                "{value:x?}"
            );
            let short = &packet[..packet.len() - 1];
            assert!(Packet::decode(short).is_none(), "{value:x?}");
        }
        assert!(Packet::decode(&[&[0x81, 0xa1, b'x'][..], &[0x91; 99]].concat()).is_none(), "too deep");
        assert!(Packet::decode(b"\x82\xa4type\x02\xa3nsp\xa2/a").is_none(), "another namespace");
    }
}
