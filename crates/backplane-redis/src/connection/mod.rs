//! Connections to a server: one that publishes and one that subscribes, in any format of channels and messages.
//!
//! No task is spawned: the task that polls an engine reads and writes, so a message passes no other one. The
//! polls need a tokio runtime with I/O and time.

mod caller;
mod dial;
mod link;
mod pair;
mod publisher;
mod resp;
mod subscriber;

pub(crate) use caller::{CallError, Caller, Commands};
pub(crate) use pair::{Pair, PairEvent};
use publisher::Publisher;
pub(crate) use resp::{InvalidReply, Reply};
pub(crate) use subscriber::Verb;
use subscriber::{Subscriber, SubscriberEvent};

/// Change of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkChange {
    Up,
    Down,
}
