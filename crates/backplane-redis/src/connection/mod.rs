//! Connections to a server: one that publishes and one that subscribes, in any format of channels and messages.
//!
//! No task is spawned: the task that polls an engine reads and writes, so a message passes no other one. The
//! polls need a tokio runtime with I/O and time.

mod caller;
mod dial;
mod entries;
mod incoming;
mod link;
mod log_entries;
mod log_reader;
mod log_writer;
mod pair;
mod publisher;
mod resp;
mod subscriber;

pub(crate) use caller::{CallError, Caller, Commands};
pub(crate) use dial::{DialError, slots, text_of};
pub(crate) use incoming::{Incoming, Messages};
pub(crate) use link::{Link, LinkEvent, SendQueue};
pub(crate) use log_reader::LogReader;
pub(crate) use log_writer::LogWriter;
pub(crate) use pair::{Pair, PairEvent};
use publisher::Publisher;
pub(crate) use resp::{InvalidReply, Reply, encode, encode_publish, parse};
pub(crate) use subscriber::Verb;
use subscriber::{Subscriber, SubscriberEvent};

/// Change of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkChange {
    Up,
    Down,
}
