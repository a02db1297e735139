//! Decode errors.

use roomcast_core::ArgsError;

/// A client sent an invalid or unexpected packet; close its connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet type is unknown.
    #[error("the client sent a packet of an unknown type")]
    Type,
    /// The number of attachments is missing, zero or not a number.
    #[error("the client sent a binary packet without a valid number of attachments")]
    AttachmentCount,
    /// The packet has more attachments than allowed.
    #[error("the client sent more than {limit} attachments; raise the limit if it needs more")]
    TooManyAttachments {
        /// Maximum number of attachments.
        limit: usize,
    },
    /// The packet and its attachments exceed the size limit.
    #[error(
        "the client sent more than {limit} bytes of a packet with attachments; raise the limit if it needs more"
    )]
    TooLarge {
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The namespace name exceeds the length limit.
    #[error("the client sent a namespace name of more than {limit} bytes")]
    NamespaceTooLong {
        /// Maximum length in bytes.
        limit: usize,
    },
    /// The ack id is too large, or missing in an ack.
    #[error("the client sent an invalid ack id")]
    AckId,
    /// The payload does not match the packet type.
    #[error("the client sent a payload that is invalid for its packet type")]
    Payload,
    /// The event name is reserved.
    #[error("the client sent an event with a reserved name")]
    Reserved,
    /// The placeholders do not match the attachments.
    #[error("the client sent placeholders that do not match the attachments: {0}")]
    Placeholders(ArgsError),
    /// A text arrived where an attachment was expected.
    #[error("the client sent text where an attachment was expected")]
    AttachmentMissing,
    /// An attachment arrived that no packet announced.
    #[error("the client sent an unannounced attachment")]
    AttachmentUnannounced,
}
