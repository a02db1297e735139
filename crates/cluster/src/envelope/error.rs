//! Error of the decoder.

/// Error of a message that is no envelope of a known version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It has another version.
    #[error("envelope has unknown version {0}")]
    Version(u8),
    /// It ends within a field.
    #[error("envelope is truncated")]
    Truncated,
    /// A number exceeds its range.
    #[error("number in envelope is out of range")]
    Overflow,
    /// A known field has the wrong type.
    #[error("field of envelope has the wrong type")]
    WrongType,
    /// The name of a room or namespace is not UTF-8.
    #[error("name in envelope is not UTF-8")]
    NotText,
    /// A frame names too many rooms.
    #[error("too many rooms in envelope")]
    TooManyRooms,
    /// A required field is missing.
    #[error("envelope lacks the field `{0}`")]
    Missing(&'static str),
}
