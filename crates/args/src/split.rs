//! Splitting of the argument list into arguments.

use std::iter::FusedIterator;

use serde::de::IgnoredAny;

use super::ArgsError;
use super::text::needs_escape;

/// Iterator over the JSON text of each argument, from [`Args::iter`](super::Args::iter).
#[derive(Clone, Debug)]
pub struct ArgsIter<'a> {
    rest: &'a str,
}

impl<'a> ArgsIter<'a> {
    /// Creates an iterator over a trimmed `list`.
    pub(super) fn new(list: &'a str) -> Self {
        Self { rest: list }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for ArgsIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let end = value_end(self.rest.as_bytes());
        let value = trim(&self.rest[..end]);
        // Skip the comma, which the last value does not have.
        self.rest = trim(self.rest.get(end + 1..).unwrap_or_default());
        Some(value)
    }
}

impl FusedIterator for ArgsIter<'_> {}

/// Checks that `list` is blank or comma-separated JSON values, in linear time and at any nesting.
///
/// Returns whether the list may contain escapes.
pub(super) fn validate(list: &str) -> Result<bool, ArgsError> {
    let mut rest = trim(list);
    if rest.is_empty() || is_plain_string(rest) {
        return Ok(false);
    }
    let (mut position, mut has_escapes) = (0, false);
    loop {
        position += 1;
        rest = match after_plain_string(rest) {
            Some(rest) => trim(rest),
            None => {
                has_escapes = true;
                after_value(rest).map_err(|reason| ArgsError::syntax(position, &reason))?
            }
        };
        if rest.is_empty() {
            return Ok(has_escapes);
        }
        let Some(next) = rest.strip_prefix(',') else {
            return Err(ArgsError::syntax(position, "expected a comma after it"));
        };
        rest = next;
    }
}

/// Checks that `json` is one JSON value; the error is the reason.
pub(super) fn validate_one(json: &str) -> Result<(), String> {
    match after_value(json)? {
        "" => Ok(()),
        _ => Err("expected one value alone".to_owned()),
    }
}

/// Trims the JSON white space at both ends; Unicode defines more.
#[inline]
pub(super) fn trim(text: &str) -> &str {
    // Text from clients usually has none.
    match text.as_bytes() {
        [first, .., last] if *first > b' ' && *last > b' ' => text,
        _ => text.trim_matches([' ', '\t', '\n', '\r']),
    }
}

/// Checks the value at the start and returns the trimmed text after it.
fn after_value(text: &str) -> Result<&str, String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    match values.next() {
        Some(Ok(IgnoredAny)) => Ok(trim(&text[values.byte_offset()..])),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("expected a value".to_owned()),
    }
}

/// Returns whether the text is a single string without escapes, as most lists are.
#[inline]
fn is_plain_string(text: &str) -> bool {
    let inside = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inside.is_some_and(|inside| !needs_escape(inside))
}

/// Returns the text after the string at the start, if there is a string without escapes.
///
/// Most arguments are such strings, and the search handles many bytes at once.
fn after_plain_string(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('"')?;
    let end = memchr::memchr2(b'"', b'\\', inside.as_bytes())?;
    let (string, rest) = inside.split_at(end);
    let control = string.bytes().fold(false, |any, byte| any | (byte < 0x20));
    // The JSON library judges everything else.
    if control { None } else { rest.strip_prefix('"') }
}

/// Returns the end of the first value: a comma outside of strings and brackets, or the end of the text.
///
/// The text must be JSON; other text is split at an arbitrary place, but never inside a character.
fn value_end(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b',' if depth == 0 => return at,
            b'"' => at = string_end(text, at + 1),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Returns the position of the closing quote of a string whose content begins at `at`.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(list: &str) -> Vec<&str> {
        ArgsIter::new(trim(list)).collect()
    }

    #[test]
    fn splits_at_top_level_commas_only() {
        assert_eq!(split(""), [""; 0]);
        assert_eq!(split(" 1 "), ["1"]);
        assert_eq!(
            split(r#"1,"a,b",[1,2],{"k":[3,4]},null"#),
            ["1", r#""a,b""#, "[1,2]", r#"{"k":[3,4]}"#, "null"]
        );
        assert_eq!(split(r#""\",",2"#), [r#""\",""#, "2"]);
        assert_eq!(split(r#""\\",2"#), [r#""\\""#, "2"]);
        assert_eq!(split(r#"{"]":"}"},"[""#), [r#"{"]":"}"}"#, r#""[""#]);
        assert_eq!(split("1 ,\n\t[ 2 ] , 3"), ["1", "[ 2 ]", "3"]);
    }

    #[test]
    fn validation_names_the_position() {
        for valid in ["", " \r\n", "1", "1,2", " 1 , \"two\" ", "-1.5e3,null,true,[],{}", "\"\u{a0}\""] {
            assert!(validate(valid).is_ok(), "{valid}");
        }
        for (invalid, position) in [
            (",", 1),
            ("1,", 2),
            (",1", 1),
            ("1,,2", 2),
            ("1 2", 1),
            ("1]", 1),
            ("1,[", 2),
            ("1,\"", 2),
            ("tru", 1),
            ("01", 1),
            ("\u{a0}1", 1),
            ("1,{\"a\":1},{a:1}", 3),
            ("\"\n\"", 1),
        ] {
            let error = validate(invalid).unwrap_err();
            assert!(matches!(error, ArgsError::Syntax { .. }), "{invalid}: {error}");
            assert_eq!(error.position(), position, "{invalid}: {error}");
        }
    }

    #[test]
    fn splits_single_value_into_one() {
        assert_eq!(validate_one(" \"offset\" "), Ok(()));
        for invalid in ["", " ", "1,2", "1 2", "\"a\"]"] {
            assert!(validate_one(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = format!("{}{},2", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(validate(&deep), Ok(true));
        assert_eq!(split(&deep).len(), 2);
    }

    #[test]
    fn splits_invalid_json_without_panic() {
        for text in ["\"", "\"\\", "\"\\é", "]]],[", "é,ü", "{,\",", "1,"] {
            let _ = split(text);
        }
    }
}
