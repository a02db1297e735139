//! Protocol violations of plain WebSocket clients.

use thiserror::Error;

/// Maximum nesting of arrays and objects in an argument: the limit of serde_json.
pub(crate) const MAX_DEPTH: usize = 127;

/// A violation of the grammar; its text is sent to the client before the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum GrammarError {
    #[error("a frame is a JSON array such as [\"event\",1,2]")]
    NotAnArray,
    #[error("the header is not valid: ack and re are integers that exclude each other, binary is a count")]
    Header,
    #[error("an event needs a name: a string, as the first element or behind the header")]
    Name,
    #[error("this event name is reserved; choose another")]
    ReservedName,
    #[error("the arguments are nested too deeply; the limit is {}", MAX_DEPTH)]
    TooDeep,
    #[error("binary must be from 1 to {limit}")]
    Attachments { limit: usize },
    #[error("binary that no header announced; put \"binary\":1 into the header of the event it belongs to")]
    UnexpectedBinary,
    #[error("text, where binary was announced and is not complete; send it right behind its event")]
    ExpectedBinary,
    #[error("binary was announced and did not come in time")]
    Incomplete,
    #[error("a placeholder does not match the binary that was sent; num counts from 0")]
    Placeholder,
    #[error("an event and its binary are over the limit of {limit} bytes")]
    TooLarge { limit: usize },
}
