//! Sequential reading of arguments.

use serde::Deserialize;
use serde::de::DeserializeSeed;

use super::{Args, ArgsError, ArgsIter, de, placeholder::Resolver, text::List};

/// Cursor over arguments, for handlers that read them one by one.
///
/// Reading all arguments takes time linear in the text. All reads of one reader together yield at most as many bytes as
/// the attachments hold.
#[derive(Debug)]
pub struct ArgsReader<'a> {
    args: &'a Args,
    /// `None` until the first read.
    iter: Option<ArgsIter<'a>>,
    resolver: Resolver<'a>,
    /// Arguments passed so far, including reads beyond the end.
    position: usize,
}

impl<'a> ArgsReader<'a> {
    /// Creates a cursor before the first argument.
    pub fn new(args: &'a Args) -> Self {
        Self { args, iter: None, resolver: Resolver::new(args), position: 0 }
    }

    /// Reads the next argument; a missing one reads as `null`.
    ///
    /// The cursor also advances on an error.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Missing`] if no argument is left and `T` does not accept `null`, [`ArgsError::Mismatch`] if the
    /// argument is not a `T`. `1.0` and `1e3` are read as integers, except for 128-bit types.
    #[expect(
        clippy::should_implement_trait,
        reason = "each call has its own type parameter, unlike an iterator"
    )]
    pub fn next<T: Deserialize<'a>>(&mut self) -> Result<T, ArgsError> {
        self.position += 1;
        let Some(json) = self.iter().next() else {
            return serde_json::from_str("null").map_err(|_| ArgsError::Missing { position: self.position });
        };
        de::from_str(json, &self.resolver).map_err(|error| ArgsError::mismatch(self.position, &error))
    }

    /// Reads the next argument with a seed, for types that are read in parts.
    ///
    /// # Errors
    ///
    /// The same as [`next`](Self::next).
    pub fn next_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, ArgsError> {
        self.position += 1;
        let Some(json) = self.iter().next() else {
            let mut null = serde_json::Deserializer::from_str("null");
            return seed.deserialize(&mut null).map_err(|_| ArgsError::Missing { position: self.position });
        };
        de::seed_from_str(seed, json, &self.resolver)
            .map_err(|error| ArgsError::mismatch(self.position, &error))
    }

    /// Reads the next argument like [`next`](Self::next), and stays before it.
    ///
    /// # Errors
    ///
    /// The same as [`next`](Self::next).
    pub fn peek<T: Deserialize<'a>>(&mut self) -> Result<T, ArgsError> {
        let mut ahead = Self {
            args: self.args,
            iter: Some(self.iter().clone()),
            resolver: Resolver::new(self.args),
            position: self.position,
        };
        ahead.next()
    }

    /// Skips `count` arguments without reading them.
    pub fn skip(&mut self, count: usize) {
        self.position = self.position.saturating_add(count);
        for _ in 0..count {
            if self.iter().next().is_none() {
                break;
            }
        }
    }

    /// Takes the arguments not read yet, like [`rest`](Self::rest), and moves to the end; takes constant time.
    pub fn take_rest(&mut self) -> Args {
        let rest = self.rest();
        self.iter = Some(ArgsIter::new(""));
        rest
    }

    /// Returns whether no argument is left.
    pub fn is_at_end(&self) -> bool {
        self.iter.as_ref().map_or_else(|| self.args.is_empty(), |iter| iter.rest().is_empty())
    }

    /// Returns the arguments not read yet, sharing the memory of all, and all attachments.
    ///
    /// Attachments of earlier arguments are kept, because placeholder numbers count them.
    pub fn rest(&self) -> Args {
        let Some(iter) = &self.iter else { return self.args.clone() };
        let list = List::Json(self.args.list().slice_ref(iter.rest()));
        Args { list, attachments: self.args.attachments.clone() }
    }

    fn iter(&mut self) -> &mut ArgsIter<'a> {
        self.iter.get_or_insert_with(|| self.args.iter())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use bytes::Bytes;
    use serde_json::{Value, json, value::RawValue};

    use super::*;

    fn args(list: &'static str) -> Args {
        Args::from_json(list.into(), vec![]).unwrap()
    }

    #[test]
    fn reads_in_order_and_returns_rest() {
        let args = args(r#"1, "two" ,[3],{"four":4}"#);
        let mut reader = ArgsReader::new(&args);
        assert_eq!(reader.peek::<u32>(), Ok(1));
        assert_eq!(reader.next::<u32>(), Ok(1));
        assert_eq!(reader.peek::<u32>().map_err(|error| error.to_string().contains("argument 2")), Err(true));
        assert_eq!(reader.next::<&str>(), Ok("two"));
        let rest = reader.rest();
        assert_eq!(rest.json(), r#"[3],{"four":4}"#);
        assert!(args.json().as_bytes().as_ptr_range().contains(&rest.json().as_ptr()), "rest is a slice");
        assert_eq!(reader.next::<Vec<u32>>(), Ok(vec![3]));
        assert!(!reader.is_at_end());
        assert_eq!(reader.next::<Value>(), Ok(json!({"four": 4})));
        assert!(reader.is_at_end());
        assert!(reader.rest().is_empty());
    }

    #[test]
    fn keeps_bare_text_until_read() {
        let args = Args::from_text("a \"b\"".into());
        let mut reader = ArgsReader::new(&args);
        assert!(!reader.is_at_end());
        assert_eq!(reader.rest().as_text(), args.as_text());
        assert_eq!(reader.take_rest().as_text(), args.as_text());
        assert!(reader.is_at_end() && reader.rest().is_empty());
        let mut reader = ArgsReader::new(&args);
        assert_eq!(reader.next::<String>().as_deref(), Ok("a \"b\""));
        assert!(reader.is_at_end() && reader.rest().is_empty());
        assert_eq!(reader.next::<String>(), Err(ArgsError::Missing { position: 2 }));
    }

    #[test]
    fn compares_bare_text_with_its_json() {
        let (text, json) = (Args::from_text("é\n".into()), args(r#""é\n""#));
        assert_eq!((text.json(), text.len(), &text), (json.json(), 1, &json));
        assert_eq!(text.list().as_ptr(), text.json().as_ptr());
        assert_ne!(text, Args::from_text("e".into()));
        assert_ne!(Args::from_text("".into()), Args::empty());
        assert!(!Args::from_text("".into()).is_empty());
        assert_eq!(text.with_last("1").as_ref().map(Args::json), Ok(r#""é\n",1"#));
        assert_eq!((text.byte_len(), text.clone().json()), (3, json.json()));
    }

    #[test]
    fn missing_arguments_read_as_null() {
        let args = args("1");
        let mut reader = ArgsReader::new(&args);
        assert_eq!(reader.next::<u32>(), Ok(1));
        let error = reader.next::<u32>().unwrap_err();
        assert_eq!(error, ArgsError::Missing { position: 2 });
        assert!(error.to_string().starts_with("argument 2 is missing"));
        assert_eq!(reader.next::<Option<u32>>(), Ok(None));
        assert_eq!(reader.next::<Value>(), Ok(Value::Null));
        assert_eq!(reader.next::<u32>().unwrap_err().position(), 5);
    }

    #[test]
    fn skips_argument_of_wrong_type() {
        let args = args(r#""one",2"#);
        let mut reader = ArgsReader::new(&args);
        assert_eq!(
            reader.next::<u32>().unwrap_err().to_string(),
            "argument 1 does not fit the type it is read as: \
             invalid type: string \"one\", expected u32 at line 1 column 5",
        );
        assert_eq!(reader.next::<u32>(), Ok(2));
    }

    #[test]
    fn skipping_counts_positions() {
        let args = args("1,2,3");
        let mut reader = ArgsReader::new(&args);
        reader.skip(2);
        assert_eq!(reader.next::<u32>(), Ok(3));
        reader.skip(usize::MAX - 4);
        assert_eq!(reader.next::<u32>(), Err(ArgsError::Missing { position: usize::MAX }));
    }

    #[test]
    fn values_may_borrow_from_the_arguments() {
        let args = Args::from_json(
            r#"{"_placeholder":true,"num":0},"plain",[1, 2]"#.into(),
            vec![Bytes::from_static(b"bin")],
        )
        .unwrap();
        let mut reader = ArgsReader::new(&args);
        assert_eq!(reader.next::<&[u8]>(), Ok(&b"bin"[..]));
        assert_eq!(reader.next::<&str>(), Ok("plain"));
        assert_eq!(reader.next::<&RawValue>().unwrap().get(), "[1, 2]");
        assert!(matches!(args.get::<serde_bytes_cow::Borrowed<'_>>(0).unwrap().0, Cow::Borrowed(b"bin")));
    }

    mod serde_bytes_cow {
        use std::borrow::Cow;

        #[derive(serde::Deserialize)]
        pub(super) struct Borrowed<'a>(#[serde(borrow, with = "serde_bytes")] pub(super) Cow<'a, [u8]>);
    }

    #[test]
    fn shares_bytes_between_reads() {
        let twice = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}"#;
        let args = Args::from_json(twice.into(), vec![Bytes::from_static(b"large")]).unwrap();
        let mut reader = ArgsReader::new(&args);
        assert_eq!(reader.next::<Bytes>().unwrap(), "large");
        assert!(reader.next::<Bytes>().unwrap_err().to_string().contains("more than once"));
        assert_eq!(args.get::<Bytes>(1).unwrap(), "large");
    }
}
