//! Channels that the node has subscribed to, and the servers on which they are.

use std::collections::HashMap;

use crate::Channel;

/// Subscribed channels.
#[derive(Debug, Default)]
pub(super) struct Interest {
    pub(super) entries: HashMap<Channel, Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) digest: u64,
    /// Servers on which it is subscribed or is to be, as bits.
    pub(super) wanted: u32,
    pub(super) confirmed: u32,
    /// Token of the node's last command.
    pub(super) token: u64,
    /// The node awaits a confirmation.
    pub(super) is_owed: bool,
    /// Number of changes of other nodes before it was confirmed.
    pub(super) epoch: u64,
}

impl Interest {
    pub(super) fn get(&self, channel: &Channel) -> Option<&Entry> {
        self.entries.get(channel)
    }

    /// Returns the channels of which `matches` holds, in order.
    ///
    /// The map has no order, and the outputs must not depend on it.
    pub(super) fn sorted(&self, matches: impl Fn(&Channel, &Entry) -> bool) -> Vec<Channel> {
        let matching = self.entries.iter().filter(|(channel, entry)| matches(channel, entry));
        let mut channels: Vec<_> = matching.map(|(channel, _)| channel.clone()).collect();
        channels.sort_unstable();
        channels
    }
}
