//! Subscriptions to the channels of rooms.

use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::Room;
use roomcast_node_adapter::PubSubCommand;

use super::Driver;
use super::entry::Entry;
use super::rooms::{Batch, RoomChannels};
use super::subscribing::RETRY;
use super::subscriptions::Subscriptions;
use crate::input::Key;

impl Subscriptions {
    /// Lists a namespace if one of its rooms needs a command.
    pub(super) fn list_rooms(&mut self, key: Key, rooms: &mut RoomChannels) {
        self.have_rooms_changed |= rooms.len() > 0;
        if rooms.has_changes() && !std::mem::replace(&mut rooms.is_listed, true) {
            self.changed.push_back(key);
        }
    }

    /// Forgets the channels of rooms that a namespace has no longer.
    pub(super) fn forget_rooms(&mut self, key: Key, rooms: &mut RoomChannels) {
        let removed = rooms.take_removed();
        self.have_rooms_changed |= !removed.is_empty();
        removed.iter().for_each(|name| self.take(key, name));
    }
}

impl Driver {
    /// Handles a room that got its first member, or lost its last.
    pub(super) fn change_room(&mut self, key: Key, channel: ByteString, has_members: bool) {
        let Some(entry) = self.namespaces.get_mut(&key).filter(|entry| !entry.is_closed()) else { return };
        if has_members {
            self.subscriptions.add(key, &channel);
            entry.rooms.want(channel);
        } else {
            entry.rooms.unwant(channel);
        }
        self.subscriptions.list_rooms(key, &mut entry.rooms);
    }

    /// Returns the next command for rooms of a namespace.
    pub(super) fn next_room_command(&mut self, key: Key, token: u64) -> Option<PubSubCommand> {
        let rooms = &mut self.namespaces.get_mut(&key)?.rooms;
        rooms.is_listed = false;
        let batch = rooms.next_batch(BATCH);
        self.subscriptions.forget_rooms(key, rooms);
        self.subscriptions.list_rooms(key, rooms);
        let batch = batch?;
        let (mut channels, patterns) = (batch.channels.clone(), Vec::new());
        let command = if batch.subscribes {
            PubSubCommand::Subscribe { channels, patterns, token }
        } else {
            channels.retain(|name| !self.subscriptions.is_shared(name));
            if channels.is_empty() {
                self.confirm_rooms(key, batch);
                return None;
            }
            PubSubCommand::Unsubscribe { channels, patterns, token }
        };
        self.subscriptions.room_commands.insert(token, (key, batch));
        Some(command)
    }

    pub(super) fn confirm_rooms(&mut self, key: Key, batch: Batch) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        entry.rooms.confirm(batch);
        self.subscriptions.forget_rooms(key, &mut entry.rooms);
        self.subscriptions.list_rooms(key, &mut entry.rooms);
        self.note_restored(key);
    }

    pub(super) fn refuse_rooms(&mut self, key: Key, batch: Batch, now: Instant) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        if entry.rooms.refuse(batch) {
            self.subscriptions.retries.push_back((now + RETRY, key));
        }
        self.subscriptions.forget_rooms(key, &mut entry.rooms);
        self.subscriptions.list_rooms(key, &mut entry.rooms);
        self.note_restored(key);
    }

    /// Reports that messages on a subscription may have been lost.
    pub(super) fn report_missed(&mut self, subscription: &str) {
        if self.stream.is_some() {
            return;
        }
        let keys = self.subscriptions.route(subscription).into_iter();
        for key in keys.chain(self.subscriptions.others(subscription)) {
            let Some(entry) = self.namespaces.get(&key) else { continue };
            if let Some(host) = entry.host() {
                let room = entry.room_of(subscription);
                self.shared.guard.call(|| host.missed(room.as_ref()));
            }
        }
    }
}

impl Entry {
    /// Returns the room of a channel, if it is one of the channels of rooms.
    fn room_of(&self, channel: &str) -> Option<Room> {
        if self.names.all().any(|name| *name == channel) {
            return None;
        }
        let name = channel.strip_prefix(&**self.node.counted_channel())?.strip_suffix('#')?;
        Some(Room::from(name))
    }
}

/// Channels in one command.
const BATCH: usize = 256;
