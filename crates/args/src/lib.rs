//! Event arguments: JSON text with binary attachments, and a serde format for both directions
//!
//! [`Args`] holds the arguments of one event as Socket.IO sends them. [`IntoArgs`] and [`ArgsWriter`] serialise values
//! into them; [`FromArgs`], [`ArgsReader`] and [`Args::get`] deserialise them again. The crate depends on no other part
//! of Roomcast; `roomcast-core` re-exports it.

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
pub use self::text::{push_quoted, replace_lone_surrogates};

/// The arguments of one event: JSON text, and the binary parts that the text names by placeholder
///
/// The text is the list of arguments separated by commas, without brackets: `1,"two",{"three":3}`; it is empty
/// when there are none. So a decoder slices it out of a packet without copying, and an encoder appends it after
/// the name of the event. Where a binary part belongs, the text has the Socket.IO placeholder
/// `{"_placeholder":true,"num":0}`, whose number counts [`attachments`](Self::attachments).
///
/// Arguments that are one text ([`from_text`](Self::from_text)) are kept as that, and become JSON when somebody asks
/// for it, once.
///
/// Cloning costs one reference count for the text, and a second one when there are attachments.
///
/// # Binary and serde
///
/// A type that serialises as bytes (`bytes::Bytes`, those of `serde_bytes`) becomes an attachment wherever it
/// stands: in structs, maps, enums and options. `Vec<u8>` is an array of numbers to serde and stays one.
///
/// Reading gives a type that asks for bytes its attachment; a string or an array of numbers will do as well, as
/// with serde_json. What asks for *anything* sees the placeholder as a plain object: `serde_json::Value` and
/// `RawValue` do, and so does what serde itself buffers (the content of untagged and internally tagged enums,
/// and flattened fields), where bytes can be written but not read back. Prefer externally tagged enums there.
///
/// One reading yields at most as many bytes as all attachments have together. Placeholders that repeat a large
/// attachment are an error, lest a small packet become gigabytes.
///
/// An object that looks like a placeholder but comes from the application's own data is not escaped, as in
/// every other implementation: beside attachments it is taken for one.
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
    /// No arguments
    pub const fn empty() -> Self {
        Self { list: List::Json(ByteString::new()), attachments: None }
    }

    /// Arguments from their JSON text, which is checked
    ///
    /// `list` is comma-separated JSON values without brackets. Whether its placeholders name attachments that
    /// exist is a separate question: see [`check_placeholders`](Self::check_placeholders). Lone surrogates
    /// [are replaced](replace_lone_surrogates).
    ///
    /// # Errors
    ///
    /// [`ArgsError::Syntax`] if the text is anything else.
    pub fn from_json(list: ByteString, attachments: Vec<Bytes>) -> Result<Self, ArgsError> {
        let has_escapes = split::validate(&list)?;
        let list = if has_escapes { replace_lone_surrogates(list) } else { list };
        Ok(Self::from_validated(list, attachments))
    }

    /// Arguments from JSON text that the caller has checked already
    ///
    /// For decoders: once the array `["name",1,"two"]` is known to be JSON, the slice `1,"two"` of it needs no
    /// second look. The slice keeps the memory of the whole packet alive. Text that is not comma-separated JSON
    /// values is a mistake of the caller: nothing panics, but arguments are cut in the wrong places, and the
    /// packets encoded from them are invalid.
    pub fn from_validated(list: ByteString, attachments: Vec<Bytes>) -> Self {
        let trimmed = split::trim(&list);
        // Moved where it can be: a slice is one more reference.
        let list = if trimmed.len() == list.len() { list } else { list.slice_ref(trimmed) };
        Self { list: List::Json(list), attachments: Attachments::new(attachments) }
    }

    /// One argument, a string, from its text, which is not copied
    ///
    /// As good as the JSON string of it. For what comes and goes as bare text, which is then never quoted.
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

    /// The text that they were made from by [`from_text`](Self::from_text); nothing for all others
    pub fn as_text(&self) -> Option<&ByteString> {
        match &self.list {
            List::Text { text, .. } => Some(text),
            List::Json(_) => None,
        }
    }

    /// Takes that text out, which leaves no arguments; all others are left as they are
    pub fn take_text(&mut self) -> Option<ByteString> {
        let List::Text { text, .. } = &mut self.list else { return None };
        let text = std::mem::take(text);
        self.list = List::Json(ByteString::new());
        Some(text)
    }

    /// The arguments as JSON values separated by commas; empty if there are none
    pub fn json(&self) -> &str {
        self.list.json()
    }

    /// The same text as [`json`](Self::json), to share or slice without copying
    pub fn list(&self) -> &ByteString {
        self.list.json()
    }

    /// The binary parts, in the order in which placeholders count them
    pub fn attachments(&self) -> &[Bytes] {
        self.attachments.as_deref().map_or(&[], |attachments| &attachments.parts)
    }

    /// Number of arguments; takes time linear in the text
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are no arguments
    pub fn is_empty(&self) -> bool {
        matches!(&self.list, List::Json(json) if json.is_empty())
    }

    /// Bytes of text and attachments together, as they are kept: a bare text without its quotes
    pub fn byte_len(&self) -> usize {
        self.list.byte_len() + self.attachment_bytes()
    }

    /// JSON text of each argument
    pub fn iter(&self) -> ArgsIter<'_> {
        ArgsIter::new(self.json())
    }

    /// The argument at `index`, which counts from 0
    ///
    /// An argument that is not there reads as `null`, so that `Option` gives `None`. Each call scans the text
    /// from its start: to read several arguments use [`parse`](Self::parse) or an [`ArgsReader`].
    ///
    /// # Errors
    ///
    /// [`ArgsError::Missing`] or [`ArgsError::Mismatch`].
    pub fn get<'a, T: Deserialize<'a>>(&'a self, index: usize) -> Result<T, ArgsError> {
        let mut reader = ArgsReader::new(self);
        reader.skip(index);
        reader.next()
    }

    /// The arguments by position: a tuple of up to eight, or a `Vec` of all
    ///
    /// Arguments beyond a tuple's length are ignored, missing ones read as `null`.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Missing`] or [`ArgsError::Mismatch`] of the first argument that does not fit.
    pub fn parse<'a, T: FromArgs<'a>>(&'a self) -> Result<T, ArgsError> {
        T::from_args(self)
    }

    /// The same arguments and one more at the end, given as JSON text
    ///
    /// Copies the text; the attachments are shared.
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

    /// Checks that every placeholder names an attachment that exists
    ///
    /// For decoders, on what a peer sent: a packet that fails is to be refused before a handler sees it. Without
    /// attachments nothing is a placeholder, and the check is free. Attachments that nothing names are allowed.
    ///
    /// # Errors
    ///
    /// [`ArgsError::Attachment`] if a number is absent, no number or out of range, if the placeholders together
    /// name more bytes than there are, or if values are nested deeper than the 128 levels that serde_json reads.
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

/// Never empty: no attachments are `None`, which allocates nothing.
#[derive(PartialEq, Eq)]
struct Attachments {
    parts: Box<[Bytes]>,
    /// Sum of the parts, kept because every reading starts from it
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
