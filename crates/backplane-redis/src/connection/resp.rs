//! Redis serialization protocol, version 2: the parts that pub/sub needs.
//!
//! The parser of the `redis` crate builds an owned value for each reply, with an allocation for each string. This one
//! borrows from the read buffer; the example `cost` compares both clients.

use bytes::{BufMut, BytesMut};

/// Reply that borrows from the read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    Simple(&'a [u8]),
    Error(&'a [u8]),
    Integer(i64),
    /// `None` is the null string.
    Bulk(Option<&'a [u8]>),
    /// The null array is empty.
    Array(Vec<Self>),
}

/// Bytes that are not RESP, or exceed a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid reply")]
pub(crate) struct InvalidReply;

/// Elements of an array, at most; replies that this crate asks for have fewer than ten.
const MAX_ELEMENTS: usize = 64;
/// Ranges of slots, at most.
const MAX_RANGES: usize = 16_384;
const MAX_DEPTH: usize = 5;
/// Length of a line, at most. Redis cuts error messages at about 1 KiB.
const MAX_LINE: usize = 16 << 10;
/// Length of a string within a reply that is not a message.
const MAX_BULK: usize = 64 << 10;
/// Digits of a length, at most; Redis limits a string to 512 MiB.
const MAX_DIGITS: usize = 10;

/// Parses one reply; returns it with its length, or `None` if it is incomplete.
pub(crate) fn parse(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, InvalidReply> {
    parse_nested(input, 0, MAX_ELEMENTS, MAX_BULK)
}

/// Parses the reply to `CLUSTER SLOTS`, which has up to one element for each slot.
pub(crate) fn parse_slots(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, InvalidReply> {
    parse_nested(input, 0, MAX_RANGES, MAX_BULK)
}

/// Parses one reply with strings of at most this many bytes.
pub(crate) fn parse_up_to(input: &[u8], max_bulk: usize) -> Result<Option<(Reply<'_>, usize)>, InvalidReply> {
    parse_nested(input, 0, MAX_ELEMENTS, max_bulk)
}

fn parse_nested(
    input: &[u8],
    depth: usize,
    max_elements: usize,
    max_bulk: usize,
) -> Result<Option<(Reply<'_>, usize)>, InvalidReply> {
    let Some((text, mut len)) = line(input)? else { return Ok(None) };
    let (kind, text) = text.split_first().ok_or(InvalidReply)?;
    let reply = match kind {
        b'+' => Reply::Simple(text),
        b'-' => Reply::Error(text),
        b':' => Reply::Integer(integer(text)?),
        b'$' if text == b"-1" => Reply::Bulk(None),
        b'$' => {
            let size = length(text).filter(|size| *size <= max_bulk).ok_or(InvalidReply)?;
            let Some(content) = input.get(len..len + size + 2) else { return Ok(None) };
            len += size + 2;
            Reply::Bulk(Some(content.strip_suffix(b"\r\n").ok_or(InvalidReply)?))
        }
        b'*' if text == b"-1" => Reply::Array(Vec::new()),
        b'*' => {
            let count = length(text).filter(|count| *count <= max_elements && depth < MAX_DEPTH);
            let mut elements = Vec::new();
            for _ in 0..count.ok_or(InvalidReply)? {
                let nested = parse_nested(&input[len..], depth + 1, max_elements, max_bulk)?;
                let Some((element, used)) = nested else { return Ok(None) };
                elements.push(element);
                len += used;
            }
            Reply::Array(elements)
        }
        _ => return Err(InvalidReply),
    };
    Ok(Some((reply, len)))
}

/// Head of a message on a subscribed channel; the payload follows it, then a line end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MessageHead<'a> {
    /// Subscribed pattern, if the subscription is one.
    pub(crate) pattern: Option<&'a [u8]>,
    /// Channel.
    pub(crate) name: &'a [u8],
    /// Length of the head.
    pub(crate) len: usize,
    /// Length of the payload.
    pub(crate) payload: usize,
}

/// Result of [`message_head`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    Message(MessageHead<'a>),
    /// More bytes are needed.
    Incomplete,
    /// Another reply, to be parsed.
    Other,
}

/// Parses the head of a message, with a pattern or without, or on a sharded channel.
pub(crate) fn message_head(input: &[u8]) -> Result<Head<'_>, InvalidReply> {
    const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n";
    const SHARDED: &[u8] = b"*3\r\n$8\r\nsmessage\r\n";
    const PATTERN: &[u8] = b"*4\r\n$8\r\npmessage\r\n";
    let has_pattern = input.starts_with(PATTERN);
    let mut at = match has_pattern {
        true => PATTERN.len(),
        false if input.starts_with(MESSAGE) => MESSAGE.len(),
        false if input.starts_with(SHARDED) => SHARDED.len(),
        false if [MESSAGE, SHARDED, PATTERN].iter().any(|head| head.starts_with(input)) => {
            return Ok(Head::Incomplete);
        }
        false => return Ok(Head::Other),
    };
    let mut pattern = None;
    if has_pattern {
        let Some((name, used)) = bulk(&input[at..])? else { return Ok(Head::Incomplete) };
        pattern = Some(name);
        at += used;
    }
    let Some((name, used)) = bulk(&input[at..])? else { return Ok(Head::Incomplete) };
    at += used;
    let Some((payload, used)) = string_length(&input[at..])? else { return Ok(Head::Incomplete) };
    Ok(Head::Message(MessageHead { pattern, name, len: at + used, payload }))
}

fn bulk(input: &[u8]) -> Result<Option<(&[u8], usize)>, InvalidReply> {
    let Some((size, len)) = string_length(input)? else { return Ok(None) };
    if size > MAX_BULK {
        return Err(InvalidReply);
    }
    let end = len + size;
    Ok((input.len() >= end + 2).then(|| (&input[len..end], end + 2)))
}

/// Parses the line with the length of a string; returns the length of the string and of the line.
fn string_length(input: &[u8]) -> Result<Option<(usize, usize)>, InvalidReply> {
    let mut size = 0;
    for (at, byte) in input.iter().take(1 + MAX_DIGITS + 1).enumerate() {
        match byte {
            b'$' if at == 0 => {}
            b'0'..=b'9' if (1..=MAX_DIGITS).contains(&at) => size = size * 10 + usize::from(byte - b'0'),
            b'\r' if at > 1 => {
                return match input.get(at + 1) {
                    Some(b'\n') => Ok(Some((size, at + 2))),
                    Some(_) => Err(InvalidReply),
                    None => Ok(None),
                };
            }
            _ => return Err(InvalidReply),
        }
    }
    Ok(None)
}

/// Returns the length of an integer that is not negative, if the input begins with a complete one.
///
/// The reply to each publication is one.
pub(crate) fn count_len(input: &[u8]) -> Option<usize> {
    if let [b':', b'0'..=b'9', b'\r', b'\n', ..] = input {
        return Some(4);
    }
    let digits = input.strip_prefix(b":")?;
    let len = digits.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let is_whole = (1..=MAX_DIGITS).contains(&len) && digits[len..].starts_with(b"\r\n");
    is_whole.then_some(1 + len + 2)
}

pub(super) fn line(input: &[u8]) -> Result<Option<(&[u8], usize)>, InvalidReply> {
    match input.iter().take(MAX_LINE).position(|byte| *byte == b'\r') {
        Some(end) => match input.get(end + 1) {
            Some(b'\n') => Ok(Some((&input[..end], end + 2))),
            Some(_) => Err(InvalidReply),
            None => Ok(None),
        },
        None if input.len() >= MAX_LINE => Err(InvalidReply),
        None => Ok(None),
    }
}

fn integer(text: &[u8]) -> Result<i64, InvalidReply> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(InvalidReply)
}

/// Parses a length.
pub(super) fn length(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > MAX_DIGITS {
        return None;
    }
    text.iter().try_fold(0, |value: usize, digit| {
        digit.is_ascii_digit().then(|| value * 10 + usize::from(digit - b'0'))
    })
}

/// Appends a command; returns its length.
pub(crate) fn encode<'a>(
    out: &mut BytesMut,
    name: &[u8],
    args: impl ExactSizeIterator<Item = &'a [u8]>,
) -> usize {
    let before = out.len();
    put_length(out, b'*', 1 + args.len());
    put_string(out, name);
    args.for_each(|arg| put_string(out, arg));
    out.len() - before
}

/// Appends a PUBLISH command, or SPUBLISH for a sharded channel; returns its length.
pub(crate) fn encode_publish(out: &mut BytesMut, is_sharded: bool, name: &[u8], payload: &[u8]) -> usize {
    let before = out.len();
    out.reserve(name.len() + payload.len() + 64);
    out.put_slice(if is_sharded { b"*3\r\n$8\r\nSPUBLISH\r\n" } else { b"*3\r\n$7\r\nPUBLISH\r\n" });
    put_string(out, name);
    put_string(out, payload);
    out.len() - before
}

fn put_string(out: &mut BytesMut, text: &[u8]) {
    out.reserve(text.len() + 16);
    put_length(out, b'$', text.len());
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

fn put_length(out: &mut BytesMut, kind: u8, length: usize) {
    // The longest number has 20 digits.
    let mut line = [b'\n'; 23];
    let mut at = line.len() - 2;
    line[at] = b'\r';
    let mut rest = length;
    loop {
        at -= 1;
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 1;
    line[at] = kind;
    out.put_slice(&line[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_each_prefix_as_incomplete() {
        let input = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:12\r\n";
        for end in 0..input.len() {
            assert_eq!(parse(&input[..end]), Ok(None), "{end}");
        }
        let elements = vec![Reply::Bulk(Some(b"subscribe")), Reply::Bulk(Some(b"a")), Reply::Integer(12)];
        assert_eq!(parse(input), Ok(Some((Reply::Array(elements), input.len()))));
    }

    #[test]
    fn parses_errors_and_nulls() {
        assert_eq!(parse(b"-OOM x\r\n"), Ok(Some((Reply::Error(b"OOM x"), 8))));
        assert_eq!(parse(b"$-1\r\n"), Ok(Some((Reply::Bulk(None), 5))));
        assert_eq!(parse(b"*-1\r\n"), Ok(Some((Reply::Array(Vec::new()), 5))));
    }

    #[test]
    fn rejects_invalid_replies() {
        let deep = b"*1\r\n".repeat(7);
        for input in [&b"?\r\n"[..], b":x\r\n", b"$99999999999\r\n", b"*65\r\n", b"\r\n", b"+a\rb", &deep] {
            assert_eq!(parse(input), Err(InvalidReply), "{}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn message_heads_need_all_bytes() {
        for (input, pattern) in [
            (&b"*3\r\n$7\r\nmessage\r\n$2\r\nab\r\n$5\r\n"[..], None),
            (b"*3\r\n$8\r\nsmessage\r\n$2\r\nab\r\n$5\r\n", None),
            (b"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$5\r\n", Some(&b"a*"[..])),
        ] {
            for end in 0..input.len() {
                assert_eq!(message_head(&input[..end]), Ok(Head::Incomplete), "{end}");
            }
            let head = MessageHead { pattern, name: b"ab", len: input.len(), payload: 5 };
            assert_eq!(message_head(input), Ok(Head::Message(head)));
        }
        assert_eq!(message_head(b"+PONG\r\n"), Ok(Head::Other));
    }

    #[test]
    fn rejects_heads_with_invalid_lengths() {
        for lengths in ["2\r\nab\r\n", "$\r\nab\r\n", "$-1\r\nab\r\n", "$2x\r\nab\r\n", "$2\rxab\r\n"] {
            let input = format!("*3\r\n$7\r\nmessage\r\n{lengths}$5\r\n");
            assert_eq!(message_head(input.as_bytes()), Err(InvalidReply), "{lengths:?}");
        }
        let input = format!("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n${}\r\n", "1".repeat(MAX_DIGITS + 1));
        assert_eq!(message_head(input.as_bytes()), Err(InvalidReply));
    }

    #[test]
    fn counts_are_found_whole_only() {
        for (input, len) in [(&b":0\r\n"[..], 4), (b":7\r\n:", 4), (b":120\r\n", 6), (b":1234567890\r\n", 13)]
        {
            assert_eq!(count_len(input), Some(len), "{}", String::from_utf8_lossy(input));
        }
        for input in
            [&b":"[..], b":1", b":1\r", b":\r\n", b":-1\r\n", b":1x\r\n", b"+1\r\n", b":12345678901\r\n", b""]
        {
            assert_eq!(count_len(input), None, "{}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut out = BytesMut::new();
        let len = encode(&mut out, b"SUBSCRIBE", [&b"a"[..]].into_iter());
        assert_eq!(&out[..], b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n");
        assert_eq!(len, out.len());
        out.clear();
        encode_publish(&mut out, false, b"a", b"0123456789");
        assert_eq!(&out[..], b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$10\r\n0123456789\r\n");
        out.clear();
        encode_publish(&mut out, true, b"a", b"0");
        assert_eq!(&out[..], b"*3\r\n$8\r\nSPUBLISH\r\n$1\r\na\r\n$1\r\n0\r\n");
    }
}
