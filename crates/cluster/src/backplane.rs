//! Message engine that connects the nodes of a cluster.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::Channel;

/// Message engine that connects the nodes of a cluster: publish and subscribe by channel.
///
/// A connection of one node to an engine such as Redis or NATS. [`Node::exchange`](crate::Node::exchange) is its only
/// caller: it polls from one task, and takes the methods in any order.
///
/// # Guarantees
///
/// 1. Messages of one publishing node on one channel arrive in order of publication, at each subscriber. There is no
///    order across channels or nodes.
/// 2. A message published after a subscription was [confirmed](BackplaneEvent::Subscribed) reaches the subscriber, or
///    is lost. An engine that notices a loss reports [`Missed`](BackplaneEvent::Missed). It need not notice every loss,
///    and may deliver a message twice: the node numbers its messages, and detects both. It recognizes a second delivery
///    until it has unsubscribed, so that one should be late by less than
///    [`unsubscribe_delay`](crate::ClusterConfig::unsubscribe_delay).
/// 3. Commands take effect in the order in which they were sent. A subscribe command may be lost, since the node
///    repeats it until it is confirmed. An unsubscribe command is lost only together with the subscriptions, which is
///    reported.
/// 4. A subscription lasts until it is unsubscribed, or reported as [lost](BackplaneEvent::Unsubscribed). The engine
///    may restore subscriptions itself or leave that to the node, which subscribes again.
/// 5. Memory is bounded. [`poll_ready`](Self::poll_ready) is pending while the engine takes no command, as when it is
///    down; the node then queues within its own limit. Incoming messages over a limit are dropped and reported as
///    [`Missed`](BackplaneEvent::Missed).
///
/// The messages of the node itself may be delivered to it or not. Payloads are opaque, and at most
/// [`max_payload`](crate::ClusterConfig::max_payload) bytes long.
///
/// # Examples
///
/// An engine that connects a node only to itself:
///
/// ```
/// use std::collections::VecDeque;
/// use std::task::{Context, Poll, Waker};
///
/// use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};
///
/// #[derive(Debug, Default)]
/// struct Loopback {
///     subscribed: Vec<Channel>,
///     events: VecDeque<BackplaneEvent>,
///     waker: Option<Waker>,
/// }
///
/// impl Backplane for Loopback {
///     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
///         Poll::Ready(())
///     }
///
///     fn send(&mut self, command: BackplaneCommand) {
///         match command {
///             BackplaneCommand::Subscribe { channels, token } => {
///                 self.subscribed.extend(channels.iter().cloned());
///                 self.events.push_back(BackplaneEvent::Subscribed { channels, token });
///             }
///             BackplaneCommand::Unsubscribe { channels } => {
///                 self.subscribed.retain(|channel| !channels.contains(channel));
///             }
///             BackplaneCommand::Publish { channel, payload } if self.subscribed.contains(&channel) => {
///                 self.events.push_back(BackplaneEvent::Message { channel, payload });
///             }
///             _ => {}
///         }
///         if let Some(waker) = self.waker.take() {
///             waker.wake();
///         }
///     }
///
///     fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<()> {
///         Poll::Ready(())
///     }
///
///     fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
///         match self.events.pop_front() {
///             Some(event) => Poll::Ready(event),
///             None => {
///                 self.waker = Some(cx.waker().clone());
///                 Poll::Pending
///             }
///         }
///     }
/// }
/// ```
pub trait Backplane: Send + fmt::Debug {
    /// Completes once [`send`](Self::send) may be called once.
    ///
    /// Registers the waker while pending. Subscribing must not be delayed by a full queue of publications for longer
    /// than the engine needs to send it.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Queues a command for the engine. Called only after [`poll_ready`](Self::poll_ready) has completed.
    fn send(&mut self, command: BackplaneCommand);

    /// Completes once all commands have been passed to the engine, as far as the node can tell.
    ///
    /// Registers the waker while pending. A shutdown waits for it, for a limited time.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Completes with the next event. Registers the waker while pending.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent>;

    /// Returns whether a part of the engine is lost, so that some channels do not work. Default: `false`.
    fn is_degraded(&self) -> bool {
        false
    }
}

/// Command from a node to its message engine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackplaneCommand {
    /// Subscribe to channels. Some may be subscribed already; they are confirmed again.
    Subscribe {
        /// Channels.
        channels: Vec<Channel>,
        /// Number to return with the confirmation.
        token: u64,
    },
    /// Unsubscribe from channels; not confirmed.
    Unsubscribe {
        /// Channels.
        channels: Vec<Channel>,
    },
    /// Publish a message.
    Publish {
        /// Channel.
        channel: Channel,
        /// Content.
        payload: Bytes,
    },
}

/// Event from a message engine to its node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackplaneEvent {
    /// Subscriptions are in effect. May come for a part of a command's channels at a time.
    Subscribed {
        /// Channels.
        channels: Vec<Channel>,
        /// Number of the command.
        token: u64,
    },
    /// Subscriptions were lost, such as all of them with the connection.
    Unsubscribed {
        /// Channels; empty for all.
        channels: Vec<Channel>,
    },
    /// Messages may have been lost, while the subscriptions last.
    Missed {
        /// Channels; empty for all.
        channels: Vec<Channel>,
    },
    /// Message on a subscribed channel.
    Message {
        /// Channel.
        channel: Channel,
        /// Content.
        payload: Bytes,
    },
}
