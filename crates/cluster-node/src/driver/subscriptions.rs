//! Subscriptions of all namespaces.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::adapter::Names;
use crate::input::Key;
use bytestring::ByteString;

/// Subscriptions of all namespaces.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Namespaces by their subscribed channels and patterns.
    routes: HashMap<ByteString, Key>,
    /// Namespaces that need a command.
    pub(super) changed: VecDeque<Key>,
    /// Commands without a confirmation.
    pub(super) requested: HashMap<u64, Key>,
    pub(super) last_token: u64,
    /// Namespaces whose subscription is not in effect, by the time since which it is not.
    pub(super) unconfirmed: BTreeSet<(Instant, Key)>,
    /// Refused subscriptions, by the time at which they are requested again.
    pub(super) retries: VecDeque<(Instant, Key)>,
}

impl Subscriptions {
    /// Returns the namespace of a subscription.
    pub(super) fn route(&self, subscription: &str) -> Option<Key> {
        self.routes.get(subscription).copied()
    }

    /// Returns the time since which a namespace is not subscribed.
    pub(super) fn unconfirmed_since(&self) -> Option<Instant> {
        self.unconfirmed.first().map(|(since, _)| *since)
    }

    /// Returns whether a namespace needs a command.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retries.front().map(|(at, _)| *at)
    }

    /// Notes a new namespace.
    pub(super) fn want(&mut self, key: Key, names: &Names, now: Instant) {
        for name in names.all() {
            // A namespace that was closed and opened again has the channels of the one before.
            self.routes.insert(name.clone(), key);
        }
        self.unconfirmed.insert((now, key));
        self.changed.push_back(key);
    }

    /// Forgets the channels of a namespace, unless they belong to another one by now.
    pub(super) fn forget(&mut self, key: Key, names: &Names) {
        for name in names.all() {
            if self.routes.get(name) == Some(&key) {
                self.routes.remove(name);
            }
        }
    }
}
