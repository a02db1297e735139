//! Events, acknowledgements and state changes in a form common to all kinds of clients.

use serde_json::{Value, json};

use super::ws::Ended;

/// Message received by a client.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "fields are named as in the protocol")]
pub enum Heard {
    /// The client joined a namespace.
    Joined { namespace: String, id: String },
    /// A namespace refused the client.
    Refused { namespace: String, error: Value },
    /// An event arrived.
    Event { namespace: String, name: String, args: Value, ack: Option<u64> },
    /// An acknowledgement arrived.
    Answer { namespace: String, ack: u64, args: Value },
    /// The server disconnected the client from a namespace.
    Left { namespace: String },
    /// The connection ended.
    Ended(Ended),
}

/// Message sent by a client.
#[derive(Debug, Clone)]
pub struct ClientMessage<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Ack number, if an acknowledgement is requested.
    pub ack: Option<u64>,
    /// Name of the event.
    pub name: &'a str,
    /// List of arguments.
    pub args: Value,
}

/// Wraps bytes as a binary argument.
pub fn bytes(bytes: &[u8]) -> Value {
    json!({ "bytes": bytes })
}

/// Returns the bytes of a binary argument.
pub fn as_bytes(value: &Value) -> Option<Vec<u8>> {
    serde_json::from_value(value.get("bytes")?.clone()).ok()
}
