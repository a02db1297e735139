//! Conversions between Rust values and arguments.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::{Args, ArgsError, ArgsReader, ArgsWriter};

/// Values that an event can carry as its arguments.
///
/// - A tuple of up to eight: each element is one argument; `()` has none.
/// - `&value` of any `Serialize` type: one argument. `&(1, 2)` is one array; `(1, 2)` is two numbers. `((1, 2),)` is
///   also one array, and does not trigger clippy's needless-borrow lint.
/// - Numbers, strings, `Bytes`, `serde_json::Value` and the collections of std: one argument.
/// - [`Args`]: passed unchanged.
///
/// ```
/// use roomcast_args::IntoArgs;
///
/// assert_eq!((1, "two").into_args()?.json(), r#"1,"two""#);
/// assert_eq!((&(1, "two")).into_args()?.json(), r#"[1,"two"]"#);
/// assert_eq!("one".into_args()?.json(), r#""one""#);
/// # Ok::<(), roomcast_args::ArgsError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the arguments of an event",
    label = "neither one argument nor a tuple of arguments",
    note = "pass `&value` for one argument; its type has to be `serde::Serialize`",
    note = "pass a tuple for several arguments, up to eight: `(&first, second)`"
)]
pub trait IntoArgs {
    /// Writes the arguments.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Unserializable`] if a value has no JSON form.
    fn into_args(self) -> Result<Args, ArgsError>;
}

/// Types that [`Args::parse`] can read all arguments as.
///
/// A tuple of up to eight reads one argument per element: missing ones read as `null`, further ones are ignored.
/// `Vec<T>` reads every argument as a `T`. `()` reads none. [`Args`] takes them unchanged.
#[diagnostic::on_unimplemented(
    message = "arguments cannot be read as `{Self}`",
    label = "not a tuple of arguments",
    note = "read one argument as `(T,)`, several as `(T, U)` up to eight, any number as `Vec<T>`"
)]
pub trait FromArgs<'a>: Sized {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Missing`] or [`ArgsError::Mismatch`] for the first argument that cannot be read.
    fn from_args(args: &'a Args) -> Result<Self, ArgsError>;
}

impl<T: Serialize + ?Sized> IntoArgs for &T {
    fn into_args(self) -> Result<Args, ArgsError> {
        let mut writer = ArgsWriter::new();
        writer.push(self)?;
        Ok(writer.finish())
    }
}

impl IntoArgs for Args {
    fn into_args(self) -> Result<Args, ArgsError> {
        Ok(self)
    }
}

// Does not overlap with `&T`: `Args` is not `Serialize` and must not become so.
impl IntoArgs for &Args {
    fn into_args(self) -> Result<Args, ArgsError> {
        Ok(self.clone())
    }
}

impl IntoArgs for Bytes {
    fn into_args(self) -> Result<Args, ArgsError> {
        let mut writer = ArgsWriter::new();
        writer.push_bytes(self);
        Ok(writer.finish())
    }
}

impl IntoArgs for BytesMut {
    fn into_args(self) -> Result<Args, ArgsError> {
        self.freeze().into_args()
    }
}

impl IntoArgs for ByteString {
    fn into_args(self) -> Result<Args, ArgsError> {
        (*self).into_args()
    }
}

macro_rules! one_by_value {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> IntoArgs for $type
        where
            Self: Serialize,
        {
            fn into_args(self) -> Result<Args, ArgsError> {
                (&self).into_args()
            }
        }
    )*};
}

one_by_value! {
    [] bool;
    [] char;
    [] String;
    [] i8;
    [] i16;
    [] i32;
    [] i64;
    [] i128;
    [] isize;
    [] u8;
    [] u16;
    [] u32;
    [] u64;
    [] u128;
    [] usize;
    [] f32;
    [] f64;
    [] Number;
    [T] Option<T>;
    [T] Vec<T>;
    [T] VecDeque<T>;
    [T] BTreeSet<T>;
    [T, S] HashSet<T, S>;
    [K, V] BTreeMap<K, V>;
    [K, V, S] HashMap<K, V, S>;
    [T, const N: usize] [T; N];
    [T: ?Sized] Box<T>;
    [T: ?Sized + ToOwned] Cow<'_, T>;
}

impl IntoArgs for Value {
    fn into_args(self) -> Result<Args, ArgsError> {
        (&self).into_args().inspect_err(|_| drop_iteratively(vec![self]))
    }
}

impl IntoArgs for Map<String, Value> {
    fn into_args(self) -> Result<Args, ArgsError> {
        Value::Object(self).into_args()
    }
}

/// Drops values level by level.
///
/// The drop of `serde_json::Value` is recursive, so a value nested too deeply to be written would overflow the stack.
fn drop_iteratively(mut values: Vec<Value>) {
    while let Some(value) = values.pop() {
        match value {
            Value::Array(inner) => values.extend(inner),
            Value::Object(inner) => values.extend(inner.into_iter().map(|(_, value)| value)),
            _ => {}
        }
    }
}

// serde implements these only behind its own `rc` feature.
impl<T: Serialize + ?Sized> IntoArgs for Arc<T> {
    fn into_args(self) -> Result<Args, ArgsError> {
        (*self).into_args()
    }
}

impl<T: Serialize + ?Sized> IntoArgs for Rc<T> {
    fn into_args(self) -> Result<Args, ArgsError> {
        (*self).into_args()
    }
}

impl IntoArgs for () {
    fn into_args(self) -> Result<Args, ArgsError> {
        Ok(Args::empty())
    }
}

impl<'a> FromArgs<'a> for () {
    fn from_args(_: &'a Args) -> Result<Self, ArgsError> {
        Ok(())
    }
}

impl<'a> FromArgs<'a> for Args {
    fn from_args(args: &'a Args) -> Result<Self, ArgsError> {
        Ok(args.clone())
    }
}

impl<'a, T: Deserialize<'a>> FromArgs<'a> for Vec<T> {
    fn from_args(args: &'a Args) -> Result<Self, ArgsError> {
        let mut reader = ArgsReader::new(args);
        let mut values = Self::new();
        while !reader.is_at_end() {
            values.push(reader.next()?);
        }
        Ok(values)
    }
}

macro_rules! tuples {
    ($(($($type:ident $index:tt),+);)*) => {$(
        impl<$($type: Serialize),+> IntoArgs for ($($type,)+) {
            fn into_args(self) -> Result<Args, ArgsError> {
                let mut writer = ArgsWriter::new();
                $(writer.push(&self.$index)?;)+
                Ok(writer.finish())
            }
        }

        impl<'a, $($type: Deserialize<'a>),+> FromArgs<'a> for ($($type,)+) {
            fn from_args(args: &'a Args) -> Result<Self, ArgsError> {
                let mut reader = ArgsReader::new(args);
                Ok(($(reader.next::<$type>()?,)+))
            }
        }
    )*};
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json(args: impl IntoArgs) -> String {
        args.into_args().unwrap().json().to_owned()
    }

    #[test]
    #[expect(clippy::needless_borrows_for_generic_args, reason = "a borrowed tuple is what is tested")]
    fn passes_tuples_as_several_arguments() {
        assert_eq!(json(()), "");
        assert_eq!(json((1,)), "1");
        assert_eq!(
            json((1, "two", [3], None::<u8>, true, 'c', 1.5, json!({"k": 1}))),
            r#"1,"two",[3],null,true,"c",1.5,{"k":1}"#
        );
        assert_eq!(json(&(1, 2)), "[1,2]");
        assert_eq!(json(((1, 2),)), "[1,2]");
        assert_eq!(json(&()), "null");
        assert_eq!(json(&&"nested"), r#""nested""#);
    }

    #[test]
    fn passes_common_types_as_one_argument() {
        assert_eq!(json("text"), r#""text""#);
        assert_eq!(json(String::from("text")), r#""text""#);
        assert_eq!(json(ByteString::from("text")), r#""text""#);
        assert_eq!(json(Cow::Borrowed("text")), r#""text""#);
        assert_eq!(json(Box::<str>::from("text")), r#""text""#);
        assert_eq!(json(Arc::<str>::from("text")), r#""text""#);
        assert_eq!(json(Rc::new(1)), "1");
        assert_eq!(json(true), "true");
        assert_eq!(json('ü'), r#""ü""#);
        assert_eq!(json(u128::MAX), u128::MAX.to_string());
        assert_eq!(json(f32::NAN), "null");
        assert_eq!(json(json!([1, {"a": 2}])), r#"[1,{"a":2}]"#);
        assert_eq!(json(vec![1, 2]), "[1,2]");
        assert_eq!(json([1, 2, 3]), "[1,2,3]");
        assert_eq!(json(Some("x")), r#""x""#);
        assert_eq!(json(None::<String>), "null");
        assert_eq!(json(BTreeMap::from([("a", 1)])), r#"{"a":1}"#);
        assert_eq!(json(HashMap::from([("a", 1)])), r#"{"a":1}"#);
    }

    #[test]
    fn passes_bytes_without_copying() {
        let bytes = Bytes::from(vec![1, 2, 3]);
        let args = bytes.clone().into_args().unwrap();
        assert_eq!(args.json(), r#"{"_placeholder":true,"num":0}"#);
        assert_eq!(args.attachments()[0].as_ptr(), bytes.as_ptr());
        assert_eq!(BytesMut::from(&bytes[..]).into_args().unwrap(), args);
        assert_eq!((&bytes).into_args().unwrap(), args);
    }

    #[test]
    fn passes_arguments_unchanged() {
        let args = (1, Bytes::from_static(b"x")).into_args().unwrap();
        let same = (&args).into_args().unwrap();
        assert_eq!(same.json().as_ptr(), args.json().as_ptr());
        assert_eq!(same.attachments().as_ptr(), args.attachments().as_ptr());
        assert_eq!(args.clone().into_args().unwrap(), args);
        assert_eq!(args.parse::<Args>().unwrap(), args);
    }

    #[test]
    fn failures_name_the_element() {
        let keys = BTreeMap::from([([1], 1)]);
        assert_eq!((1, 2, keys).into_args().unwrap_err().position(), 3);
    }

    #[test]
    fn tuples_read_by_position() {
        let args = (1, "two", Bytes::from_static(b"3")).into_args().unwrap();
        assert_eq!(args.parse::<()>(), Ok(()));
        assert_eq!(args.parse::<(u8,)>(), Ok((1,)));
        assert_eq!(
            args.parse::<(u8, &str, Bytes, Option<u8>)>(),
            Ok((1, "two", Bytes::from_static(b"3"), None)),
        );
        assert_eq!(args.parse::<(u8, u8)>().unwrap_err().position(), 2);
        assert_eq!(args.parse::<(u8, String, Bytes, u8)>(), Err(ArgsError::Missing { position: 4 }));
    }

    #[test]
    fn vec_reads_all_arguments() {
        assert_eq!(Args::empty().parse::<Vec<u8>>(), Ok(vec![]));
        assert_eq!((1, 2, 3).into_args().unwrap().parse::<Vec<u8>>(), Ok(vec![1, 2, 3]));
        assert_eq!((1, "2").into_args().unwrap().parse::<Vec<u8>>().unwrap_err().position(), 2);
    }
}
