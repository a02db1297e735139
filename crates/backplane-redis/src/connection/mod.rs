//! Connections to a server: one that publishes and one that subscribes, in any format of channels and messages.
//!
//! No task is spawned: the task that polls an engine reads and writes, so a message passes no other one. The
//! polls need a tokio runtime with I/O and time.

mod dial;
mod link;
mod publisher;
mod resp;
mod subscriber;

pub(crate) use publisher::Publisher;
pub(crate) use subscriber::{Subscriber, SubscriberEvent, Verb};

/// Change of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkChange {
    Up,
    Down,
}
