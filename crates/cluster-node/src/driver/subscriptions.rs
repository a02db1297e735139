//! Subscriptions of all namespaces.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use bytestring::ByteString;
use foldhash::fast::RandomState;

use super::adapter::Names;
use super::rooms::Batch;
use crate::input::Key;

/// Subscriptions of all namespaces.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Namespaces by their subscribed channels and patterns.
    routes: HashMap<ByteString, Key, RandomState>,
    /// Further namespaces with the same channel, such as that of a room `b` of `/a` and that of `/a#b`.
    shared: HashMap<ByteString, Vec<Key>>,
    /// Namespaces that need a command.
    pub(super) changed: VecDeque<Key>,
    /// Commands without a confirmation.
    pub(super) requested: HashMap<u64, Key>,
    /// Commands for channels of rooms without a confirmation.
    pub(super) room_commands: HashMap<u64, (Key, Batch)>,
    pub(super) last_token: u64,
    /// Whether rooms have changed since the last report.
    pub(super) have_rooms_changed: bool,
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

    /// Returns the further namespaces with the same channel.
    pub(super) fn others(&self, subscription: &str) -> Vec<Key> {
        match self.shared.is_empty() {
            true => Vec::new(),
            false => self.shared.get(subscription).cloned().unwrap_or_default(),
        }
    }

    /// Returns whether several namespaces have a channel.
    pub(super) fn is_shared(&self, name: &str) -> bool {
        !self.shared.is_empty() && self.shared.contains_key(name)
    }

    /// Adds the channel of a room to a namespace.
    pub(super) fn add(&mut self, key: Key, name: &ByteString) {
        let first = *self.routes.entry(name.clone()).or_insert(key);
        if first != key {
            let others = self.shared.entry(name.clone()).or_default();
            if !others.contains(&key) {
                others.push(key);
            }
        }
    }

    /// Takes the channel of a room from a namespace.
    pub(super) fn take(&mut self, key: Key, name: &ByteString) {
        if let Some(others) = self.shared.get_mut(name) {
            if self.routes.get(name) == Some(&key) {
                self.routes.insert(name.clone(), others.swap_remove(0));
            } else {
                others.retain(|other| *other != key);
            }
            if others.is_empty() {
                self.shared.remove(name);
            }
        } else if self.routes.get(name) == Some(&key) {
            self.routes.remove(name);
        }
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

    /// Notes a new namespace; `has_room` returns whether another one has the channel for a room.
    pub(super) fn want(
        &mut self,
        key: Key,
        names: &Names,
        now: Instant,
        has_room: impl Fn(Key, &str) -> bool,
    ) {
        for name in names.all() {
            // A namespace that was closed and opened again has the channels of the one before.
            let before = self.routes.insert(name.clone(), key);
            if let Some(room_of) = before.filter(|before| has_room(*before, name)) {
                self.shared.entry(name.clone()).or_default().push(room_of);
            }
        }
        self.unconfirmed.insert((now, key));
        self.changed.push_back(key);
    }

    /// Forgets the channels of a namespace, unless they belong to another one by now.
    pub(super) fn forget(&mut self, key: Key, names: &Names) {
        names.all().for_each(|name| self.take(key, name));
    }
}
