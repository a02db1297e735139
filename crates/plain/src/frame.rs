//! Parser for messages of clients in JSON mode.

use std::fmt;

use bytestring::ByteString;
use roomcast_core::{AckId, replace_lone_surrogates};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::codec::is_reserved;
use crate::grammar_error::{GrammarError, MAX_DEPTH};
use crate::text::unquote;

/// A parsed text message; name and arguments are slices of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JsonFrame {
    /// The kind of message.
    pub(crate) kind: Kind,
    /// The arguments as JSON text without brackets.
    pub(crate) list: ByteString,
    /// Number of binary messages that follow.
    pub(crate) attachments: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Event { name: ByteString, ack: Option<AckId> },
    Answer { id: AckId },
}

/// The largest id: the largest integer that every JSON parser represents exactly.
const MAX_ID: u64 = (1 << 53) - 1;

impl JsonFrame {
    /// Parses a text message, in linear time at any nesting; returns `None` for a no-op.
    pub(crate) fn parse(text: &ByteString, max_attachments: usize) -> Result<Option<Self>, GrammarError> {
        let text = &replace_lone_surrogates(text.clone());
        let outline: Outline<'_> = serde_json::from_str(text).map_err(|_| GrammarError::NotAnArray)?;
        let header = outline.header.map(Header::parse).transpose()?.unwrap_or_default();
        let attachments = header.attachments(max_attachments)?;
        let (kind, last) = match (header.re, outline.header, outline.name) {
            (Some(id), Some(raw), _) => (Kind::Answer { id: AckId(id) }, raw),
            (_, _, Some(raw)) => {
                let name = unquote(&text.slice_ref(raw.get())).ok_or(GrammarError::Name)?;
                if is_reserved(&name) {
                    return Err(GrammarError::ReservedName);
                }
                (Kind::Event { name, ack: header.ack.map(AckId) }, raw)
            }
            // Unknown headers are ignored, so that the grammar can grow.
            (None, Some(_), None) if header.is_empty() => return Ok(None),
            _ => return Err(GrammarError::Name),
        };
        let list = list_after(text, last.get());
        if exceeds_depth(&list, MAX_DEPTH) {
            return Err(GrammarError::TooDeep);
        }
        Ok(Some(Self { kind, list, attachments }))
    }
}

/// Header members that a server interprets.
#[derive(Debug, Default, Deserialize)]
struct Header {
    ack: Option<u64>,
    re: Option<u64>,
    binary: Option<u64>,
}

impl Header {
    fn parse(raw: &RawValue) -> Result<Self, GrammarError> {
        let header: Self = serde_json::from_str(raw.get()).map_err(|_| GrammarError::Header)?;
        let ids = [header.ack, header.re];
        if ids.iter().flatten().any(|id| *id > MAX_ID) || ids.iter().flatten().count() > 1 {
            return Err(GrammarError::Header);
        }
        Ok(header)
    }

    fn attachments(&self, limit: usize) -> Result<usize, GrammarError> {
        let Some(count) = self.binary else { return Ok(0) };
        usize::try_from(count)
            .ok()
            .filter(|count| (1..=limit).contains(count))
            .ok_or(GrammarError::Attachments { limit })
    }

    fn is_empty(&self) -> bool {
        self.ack.is_none() && self.re.is_none() && self.binary.is_none()
    }
}

/// Leading elements of an array that is verified to be JSON.
struct Outline<'a> {
    header: Option<&'a RawValue>,
    /// The element at the position of the name, of any type.
    name: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Outline<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(OutlineVisitor)
    }
}

struct OutlineVisitor;

impl<'de> Visitor<'de> for OutlineVisitor {
    type Value = Outline<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Outline<'de>, A::Error> {
        let first: Option<&RawValue> = elements.next_element()?;
        let (header, name) = match first {
            Some(first) if first.get().starts_with('{') => (Some(first), elements.next_element()?),
            first => (None, first),
        };
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Outline { header, name })
    }
}

/// Returns the rest of an array after one of its elements, which is a slice of it.
fn list_after(array: &ByteString, element: &str) -> ByteString {
    let end = element.as_ptr().addr() - array.as_ptr().addr() + element.len();
    let rest = array[end..].trim();
    let rest = rest.strip_suffix(']').unwrap_or(rest).trim();
    array.slice_ref(rest.strip_prefix(',').unwrap_or(rest).trim())
}

/// Returns whether valid JSON nests arrays and objects deeper than `limit`.
fn exceeds_depth(json: &str, limit: usize) -> bool {
    let bytes = json.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += string_len(&bytes[at + 1..]),
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    false
}

/// Returns the number of bytes up to and including the closing quote of a string.
fn string_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if bytes[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<JsonFrame>, GrammarError> {
        JsonFrame::parse(&ByteString::from(text), 10)
    }

    fn event(text: &str) -> (String, Option<u64>, String, usize) {
        let frame = parse(text).unwrap().unwrap();
        let Kind::Event { name, ack } = frame.kind else { panic!("expected an event: {text}") };
        (name.into(), ack.map(|id| id.0), frame.list.into(), frame.attachments)
    }

    fn answer(text: &str) -> (u64, String, usize) {
        let frame = parse(text).unwrap().unwrap();
        let Kind::Answer { id } = frame.kind else { panic!("expected an answer: {text}") };
        (id.0, frame.list.into(), frame.attachments)
    }

    #[test]
    fn parses_event_frames() {
        assert_eq!(event(r#"["join"]"#), ("join".into(), None, "".into(), 0));
        assert_eq!(event(r#"["join","red",1]"#), ("join".into(), None, r#""red",1"#.into(), 0));
        assert_eq!(event(r#"[{},"a"]"#), ("a".into(), None, "".into(), 0));
        assert_eq!(event(r#"[{"ack":7},"a",[1]]"#), ("a".into(), Some(7), "[1]".into(), 0));
        assert_eq!(event(r#"[{"binary":2,"ack":0},"a"]"#), ("a".into(), Some(0), "".into(), 2));
        assert_eq!(event(r#"["",{"re":1}]"#), ("".into(), None, r#"{"re":1}"#.into(), 0));
        assert_eq!(event(r#"["a\n\u00fc","x]"]"#), ("a\nü".into(), None, r#""x]""#.into(), 0));
        assert_eq!(event(r#"["a\ud800","\ud83d"]"#), ("a\u{fffd}".into(), None, r#""\ufffd""#.into(), 0));
        let spaced = " [ {\t\"ack\" : 7 } ,\r\n\"a\" , [ 1 ] , 2 ]\n";
        assert_eq!(event(spaced), ("a".into(), Some(7), "[ 1 ] , 2".into(), 0));
    }

    #[test]
    fn parses_answer_frames() {
        assert_eq!(answer(r#"[{"re":0}]"#), (0, "".into(), 0));
        assert_eq!(answer(r#"[{"re":9007199254740991},"a",{}]"#), (MAX_ID, r#""a",{}"#.into(), 0));
        assert_eq!(answer(r#"[{"re":1,"binary":10},1]"#), (1, "1".into(), 10));
        assert_eq!(
            answer(r#"[{"re":1},"connect"]"#),
            (1, r#""connect""#.into(), 0),
            "answers have no event name"
        );
    }

    #[test]
    fn ignores_unknown_and_null_keys() {
        let text = r#"[{"later":[{"ack":1}],"sid":1,"offset":2,"error":3,"ack":null,"re":null},"a"]"#;
        assert_eq!(event(text), ("a".into(), None, "".into(), 0));
        for remark in ["[{}]", r#"[{"sid":"x"}]"#, r#"[{"later":{"binary":-1}}]"#, r#"[{"ack":null}]"#] {
            assert_eq!(parse(remark), Ok(None), "{remark}");
        }
    }

    #[test]
    fn slices_name_and_arguments() {
        let text = ByteString::from(r#"[{"ack":1},"name","argument"]"#.to_owned());
        let frame = JsonFrame::parse(&text, 10).unwrap().unwrap();
        let Kind::Event { name, .. } = frame.kind else { panic!() };
        let within = text.as_bytes().as_ptr_range();
        assert!(within.contains(&name.as_ptr()) && within.contains(&frame.list.as_ptr()));
    }

    #[test]
    fn reports_violations_in_frames() {
        let limit = 10;
        for (text, violation) in [
            ("", GrammarError::NotAnArray),
            ("hello", GrammarError::NotAnArray),
            (r#"{"event":"join"}"#, GrammarError::NotAnArray),
            (r#"["a""#, GrammarError::NotAnArray),
            (r#"["a",]"#, GrammarError::NotAnArray),
            (r#"["a"] ["b"]"#, GrammarError::NotAnArray),
            ("[\"a\n\"]", GrammarError::NotAnArray),
            ("[\"a\",\u{a0}1]", GrammarError::NotAnArray),
            ("[]", GrammarError::Name),
            ("[1]", GrammarError::Name),
            ("[null]", GrammarError::Name),
            (r#"[["a"]]"#, GrammarError::Name),
            (r#"[{},{"ack":1}]"#, GrammarError::Name),
            (r#"[{},1.5]"#, GrammarError::Name),
            (r#"[{"ack":1}]"#, GrammarError::Name),
            (r#"[{"binary":1}]"#, GrammarError::Name),
            (r#"["connect"]"#, GrammarError::ReservedName),
            (r#"["dis\u0063onnect",{}]"#, GrammarError::ReservedName),
            (r#"[{"ack":1},"newListener"]"#, GrammarError::ReservedName),
            (r#"[{"ack":-1},"a"]"#, GrammarError::Header),
            (r#"[{"ack":1.0},"a"]"#, GrammarError::Header),
            (r#"[{"ack":1e2},"a"]"#, GrammarError::Header),
            (r#"[{"ack":"1"},"a"]"#, GrammarError::Header),
            (r#"[{"ack":9007199254740992},"a"]"#, GrammarError::Header),
            (r#"[{"ack":99999999999999999999},"a"]"#, GrammarError::Header),
            (r#"[{"ack":1,"ack":1},"a"]"#, GrammarError::Header),
            (r#"[{"ack":1,"re":1},"a"]"#, GrammarError::Header),
            (r#"[{"binary":true},"a"]"#, GrammarError::Header),
            (r#"[{"binary":-1},"a"]"#, GrammarError::Header),
            (r#"[{"binary":0},"a"]"#, GrammarError::Attachments { limit }),
            (r#"[{"binary":11},"a"]"#, GrammarError::Attachments { limit }),
            (r#"[{"binary":18446744073709551615},"a"]"#, GrammarError::Attachments { limit }),
        ] {
            assert_eq!(parse(text), Err(violation), "{text}");
        }
    }

    #[test]
    fn limits_argument_nesting_like_serde_json() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let reads = |json: &str| serde_json::from_str::<serde_json::Value>(json).is_ok();
        for (depth, allowed) in [(1, true), (MAX_DEPTH, true), (MAX_DEPTH + 1, false), (300_000, false)] {
            let json = nested(depth);
            assert_eq!(reads(&json), allowed, "{depth}");
            let expected = if allowed { Ok(true) } else { Err(GrammarError::TooDeep) };
            for text in [format!(r#"["a","]",{json}]"#), format!(r#"[{{"re":1}},"\"[",{json}]"#)] {
                assert_eq!(parse(&text).map(|frame| frame.is_some()), expected, "{depth}");
            }
        }
        let wide = format!(r#"["a",{}1]"#, "[],".repeat(1_000));
        assert!(parse(&wide).is_ok(), "siblings are not nested");
        assert!(
            parse(&format!(r#"["a","{}"]"#, "[".repeat(1_000))).is_ok(),
            "brackets in strings do not nest"
        );
        assert!(parse(&format!("[{}]", nested(300_000))).is_err());
        assert_eq!(parse(&format!(r#"[{{"later":{}}}]"#, nested(300_000))), Ok(None));
    }
}
