//! A master with its connections.

use std::sync::Arc;

use tokio::time::Instant;

use super::metrics::ShardCounters;
use super::publisher::Publisher;
use super::subscriber::Subscriber;
use super::topology;
use crate::RedisConfig;
use crate::config::Address;

/// Master of some slots.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: Address,
    pub(super) publisher: Publisher,
    pub(super) subscriber: Subscriber,
    pub(super) counters: ShardCounters,
    /// First question about the slots whose answer shows whether a server that was away is still the master.
    ///
    /// Without it, publications wait: a former master that returns takes them at first, also as a replica, and they may
    /// reach no subscriber.
    pub(super) check: Option<u64>,
    /// Time of its last return.
    pub(super) returned: Option<Instant>,
}

impl Node {
    pub(super) fn new(address: &Address, config: &RedisConfig, counters: ShardCounters) -> Self {
        let config = Arc::new(config.for_server(address));
        Self {
            address: address.clone(),
            publisher: Publisher::new(address, config.clone(), &counters.connections),
            subscriber: Subscriber::new(address, config, &counters.connections),
            counters,
            check: None,
            returned: None,
        }
    }

    /// Returns whether publications may be passed to the connection.
    pub(super) fn can_take(&self, limit: usize) -> bool {
        self.publisher.is_up()
            && self.check.is_none()
            && (self.publisher.bytes() < limit || !self.publisher.is_stalled())
    }
}

/// Returns the servers that can be reached; servers that returned lately are last, since they may be behind.
pub(super) fn servers_to_ask<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<Address> {
    let now = topology::now();
    let mut up: Vec<_> = nodes.filter(|node| node.publisher.is_up()).collect();
    fastrand::shuffle(&mut up);
    up.sort_by_key(|node| node.returned.is_some_and(|at| now < at + topology::SETTLING));
    up.into_iter().map(|node| node.address.clone()).collect()
}
