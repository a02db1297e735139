//! Placeholders: JSON objects that represent attachments.

use std::{cell::Cell, fmt};

use bytes::Bytes;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{Args, ArgsError};

/// Attachments of one read, with the number of bytes that it may still copy.
///
/// Each attachment is copied where it is read. Honest senders refer to each attachment once, so a budget of all their
/// bytes suffices, and repeating a large attachment cannot inflate a packet.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    attachments: &'a [Bytes],
    budget: Cell<usize>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(args: &'a Args) -> Self {
        Self { attachments: args.attachments(), budget: Cell::new(args.attachment_bytes()) }
    }

    /// Returns the bytes that may still be copied.
    pub(super) fn budget(&self) -> usize {
        self.budget.get()
    }

    /// Resets the budget after a failed read.
    pub(super) fn restore(&self, budget: usize) {
        self.budget.set(budget);
    }

    /// Returns whether there are no attachments.
    pub(super) fn is_empty(&self) -> bool {
        self.attachments.is_empty()
    }

    /// Returns the attachment with the number `num`.
    pub(super) fn resolve<E: Error>(&self, num: u64) -> Result<&'a Bytes, E> {
        let attachment =
            usize::try_from(num).ok().and_then(|num| self.attachments.get(num)).ok_or_else(|| {
                E::custom(format_args!(
                    "placeholder {num} is out of range, there are {}",
                    self.attachments.len()
                ))
            })?;
        let budget = self.budget.get().checked_sub(attachment.len());
        self.budget.set(budget.ok_or_else(|| E::custom("placeholders name an attachment more than once"))?);
        Ok(attachment)
    }
}

/// Reads an object as a placeholder and returns its number, or `None` for another object.
pub(super) fn read<'de, A: MapAccess<'de>>(mut map: A) -> Result<Option<u64>, A::Error> {
    let mut marked = false;
    let mut num = None;
    while let Some(key) = map.next_key()? {
        match key {
            Key::Mark => marked = map.next_value()?,
            Key::Num => num = Some(map.next_value()?),
            Key::Number | Key::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(num.filter(|_| marked))
}

/// Implements [`Args::check_placeholders`].
pub(super) fn check(args: &Args) -> Result<(), ArgsError> {
    let resolver = Resolver::new(args);
    if resolver.is_empty() {
        return Ok(());
    }
    for (index, json) in args.iter().enumerate() {
        Walk(&resolver)
            .deserialize(&mut serde_json::Deserializer::from_str(json))
            .map_err(|error| ArgsError::attachment(index + 1, &error))?;
    }
    Ok(())
}

/// Visits every object of a value.
#[derive(Clone, Copy)]
struct Walk<'r, 'a>(&'r Resolver<'a>);

/// Part of a value that the enclosing object needs to know.
enum Outline {
    True,
    Num(u64),
    Other,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = Outline;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outline, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Outline, E> {
        Ok(if value { Outline::True } else { Outline::Other })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Outline, E> {
        Ok(Outline::Num(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_unit<E>(self) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Outline, A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(Outline::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut marked = false;
        let mut num = Outline::Other;
        while let Some(key) = map.next_key()? {
            match key {
                Key::Mark => marked = matches!(map.next_value_seed(self)?, Outline::True),
                Key::Num => num = map.next_value_seed(self)?,
                Key::Number => {
                    let digits: String = map.next_value()?;
                    return Ok(digits.parse().map_or(Outline::Other, Outline::Num));
                }
                Key::Other => {
                    map.next_value_seed(self)?;
                }
            }
        }
        match (marked, num) {
            (false, _) => Ok(Outline::Other),
            (true, Outline::Num(num)) => self.0.resolve(num).map(|_| Outline::Other),
            (true, _) => Err(A::Error::custom("placeholder has no number")),
        }
    }
}

enum Key {
    Mark,
    Num,
    /// Wrapper of every number if some crate of the build enables serde_json's `arbitrary_precision`.
    Number,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "_placeholder" => Key::Mark,
                    "num" => Key::Num,
                    "$serde_json::private::Number" => Key::Number,
                    _ => Key::Other,
                })
            }
        }

        deserializer.deserialize_identifier(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(list: &'static str, attachments: &[&'static [u8]]) -> Result<(), String> {
        let attachments = attachments.iter().map(|part| Bytes::from_static(part)).collect();
        Args::from_json(list.into(), attachments)
            .unwrap()
            .check_placeholders()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn accepts_placeholders_in_range() {
        for list in [
            "",
            r#"1,"two",null,-3,4.5,{"num":7},{"_placeholder":false,"num":7},{"_placeholder":1}"#,
            r#"{"_placeholder":true,"num":0},[{"a":{"num":1,"_placeholder":true}}]"#,
            r#"{"\u005fplaceholder":true,"n\u0075m":0,"more":[1]}"#,
            r#"{"_placeholder":true,"_placeholder":false,"num":9}"#,
        ] {
            assert_eq!(checked(list, &[b"a", b"b"]), Ok(()), "{list}");
        }
    }

    #[test]
    fn rejects_placeholders_out_of_range() {
        for list in [
            r#"0,{"_placeholder":true,"num":2}"#,
            r#"0,[[{"a":{"_placeholder":true,"num":18446744073709551615}}]]"#,
            r#"0,{"_placeholder":true,"num":99999999999999999999}"#,
            r#"0,{"_placeholder":true,"num":-1}"#,
            r#"0,{"_placeholder":true,"num":0.5}"#,
            r#"0,{"_placeholder":true,"num":"0"}"#,
            r#"0,{"_placeholder":true,"num":null}"#,
            r#"0,{"_placeholder":true}"#,
            r#"0,{"\u005fplaceholder":true,"num":2}"#,
            r#"0,{"_placeholder":false,"num":2,"_placeholder":true}"#,
            r#"0,{"_placeholder":{"_placeholder":true,"num":2}}"#,
        ] {
            let error = checked(list, &[b"a", b"b"]).unwrap_err();
            assert!(error.starts_with("argument 2 does not match the attachments"), "{list}: {error}");
        }
    }

    #[test]
    fn accepts_any_object_without_attachments() {
        assert_eq!(checked(r#"{"_placeholder":true,"num":5}"#, &[]), Ok(()));
    }

    #[test]
    fn rejects_repeated_attachments() {
        let twice = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}"#;
        assert!(checked(twice, &[b"large"]).unwrap_err().contains("more than once"));
        // Repeating an empty attachment is harmless.
        assert_eq!(checked(twice, &[b""]), Ok(()));
    }

    #[test]
    fn rejects_nesting_beyond_serde_json() {
        let list = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let args = Args::from_json(list.into(), vec![Bytes::from_static(b"a")]).unwrap();
        assert!(args.check_placeholders().unwrap_err().to_string().contains("recursion limit"));
    }
}
