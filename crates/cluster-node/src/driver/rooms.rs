//! Channels of rooms, with the sharded adapter.

use std::collections::{HashMap, VecDeque};

use bytestring::ByteString;
use roomcast_core::Heard;
use tokio::sync::oneshot;

/// Channels of the rooms of one namespace.
///
/// A channel has at most one command on its way, so a room that is created and deleted again and again costs one
/// command for each round trip.
#[derive(Debug, Default)]
pub(super) struct RoomChannels {
    channels: HashMap<ByteString, RoomChannel>,
    /// Channels that need a command, each once.
    changed: VecDeque<ByteString>,
    /// Channels whose subscription was refused, to be requested again.
    refused: Vec<ByteString>,
    /// Channels that are forgotten, until the caller takes them.
    removed: Vec<ByteString>,
    /// Channels that were lost with a connection, and are not subscribed again.
    restoring: usize,
    subscribed: usize,
    /// Whether the namespace is listed because of a room.
    pub(super) is_listed: bool,
}

#[derive(Debug, Default)]
struct RoomChannel {
    state: State,
    /// Whether the room has members.
    is_wanted: bool,
    is_changed: bool,
    was_lost: bool,
    joins: Vec<oneshot::Sender<Heard>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    Requested,
    Subscribed,
    EndRequested,
}

/// Channels for one command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) channels: Vec<ByteString>,
    /// Whether the command subscribes; it unsubscribes otherwise.
    pub(super) subscribes: bool,
}

impl RoomChannels {
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// Returns the number of channels that are not subscribed.
    pub(super) fn unconfirmed(&self) -> usize {
        self.channels.len() - self.subscribed
    }

    /// Returns whether all channels that were lost with a connection are subscribed again.
    pub(super) fn is_restored(&self) -> bool {
        self.restoring == 0
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.channels.contains_key(name)
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Returns the channels that were forgotten since the last call.
    pub(super) fn take_removed(&mut self) -> Vec<ByteString> {
        std::mem::take(&mut self.removed)
    }

    /// Notes that a room has members.
    pub(super) fn want(&mut self, name: ByteString) {
        let channel = self.channels.entry(name.clone()).or_default();
        channel.is_wanted = true;
        if channel.state == State::Absent {
            self.mark(name);
        }
    }

    /// Notes that a room has no members.
    pub(super) fn unwant(&mut self, name: ByteString) {
        let Some(channel) = self.channels.get_mut(&name) else { return };
        channel.is_wanted = false;
        self.restoring -= usize::from(std::mem::take(&mut channel.was_lost));
        channel.joins.drain(..).for_each(|join| _ = join.send(Heard::Left));
        if matches!(channel.state, State::Absent | State::Subscribed) {
            self.mark(name);
        }
    }

    /// Completes a join when the channel is subscribed.
    pub(super) fn join(&mut self, name: &str, reply: oneshot::Sender<Heard>) {
        match self.channels.get_mut(name).filter(|channel| channel.is_wanted) {
            None => _ = reply.send(Heard::Left),
            Some(channel) if channel.state == State::Subscribed => _ = reply.send(Heard::Confirmed),
            Some(channel) => {
                // Some futures may have been dropped.
                channel.joins.retain(|join| !join.is_closed());
                channel.joins.push(reply);
            }
        }
    }

    fn mark(&mut self, name: ByteString) {
        if let Some(channel) = self.channels.get_mut(&name)
            && !std::mem::replace(&mut channel.is_changed, true)
        {
            self.changed.push_back(name);
        }
    }

    fn remove(&mut self, name: &ByteString) {
        self.channels.remove(name);
        self.removed.push(name.clone());
    }

    /// Returns the channels of the next command, at most `limit`, all to be subscribed or all to be left.
    pub(super) fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        let mut batch: Option<Batch> = None;
        while batch.as_ref().is_none_or(|batch| batch.channels.len() < limit)
            && let Some(name) = self.changed.pop_front()
        {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            let (subscribes, next) = match (channel.state, channel.is_wanted) {
                (State::Absent, true) => (true, State::Requested),
                (State::Subscribed, false) => (false, State::EndRequested),
                (State::Absent, false) => {
                    self.remove(&name);
                    continue;
                }
                // The room was deleted and created again, or the other way round.
                _ => {
                    channel.is_changed = false;
                    continue;
                }
            };
            let batch = batch.get_or_insert_with(|| Batch { channels: Vec::new(), subscribes });
            if batch.subscribes != subscribes {
                self.changed.push_front(name);
                break;
            }
            channel.is_changed = false;
            self.subscribed -= usize::from(channel.state == State::Subscribed);
            channel.state = next;
            batch.channels.push(name);
        }
        batch
    }

    /// Handles the confirmation of a command.
    pub(super) fn confirm(&mut self, batch: Batch) {
        for name in batch.channels {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            if batch.subscribes {
                channel.state = State::Subscribed;
                self.subscribed += 1;
                self.restoring -= usize::from(std::mem::take(&mut channel.was_lost));
                channel.joins.drain(..).for_each(|join| _ = join.send(Heard::Confirmed));
            } else {
                channel.state = State::Absent;
            }
            if channel.is_wanted != batch.subscribes {
                self.mark(name);
            } else if !batch.subscribes {
                self.remove(&name);
            }
        }
    }

    /// Handles the refusal of a command; returns whether channels are to be requested again.
    pub(super) fn refuse(&mut self, batch: Batch) -> bool {
        if !batch.subscribes {
            // They were not subscribed, then.
            self.confirm(batch);
            return false;
        }
        for name in batch.channels {
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            channel.state = State::Absent;
            if channel.is_wanted {
                self.refused.push(name);
            } else {
                self.remove(&name);
            }
        }
        !self.refused.is_empty()
    }

    /// Requests refused channels again; returns their number.
    pub(super) fn retry(&mut self) -> usize {
        let refused = std::mem::take(&mut self.refused);
        let number = refused.len();
        refused.into_iter().for_each(|name| self.mark(name));
        number
    }

    /// Handles the loss of all subscriptions.
    pub(super) fn lose(&mut self) {
        let Self { channels, changed, refused, removed, restoring, subscribed, .. } = self;
        changed.clear();
        refused.clear();
        channels.retain(|name, channel| {
            if !channel.is_wanted {
                removed.push(name.clone());
                return false;
            }
            if channel.state == State::Subscribed && !std::mem::replace(&mut channel.was_lost, true) {
                *restoring += 1;
            }
            channel.state = State::Absent;
            channel.is_changed = true;
            changed.push_back(name.clone());
            true
        });
        *subscribed = 0;
    }

    /// Forgets all channels; returns the ones that may be subscribed.
    pub(super) fn close(&mut self) -> Vec<ByteString> {
        let Self { channels, removed, .. } = std::mem::take(self);
        self.removed = removed;
        let mut subscribed = Vec::new();
        for (name, channel) in channels {
            channel.joins.into_iter().for_each(|join| _ = join.send(Heard::Left));
            if !matches!(channel.state, State::Absent | State::EndRequested) {
                subscribed.push(name.clone());
            }
            self.removed.push(name);
        }
        subscribed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<ByteString> {
        names.iter().map(|name| ByteString::from(*name)).collect()
    }

    fn batch(channels: &[&str], subscribes: bool) -> Batch {
        Batch { channels: names(channels), subscribes }
    }

    #[test]
    fn churn_costs_one_command_for_each_reply() {
        let mut rooms = RoomChannels::default();
        rooms.want("a".into());
        assert_eq!(rooms.next_batch(9), Some(batch(&["a"], true)));
        for _ in 0..1000 {
            rooms.unwant("a".into());
            rooms.want("a".into());
        }
        assert_eq!(rooms.next_batch(9), None);
        rooms.confirm(batch(&["a"], true));
        assert_eq!((rooms.next_batch(9), rooms.unconfirmed()), (None, 0));
        for _ in 0..1000 {
            rooms.unwant("a".into());
            rooms.want("a".into());
        }
        rooms.unwant("a".into());
        assert!(rooms.changed.len() == 1);
        assert_eq!(rooms.next_batch(9), Some(batch(&["a"], false)));
        rooms.want("a".into());
        assert_eq!(rooms.next_batch(9), None);
        rooms.confirm(batch(&["a"], false));
        assert_eq!(rooms.next_batch(9), Some(batch(&["a"], true)));
        assert!(rooms.take_removed().is_empty());
    }

    #[test]
    fn batches_are_limited() {
        let mut rooms = RoomChannels::default();
        ["a", "b", "c"].into_iter().for_each(|name| rooms.want(name.into()));
        assert_eq!(rooms.next_batch(2), Some(batch(&["a", "b"], true)));
        rooms.confirm(batch(&["a", "b"], true));
        rooms.unwant("a".into());
        assert_eq!(rooms.next_batch(2), Some(batch(&["c"], true)));
        assert_eq!(rooms.next_batch(2), Some(batch(&["a"], false)));
        rooms.confirm(batch(&["a"], false));
        assert_eq!((rooms.take_removed(), rooms.len()), (names(&["a"]), 2));
    }

    #[tokio::test]
    async fn joins_end_with_their_channel() {
        let mut rooms = RoomChannels::default();
        let join = |rooms: &mut RoomChannels| {
            let (reply, heard) = oneshot::channel();
            rooms.join("a", reply);
            heard
        };
        assert_eq!(join(&mut rooms).await, Ok(Heard::Left));
        rooms.want("a".into());
        let left = join(&mut rooms);
        rooms.unwant("a".into());
        assert_eq!(left.await, Ok(Heard::Left));
        assert_eq!((rooms.next_batch(9), rooms.len()), (None, 0));
        rooms.want("a".into());
        let heard = join(&mut rooms);
        let sent = rooms.next_batch(9).expect("a command");
        rooms.confirm(sent);
        assert_eq!(heard.await, Ok(Heard::Confirmed));
        assert_eq!(join(&mut rooms).await, Ok(Heard::Confirmed));
    }

    #[test]
    fn lost_channels_are_restored() {
        let mut rooms = RoomChannels::default();
        ["a", "b", "c"].into_iter().for_each(|name| rooms.want(name.into()));
        let sent = rooms.next_batch(9).expect("a command");
        rooms.confirm(sent);
        rooms.unwant("c".into());
        rooms.lose();
        assert_eq!((rooms.take_removed(), rooms.is_restored()), (names(&["c"]), false));
        rooms.unwant("b".into());
        let sent = rooms.next_batch(9).expect("a command");
        assert_eq!(sent, batch(&["a"], true));
        assert!(rooms.refuse(sent));
        assert_eq!((rooms.next_batch(9), rooms.retry()), (None, 1));
        let sent = rooms.next_batch(9).expect("a command");
        assert!(!rooms.is_restored());
        rooms.confirm(sent);
        assert!(rooms.is_restored());
        assert_eq!((rooms.close(), rooms.len()), (names(&["a"]), 0));
    }
}
