//! Error of the decoders.

use roomcast_cluster::DecodeError;
use roomcast_core::ArgsError;

/// Error of a body that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// The fields are malformed, one is missing, or the version is unknown.
    #[error(transparent)]
    Fields(#[from] DecodeError),
    /// The arguments are not JSON, or refer to attachments that do not exist.
    #[error("arguments in body are invalid: {0}")]
    Args(String),
    /// It lists too many rooms, attachments or sockets.
    #[error("body lists too many items")]
    TooManyItems,
}

impl From<ArgsError> for BodyError {
    fn from(error: ArgsError) -> Self {
        Self::Args(error.to_string())
    }
}
