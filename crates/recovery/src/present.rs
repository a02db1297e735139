//! Attached members, with what their sessions need to be retained.

use std::collections::HashMap;

use bytestring::ByteString;
use roomcast_core::MemberKey;

use crate::retained::RoomHistory;

/// Room histories of attached members, indexed by key and by recovery token.
#[derive(Default)]
pub(crate) struct Present {
    by_key: HashMap<MemberKey, RoomHistory>,
    /// Members that have a token.
    by_secret: HashMap<ByteString, MemberKey>,
}

impl Present {
    pub(crate) fn insert(&mut self, history: RoomHistory) {
        if !history.secret.is_empty() {
            self.by_secret.insert(history.secret.clone(), history.key);
        }
        self.by_key.insert(history.key, history);
    }

    pub(crate) fn remove(&mut self, key: MemberKey) -> Option<RoomHistory> {
        let history = self.by_key.remove(&key)?;
        if self.by_secret.get(&history.secret) == Some(&key) {
            self.by_secret.remove(&history.secret);
        }
        Some(history)
    }

    pub(crate) fn get(&self, key: MemberKey) -> Option<&RoomHistory> {
        self.by_key.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: MemberKey) -> Option<&mut RoomHistory> {
        self.by_key.get_mut(&key)
    }

    pub(crate) fn by_secret(&self, secret: &str) -> Option<&RoomHistory> {
        self.by_key.get(self.by_secret.get(secret)?)
    }
}
