//! Arguments that are one text, which becomes JSON only if somebody asks for that

use std::sync::OnceLock;

use bytestring::ByteString;

/// The list of arguments
#[derive(Clone)]
pub(super) enum List {
    /// As JSON values separated by commas
    Json(ByteString),
    /// One argument, the JSON string of this text
    Text {
        text: ByteString,
        /// Boxed, since most never need it
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

    /// Bytes as they are kept, which stay the same whatever is asked for
    pub(super) fn byte_len(&self) -> usize {
        match self {
            Self::Json(kept) | Self::Text { text: kept, .. } => kept.len(),
        }
    }
}

/// Appends the JSON string of a text
///
/// ```
/// let mut json = String::from("[");
/// roomcast_core::push_quoted(&mut json, "say \"hi\" to her");
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

/// Where the next byte is that cannot stand in a JSON string as it is
fn next_escape(text: &[u8]) -> Option<usize> {
    // A block at a time and without a way out in its middle, so that the compiler looks at many bytes at once.
    let clean = text
        .chunks(BLOCK)
        .take_while(|block| !block.iter().fold(false, |any, &byte| any | needs_escape(byte)));
    let start = clean.map(<[u8]>::len).sum();
    Some(start + text[start..].iter().position(|&byte| needs_escape(byte))?)
}

fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Bytes looked at together
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

    proptest! {
        #[test]
        fn quoting_is_that_of_serde_json(text in ".*|[\0-\x20\"\\\\ü]*") {
            let mut json = String::new();
            push_quoted(&mut json, &text);
            prop_assert_eq!(json, serde_json::to_string(&text).unwrap());
        }
    }
}
