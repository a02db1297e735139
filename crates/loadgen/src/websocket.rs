//! WebSocket frames and the opening handshake (RFC 6455), as far as the benchmark programs need them.
//!
//! tungstenite's `FrameHeader` is not used: per delivery it takes 90 ns to read a short header where this takes 23 ns
//! (release build, busy machine), and it leaves checks of fragments, reserved bits and lengths to its caller.

/// Frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Type of the frame.
    pub opcode: Opcode,
    /// RSV1, which permessage-deflate uses (RFC 7692, section 6).
    pub compressed: bool,
    /// Masking key; only clients mask.
    pub mask: Option<[u8; 4]>,
    /// Length of the header in bytes.
    pub header_len: usize,
    /// Length of the payload in bytes.
    pub payload_len: usize,
}

/// Frame type (RFC 6455, section 5.2); continuation frames are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A text message.
    Text,
    /// A binary message.
    Binary,
    /// The closing handshake.
    Close,
    /// Requests a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

/// Error for a frame that is malformed or uses features the benchmarks do not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A reserved bit or opcode is used.
    #[error("frame with a reserved bit or opcode")]
    Reserved,
    /// A message is fragmented.
    #[error("fragmented message")]
    Fragmented,
    /// A payload is longer than [`MAX_PAYLOAD`].
    #[error("frame longer than {MAX_PAYLOAD} bytes")]
    TooLong,
    /// A control frame is too long.
    #[error("control frame longer than 125 bytes")]
    LongControl,
}

impl FrameHeader {
    /// Parses the header at the start of `bytes`; returns `None` if it is incomplete.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let [first, second, after @ ..] = bytes else { return Ok(None) };
        let opcode = match first & 0x0f {
            0x0 => return Err(FrameError::Fragmented),
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return Err(FrameError::Reserved),
        };
        let compressed = first & COMPRESSED != 0;
        if first & RESERVED_BITS != 0 || compressed && opcode.is_control() {
            return Err(FrameError::Reserved);
        }
        if first & FIN == 0 {
            return Err(FrameError::Fragmented);
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > LONGEST_CONTROL {
            return Err(FrameError::LongControl);
        }
        let (payload_len, after) = match short {
            LENGTH_IS_U16 => {
                let Some((length, after)) = after.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), after)
            }
            LENGTH_IS_U64 => {
                let Some((length, after)) = after.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*length), after)
            }
            short => (u64::from(short), after),
        };
        let payload_len = usize::try_from(payload_len).map_err(|_| FrameError::TooLong)?;
        if payload_len > MAX_PAYLOAD {
            return Err(FrameError::TooLong);
        }
        let (mask, after) = if second & MASKED == 0 {
            (None, after)
        } else {
            let Some((mask, after)) = after.split_first_chunk() else { return Ok(None) };
            (Some(*mask), after)
        };
        Ok(Some(Self { opcode, compressed, mask, header_len: bytes.len() - after.len(), payload_len }))
    }

    /// Returns the length of header and payload together.
    pub fn frame_len(&self) -> usize {
        self.header_len + self.payload_len
    }
}

impl Opcode {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn bits(self) -> u8 {
        match self {
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }
}

/// Appends a frame to `out`, masked if `mask` is set.
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) {
    append_header(out, opcode, mask, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[start..], mask);
    }
}

/// Appends a frame header without its payload.
pub fn append_header(out: &mut Vec<u8>, opcode: Opcode, mask: Option<[u8; 4]>, payload_len: usize) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(FIN | opcode.bits());
    match payload_len {
        0..=LONGEST_CONTROL => out.push(masked | payload_len as u8),
        126..=0xffff => {
            out.push(masked | LENGTH_IS_U16);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | LENGTH_IS_U64);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
}

/// Masks or unmasks a payload; both are the same operation.
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Returns the length of the HTTP head at the start of `bytes`, its empty line included.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Returns the trimmed value of the first header called `name`.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    })
}

/// Maximum payload accepted from a peer, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Maximum HTTP head accepted from a peer, in bytes.
pub const MAX_HEAD: usize = 8 << 10;

const FIN: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED_BITS: u8 = 0x30;
const MASKED: u8 = 0x80;
const LENGTH_IS_U16: u8 = 126;
const LENGTH_IS_U64: u8 = 127;
const LONGEST_CONTROL: usize = 125;

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn parses_masked_hello_of_rfc() {
        // RFC 6455, section 5.7.
        let frame = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let header = FrameHeader::parse(&frame).unwrap().unwrap();
        assert_eq!(
            header,
            FrameHeader {
                opcode: Opcode::Text,
                compressed: false,
                mask: Some(MASK),
                header_len: 6,
                payload_len: 5
            }
        );
        let mut payload = frame[header.header_len..].to_vec();
        apply_mask(&mut payload, MASK);
        assert_eq!(payload, b"Hello");
    }

    #[test]
    fn round_trips_every_length_form() {
        for length in [0, 1, 7, 8, 9, 125, 126, 127, 1000, 65_535, 65_536, MAX_PAYLOAD] {
            for mask in [None, Some(MASK)] {
                let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
                let mut frame = Vec::new();
                append_frame(&mut frame, Opcode::Text, mask, &payload);
                let header = FrameHeader::parse(&frame).unwrap().unwrap();
                assert_eq!(
                    (header.mask, header.payload_len, header.frame_len()),
                    (mask, length, frame.len())
                );
                let body = &mut frame[header.header_len..];
                if let Some(mask) = header.mask {
                    assert!(length < 8 || *body != *payload);
                    apply_mask(body, mask);
                }
                assert_eq!(*body, *payload);
            }
        }
    }

    #[test]
    fn waits_for_rest_of_header() {
        for length in [5, 300, 70_000] {
            let mut frame = Vec::new();
            append_header(&mut frame, Opcode::Binary, Some(MASK), length);
            for cut in 0..frame.len() {
                assert_eq!(FrameHeader::parse(&frame[..cut]), Ok(None), "cut at {cut} of {}", frame.len());
            }
            assert!(FrameHeader::parse(&frame).unwrap().is_some());
        }
    }

    #[test]
    fn rejects_unsupported_frames() {
        assert_eq!(FrameHeader::parse(&[0x01, 0x80]), Err(FrameError::Fragmented));
        assert_eq!(FrameHeader::parse(&[0x80, 0x80]), Err(FrameError::Fragmented));
        assert_eq!(FrameHeader::parse(&[0xa1, 0x80]), Err(FrameError::Reserved));
        assert_eq!(
            FrameHeader::parse(&[0xc9, 0x80]),
            Err(FrameError::Reserved),
            "control frames are not compressed"
        );
        assert_eq!(FrameHeader::parse(&[0x83, 0x80]), Err(FrameError::Reserved));
        assert_eq!(FrameHeader::parse(&[0x89, 0xfe, 0, 126]), Err(FrameError::LongControl));
        let mut long = vec![0x81, 0xff];
        long.extend_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(FrameHeader::parse(&long), Err(FrameError::TooLong));
    }

    #[test]
    fn finds_headers_case_insensitively() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\nsec-websocket-KEY:  abc== \r\n\r\nrest";
        assert_eq!(head_len(head), Some(head.len() - 4));
        assert_eq!(header(head, "Sec-WebSocket-Key"), Some(&b"abc=="[..]));
        assert_eq!(header(head, "Upgrade"), None);
        assert_eq!(head_len(b"GET / HTTP/1.1\r\nHost: x\r\n"), None);
    }
}
