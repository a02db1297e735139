//! Header of a client frame, validated byte by byte.

use super::{MAX_CONTROL_PAYLOAD, ReadLimits, Violation, message::PartialMessage};

/// Frame opcode (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(clippy::exhaustive_enums, reason = "RFC 6455 names all of them")]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation = 0x0,
    /// A text message or its first fragment.
    Text = 0x1,
    /// A binary message or its first fragment.
    Binary = 0x2,
    /// The last frame of a peer.
    Close = 0x8,
    /// A ping, to be answered by a pong with the same payload.
    Ping = 0x9,
    /// A pong, solicited or not.
    Pong = 0xa,
}

impl Opcode {
    /// Returns whether this is a close, ping or pong frame.
    pub fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }

    fn from_bits(bits: u8) -> Result<Self, Violation> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            reserved => Err(Violation::ReservedOpcode(reserved)),
        }
    }
}

/// A complete and valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    /// Whether the frame begins a compressed message.
    pub(super) compressed: bool,
    pub(super) mask: [u8; 4],
    /// Payload length in bytes, within the limits.
    pub(super) length: usize,
    /// Length of the header in bytes.
    pub(super) size: usize,
}

/// Parses the header at the start of `bytes`, or returns `None` if it is incomplete.
///
/// `inflates` says whether compression was negotiated; `message` is the incomplete fragmented message.
///
/// Each byte is validated as soon as it arrives, so a declared length over the limit ends the connection even if
/// neither mask nor payload follow. tungstenite's `FrameHeader` validates nothing before the last byte of the mask and
/// does not report how long the length field was; it would add half to the cost of a frame of 64 bytes.
pub(super) fn parse(
    bytes: &[u8],
    limits: &ReadLimits,
    inflates: bool,
    message: Option<&PartialMessage>,
) -> Result<Option<Header>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (fin, opcode) = check_first(first, limits, inflates, message)?;
    let compressed = first & COMPRESSED != 0;

    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & MASKED == 0 {
        return Err(Violation::Unmasked);
    }
    let short = second & SHORT_LENGTH;
    if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
        return Err(Violation::ControlTooLong);
    }
    let (length, mask_at) = match short {
        LENGTH_16 => {
            let Some(&field) = bytes[2..].first_chunk() else { return Ok(None) };
            (minimal(u16::from_be_bytes(field).into(), u64::from(LENGTH_16))?, 4)
        }
        LENGTH_64 => {
            let Some(&field) = bytes[2..].first_chunk() else { return Ok(None) };
            (minimal(u64::from_be_bytes(field), 1 << 16)?, 10)
        }
        short => (u64::from(short), 2),
    };
    if length > i64::MAX as u64 {
        return Err(Violation::LengthOverflow);
    }
    if !opcode.is_control() {
        let inflated_later = compressed || message.is_some_and(PartialMessage::is_compressed);
        let most = if inflated_later { limits.max_compressed() } else { limits.max_message };
        let room = most.saturating_sub(message.map_or(0, PartialMessage::len));
        if length > room as u64 {
            return Err(Violation::MessageTooBig { limit: limits.max_message });
        }
    }

    let Some(&mask) = bytes[mask_at..].first_chunk() else { return Ok(None) };
    // At most `max_message` or 125, so it fits.
    let length = length as usize;
    Ok(Some(Header { fin, opcode, compressed, mask, length, size: mask_at + mask.len() }))
}

/// Parses the header of a complete, short, uncompressed, unfragmented frame.
///
/// Most frames are. Returns `None` for any other frame, which [`parse`] handles. Applies no limits.
#[inline]
pub(super) fn parse_small(bytes: &[u8]) -> Option<Small> {
    let &[first, second, a, b, c, d] = bytes.first_chunk::<SMALL_HEADER>()?;
    let opcode = match first {
        FIN_TEXT => Opcode::Text,
        FIN_BINARY => Opcode::Binary,
        _ => return None,
    };
    let length = usize::from(second & SHORT_LENGTH);
    let is_whole =
        second & MASKED != 0 && length <= MAX_CONTROL_PAYLOAD && bytes.len() - SMALL_HEADER >= length;
    is_whole.then_some(Small { opcode, mask: [a, b, c, d], length })
}

/// Header of a short message.
pub(super) struct Small {
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    /// Payload length in bytes.
    pub(super) length: usize,
}

/// Header length of a short frame in bytes: two, and the mask.
pub(super) const SMALL_HEADER: usize = 6;
const FIN_TEXT: u8 = FIN | Opcode::Text as u8;
const FIN_BINARY: u8 = FIN | Opcode::Binary as u8;

fn check_first(
    first: u8,
    limits: &ReadLimits,
    inflates: bool,
    message: Option<&PartialMessage>,
) -> Result<(bool, Opcode), Violation> {
    let reserved = first & RESERVED;
    if reserved != 0 && !(inflates && reserved == COMPRESSED) {
        return Err(Violation::ReservedBits);
    }
    let fin = first & FIN != 0;
    let opcode = Opcode::from_bits(first & OPCODE)?;
    if reserved != 0 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(Violation::MisplacedCompression);
    }
    match (opcode, message) {
        (Opcode::Continuation, None) => Err(Violation::UnexpectedContinuation),
        (Opcode::Continuation, Some(message)) if message.fragments() >= limits.max_fragments => {
            Err(Violation::TooManyFragments { limit: limits.max_fragments })
        }
        (Opcode::Text | Opcode::Binary, Some(_)) => Err(Violation::ExpectedContinuation),
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) if !fin => Err(Violation::FragmentedControl),
        _ => Ok((fin, opcode)),
    }
}

fn minimal(length: u64, least: u64) -> Result<u64, Violation> {
    if length < least { Err(Violation::LengthNotMinimal) } else { Ok(length) }
}

/// Longest client header: two bytes, a 64-bit length, the mask.
pub(super) const MAX_HEADER: usize = 14;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// RSV1: the message is compressed (RFC 7692 section 6).
pub(super) const COMPRESSED: u8 = 0x40;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const SHORT_LENGTH: u8 = 0x7f;
/// Short length that announces a 16-bit length.
pub(super) const LENGTH_16: u8 = 126;
/// Short length that announces a 64-bit length.
pub(super) const LENGTH_64: u8 = 127;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use tungstenite::protocol::frame::FrameHeader;

    use super::*;

    fn parse_alone(bytes: &[u8]) -> Result<Option<Header>, Violation> {
        parse(bytes, &ReadLimits { max_message: usize::MAX, ..ReadLimits::default() }, false, None)
    }

    #[test]
    fn reads_each_length_form() {
        let mut bytes = vec![0x81, 0x80 | 5, 1, 2, 3, 4];
        let header = parse_alone(&bytes).unwrap().unwrap();
        let expected = Header {
            fin: true,
            opcode: Opcode::Text,
            compressed: false,
            mask: [1, 2, 3, 4],
            length: 5,
            size: 6,
        };
        assert_eq!(header, expected);

        bytes = vec![0x02, 0x80 | 126, 0, 126, 1, 2, 3, 4];
        let header = parse_alone(&bytes).unwrap().unwrap();
        assert_eq!((header.fin, header.opcode, header.length, header.size), (false, Opcode::Binary, 126, 8));

        bytes = vec![0x82, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        let header = parse_alone(&bytes).unwrap().unwrap();
        assert_eq!((header.length, header.size), (65536, MAX_HEADER));
    }

    #[test]
    fn refuses_lengths_in_longer_form() {
        for short in [0_u16, 1, 125] {
            let [high, low] = short.to_be_bytes();
            assert_eq!(parse_alone(&[0x82, 0xfe, high, low]), Err(Violation::LengthNotMinimal));
        }
        for long in [0_u64, 125, 126, 65535] {
            let mut bytes = vec![0x82, 0xff];
            bytes.extend(long.to_be_bytes());
            assert_eq!(parse_alone(&bytes), Err(Violation::LengthNotMinimal));
        }
    }

    #[test]
    fn refuses_length_with_highest_bit() {
        for long in [1_u64 << 63, u64::MAX] {
            let mut bytes = vec![0x82, 0xff];
            bytes.extend(long.to_be_bytes());
            assert_eq!(parse_alone(&bytes), Err(Violation::LengthOverflow));
        }
    }

    #[test]
    fn refuses_each_byte_early() {
        assert_eq!(parse_alone(&[0xc1]), Err(Violation::ReservedBits));
        assert_eq!(parse_alone(&[0x83]), Err(Violation::ReservedOpcode(3)));
        assert_eq!(parse_alone(&[0x80]), Err(Violation::UnexpectedContinuation));
        assert_eq!(parse_alone(&[0x09]), Err(Violation::FragmentedControl));
        assert_eq!(parse_alone(&[0x81, 0x05]), Err(Violation::Unmasked));
        assert_eq!(parse_alone(&[0x89, 0xfe]), Err(Violation::ControlTooLong));
    }

    #[test]
    fn accepts_compression_bit_when_negotiated() {
        let parse = |first| parse(&[first], &ReadLimits::default(), true, None);
        assert_eq!((parse(0xc1), parse(0x42)), (Ok(None), Ok(None)));
        for control in [0xc8, 0xc9, 0xca, 0x49] {
            assert_eq!(parse(control), Err(Violation::MisplacedCompression));
        }
        for reserved in [0xa1, 0x91, 0xe1, 0xf2] {
            assert_eq!(parse(reserved), Err(Violation::ReservedBits));
        }
        let (text, binary) =
            (PartialMessage::new(Opcode::Text, false), PartialMessage::new(Opcode::Binary, true));
        for message in [text, binary] {
            let parse = |first| super::parse(&[first], &ReadLimits::default(), true, Some(&message));
            assert_eq!(parse(0x80), Ok(None));
            assert_eq!(parse(0xc0), Err(Violation::MisplacedCompression));
            assert_eq!(parse(0xc1), Err(Violation::ExpectedContinuation));
        }
    }

    proptest! {
        #[test]
        fn accepts_the_same_as_tungstenite(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut cursor = Cursor::new(&bytes);
            let theirs = FrameHeader::parse(&mut cursor);
            if let Ok(Some(header)) = parse_alone(&bytes) {
                let (reference, length) = theirs.unwrap().unwrap();
                prop_assert_eq!(header.fin, reference.is_final);
                prop_assert_eq!(header.opcode as u8, u8::from(reference.opcode));
                prop_assert_eq!(Some(header.mask), reference.mask);
                prop_assert_eq!(header.length as u64, length);
                prop_assert_eq!(header.size as u64, cursor.position());
            }
        }

        #[test]
        fn reads_what_tungstenite_writes(
            opcode in prop::sample::select(vec![Opcode::Text, Opcode::Binary]),
            length in prop_oneof![0_u64..200, 65000_u64..66000, 0..1_u64 << 40],
            is_final: bool,
            mask: [u8; 4],
        ) {
            let opcode_bits = opcode as u8;
            let reference =
                FrameHeader { is_final, opcode: opcode_bits.into(), mask: Some(mask), ..Default::default() };
            let mut bytes = Vec::new();
            reference.format(length, &mut bytes).unwrap();
            let expected = Header {
                fin: is_final,
                opcode,
                compressed: false,
                mask,
                length: length as usize,
                size: bytes.len(),
            };
            prop_assert_eq!(parse_alone(&bytes), Ok(Some(expected)));
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse_alone(&bytes[..cut]), Ok(None));
            }
        }
    }
}
