//! Detects the serde shape of a type without reading or writing a value.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde::ser::{Impossible, Serialize, Serializer};

/// Serde shape of a type or value, as event arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A single argument.
    Whole,
    /// One argument per field.
    List,
    /// No arguments.
    Nothing,
}

/// Returns the variant names of an enum.
///
/// # Panics
/// Panics if the type is not an enum with named variants.
pub(super) fn variants<E: DeserializeOwned>() -> Vec<&'static str> {
    match E::deserialize(Probe) {
        Err(Seen::Enum(variants)) if !variants.is_empty() => variants.to_vec(),
        _ => panic!(
            "event set `{}` must be an enum that serde reads by the names of its variants",
            std::any::type_name::<E>()
        ),
    }
}

/// Returns the shape in which a type is read.
pub(super) fn read<'de, T: Deserialize<'de>>() -> Shape {
    match T::deserialize(Probe) {
        Err(Seen::Shape(shape)) => shape,
        // An enum used as an `Event` is read like any other value.
        _ => Shape::Whole,
    }
}

/// Returns the shape in which a value is written, and the variant name if it is an enum.
pub(super) fn written<T: Serialize + ?Sized>(value: &T) -> (Shape, Option<&'static str>) {
    match value.serialize(Probe) {
        Err(Seen::Shape(shape)) => (shape, None),
        Err(Seen::Variant(shape, variant)) => (shape, Some(variant)),
        // A serialization error surfaces when the value is written.
        _ => (Shape::Whole, None),
    }
}

/// Serializer and deserializer that fails with the first method serde calls.
struct Probe;

/// Serde call observed by the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Shape(Shape),
    Variant(Shape, &'static str),
    Enum(&'static [&'static str]),
    Failed,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Seen {}

impl serde::de::Error for Seen {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Failed
    }
}

impl serde::ser::Error for Seen {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Failed
    }
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Seen;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Seen> {
        Err(Seen::Shape(Shape::Whole))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Seen> {
        Err(Seen::Shape(Shape::Nothing))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Seen> {
        Err(Seen::Shape(Shape::List))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Seen> {
        Err(Seen::Enum(variants))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        newtype_struct seq tuple map struct identifier ignored_any
    }
}

macro_rules! whole {
    ($($method:ident($($type:ty),*))*) => {$(
        fn $method(self, $(_: $type),*) -> Result<Self::Ok, Seen> {
            Err(Seen::Shape(Shape::Whole))
        }
    )*};
}

type Never = Impossible<(), Seen>;

impl Serializer for Probe {
    type Ok = ();
    type Error = Seen;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    whole! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_f32(f32) serialize_f64(f64) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_none() serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Seen> {
        Err(Seen::Shape(Shape::Whole))
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Seen> {
        Err(Seen::Shape(Shape::Nothing))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Seen> {
        Err(Seen::Shape(Shape::Whole))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Seen> {
        Err(Seen::Variant(Shape::Nothing, variant))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), Seen> {
        Err(Seen::Variant(Shape::Whole, variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Never, Seen> {
        Err(Seen::Shape(Shape::Whole))
    }

    fn serialize_tuple(self, _: usize) -> Result<Never, Seen> {
        Err(Seen::Shape(Shape::Whole))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Never, Seen> {
        Err(Seen::Shape(Shape::List))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Never, Seen> {
        Err(Seen::Variant(Shape::List, variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Never, Seen> {
        Err(Seen::Shape(Shape::Whole))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Never, Seen> {
        Err(Seen::Shape(Shape::Whole))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Never, Seen> {
        Err(Seen::Variant(Shape::Whole, variant))
    }
}
