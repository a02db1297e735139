//! Serialisation of arguments: serde_json with extracted binary.

use std::io::{self, Write};

use bytes::Bytes;
use bytestring::ByteString;
use serde::Serialize;
use serde_json::ser::Formatter;

use super::{Args, ArgsError};

/// Builder that writes arguments one by one.
///
/// All text is written to one growing buffer. Types without binary cost the same as with serde_json.
#[derive(Debug, Default)]
pub struct ArgsWriter {
    list: Vec<u8>,
    attachments: Vec<Bytes>,
    /// Number of arguments written.
    len: usize,
}

impl ArgsWriter {
    /// Creates a writer without arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one argument.
    ///
    /// Values that serialise as bytes are copied into an attachment; [`push_bytes`](Self::push_bytes) does not copy.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Unserializable`] if the value has no JSON form or is nested deeper than 127 levels. The writer is
    /// unchanged after an error.
    pub fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ArgsError> {
        let mark = (self.list.len(), self.attachments.len());
        self.separate();
        let attachments = &mut self.attachments;
        let formatter = BinaryExtractor { attachments, nesting: BoundedNesting::default() };
        let mut serializer = serde_json::Serializer::with_formatter(&mut self.list, formatter);
        if let Err(error) = value.serialize(&mut serializer) {
            self.list.truncate(mark.0);
            self.attachments.truncate(mark.1);
            return Err(ArgsError::unserializable(self.len + 1, &error));
        }
        self.len += 1;
        Ok(())
    }

    /// Appends one binary argument without copying.
    pub fn push_bytes(&mut self, bytes: Bytes) {
        self.separate();
        write_placeholder(&mut self.list, self.attachments.len()).expect("writing to a Vec never fails");
        self.attachments.push(bytes);
        self.len += 1;
    }

    /// Returns the arguments written.
    pub fn finish(self) -> Args {
        let list = ByteString::try_from(self.list).expect("serde_json writes valid UTF-8");
        Args::from_validated(list, self.attachments)
    }

    fn separate(&mut self) {
        if self.len > 0 {
            self.list.push(b',');
        } else {
            self.list.reserve(FIRST_CAPACITY);
        }
    }
}

/// Writes one value as JSON text of at most 127 nested levels, the depth that serde_json reads.
///
/// `serde_json::to_string` is recursive, so a value that is nested deeply enough overflows the stack and aborts the
/// process.
///
/// # Errors
///
/// Fails if the value has no JSON form or is nested deeper than 127 levels.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let mut text = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, BoundedNesting::default()))?;
    Ok(String::from_utf8(text).expect("serde_json writes valid UTF-8"))
}

/// Maximum nesting of arrays and objects, which is what serde_json reads.
const MAX_DEPTH: usize = 127;

/// Compact JSON formatter with bounded depth.
#[derive(Debug, Default)]
struct BoundedNesting {
    depth: usize,
}

impl BoundedNesting {
    fn enter(&mut self) -> io::Result<()> {
        if self.depth == MAX_DEPTH {
            return Err(io::Error::other(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

macro_rules! bounded_nesting {
    ($nesting:ident) => {
        fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.$nesting().enter()?;
            writer.write_all(b"[")
        }

        fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.$nesting().leave();
            writer.write_all(b"]")
        }

        fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.$nesting().enter()?;
            writer.write_all(b"{")
        }

        fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.$nesting().leave();
            writer.write_all(b"}")
        }
    };
}

impl BoundedNesting {
    fn nesting(&mut self) -> &mut Self {
        self
    }
}

impl Formatter for BoundedNesting {
    bounded_nesting!(nesting);
}

/// Compact JSON formatter of bounded depth that turns bytes into attachments and writes placeholders.
///
/// A formatter reaches bytes at any depth without a wrapper around every value.
struct BinaryExtractor<'a> {
    attachments: &'a mut Vec<Bytes>,
    nesting: BoundedNesting,
}

impl BinaryExtractor<'_> {
    fn nesting(&mut self) -> &mut BoundedNesting {
        &mut self.nesting
    }
}

impl Formatter for BinaryExtractor<'_> {
    bounded_nesting!(nesting);

    fn write_byte_array<W: ?Sized + Write>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()> {
        write_placeholder(writer, self.attachments.len())?;
        self.attachments.push(Bytes::copy_from_slice(value));
        Ok(())
    }
}

fn write_placeholder<W: ?Sized + Write>(writer: &mut W, num: usize) -> io::Result<()> {
    write!(writer, r#"{{"_placeholder":true,"num":{num}}}"#)
}

/// Initial capacity of the text in bytes; most events fit.
const FIRST_CAPACITY: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::ser::{Error, Serializer};
    use serde_json::{Value, json, value::RawValue};

    use super::*;
    use crate::IntoArgs;

    fn written<T: Serialize + ?Sized>(value: &T) -> Args {
        let mut writer = ArgsWriter::new();
        writer.push(value).unwrap();
        writer.finish()
    }

    #[derive(Serialize)]
    struct Upload {
        name: &'static str,
        body: Bytes,
        parts: BTreeMap<&'static str, Option<Part>>,
    }

    #[derive(Serialize)]
    enum Part {
        New(Bytes),
        Pair(u8, Bytes),
        Named { preview: Bytes },
    }

    #[test]
    fn extracts_binary_at_any_depth() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(Bytes::from);
        let upload = Upload {
            name: "x",
            body: a,
            parts: BTreeMap::from([
                ("1", Some(Part::New(b))),
                ("2", None),
                ("3", Some(Part::Pair(7, c))),
                ("4", Some(Part::Named { preview: d })),
            ]),
        };
        let args = written(&upload);
        assert_eq!(
            args.json(),
            r#"{"name":"x","body":{"_placeholder":true,"num":0},"parts":{"1":{"New":{"_placeholder":true,"num":1}},"2":null,"3":{"Pair":[7,{"_placeholder":true,"num":2}]},"4":{"Named":{"preview":{"_placeholder":true,"num":3}}}}}"#,
        );
        assert_eq!(args.attachments(), ["a", "b", "c", "d"].map(Bytes::from));
    }

    #[test]
    fn extracts_serde_bytes_but_not_vec() {
        let args = written(&(serde_bytes::Bytes::new(b"bin"), vec![1_u8, 2]));
        assert_eq!(args.json(), r#"[{"_placeholder":true,"num":0},[1,2]]"#);
        assert_eq!(args.attachments(), [Bytes::from_static(b"bin")]);
    }

    #[test]
    fn extracts_binary_from_buffered_values() {
        #[derive(Serialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            File { body: Bytes },
        }
        #[derive(Serialize)]
        struct Outer {
            #[serde(flatten)]
            inner: Tagged,
        }
        let args = written(&Outer { inner: Tagged::File { body: Bytes::from_static(b"x") } });
        assert_eq!(args.json(), r#"{"kind":"File","body":{"_placeholder":true,"num":0}}"#);
    }

    #[test]
    fn matches_serde_json_without_binary() {
        let value = json!({"a": [1, -2, 3.5, null, true], "ü\"\\\n": "é\u{1}", "big": u64::MAX});
        let args = written(&value);
        assert_eq!(args.json(), value.to_string());
        assert!(args.attachments().is_empty());
    }

    #[test]
    fn numbers_keep_their_precision() {
        assert_eq!(written(&u128::MAX).json(), u128::MAX.to_string());
        assert_eq!(written(&i64::MIN).json(), i64::MIN.to_string());
        assert_eq!(written(&0.1_f64).json(), "0.1");
        assert_eq!(written(&f64::NAN).json(), "null");
        assert_eq!(written(&f32::INFINITY).json(), "null");
    }

    #[test]
    fn writes_raw_values_beside_binary() {
        let raw = RawValue::from_string(r#"{ "as": "is" }"#.into()).unwrap();
        let args = written(&(raw, Bytes::from_static(b"x")));
        assert_eq!(args.json(), r#"[{ "as": "is" },{"_placeholder":true,"num":0}]"#);
    }

    #[test]
    fn bytes_are_pushed_without_copying() {
        let bytes = Bytes::from(vec![7; 100]);
        let mut writer = ArgsWriter::new();
        writer.push("name").unwrap();
        writer.push_bytes(bytes.clone());
        let args = writer.finish();
        assert_eq!(args.json(), r#""name",{"_placeholder":true,"num":0}"#);
        assert_eq!(args.attachments()[0].as_ptr(), bytes.as_ptr());
        assert_eq!(args.byte_len(), args.json().len() + 100);
    }

    #[test]
    fn failed_push_leaves_writer_unchanged() {
        struct Fails;
        impl Serialize for Fails {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(S::Error::custom("not today"))
            }
        }
        let mut writer = ArgsWriter::new();
        writer.push(&1).unwrap();
        let error = writer.push(&(Bytes::from_static(b"gone"), Fails)).unwrap_err();
        assert_eq!(error, ArgsError::Unserializable { position: 2, reason: "not today".into() });
        let keys = BTreeMap::from([(vec![1], 1)]);
        assert!(writer.push(&keys).unwrap_err().to_string().contains("key must be a string"));
        writer.push(&2).unwrap();
        let args = writer.finish();
        assert_eq!(args.json(), "1,2");
        assert!(args.attachments().is_empty());
    }

    /// Builds nested arrays.
    fn nested(depth: usize) -> Value {
        (1..depth).fold(json!([]), |inner, _| Value::Array(vec![inner]))
    }

    #[test]
    fn rejects_values_nested_too_deep() {
        for depth in [MAX_DEPTH, MAX_DEPTH + 1, 20_000] {
            let value = nested(depth);
            let fits = depth <= MAX_DEPTH;
            assert_eq!(ArgsWriter::new().push(&value).is_ok(), fits, "{depth}");
            assert_eq!(to_json(&value).is_ok(), fits, "{depth}");
            let object = (1..depth).fold(json!({}), |inner, _| {
                Value::Object(serde_json::Map::from_iter([("a".to_owned(), inner)]))
            });
            assert_eq!(to_json(&object).is_ok(), fits, "{depth}");
            if fits {
                assert_eq!(
                    written(&value).get::<Value>(0).as_ref(),
                    Ok(&value),
                    "written values can be read"
                );
            }
            // By value it is also dropped, which must not overflow the stack either.
            for value in [value, object] {
                let error = value.into_args().err().map(|error| error.to_string());
                let expected = (!fits).then_some("nested deeper than 127 levels");
                assert_eq!(error.is_some(), expected.is_some());
                assert!(error.unwrap_or_default().contains(expected.unwrap_or_default()));
            }
        }
        let wide = json!([[], {}, [[]]]);
        assert_eq!(to_json(&vec![&wide; 1000]).unwrap(), serde_json::to_string(&vec![&wide; 1000]).unwrap());
    }

    #[test]
    fn binary_cannot_be_a_key() {
        let keys = BTreeMap::from([(Bytes::from_static(b"k"), 1)]);
        let error = ArgsWriter::new().push(&keys).unwrap_err();
        assert!(error.to_string().contains("key must be a string"), "{error}");
    }
}
