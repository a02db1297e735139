//! Entries of a stream in replies, read one at a time.
//!
//! A reply has many entries, so it is never held as a whole: an entry is taken as soon as it is complete, and one over
//! the limit is skipped as it arrives.

use bytes::{Buf, Bytes, BytesMut};
use roomcast_node_adapter::EntryId;

use super::dial::text_of;
use super::resp::{InvalidReply, length, line};

/// Form of a reply with entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `XRANGE` and `XREVRANGE`: a list of entries.
    Range,
    /// `XREAD` of one stream: null, or a list of one stream with its name.
    Read,
}

/// Next part of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Entry with the names and values of its fields.
    Entry(EntryId, Vec<(Bytes, Bytes)>),
    /// Entry that was dropped.
    Oversized(EntryId),
    /// The reply is complete.
    End,
    /// The reply is an error.
    Error(String),
}

/// Parser of one reply after the other.
#[derive(Debug)]
pub(super) struct EntryParser {
    max_entry: usize,
    /// Entries that are missing in the current reply; `None` before its head.
    left: Option<usize>,
    discarded: Option<Discarded>,
}

/// Rest of an entry over the limit.
#[derive(Debug)]
struct Discarded {
    id: EntryId,
    strings: usize,
    /// Bytes of the current string.
    bytes: usize,
}

impl EntryParser {
    pub(super) fn new(max_entry: usize) -> Self {
        Self { max_entry, left: None, discarded: None }
    }

    /// Forgets a reply that was read in part.
    pub(super) fn reset(&mut self) {
        (self.left, self.discarded) = (None, None);
    }

    /// Takes the next part of a reply; `None` if more bytes are needed.
    pub(super) fn next(&mut self, input: &mut BytesMut, form: Form) -> Result<Option<Part>, InvalidReply> {
        let left = match self.left {
            Some(left) => left,
            None => match head(input, form)? {
                None => return Ok(None),
                Some((Head::Entries(count), len)) => {
                    input.advance(len);
                    *self.left.insert(count)
                }
                Some((Head::Error(text), len)) => {
                    input.advance(len);
                    return Ok(Some(Part::Error(text)));
                }
            },
        };
        if let Some(discarded) = &mut self.discarded {
            if !discarded.skip(input)? {
                return Ok(None);
            }
            let id = discarded.id;
            self.discarded = None;
            self.left = Some(left - 1);
            return Ok(Some(Part::Oversized(id)));
        }
        if left == 0 {
            self.left = None;
            return Ok(Some(Part::End));
        }
        match entry(input, self.max_entry)? {
            Found::Incomplete => Ok(None),
            Found::Whole { id, len, fields } => {
                let bytes = input.split_to(len).freeze();
                let text = |(start, end)| bytes.slice(start..end);
                let fields = fields.chunks_exact(2).map(|pair| (text(pair[0]), text(pair[1]))).collect();
                self.left = Some(left - 1);
                Ok(Some(Part::Entry(id, fields)))
            }
            Found::TooLarge { len, discarded } => {
                input.advance(len);
                self.discarded = Some(discarded);
                self.next(input, form)
            }
        }
    }
}

impl Discarded {
    /// Skips the bytes that have arrived; returns whether the entry has ended.
    fn skip(&mut self, input: &mut BytesMut) -> Result<bool, InvalidReply> {
        loop {
            let skipped = self.bytes.min(input.len());
            input.advance(skipped);
            self.bytes -= skipped;
            if self.bytes > 0 {
                return Ok(false);
            }
            if self.strings == 0 {
                return Ok(true);
            }
            let Some((size, len)) = string_head(input)? else { return Ok(false) };
            input.advance(len);
            self.bytes = size + 2;
            self.strings -= 1;
        }
    }
}

enum Head {
    Entries(usize),
    Error(String),
}

/// Parses a reply up to its first entry; returns its length as well.
fn head(input: &[u8], form: Form) -> Result<Option<(Head, usize)>, InvalidReply> {
    let Some((text, mut len)) = line(input)? else { return Ok(None) };
    if let Some(error) = text.strip_prefix(b"-") {
        return Ok(Some((Head::Error(text_of(error)), len)));
    }
    if text == b"*-1" {
        return Ok(Some((Head::Entries(0), len)));
    }
    let mut count = count_of(text)?;
    if form == Form::Read {
        if count != 1 {
            return Err(InvalidReply);
        }
        let Some((text, used)) = line(&input[len..])? else { return Ok(None) };
        if text != b"*2" {
            return Err(InvalidReply);
        }
        len += used;
        let Some((size, used)) = string_head(&input[len..])? else { return Ok(None) };
        len += used + size + 2;
        let Some(rest) = input.get(len..) else { return Ok(None) };
        let Some((text, used)) = line(rest)? else { return Ok(None) };
        count = count_of(text)?;
        len += used;
    }
    Ok(Some((Head::Entries(count), len)))
}

enum Found {
    Incomplete,
    Whole {
        id: EntryId,
        len: usize,
        /// Positions of names and values.
        fields: Vec<(usize, usize)>,
    },
    /// Bytes up to `len` belong to the entry.
    TooLarge {
        len: usize,
        discarded: Discarded,
    },
}

/// Parses one entry: a list of its id and a list of its fields.
fn entry(input: &[u8], max_entry: usize) -> Result<Found, InvalidReply> {
    let Some((text, mut len)) = line(input)? else { return Ok(Found::Incomplete) };
    if text != b"*2" {
        return Err(InvalidReply);
    }
    let Some((size, used)) = string_head(&input[len..])? else { return Ok(Found::Incomplete) };
    len += used;
    if size > MAX_ID {
        return Err(InvalidReply);
    }
    let Some(id) = input.get(len..len + size) else { return Ok(Found::Incomplete) };
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or(InvalidReply)?;
    len += size + 2;
    let Some((text, used)) = input.get(len..).map(line).transpose()?.flatten() else {
        return Ok(Found::Incomplete);
    };
    len += used;
    // A deleted entry may have no fields.
    let count = if text == b"*-1" { 0 } else { count_of(text)? };
    if count > MAX_STRINGS {
        return Ok(Found::TooLarge { len, discarded: Discarded { id, strings: count, bytes: 0 } });
    }
    let mut fields = Vec::with_capacity(count);
    for index in 0..count {
        let Some((size, used)) = input.get(len..).map(string_head).transpose()?.flatten() else {
            return Ok(Found::Incomplete);
        };
        let (start, end) = (len + used, len + used + size);
        if end > max_entry {
            let discarded = Discarded { id, strings: count - index - 1, bytes: size + 2 };
            return Ok(Found::TooLarge { len: start, discarded });
        }
        fields.push((start, end));
        len = end + 2;
    }
    if input.len() < len {
        return Ok(Found::Incomplete);
    }
    Ok(Found::Whole { id, len, fields })
}

/// Parses the head of a string; returns the length of the string, and that of the head.
fn string_head(input: &[u8]) -> Result<Option<(usize, usize)>, InvalidReply> {
    let Some((text, len)) = line(input)? else { return Ok(None) };
    let size = text.strip_prefix(b"$").and_then(length).ok_or(InvalidReply)?;
    Ok(Some((size, len)))
}

fn count_of(text: &[u8]) -> Result<usize, InvalidReply> {
    text.strip_prefix(b"*").and_then(length).ok_or(InvalidReply)
}

/// Two numbers of 20 digits, and a dash.
const MAX_ID: usize = 41;
/// Names and values of the fields of an entry, at most; entries with more are dropped as too large.
const MAX_STRINGS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a reply in parts of a size.
    fn parse(reply: &[u8], form: Form, step: usize, max_entry: usize) -> Vec<Part> {
        let mut parser = EntryParser::new(max_entry);
        let (mut input, mut parts) = (BytesMut::new(), Vec::new());
        for chunk in reply.chunks(step) {
            input.extend_from_slice(chunk);
            while let Some(part) = parser.next(&mut input, form).expect("a valid reply") {
                parts.push(part);
            }
        }
        assert_eq!(input.len(), 0);
        parts
    }

    fn whole(id: EntryId, fields: &[(&str, &str)]) -> Part {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Part::Entry(id, fields.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    const RANGE: &[u8] = b"*2\r\n*2\r\n$3\r\n5-0\r\n*2\r\n$1\r\na\r\n$3\r\n1\r\n\r\n\
        *2\r\n$4\r\n5-12\r\n*4\r\n$1\r\nb\r\n$0\r\n\r\n$1\r\nc\r\n$8\r\n01234567\r\n";

    #[test]
    fn entries_arrive_in_any_parts() {
        let expected = [
            whole(EntryId::new(5, 0), &[("a", "1\r\n")]),
            whole(EntryId::new(5, 12), &[("b", ""), ("c", "01234567")]),
            Part::End,
        ];
        let read = [b"*1\r\n*2\r\n$6\r\nstream\r\n", RANGE].concat();
        for step in 1..RANGE.len() {
            assert_eq!(parse(RANGE, Form::Range, step, 1000), expected, "{step}");
            assert_eq!(parse(&read, Form::Read, step, 1000), expected, "{step}");
        }
    }

    #[test]
    fn entry_over_limit_is_skipped() {
        // The last string of the second entry ends at its 50th byte, that of the first one at its 31st.
        let expected =
            [whole(EntryId::new(5, 0), &[("a", "1\r\n")]), Part::Oversized(EntryId::new(5, 12)), Part::End];
        for step in 1..RANGE.len() {
            assert_eq!(parse(RANGE, Form::Range, step, 49), expected, "{step}");
        }
        let many = [b"*1\r\n*2\r\n$3\r\n5-0\r\n*300\r\n".to_vec(), b"$1\r\na\r\n".repeat(300)].concat();
        assert_eq!(parse(&many, Form::Range, 7, 9999), [Part::Oversized(EntryId::new(5, 0)), Part::End]);
    }

    #[test]
    fn empty_replies_and_errors_have_no_entries() {
        assert_eq!(parse(b"*-1\r\n", Form::Read, 1, 10), [Part::End]);
        assert_eq!(parse(b"*0\r\n", Form::Range, 1, 10), [Part::End]);
        assert_eq!(parse(b"-ERR x\r\n", Form::Read, 1, 10), [Part::Error("ERR x".into())]);
    }

    #[test]
    fn invalid_replies_are_rejected() {
        for reply in [&b"+OK\r\n"[..], b"*2\r\n*2\r\n", b"*1\r\n*3\r\n", b"*1\r\n*2\r\n:5\r\n"] {
            let mut parser = EntryParser::new(100);
            let mut input = BytesMut::from(reply);
            let form = if reply.starts_with(b"*2") { Form::Read } else { Form::Range };
            assert_eq!(parser.next(&mut input, form), Err(InvalidReply), "{}", text_of(reply));
        }
    }
}
