//! Arguments as events of a schema

use std::fmt;

use roomcast_core::{Args, ArgsError, ArgsReader};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::shape::{self, Shape};

/// An event that is known by its name
pub(super) fn one<E: DeserializeOwned>(args: &Args) -> Result<E, ArgsError> {
    let mut reader = ArgsReader::new(args);
    match shape::read::<E>() {
        Shape::Whole => reader.next(),
        Shape::Nothing => ArgsReader::new(&Args::empty()).next(),
        Shape::List => E::deserialize(List(&mut reader)).map_err(|failed| failed.0),
    }
}

/// An event that is known by its variant
pub(super) fn variant<E: DeserializeOwned>(name: &str, args: &Args) -> Result<E, ArgsError> {
    let mut reader = ArgsReader::new(args);
    E::deserialize(Variant { name, reader: &mut reader }).map_err(|failed| failed.0)
}

/// Why an event could not be read
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

/// Arguments as the fields of a tuple
struct List<'r, 'de>(&'r mut ArgsReader<'de>);

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

    // Never at an end: what is missing reads as `null`, as everywhere.
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        self.0.next_seed(seed).map(Some).map_err(Failed)
    }
}

/// A name and arguments as a variant
struct Variant<'r, 'n, 'de> {
    name: &'n str,
    reader: &'r mut ArgsReader<'de>,
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
        Ok((variant, Content(self.reader)))
    }
}

/// What a variant holds
struct Content<'r, 'de>(&'r mut ArgsReader<'de>);

impl<'de> VariantAccess<'de> for Content<'_, 'de> {
    type Error = Failed;

    fn unit_variant(self) -> Result<(), Failed> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failed> {
        self.0.next_seed(seed).map_err(Failed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failed> {
        visitor.visit_seq(List(self.0))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.0.next_seed(Object { fields, visitor }).map_err(Failed)
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
