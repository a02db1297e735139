//! Event arguments: JSON text with binary attachments, and a serde format for both directions.
//!
//! [`Args`] holds the arguments of one event in the form that Socket.IO sends. [`IntoArgs`] and [`ArgsWriter`]
//! serialise values; [`FromArgs`], [`ArgsReader`] and [`Args::get`] deserialise them. The crate depends on no other
//! Roomcast crate; `roomcast-core` re-exports it.

mod convert;
mod de;
mod error;
mod placeholder;
mod reader;
mod ser;
mod split;
mod text;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use bytestring::ByteString;
use serde::Deserialize;

pub use self::convert::{FromArgs, IntoArgs};
pub use self::error::ArgsError;
pub use self::reader::ArgsReader;
pub use self::ser::{ArgsWriter, to_json};
pub use self::split::ArgsIter;
use self::text::List;
pub use self::text::{needs_escape, push_quoted, replace_lone_surrogates};

/// Arguments of one event: JSON text, and the binary attachments that the text refers to by placeholder.
///
/// The text is the comma-separated list of arguments without brackets: `1,"two",{"three":3}`. It is empty without
/// arguments. A decoder can slice it from a packet without copying, and an encoder appends it after the event name.
/// Each binary part is represented by the Socket.IO placeholder `{"_placeholder":true,"num":0}`, where `num` is an
/// index into [`attachments`](Self::attachments).
///
/// Arguments made from one bare text ([`from_text`](Self::from_text)) are stored as is, and converted to JSON once, on
/// first use.
///
/// A clone costs one reference count for the text, and a second one for attachments.
///
/// # Binary and serde
///
/// A type that serialises as bytes (`bytes::Bytes`, the types of `serde_bytes`) becomes an attachment at any depth: in
/// structs, maps, enums and options. `Vec<u8>` is an array of numbers to serde and stays one.
///
/// A type that deserialises from bytes receives the attachment; like serde_json, it also accepts a string or an array
/// of numbers. A type that calls `deserialize_any` sees the placeholder as a plain object: `serde_json::Value`,
/// `RawValue`, and content that serde buffers (untagged and internally tagged enums, and flattened fields). Buffered
/// bytes can be written but not read back, so prefer externally tagged enums.
///
/// A single read yields at most as many bytes as all attachments hold together. Placeholders that repeat a large
/// attachment are an error, because a small packet could otherwise expand to gigabytes.
///
/// As in every other implementation, application data that looks like a placeholder is not escaped: together with
/// attachments it is read as a placeholder.
///
/// ```
/// use bytes::Bytes;
/// use roomcast_args::{Args, IntoArgs};
///
/// let args = ("avatar", Bytes::from_static(b"\x89PNG")).into_args()?;
/// assert_eq!(args.json(), r#""avatar",{"_placeholder":true,"num":0}"#);
///
/// let (name, image) = args.parse::<(String, Bytes)>()?;
/// assert_eq!((name.as_str(), &image[..]), ("avatar", &b"\x89PNG"[..]));
/// # Ok::<(), roomcast_args::ArgsError>(())
/// ```
#[derive(Clone)]
pub struct Args {
    list: List,
    attachments: Option<Arc<Attachments>>,
}

impl Args {
    /// Returns an empty list of arguments.
    pub const fn empty() -> Self {
        Self { list: List::Json(ByteString::new()), attachments: None }
    }

    /// Creates arguments from JSON text and checks the text.
    ///
    /// `list` is comma-separated JSON values without brackets. [`check_placeholders`](Self::check_placeholders)
    /// separately checks that its placeholders refer to existing attachments. Lone surrogates [are
    /// replaced](replace_lone_surrogates).
    ///
    /// # Errors
    ///
    /// [`ArgsError::Syntax`] if `list` is not comma-separated JSON values.
    pub fn from_json(list: ByteString, attachments: Vec<Bytes>) -> Result<Self, ArgsError> {
        let has_escapes = split::validate(&list)?;
        let list = if has_escapes { replace_lone_surrogates(list) } else { list };
        Ok(Self::from_validated(list, attachments))
    }

    /// Creates arguments from JSON text that the caller has already checked.
    ///
    /// Intended for decoders: after `["name",1,"two"]` is known to be JSON, its slice `1,"two"` needs no second check.
    /// The slice keeps the memory of the whole packet alive. Text that is not comma-separated JSON values is a bug of
    /// the caller: nothing panics, but arguments are split in the wrong places and packets encoded from them are
    /// invalid.
    pub fn from_validated(list: ByteString, attachments: Vec<Bytes>) -> Self {
        let trimmed = split::trim(&list);
        // Moves the text where possible: a slice holds one more reference.
        let list = if trimmed.len() == list.len() { list } else { list.slice_ref(trimmed) };
        Self { list: List::Json(list), attachments: Attachments::new(attachments) }
    }

    /// Creates one string argument from its text without copying.
    ///
    /// Equivalent to the JSON string of `text`. Bare text that is received and sent unchanged is never quoted.
    ///
    /// ```
    /// use roomcast_args::Args;
    ///
    /// let args = Args::from_text("say \"hi\"".into());
    /// assert_eq!(args.json(), r#""say \"hi\"""#);
    /// ```
    pub fn from_text(text: ByteString) -> Self {
        Self { list: List::text(text), attachments: None }
    }

    /// Returns the text given to [`from_text`](Self::from_text), or `None` for other arguments.
    pub fn as_text(&self) -> Option<&ByteString> {
        match &self.list {
            List::Text { text, .. } => Some(text),
            List::Json(_) => None,
        }
    }

    /// Takes out the text given to [`from_text`](Self::from_text), leaving no arguments; others stay unchanged.
    pub fn take_text(&mut self) -> Option<ByteString> {
        self.as_text()?;
        match std::mem::replace(&mut self.list, List::Json(ByteString::new())) {
            List::Text { text, .. } => Some(text),
            List::Json(_) => None,
        }
    }

    /// Returns the arguments as comma-separated JSON values; empty without arguments.
    pub fn json(&self) -> &str {
        self.list.json()
    }

    /// Returns the text of [`json`](Self::json), to share or slice without copying.
    pub fn list(&self) -> &ByteString {
        self.list.json()
    }

    /// Returns the binary attachments in the order of their placeholder numbers.
    pub fn attachments(&self) -> &[Bytes] {
        self.attachments.as_deref().map_or(&[], |attachments| &attachments.parts)
    }

    /// Returns the number of arguments, in time linear in the text.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Returns whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        matches!(&self.list, List::Json(json) if json.is_empty())
    }

    /// Returns the stored bytes of text and attachments together; a bare text counts without quotes.
    pub fn byte_len(&self) -> usize {
        self.list.byte_len() + self.attachment_bytes()
    }

    /// Returns an iterator over the JSON text of each argument.
    pub fn iter(&self) -> ArgsIter<'_> {
        ArgsIter::new(self.json())
    }

    /// Reads the argument at `index`, counted from 0.
    ///
    /// A missing argument reads as `null`, so `Option` yields `None`. Each call scans the text from its start: to read
    /// several arguments use [`parse`](Self::parse) or an [`ArgsReader`].
    ///
    /// # Errors
    ///
    /// [`ArgsError::Missing`] or [`ArgsError::Mismatch`].
    pub fn get<'a, T: Deserialize<'a>>(&'a self, index: usize) -> Result<T, ArgsError> {
        let mut reader = ArgsReader::new(self);
        reader.skip(index);
        reader.next()
    }

    /// Reads the arguments by position: a tuple of up to eight, or a `Vec` of all.
    ///
    /// Arguments beyond the length of the tuple are ignored; missing ones read as `null`.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Missing`] or [`ArgsError::Mismatch`] for the first argument that cannot be read.
    pub fn parse<'a, T: FromArgs<'a>>(&'a self) -> Result<T, ArgsError> {
        T::from_args(self)
    }

    /// Returns the same arguments with one more at the end, given as JSON text.
    ///
    /// Copies the text and shares the attachments.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Syntax`] if `json` is not exactly one JSON value.
    pub fn with_last(&self, json: &str) -> Result<Self, ArgsError> {
        split::validate_one(json).map_err(|reason| ArgsError::syntax(self.len() + 1, &reason))?;
        let mut list = String::with_capacity(self.json().len() + 1 + json.len());
        if !self.is_empty() {
            list.push_str(self.json());
            list.push(',');
        }
        list.push_str(split::trim(json));
        Ok(Self { list: List::Json(list.into()), attachments: self.attachments.clone() })
    }

    /// Checks that every placeholder refers to an existing attachment.
    ///
    /// Intended for decoders, on received packets: reject a packet that fails before any handler sees it. Without
    /// attachments no object is a placeholder and the check is free. Unreferenced attachments are allowed.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Attachment`] if a placeholder number is missing, not a number or out of range, if the placeholders
    /// together refer to more bytes than the attachments hold, or if values are nested deeper than the 128 levels that
    /// serde_json reads.
    pub fn check_placeholders(&self) -> Result<(), ArgsError> {
        placeholder::check(self)
    }

    fn attachment_bytes(&self) -> usize {
        self.attachments.as_ref().map_or(0, |attachments| attachments.bytes)
    }
}

impl Default for Args {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for Args {
    fn eq(&self, other: &Self) -> bool {
        let same = match (self.as_text(), other.as_text()) {
            (Some(text), Some(other)) => text == other,
            _ => self.json() == other.json(),
        };
        same && self.attachments == other.attachments
    }
}

impl Eq for Args {}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<usize> = self.attachments().iter().map(Bytes::len).collect();
        f.debug_struct("Args").field("json", &self.json()).field("attachment_lengths", &lengths).finish()
    }
}

impl<'a> IntoIterator for &'a Args {
    type Item = &'a str;
    type IntoIter = ArgsIter<'a>;

    fn into_iter(self) -> ArgsIter<'a> {
        self.iter()
    }
}

/// Never empty: without attachments this is `None`, which allocates nothing.
#[derive(PartialEq, Eq)]
struct Attachments {
    parts: Box<[Bytes]>,
    /// Total bytes, stored because every read starts from them.
    bytes: usize,
}

impl Attachments {
    fn new(parts: Vec<Bytes>) -> Option<Arc<Self>> {
        if parts.is_empty() {
            return None;
        }
        let bytes = parts.iter().map(Bytes::len).sum();
        Some(Arc::new(Self { parts: parts.into(), bytes }))
    }
}
