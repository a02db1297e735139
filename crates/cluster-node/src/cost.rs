//! Bytes of publications in a queue.

use roomcast_node_adapter::Composed;

/// Returns the bytes that a message takes in a queue.
pub(crate) fn cost(message: &Composed) -> usize {
    cost_of(message.channel.len() + message.payload.len())
}

/// Returns the bytes that a message takes in a queue, from the length of its channel and payload together.
pub(crate) fn cost_of(bytes: usize) -> usize {
    bytes + MESSAGE_COST
}

/// Memory of a queued message without its bytes.
pub(crate) const MESSAGE_COST: usize = 128;
