//! Deserialisation of values: serde_json with attachments for types that read bytes.
//!
//! [`Bridge`] wraps every part of serde that nested values pass through, and forwards all calls unchanged except requests
//! for bytes. Keys are not wrapped: an object cannot be a key.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};

use super::placeholder::{self, Resolver};

/// Reads one JSON value.
///
/// Without attachments this is plain serde_json, unless that fails. To JavaScript clients `1`, `1.0` and `1e0` are the
/// same number, and some write integers in such a form; serde_json accepts only the first as an integer. After a
/// mismatch the value is therefore read again, with each number without a fraction as an integer.
pub(super) fn from_str<'de, T: Deserialize<'de>>(
    json: &'de str,
    resolver: &Resolver<'de>,
) -> Result<T, serde_json::Error> {
    let budget = resolver.budget();
    let strict = if resolver.is_empty() {
        serde_json::from_str(json)
    } else {
        bridged(PhantomData, json, resolver, Integers::Typed)
    };
    match strict {
        Err(error) if error.is_data() && may_hold_float(json) => {
            resolver.restore(budget);
            // The error about the value as written is more specific.
            bridged(PhantomData, json, resolver, Integers::All).map_err(|_| error)
        }
        read => read,
    }
}

/// Reads one JSON value with a seed, which can be used only once.
///
/// The same as [`from_str`], except that integers in content that serde buffers must be written as integers.
pub(super) fn seed_from_str<'de, S: DeserializeSeed<'de>>(
    seed: S,
    json: &'de str,
    resolver: &Resolver<'de>,
) -> Result<S::Value, serde_json::Error> {
    if resolver.is_empty() && !may_hold_float(json) {
        let mut inner = serde_json::Deserializer::from_str(json);
        let value = seed.deserialize(&mut inner)?;
        inner.end()?;
        return Ok(value);
    }
    bridged(seed, json, resolver, Integers::Typed)
}

fn bridged<'de, S: DeserializeSeed<'de>>(
    seed: S,
    json: &'de str,
    resolver: &Resolver<'de>,
    integers: Integers,
) -> Result<S::Value, serde_json::Error> {
    let mut inner = serde_json::Deserializer::from_str(json);
    let value = seed.deserialize(Bridge { inner: &mut inner, resolver, integers })?;
    inner.end()?;
    Ok(value)
}

/// Whether a value may hold a number with a fraction or an exponent.
fn may_hold_float(json: &str) -> bool {
    memchr::memchr3(b'.', b'e', b'E', json.as_bytes()).is_some()
}

/// Numbers in float form that are read as integers if they have no fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Integers {
    /// Numbers that the type reads as an integer.
    Typed,
    /// Also numbers read by `deserialize_any`, because content that serde buffers has no type yet.
    All,
}

/// Wrapper around one part of serde, with access to the attachments.
struct Bridge<'r, 'de, T> {
    inner: T,
    resolver: &'r Resolver<'de>,
    integers: Integers,
}

impl<'r, 'de, T> Bridge<'r, 'de, T> {
    fn wrap<U>(&self, inner: U) -> Bridge<'r, 'de, U> {
        Bridge { inner, resolver: self.resolver, integers: self.integers }
    }
}

/// Integer that a peer wrote as a float.
enum Whole {
    Unsigned(u64),
    Signed(i64),
}

impl Whole {
    /// Returns the exact integer of `value` if it fits into 64 bits.
    fn of(value: f64) -> Option<Self> {
        // Casts saturate, and the saturated value is out of range.
        let whole = value as i128;
        if whole as f64 != value {
            return None;
        }
        u64::try_from(whole).map(Self::Unsigned).or_else(|_| i64::try_from(whole).map(Self::Signed)).ok()
    }

    fn visit<'de, V: Visitor<'de>, E: Error>(self, visitor: V) -> Result<V::Value, E> {
        match self {
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
        }
    }
}

/// Visitor of a type that asked for an integer.
struct IntegerVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for IntegerVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.0.visit_u64(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.0.visit_i64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        match Whole::of(value) {
            Some(whole) => whole.visit(self.0),
            None => self.0.visit_f64(value),
        }
    }
}

macro_rules! deserialize_integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(IntegerVisitor(visitor))
        }
    )*};
}

macro_rules! deserialize_leaves {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        }
    )*};
}

macro_rules! deserialize_nested {
    ($($method:ident($($argument:ident: $type:ty),*))*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.wrap(visitor);
            self.inner.$method($($argument,)* visitor)
        }
    )*};
}

macro_rules! deserialize_bytes {
    ($($method:ident)*) => {$(
        // serde_json accepts only strings and arrays when asked for bytes, so ask it for anything.
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = BytesOrPlaceholder(self.wrap(visitor));
            self.inner.deserialize_any(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bridge<'_, 'de, D> {
    type Error = D::Error;

    deserialize_bytes! { deserialize_bytes deserialize_byte_buf }

    deserialize_nested! {
        deserialize_any()
        deserialize_option()
        deserialize_newtype_struct(name: &'static str)
        deserialize_seq()
        deserialize_tuple(len: usize)
        deserialize_tuple_struct(name: &'static str, len: usize)
        deserialize_map()
        deserialize_struct(name: &'static str, fields: &'static [&'static str])
        deserialize_enum(name: &'static str, variants: &'static [&'static str])
    }

    deserialize_integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    deserialize_leaves! {
        deserialize_bool
        // serde_json does not accept a float for 128 bits, and an `f64` would lose digits.
        deserialize_i128 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit_leaves {
    ($($method:ident($type:ty))*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bridge<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit_leaves! {
        visit_bool(bool)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_f32(f32) visit_char(char)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        match Whole::of(value).filter(|_| self.integers == Integers::All) {
            Some(whole) => whole.visit(self.inner),
            None => self.inner.visit_f64(value),
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.wrap(deserializer);
        self.inner.visit_some(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let deserializer = self.wrap(deserializer);
        self.inner.visit_newtype_struct(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let seq = self.wrap(seq);
        self.inner.visit_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let map = self.wrap(map);
        self.inner.visit_map(map)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let access = self.wrap(access);
        self.inner.visit_enum(access)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bridge<'_, 'de, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.wrap(deserializer);
        self.inner.deserialize(deserializer)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bridge<'_, 'de, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.wrap(seed);
        self.inner.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bridge<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.wrap(seed);
        self.inner.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'r, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Bridge<'r, 'de, A> {
    type Error = A::Error;
    type Variant = Bridge<'r, 'de, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (name, variant) = self.inner.variant_seed(seed)?;
        Ok((name, Bridge { inner: variant, resolver: self.resolver, integers: self.integers }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bridge<'_, 'de, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.wrap(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.wrap(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.wrap(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

/// Visitor of a type that asked for bytes: accepts the forms of serde_json and placeholders.
struct BytesOrPlaceholder<'r, 'de, V>(Bridge<'r, 'de, V>);

impl<'de, V: Visitor<'de>> Visitor<'de> for BytesOrPlaceholder<'_, 'de, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        match placeholder::read(map)? {
            Some(num) => {
                let attachment = self.0.resolver.resolve(num)?;
                self.0.visit_borrowed_bytes(attachment)
            }
            None => Err(A::Error::invalid_type(Unexpected::Map, &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(seq)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.0.visit_bytes(value.as_bytes())
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_bytes(value.as_bytes())
    }
}
