//! What can be wrong with what a client sends

use roomcast_core::ArgsError;

/// A client sent what is no packet, or no packet at this point; its connection is to be closed
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet type is unknown
    #[error("the client sent a packet of an unknown type")]
    Type,
    /// The number of attachments is missing, zero or no number
    #[error("the client sent a binary packet without a valid number of attachments")]
    AttachmentCount,
    /// There are more attachments than are accepted
    #[error("the client sent more than {limit} attachments; raise the limit if it needs more")]
    TooManyAttachments {
        /// How many are accepted
        limit: usize,
    },
    /// The packet and its attachments are larger than is accepted
    #[error(
        "the client sent more than {limit} bytes of a packet with attachments; raise the limit if it needs more"
    )]
    TooLarge {
        /// How many bytes are accepted
        limit: usize,
    },
    /// The name of the namespace is longer than is accepted
    #[error("the client named a namespace by more than {limit} bytes")]
    NamespaceTooLong {
        /// How many bytes are accepted
        limit: usize,
    },
    /// The ack id is too large, or an ack has none
    #[error("the client sent an invalid ack id")]
    AckId,
    /// The payload is not what a packet of this type must have
    #[error("the client sent a payload that is invalid for the type of its packet")]
    Payload,
    /// The event has a name that is reserved
    #[error("the client sent an event with a reserved name")]
    Reserved,
    /// The placeholders do not go together with the attachments
    #[error("the client sent placeholders that do not match the attachments: {0}")]
    Placeholders(ArgsError),
    /// A text came while attachments were awaited
    #[error("the client sent text where an attachment had to follow")]
    AttachmentMissing,
    /// An attachment came that no packet announced
    #[error("the client sent an attachment that belongs to no packet")]
    AttachmentUnannounced,
}
