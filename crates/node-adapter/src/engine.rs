//! Message engine of a cluster.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;
use bytestring::ByteString;

/// Connection to a server of publish and subscribe, by names of channels and by patterns.
///
/// The driver polls it from one task. [`poll_event`](Self::poll_event) has to be called for the engine to work, and
/// each method that returns [`Poll::Pending`] registers the waker.
pub trait PubSub: Send + fmt::Debug {
    /// Returns the next event.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<PubSubEvent>;

    /// Completes when the engine takes a command. Pending while it is disconnected, or its buffer is full.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Takes a command; [`poll_ready`](Self::poll_ready) was ready since the last one.
    ///
    /// Publications and counts take effect in order, after the subscriptions before them.
    fn send(&mut self, command: PubSubCommand);

    /// Publishes a message, as [`PubSubCommand::Publish`] does; the same conditions as for [`send`](Self::send) apply.
    ///
    /// An engine that copies the message anyway needs no owned one.
    fn publish(&mut self, channel: &str, payload: &[u8]) {
        self.send(PubSubCommand::Publish {
            channel: channel.into(),
            payload: Bytes::copy_from_slice(payload),
        });
    }

    /// Counts the subscribers of a channel of the other kind: sharded, unless those of this engine are. Answered like
    /// [`PubSubCommand::Count`]; the same conditions as for [`send`](Self::send) apply.
    ///
    /// A driver finds servers with another adapter by it. Returns `false` if the engine cannot do that, as by default.
    fn count_other_kind(&mut self, _channel: &ByteString, _token: u64) -> bool {
        false
    }

    /// Drops messages by a pattern that begin with these bytes, and [counts](Self::take_dropped) them.
    ///
    /// A server sends back the messages that a node publishes on channels which its patterns match. An engine that
    /// drops them early saves most of their cost. By default, they are passed on.
    fn drop_own(&mut self, _prefix: Bytes) {}

    /// Returns the messages dropped by [`drop_own`](Self::drop_own) since the last call.
    fn take_dropped(&mut self) -> DroppedMessages {
        DroppedMessages::default()
    }

    /// Completes when the server has replied to all commands, or they were lost.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Returns the number of publications that the server refused, or that were sent without a reply.
    fn lost(&self) -> u64;
}

/// Command to a [`PubSub`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "engines handle each command")]
pub enum PubSubCommand {
    /// Publish a message.
    Publish {
        /// Channel.
        channel: ByteString,
        /// Message.
        payload: Bytes,
    },
    /// Subscribe; answered by [`PubSubEvent::Done`] once all are in effect, or by [`PubSubEvent::Refused`].
    ///
    /// The patterns take effect first, so a node that is counted on a channel hears the patterns already.
    Subscribe {
        /// Channels.
        channels: Vec<ByteString>,
        /// Patterns with the globs of Redis.
        patterns: Vec<ByteString>,
        /// Number for the answer; larger than that of each command before.
        token: u64,
    },
    /// End subscriptions; answered by [`PubSubEvent::Done`].
    Unsubscribe {
        /// Channels.
        channels: Vec<ByteString>,
        /// Patterns.
        patterns: Vec<ByteString>,
        /// Number for the answer; larger than that of each command before.
        token: u64,
    },
    /// Count the subscribers of a channel, without subscribers of patterns; answered by [`PubSubEvent::Counted`].
    Count {
        /// Channel.
        channel: ByteString,
        /// Number for the answer.
        token: u64,
    },
}

/// Event of a [`PubSub`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "drivers handle each event")]
pub enum PubSubEvent {
    /// The server can be reached.
    Connected,
    /// The server cannot be reached.
    Disconnected,
    /// All subscriptions have ended with their connection, and pending commands for them have no answer.
    Unsubscribed,
    /// A command is in effect.
    Done {
        /// Number of the command.
        token: u64,
    },
    /// The server refused a subscription.
    Refused {
        /// Number of the command.
        token: u64,
    },
    /// A message has arrived.
    Message {
        /// Subscribed channel, or pattern.
        subscription: ByteString,
        /// Channel of the message.
        channel: ByteString,
        /// Message.
        payload: Bytes,
    },
    /// A message was dropped because it exceeds the engine's limit.
    Oversized {
        /// Subscribed channel, or pattern.
        subscription: ByteString,
    },
    /// These subscriptions are in effect again after an interruption, which the engine ended without the driver.
    /// Messages may have been lost.
    Missed {
        /// Subscribed channels.
        subscriptions: Vec<ByteString>,
    },
    /// Result of a count.
    Counted {
        /// Number of the command.
        token: u64,
        /// Result.
        count: SubscriberCount,
    },
}

/// Messages that a [`PubSub`] dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "engines build it")]
pub struct DroppedMessages {
    /// Number of messages.
    pub messages: u64,
    /// Bytes of the messages, without their channels.
    pub bytes: u64,
}

/// Result of [`PubSubCommand::Count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "drivers handle each result")]
pub enum SubscriberCount {
    /// Number of subscribers.
    Known(u64),
    /// The server refused the command, or its reply is not a number.
    Refused,
    /// The connection was lost before the reply; the driver may send the command again.
    Lost,
}
