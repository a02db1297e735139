//! Servers by their names, and the server of each channel.

use std::fmt;
use std::sync::Arc;

use crate::Channel;
use crate::channel::fnv_1a;

/// Server by a hash of its name, which all nodes compute alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServerId(pub(super) u64);

impl ServerId {
    pub(super) fn of(name: &str) -> Self {
        Self(mix(fnv_1a(name)))
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Servers that share the channels: sorted, without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ServerSet(Arc<[ServerId]>);

impl ServerSet {
    pub(super) fn new(servers: impl IntoIterator<Item = ServerId>) -> Self {
        let mut servers: Vec<_> = servers.into_iter().collect();
        servers.sort_unstable();
        servers.dedup();
        Self(servers.into())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn contains(&self, server: ServerId) -> bool {
        self.0.binary_search(&server).is_ok()
    }

    /// Returns the server of a channel; `None` if there is no server.
    ///
    /// By rendezvous hashing: a server that is added takes a share of the channels from each of the others, and a
    /// removed one leaves its channels to the others. No other channel moves.
    pub(super) fn home(&self, digest: u64) -> Option<ServerId> {
        if let [only] = &self.0[..] {
            return Some(*only);
        }
        self.0.iter().copied().max_by_key(|server| (mix(digest ^ server.0), server.0))
    }
}

/// Returns whether the messages of a channel go to all servers.
///
/// Membership and requests survive the loss of any server, since they need only one that two nodes share.
pub(super) fn is_control(channel: &Channel) -> bool {
    matches!(channel, Channel::Nodes | Channel::Inbox(_))
}

/// Finalizer of `SplitMix64` (Steele, Lea and Flood, 2014): each bit of the result depends on each bit of the number.
fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use roomcast_core::{Namespace, Room};

    fn set(names: &[&str]) -> ServerSet {
        ServerSet::new(names.iter().map(|name| ServerId::of(name)))
    }

    fn digests() -> Vec<u64> {
        let room = |index| Room::from(format!("room-{index}"));
        (0..10_000).map(|index| Channel::Room(Namespace::main(), room(index)).digest()).collect()
    }

    #[test]
    fn servers_share_channels_evenly() {
        for names in [&["a:1", "b:1"][..], &["a:1", "a:2", "a:3"], &["a:1", "b:1", "c:1", "d:1"]] {
            let set = set(names);
            for server in set.iter() {
                let own = digests().iter().filter(|digest| set.home(**digest) == Some(server)).count();
                let share = 10_000 / names.len();
                assert!(own.abs_diff(share) < share / 10, "{own} of {share}");
            }
        }
    }

    #[test]
    fn added_server_takes_its_share_only() {
        let (before, after) = (set(&["a:1", "b:1", "c:1"]), set(&["a:1", "b:1", "c:1", "d:1"]));
        let added = ServerId::of("d:1");
        let moved: Vec<_> =
            digests().into_iter().filter(|digest| before.home(*digest) != after.home(*digest)).collect();
        assert!(moved.iter().all(|digest| after.home(*digest) == Some(added)));
        assert!(moved.len().abs_diff(2_500) < 250, "{}", moved.len());
    }

    #[test]
    fn order_of_names_has_no_effect() {
        assert_eq!(set(&["b:1", "a:1", "a:1"]), set(&["a:1", "b:1"]));
        assert_eq!(set(&[]).home(7), None);
    }
}
