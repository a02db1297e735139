//! Interface between the fault suite and a message engine.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use roomcast_cluster::{Backplane, Channel};

/// Message engine under test, with its clock and its faults.
///
/// The suite drives nodes by their numbers, from 0. An engine in memory has a virtual clock; a real one returns the time
/// of the process, sleeps in [`advance`](Self::advance), and supports the faults that it can produce.
pub trait Harness {
    /// Connection of a node.
    type Backplane: Backplane;

    /// Connects a node; an earlier connection of the same number was dropped.
    fn connect(&mut self, node: usize) -> Self::Backplane;

    /// Returns the time.
    fn now(&self) -> Instant;

    /// Lets time pass until `until`, or until an event may be pending for a node.
    fn advance(&mut self, until: Instant);

    /// Changes a fault; returns `false` if the engine does not support it.
    fn inject(&mut self, fault: &Fault) -> bool;

    /// Returns the subscriptions of a node; `None` if they are unknown.
    fn subscriptions(&self, node: usize) -> Option<BTreeSet<Channel>>;
}

/// Fault of an engine, in effect until it is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Messages are delayed by up to this time.
    Delay(Duration),
    /// This part of all messages is lost, in thousandths.
    Loss(u64),
    /// This part of the messages on [`Channel::Nodes`] is lost, in thousandths.
    HeartbeatLoss(u64),
    /// This part of all messages is delivered twice, in thousandths.
    Duplicates(u64),
    /// Messages pass only between nodes with the same number. Empty: between all.
    Partition(Vec<u8>),
    /// Messages to a node are delayed by this time in addition.
    Slow {
        /// Number of the node.
        node: usize,
        /// Delay.
        delay: Duration,
    },
    /// Subscribe commands of a node have no effect.
    Deaf {
        /// Number of the node.
        node: usize,
        /// Whether the fault is in effect.
        on: bool,
    },
    /// The connection of a node breaks and is restored at once. Its subscriptions end, and the node is notified.
    Disconnect {
        /// Number of the node.
        node: usize,
    },
    /// The engine accepts and delivers nothing.
    Down {
        /// Whether the fault is in effect.
        on: bool,
        /// Whether it loses the subscriptions. The nodes are notified when it is up again.
        forgets: bool,
    },
}
