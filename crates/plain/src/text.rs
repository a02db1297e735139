//! JSON strings and their text, copied only if they contain escapes.

use bytestring::ByteString;
use serde::Deserialize;

/// Returns the text of exactly one JSON string, or `None` for any other `json`.
///
/// The text is a slice of `json` if there are no escapes. Unpaired surrogates have no text.
pub(crate) fn unquote(json: &ByteString) -> Option<ByteString> {
    let inside = json.strip_prefix('"')?;
    let end = memchr::memchr2(b'"', b'\\', inside.as_bytes())?;
    if inside.as_bytes()[end] == b'\\' {
        return serde_json::from_str::<String>(json).ok().map(ByteString::from);
    }
    (end + 1 == inside.len()).then(|| json.slice_ref(&inside[..end]))
}

/// Returns the index of exactly one placeholder, or `None` for any other `json`.
pub(crate) fn placeholder(json: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Placeholder {
        #[serde(rename = "_placeholder")]
        mark: bool,
        num: u64,
    }

    if json == r#"{"_placeholder":true,"num":0}"# {
        return Some(0);
    }
    let placeholder: Placeholder = serde_json::from_str(json).ok()?;
    placeholder.mark.then_some(placeholder.num)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roomcast_core::push_quoted;

    use super::*;

    fn quoted(text: &str) -> String {
        let mut out = String::new();
        push_quoted(&mut out, text);
        out
    }

    #[test]
    fn unquotes_exactly_one_string() {
        let unquoted = |json: &'static str| unquote(&json.into()).map(String::from);
        assert_eq!(unquoted(r#""plain""#).as_deref(), Some("plain"));
        assert_eq!(unquoted(r#""""#).as_deref(), Some(""));
        assert_eq!(unquoted(r#""a\n\"\u00fc\ud83d\ude00""#).as_deref(), Some("a\n\"ü😀"));
        for other in [r#""a","b""#, r#""a\n","b""#, "", "\"", "1", "[\"a\"]", r#""\ud800""#, r#""a" "#] {
            assert_eq!(unquoted(other), None, "{other}");
        }
    }

    #[test]
    fn slices_text_without_escapes() {
        let json = ByteString::from(r#""hello""#.to_owned());
        let text = unquote(&json).unwrap();
        assert_eq!(text.as_ptr(), json[1..].as_ptr());
    }

    #[test]
    fn finds_placeholders_in_any_spelling() {
        for json in [
            r#"{"_placeholder":true,"num":0}"#,
            r#"{ "num" : 0, "_placeholder" : true }"#,
            r#"{"\u005fplaceholder":true,"more":[],"num":0}"#,
        ] {
            assert_eq!(placeholder(json), Some(0), "{json}");
        }
        for json in
            [r#"{"_placeholder":false,"num":0}"#, r#"{"num":0}"#, "0", r#"{"_placeholder":true,"num":0},1"#]
        {
            assert_eq!(placeholder(json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn quotes_like_serde_json_and_unquotes(text in ".*|[\0-\x20\"\\\\ü]*") {
            let json = quoted(&text);
            prop_assert_eq!(&json, &serde_json::to_string(&text).unwrap());
            let unquoted = unquote(&json.into());
            prop_assert_eq!(unquoted.as_deref(), Some(&*text));
        }
    }
}
