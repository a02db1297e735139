//! Events, answers and changes of state, in the form that all kinds of clients share.

use serde_json::{Value, json};

use super::ws::Ended;

/// What a client hears
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "fields are named as in the protocol")]
pub enum Heard {
    /// It is in a namespace.
    Joined { namespace: String, id: String },
    /// A namespace refused it.
    Refused { namespace: String, error: Value },
    /// An event came.
    Event { namespace: String, name: String, args: Value, ack: Option<u64> },
    /// An answer to an event came.
    Answer { namespace: String, ack: u64, args: Value },
    /// The server took it out of a namespace.
    Left { namespace: String },
    /// The connection ended.
    Ended(Ended),
}

/// What a client says
#[derive(Debug, Clone)]
pub struct Said<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Number of the answer, if one is asked for.
    pub ack: Option<u64>,
    /// Name of the event.
    pub name: &'a str,
    /// List of arguments.
    pub args: Value,
}

/// Binary among arguments
pub fn bytes(bytes: &[u8]) -> Value {
    json!({ "bytes": bytes })
}

/// The other way round
pub fn as_bytes(value: &Value) -> Option<Vec<u8>> {
    serde_json::from_value(value.get("bytes")?.clone()).ok()
}
