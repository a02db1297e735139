//! List of arguments, which may be one bare text that is converted to JSON on demand.

use std::sync::OnceLock;

use bytestring::ByteString;

/// List of arguments.
#[derive(Clone)]
pub(super) enum List {
    /// Comma-separated JSON values.
    Json(ByteString),
    /// A single argument: the JSON string of this text.
    Text {
        text: ByteString,
        /// Boxed because it is rarely needed.
        json: OnceLock<Box<ByteString>>,
    },
}

impl List {
    pub(super) fn text(text: ByteString) -> Self {
        Self::Text { text, json: OnceLock::new() }
    }

    pub(super) fn json(&self) -> &ByteString {
        match self {
            Self::Json(json) => json,
            Self::Text { text, json } => json.get_or_init(|| {
                let mut quoted = String::with_capacity(text.len() + 2);
                push_quoted(&mut quoted, text);
                Box::new(quoted.into())
            }),
        }
    }

    /// Returns the stored bytes, independent of any conversion to JSON.
    pub(super) fn byte_len(&self) -> usize {
        match self {
            Self::Json(kept) | Self::Text { text: kept, .. } => kept.len(),
        }
    }
}

/// Appends the JSON string of a text.
///
/// ```
/// let mut json = String::from("[");
/// roomcast_args::push_quoted(&mut json, "say \"hi\" to her");
/// assert_eq!(json, r#"["say \"hi\" to her""#);
/// ```
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = next_escape(rest.as_bytes()) {
        out.push_str(&rest[..at]);
        push_escape(out, rest.as_bytes()[at]);
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Returns whether a text as a JSON string needs escapes.
///
/// ```
/// assert!(roomcast_args::needs_escape("say \"hi\""));
/// assert!(!roomcast_args::needs_escape("say hi"));
/// ```
#[inline]
pub fn needs_escape(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Whole blocks without an early exit compile to vector instructions; the last one may overlap the one before.
    let in_block = |block: &[u8; VECTOR]| block.iter().fold(false, |any, &byte| any | is_escaped(byte));
    let (blocks, rest) = bytes.as_chunks();
    match bytes.last_chunk() {
        Some(last) => blocks.iter().fold(in_block(last), |any, block| any | in_block(block)),
        None => rest.iter().any(|&byte| is_escaped(byte)),
    }
}

/// Bytes of a vector register that all targets have.
const VECTOR: usize = 16;

/// Replaces escapes of lone surrogates in JSON text with the escape of U+FFFD, as Node does when encoding UTF-8.
///
/// `"\\ud83d"` is valid JSON and a valid JavaScript string, for example half of a truncated emoji, but cannot be a Rust
/// string. Intended for decoders, on received text. The text is copied only if there is something to replace.
///
/// ```
/// let half = r#"["a\ud83d","\ud83d\ude00"]"#.into();
/// assert_eq!(roomcast_args::replace_lone_surrogates(half), r#"["a\ufffd","\ud83d\ude00"]"#);
/// ```
pub fn replace_lone_surrogates(json: ByteString) -> ByteString {
    let Some(mut at) = next_lone_surrogate(json.as_bytes(), 0) else { return json };
    let mut text = json.as_bytes().to_vec();
    loop {
        text[at + 2..at + ESCAPE].copy_from_slice(b"fffd");
        match next_lone_surrogate(&text, at + ESCAPE) {
            Some(next) => at = next,
            // Replaces ASCII with ASCII.
            None => return ByteString::try_from(text).unwrap_or(json),
        }
    }
}

/// Returns the position of the next unpaired surrogate escape from `at` on, which must not be inside an escape.
fn next_lone_surrogate(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(b'\\', json.get(at..)?)?;
        match code_unit(json, at) {
            Some(0xd800..=0xdbff) => match code_unit(json, at + ESCAPE) {
                Some(0xdc00..=0xdfff) => at += 2 * ESCAPE,
                _ => return Some(at),
            },
            Some(0xdc00..=0xdfff) => return Some(at),
            // The backslash and the escaped character, which may be another backslash.
            _ => at += 2,
        }
    }
}

/// Returns the code unit of the escape at `at`, if it is `\u` and four hexadecimal digits.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// Bytes of an escape such as `\ud83d`.
const ESCAPE: usize = 6;

/// Returns the position of the next byte that a JSON string must escape.
fn next_escape(text: &[u8]) -> Option<usize> {
    // Whole blocks without an early exit allow the compiler to vectorise the loop.
    let clean =
        text.chunks(BLOCK).take_while(|block| !block.iter().fold(false, |any, &byte| any | is_escaped(byte)));
    let start = clean.map(<[u8]>::len).sum();
    Some(start + text[start..].iter().position(|&byte| is_escaped(byte))?)
}

fn is_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Block size in bytes.
const BLOCK: usize = 64;

fn push_escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        _ => {
            out.push_str("\\u00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replaces_lone_surrogates() {
        let replaced = |json: &str| String::from(replace_lone_surrogates(json.into()));
        for (json, expected) in [
            (r#""a\ud83d""#, r#""a\ufffd""#),
            (r#""\uDe00a""#, r#""\ufffda""#),
            (r#""\ud83d\ud83d\ude00\ude00""#, r#""\ufffd\ud83d\ude00\ufffd""#),
            (r#"{"\ud83d":"\ud83d\n"}"#, r#"{"\ufffd":"\ufffd\n"}"#),
            (r#""\\ud83d\\\ud83d""#, r#""\\ud83d\\\ufffd""#),
            // Incomplete escapes are not JSON; other code rejects them.
            (r#""\ud8""#, r#""\ud8""#),
            ("\\", "\\"),
            (r#""\ud83d\ud8""#, r#""\ufffd\ud8""#),
        ] {
            assert_eq!(replaced(json), expected, "{json}");
        }
        for json in [r#""\ud83d\ude00""#, r#""\n\u00e9""#, "1,2"] {
            let json = ByteString::from(json.to_owned());
            assert_eq!(replace_lone_surrogates(json.clone()).as_ptr(), json.as_ptr(), "text is not copied");
        }
    }

    proptest! {
        #[test]
        fn reads_any_javascript_string(units in prop::collection::vec(
            prop_oneof![any::<u16>(), 0xd7ff_u16..=0xe000], 0..12,
        )) {
            let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = replace_lone_surrogates(format!("\"{escapes}\"").into());
            let text: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(text, String::from_utf16_lossy(&units));
        }

        #[test]
        fn quotes_like_serde_json(text in ".*|[\0-\x20\"\\\\ü]*") {
            let mut json = String::new();
            push_quoted(&mut json, &text);
            prop_assert_eq!(needs_escape(&text), json.len() > text.len() + 2);
            prop_assert_eq!(json, serde_json::to_string(&text).unwrap());
        }
    }
}
