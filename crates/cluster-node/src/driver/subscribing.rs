//! Subscriptions of namespaces: requested, confirmed, lost, requested again, ended.

use std::time::{Duration, Instant};

use roomcast_core::Heard;
use roomcast_node_adapter::PubSubCommand;

use super::Driver;
use super::adapter::Names;
use super::entry::{Entry, Subscription};
use crate::input::Key;

impl Driver {
    /// Returns the next command for a subscription.
    pub(super) fn next_subscription(&mut self) -> Option<PubSubCommand> {
        loop {
            let key = self.subscriptions.changed.pop_front()?;
            let Some(entry) = self.namespaces.get_mut(&key) else { continue };
            let Names { mut channels, patterns } = entry.names.clone();
            self.subscriptions.last_token += 1;
            let token = self.subscriptions.last_token;
            let command = match entry.subscription {
                Subscription::Requested(_) | Subscription::Active => {
                    match self.next_room_command(key, token) {
                        Some(command) => return Some(command),
                        None => continue,
                    }
                }
                Subscription::Wanted => {
                    self.subscriptions.list_rooms(key, &mut entry.rooms);
                    entry.subscription = Subscription::Requested(token);
                    PubSubCommand::Subscribe { channels, patterns, token }
                }
                Subscription::Ending => {
                    entry.subscription = Subscription::EndRequested(token);
                    // First of all the node is not counted any more.
                    channels.reverse();
                    channels.extend(entry.rooms.close());
                    channels.retain(|name| !self.subscriptions.is_shared(name));
                    PubSubCommand::Unsubscribe { channels, patterns, token }
                }
                _ => continue,
            };
            self.subscriptions.requested.insert(token, key);
            return Some(command);
        }
    }

    /// Handles the confirmation of a command.
    pub(super) fn confirm_subscription(&mut self, token: u64, now: Instant) {
        if let Some((key, batch)) = self.subscriptions.room_commands.remove(&token) {
            return self.confirm_rooms(key, batch);
        }
        let Some(key) = self.subscriptions.requested.remove(&token) else { return };
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        match entry.subscription {
            Subscription::Requested(requested) if requested == token => {
                entry.subscription = Subscription::Active;
                if self.has_position {
                    entry.complete_joins(Heard::Confirmed);
                }
                if let Some(node) = entry.node.as_sharded() {
                    node.announce_mode();
                }
                self.look_for_others(key, now);
                self.note_restored(key);
                self.perform(key, now);
            }
            Subscription::EndRequested(requested) if requested == token => self.remove(key),
            _ => {}
        }
    }

    /// Notes that a namespace and its rooms may all be subscribed.
    pub(super) fn note_restored(&mut self, key: Key) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        if entry.subscription != Subscription::Active || !entry.rooms.is_restored() {
            return;
        }
        self.subscriptions.unconfirmed.remove(&(entry.since, key));
        // With a stream, publications are no messages, and queries have answers or an end.
        if std::mem::take(&mut entry.has_missed)
            && self.stream.is_none()
            && let Some(host) = entry.host()
        {
            self.shared.guard.call(|| host.missed(None));
        }
    }

    /// Handles the refusal of a command.
    pub(super) fn refuse_subscription(&mut self, token: u64, now: Instant) {
        if let Some((key, batch)) = self.subscriptions.room_commands.remove(&token) {
            return self.refuse_rooms(key, batch, now);
        }
        let Some(key) = self.subscriptions.requested.remove(&token) else { return };
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        match entry.subscription {
            Subscription::Requested(requested) if requested == token => {
                entry.subscription = Subscription::Refused;
                self.subscriptions.retries.push_back((now + RETRY, key));
            }
            // It was not subscribed, then.
            Subscription::EndRequested(requested) if requested == token => self.remove(key),
            _ => {}
        }
    }

    /// Requests refused subscriptions again.
    pub(super) fn retry_subscriptions(&mut self, now: Instant) {
        while self.subscriptions.retries.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, key)) = self.subscriptions.retries.pop_front()
        {
            let Some(entry) = self.namespaces.get_mut(&key) else { continue };
            if entry.subscription == Subscription::Refused {
                entry.subscription = Subscription::Wanted;
                self.subscriptions.changed.push_back(key);
                self.stats.subscribe_retries += 1;
            }
            self.stats.subscribe_retries += entry.rooms.retry() as u64;
            self.subscriptions.list_rooms(key, &mut entry.rooms);
        }
    }

    /// Handles the loss of all subscriptions.
    pub(super) fn lose_subscriptions(&mut self, now: Instant) {
        let Self { namespaces, subscriptions, .. } = self;
        subscriptions.requested.clear();
        subscriptions.room_commands.clear();
        subscriptions.changed.clear();
        subscriptions.retries.clear();
        let mut ended = Vec::new();
        for (key, entry) in namespaces.iter_mut() {
            if entry.is_closed() {
                ended.push(*key);
                continue;
            }
            if entry.subscription == Subscription::Active {
                entry.since = now;
                entry.has_missed = true;
                subscriptions.unconfirmed.insert((now, *key));
            }
            entry.subscription = Subscription::Wanted;
            subscriptions.changed.push_back(*key);
            entry.rooms.lose();
            subscriptions.have_rooms_changed |= entry.rooms.len() > 0;
            entry.rooms.is_listed = false;
            subscriptions.forget_rooms(*key, &mut entry.rooms);
        }
        ended.into_iter().for_each(|key| self.remove(key));
        if self.stream.is_some() {
            return;
        }
        for host in self.namespaces.values().filter_map(Entry::host) {
            self.shared.guard.call(|| host.missed(None));
        }
    }

    /// Ends the subscription of a closed namespace.
    pub(super) fn end_subscription(&mut self, key: Key) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        self.subscriptions.unconfirmed.remove(&(entry.since, key));
        match entry.subscription {
            Subscription::Wanted | Subscription::Refused => self.remove(key),
            Subscription::Requested(_) | Subscription::Active => {
                entry.subscription = Subscription::Ending;
                self.subscriptions.changed.push_back(key);
            }
            Subscription::Ending | Subscription::EndRequested(_) => {}
        }
    }

    fn remove(&mut self, key: Key) {
        let Some(mut entry) = self.namespaces.remove(&key) else { return };
        entry.rooms.close();
        self.subscriptions.forget_rooms(key, &mut entry.rooms);
        self.subscriptions.forget(key, &entry.names);
        self.unconfirmed_bytes -= entry.unconfirmed_bytes;
        self.by_namespace.retain(|_, other| *other != key);
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, key));
        }
    }
}

/// Time after which a refused subscription is requested again.
pub(super) const RETRY: Duration = Duration::from_secs(1);
