//! Deserialises arguments into typed events

use std::fmt;

use roomcast_core::{Args, ArgsError, ArgsReader};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::shape::{self, Shape};

/// Reads an event that has a fixed name.
pub(super) fn one<E: DeserializeOwned>(args: &Args) -> Result<E, ArgsError> {
    match shape::read::<E>() {
        Shape::Whole => ArgsReader::new(args).next(),
        Shape::Nothing => ArgsReader::new(&Args::empty()).next(),
        Shape::List => read(args, |list| E::deserialize(list)),
    }
}

/// Reads an event as a variant of an enum.
pub(super) fn variant<E: DeserializeOwned>(name: &str, args: &Args) -> Result<E, ArgsError> {
    read(args, |list| E::deserialize(Variant { name, list }))
}

/// Reads arguments; missing ones take their defaults or else read as `null`.
///
/// Serde distinguishes fields with and without a default only at the end of a sequence, and an ended sequence cannot be
/// continued. So each missing field without a default costs another attempt.
fn read<E>(args: &Args, attempt: impl Fn(List<'_, '_>) -> Result<E, Failed>) -> Result<E, ArgsError> {
    let mut missing = Missing::default();
    loop {
        let outcome = attempt(List { reader: &mut ArgsReader::new(args), missing: &mut missing });
        missing.next = 0;
        match (outcome, missing.ended.take()) {
            (Err(_), Some(ended)) if missing.nulls.len() < MOST_ATTEMPTS => missing.nulls.push(ended),
            (outcome, _) => return outcome.map_err(|failed| failed.0),
        }
    }
}

/// Bounds the attempts, since a custom `Deserialize` could loop forever
const MOST_ATTEMPTS: usize = 64;

/// Treatment of missing arguments
#[derive(Default)]
struct Missing {
    /// Missing arguments that read as `null`, counted from the first
    nulls: Vec<usize>,
    /// Next missing argument
    next: usize,
    /// Last argument at which the sequence ended, so that its default applies if it has one
    ended: Option<usize>,
}

impl Missing {
    /// Returns whether the next missing argument reads as `null` instead of its default.
    fn is_null(&mut self) -> bool {
        let at = self.next;
        self.next += 1;
        if self.nulls.contains(&at) {
            return true;
        }
        self.ended = Some(at);
        false
    }
}

/// Error of reading an event
#[derive(Debug)]
struct Failed(ArgsError);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl serde::de::Error for Failed {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self(ArgsError::Mismatch { position: 1, reason: reason.to_string() })
    }
}

/// Deserialises arguments as the fields of a tuple
struct List<'r, 'de> {
    reader: &'r mut ArgsReader<'de>,
    missing: &'r mut Missing,
}

impl<'de> Deserializer<'de> for List<'_, 'de> {
    type Error = Failed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_seq(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> SeqAccess<'de> for List<'_, 'de> {
    type Error = Failed;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        if self.reader.is_at_end() && !self.missing.is_null() {
            return Ok(None);
        }
        self.reader.next_seed(seed).map(Some).map_err(Failed)
    }
}

/// Deserialises a name and arguments as a variant
struct Variant<'r, 'n, 'de> {
    name: &'n str,
    list: List<'r, 'de>,
}

impl<'de> Deserializer<'de> for Variant<'_, '_, 'de> {
    type Error = Failed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'r, 'de> EnumAccess<'de> for Variant<'r, '_, 'de> {
    type Error = Failed;
    type Variant = Content<'r, 'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Failed> {
        let variant = seed.deserialize(IntoDeserializer::<Failed>::into_deserializer(self.name))?;
        Ok((variant, Content(self.list)))
    }
}

/// Deserialises the content of a variant
struct Content<'r, 'de>(List<'r, 'de>);

impl<'de> VariantAccess<'de> for Content<'_, 'de> {
    type Error = Failed;

    fn unit_variant(self) -> Result<(), Failed> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failed> {
        self.0.reader.next_seed(seed).map_err(Failed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_seq(self.0)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.0.reader.next_seed(Object { fields, visitor }).map_err(Failed)
    }
}

/// Reads the fields of a variant from one argument
struct Object<V> {
    fields: &'static [&'static str],
    visitor: V,
}

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Object<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_struct("", self.fields, self.visitor)
    }
}
