//! Server of a run: its members, and the members on other nodes from the updates.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use roomcast_core::{
    ByteString, MemberKey, PresenceMember, PresenceUpdate, RemoteChange, RemoteKey, SocketId,
};
use roomcast_presence::RoomName;

/// Members of all nodes in a room, with the numbers in their data.
pub(crate) type Members = BTreeMap<RemoteKey, u64>;

/// Room as a server and its clients know it.
#[derive(Debug, Default)]
struct Known {
    is_synced: bool,
    members: Members,
}

/// Server of a run, which checks the updates.
#[derive(Debug, Default)]
pub(crate) struct Server {
    /// Members of this node by room, with the numbers in their data.
    pub(crate) own: BTreeMap<RoomName, BTreeMap<MemberKey, u64>>,
    /// Members of other nodes by watched room.
    known: BTreeMap<RoomName, Known>,
    pub(crate) changes: u64,
}

impl Server {
    pub(crate) fn watch(&mut self, name: RoomName) {
        assert!(self.known.insert(name, Known::default()).is_none(), "watched twice");
    }

    pub(crate) fn unwatch(&mut self, name: &RoomName) {
        assert!(self.known.remove(name).is_some(), "unwatched without a watch");
    }

    /// Takes an update, and checks that it follows the earlier ones.
    pub(crate) fn update(&mut self, name: &RoomName, update: PresenceUpdate) -> Result<(), String> {
        let Some(known) = self.known.get_mut(name) else { return Err("update without a watch".into()) };
        let changes = match update {
            PresenceUpdate::Members(members) => {
                if std::mem::replace(&mut known.is_synced, true) {
                    return Err("members were passed twice".into());
                }
                let count = members.len();
                known.members = members.into_iter().map(|(key, member)| (key, number(&member))).collect();
                return if known.members.len() == count { Ok(()) } else { Err("member listed twice".into()) };
            }
            PresenceUpdate::Changes(changes) => changes,
        };
        if !known.is_synced {
            return Err("changes precede the members".into());
        }
        for change in changes {
            self.changes += 1;
            let (key, follows) = match &change {
                RemoteChange::Joined(key, member) => {
                    (key, known.members.insert(*key, number(member)).is_none())
                }
                RemoteChange::DataChanged(key, member) => {
                    let old = known.members.insert(*key, number(member));
                    (key, old.is_some_and(|old| old < number(member)))
                }
                RemoteChange::Left(key, member) => {
                    (key, known.members.remove(key).is_some_and(|old| old <= number(member)))
                }
            };
            if !follows {
                return Err(format!("{change:?} does not follow the state of {key:?}"));
            }
        }
        Ok(())
    }

    pub(crate) fn watched(&self) -> BTreeSet<RoomName> {
        self.known.keys().cloned().collect()
    }

    /// Returns the members of other nodes; `None` if they were not passed on.
    pub(crate) fn members(&self, name: &RoomName) -> Option<&Members> {
        self.known.get(name).filter(|known| known.is_synced).map(|known| &known.members)
    }
}

/// Returns a member whose data is a number.
pub(crate) fn member(key: MemberKey, number: u64) -> PresenceMember {
    PresenceMember { id: SocketId::from(format!("socket-{}", key.0)), data: Some(data(number)) }
}

pub(crate) fn data(number: u64) -> ByteString {
    number.to_string().into()
}

pub(crate) fn number(member: &PresenceMember) -> u64 {
    member.data.as_ref().and_then(|data| data.parse().ok()).expect("a number")
}
