//! Writer of MessagePack, and JSON text to MessagePack in two passes: a counting pass and a writing pass.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use rmp::encode::{
    write_array_len, write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint, write_str,
    write_uint,
};

/// Writer of one MessagePack message.
///
/// Lengths and integers are written in their shortest form. Writing cannot fail.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Creates a writer with room for this many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Begins a map; as many pairs of keys and values have to follow.
    pub fn map(&mut self, len: u32) {
        let _ = write_map_len(&mut self.0, len);
    }

    /// Begins an array; as many values have to follow.
    pub fn array(&mut self, len: usize) {
        let _ = write_array_len(&mut self.0, clamp(len));
    }

    /// Writes a string, also as a key.
    pub fn text(&mut self, text: &str) {
        let _ = write_str(&mut self.0, text);
    }

    /// Writes an unsigned integer.
    pub fn uint(&mut self, number: u64) {
        let _ = write_uint(&mut self.0, number);
    }

    /// Writes a signed integer.
    pub fn int(&mut self, number: i64) {
        let _ = write_sint(&mut self.0, number);
    }

    /// Writes a boolean.
    pub fn bool(&mut self, value: bool) {
        let _ = write_bool(&mut self.0, value);
    }

    /// Writes nil.
    pub fn nil(&mut self) {
        let _ = write_nil(&mut self.0);
    }

    /// Writes JSON values, one after the other.
    pub fn values(&mut self, values: &JsonValues<'_>) {
        values.write(&mut self.0);
    }

    /// Returns the message.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Converts a length; every length in memory fits.
fn clamp(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Comma-separated JSON values with binary attachments, counted and ready to be written.
///
/// Socket.IO's placeholders, `{"_placeholder":true,"num":0}`, become the attachments that they number. Without
/// attachments no object is a placeholder. The text must be valid JSON: invalid text does not panic, but produces
/// invalid output. Integers are written in their shortest form, lone surrogates as U+FFFD, and numbers beyond the
/// range of JavaScript's as infinite.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use roomcast_msgpack::JsonValues;
///
/// let attachments = [Bytes::from_static(b"b")];
/// let values = JsonValues::new(r#"1,{"a":{"_placeholder":true,"num":0}}"#, &attachments);
/// let mut out = Vec::new();
/// values.write(&mut out);
/// assert_eq!((values.len(), &out[..]), (2, &b"\x01\x81\xa1a\xc4\x01b"[..]));
/// ```
#[derive(Debug)]
pub struct JsonValues<'a> {
    list: &'a str,
    attachments: &'a [Bytes],
    /// Number of values.
    len: usize,
    depth: usize,
    /// Each array and object, in the order of their starts.
    containers: Vec<Container>,
    /// Whether the text is one string, as many events have, which needs no second pass.
    is_one_string: bool,
}

#[derive(Debug, Clone)]
enum Container {
    Holds(u32),
    /// A placeholder, and the end of its text.
    Attachment {
        num: usize,
        end: usize,
    },
}

impl<'a> JsonValues<'a> {
    /// Counts the values, and the elements of each array and object.
    #[must_use]
    pub fn new(list: &'a str, attachments: &'a [Bytes]) -> Self {
        if is_one_string(list) {
            return Self { list, attachments, len: 1, depth: 0, containers: Vec::new(), is_one_string: true };
        }
        let mut count = Count::new(list, attachments.len());
        for token in Tokens::new(list) {
            count.token(&token);
        }
        let Count { len, depth, containers, .. } = count;
        Self { list, attachments, len, depth, containers, is_one_string: false }
    }

    /// Returns the number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the deepest nesting of arrays and objects; 0 if there are none.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Returns whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the values as MessagePack, one after the other.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_one_string {
            return write_string(out, self.list);
        }
        let mut containers = self.containers.iter();
        let mut tokens = Tokens::new(self.list);
        while let Some(token) = tokens.next() {
            match token.kind {
                Kind::Begin { is_object } => match containers.next() {
                    Some(Container::Attachment { num, end }) => {
                        let part = self.attachments.get(*num).map_or(&[][..], |part| part);
                        let _ = write_bin(out, part);
                        // Containers inside a placeholder are not written.
                        let inside = Tokens::new(&self.list[token.at.end..*end]);
                        let begun = inside.filter(|token| matches!(token.kind, Kind::Begin { .. })).count();
                        containers.by_ref().take(begun).for_each(drop);
                        tokens.at = *end;
                    }
                    Some(Container::Holds(len)) if is_object => _ = write_map_len(out, *len),
                    Some(Container::Holds(len)) => _ = write_array_len(out, *len),
                    None => {}
                },
                Kind::String => write_string(out, &self.list[token.at]),
                Kind::Scalar => write_scalar(out, &self.list[token.at]),
                Kind::End | Kind::Colon | Kind::Comma => {}
            }
        }
    }
}

/// State of the first pass.
struct Count<'t> {
    list: &'t str,
    attachments: usize,
    len: usize,
    depth: usize,
    containers: Vec<Container>,
    /// Open arrays and objects, outermost first.
    open: Vec<Open>,
}

#[derive(Default)]
struct Open {
    /// Index of the container.
    index: usize,
    is_object: bool,
    in_value: bool,
    len: u32,
    key: Key,
    marked: bool,
    num: Option<usize>,
}

#[derive(Default, Clone, Copy)]
enum Key {
    Mark,
    Num,
    #[default]
    Other,
}

impl<'t> Count<'t> {
    fn new(list: &'t str, attachments: usize) -> Self {
        Self { list, attachments, len: 0, depth: 0, containers: Vec::new(), open: Vec::new() }
    }

    fn token(&mut self, token: &Token) {
        match token.kind {
            Kind::Begin { is_object } => {
                self.value(None);
                let index = self.containers.len();
                self.containers.push(Container::Holds(0));
                self.open.push(Open { index, is_object, ..Open::default() });
                self.depth = self.depth.max(self.open.len());
            }
            Kind::End => self.end(token.at.end),
            Kind::Colon => self.open.iter_mut().last().into_iter().for_each(|open| open.in_value = true),
            Kind::Comma => self.open.iter_mut().last().into_iter().for_each(|open| open.in_value = false),
            Kind::String => {
                let quoted = &self.list[token.at.clone()];
                match self.open.last_mut() {
                    Some(open) if open.is_object && !open.in_value => {
                        open.key = if self.attachments == 0 { Key::Other } else { Key::read(quoted) };
                    }
                    _ => self.value(None),
                }
            }
            Kind::Scalar => self.value(Some(&self.list[token.at.clone()])),
        }
    }

    /// Records a value in its container; for duplicate keys the last value counts.
    fn value(&mut self, scalar: Option<&str>) {
        let Some(open) = self.open.last_mut() else {
            self.len += 1;
            return;
        };
        open.len = open.len.saturating_add(1);
        match open.key {
            Key::Mark => open.marked = scalar == Some("true"),
            Key::Num => open.num = scalar.and_then(|scalar| scalar.parse().ok()),
            Key::Other => {}
        }
        open.key = Key::Other;
    }

    fn end(&mut self, end: usize) {
        let Some(open) = self.open.pop() else { return };
        self.containers[open.index] = match open.num {
            Some(num) if open.marked && num < self.attachments => Container::Attachment { num, end },
            _ => Container::Holds(open.len),
        };
    }
}

impl Key {
    fn read(quoted: &str) -> Self {
        match &*unescaped(quoted) {
            "_placeholder" => Self::Mark,
            "num" => Self::Num,
            _ => Self::Other,
        }
    }
}

/// Tokenizer of valid JSON.
struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

struct Token {
    kind: Kind,
    at: Range<usize>,
}

#[derive(Clone, Copy)]
enum Kind {
    Begin {
        is_object: bool,
    },
    End,
    Colon,
    Comma,
    String,
    /// A number, `true`, `false` or `null`.
    Scalar,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at)?, b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let start = self.at;
        let (kind, end) = match bytes[start] {
            b'{' => (Kind::Begin { is_object: true }, start + 1),
            b'[' => (Kind::Begin { is_object: false }, start + 1),
            b'}' | b']' => (Kind::End, start + 1),
            b':' => (Kind::Colon, start + 1),
            b',' => (Kind::Comma, start + 1),
            b'"' => (Kind::String, string_end(bytes, start + 1)),
            _ => {
                let ends = |byte: &u8| b",]} \t\n\r".contains(byte);
                let len = bytes[start..].iter().position(ends).unwrap_or(bytes.len() - start);
                (Kind::Scalar, start + len)
            }
        };
        self.at = end;
        Some(Token { kind, at: start..end })
    }
}

/// Bytes of a string that are checked together.
const BLOCK: usize = 32;

/// Returns the end of a string, quote included, whose content starts at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        // Most blocks have neither; without an early exit, the compiler vectorizes the loop.
        while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>)
            && !block.iter().fold(false, |any, &byte| any | (byte == b'"') | (byte == b'\\'))
        {
            at += BLOCK;
        }
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return bytes.len(),
        }
    }
}

fn is_one_string(list: &str) -> bool {
    let bytes = list.as_bytes();
    bytes.first() == Some(&b'"') && string_end(bytes, 1) == bytes.len()
}

fn write_string(out: &mut Vec<u8>, quoted: &str) {
    let _ = write_str(out, &unescaped(quoted));
}

fn write_scalar(out: &mut Vec<u8>, scalar: &str) {
    let _ = match scalar {
        "true" => write_bool(out, true),
        "false" => write_bool(out, false),
        "null" => write_nil(out),
        number => {
            if let Ok(number) = number.parse::<u64>() {
                let _ = write_uint(out, number);
            } else if let Ok(number) = number.parse::<i64>() {
                let _ = write_sint(out, number);
            } else {
                // Beyond the range of JavaScript's numbers it is infinite, as in JSON.parse.
                let _ = write_f64(out, number.parse().unwrap_or_default());
            }
            Ok(())
        }
    };
}

/// Decodes a JSON string; unpaired surrogates, which have no UTF-8, are replaced.
fn unescaped(quoted: &str) -> Cow<'_, str> {
    let inside = quoted.trim_start_matches('"');
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or(inside);
    if !inside.contains('\\') {
        return inside.into();
    }
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(escape) = rest.chars().next() else { break };
        rest = &rest[escape.len_utf8()..];
        text.push(match escape {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => code_point(&mut rest),
            other => other,
        });
    }
    text.push_str(rest);
    text.into()
}

/// Decodes the hex digits after `\u` at the start of `rest`.
fn code_point(rest: &mut &str) -> char {
    fn unit(text: &str) -> Option<u32> {
        u32::from_str_radix(text.get(..4)?, 16).ok()
    }

    let Some(high) = unit(rest) else { return char::REPLACEMENT_CHARACTER };
    *rest = &rest[4..];
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    let low = rest.strip_prefix("\\u").and_then(unit).filter(|low| (0xdc00..0xe000).contains(low));
    let Some(low) = low else { return char::REPLACEMENT_CHARACTER };
    *rest = &rest[6..];
    char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or(char::REPLACEMENT_CHARACTER)
}
