//! Rooms that a socket joins before its namespace accepts it.

use std::sync::atomic::{Ordering, fence};

use roomcast_core::{MemberControl, MemberLimit, Room};

use super::{Socket, SocketState, lock};

impl Socket {
    /// Stores a room until the socket is attached.
    pub(super) fn join_early(&self, room: &Room) -> bool {
        let early = &self.0.extras.get_or_init(Box::default).early;
        let is_new = {
            let mut early = lock(early);
            let is_new = !early.contains(room);
            if is_new && early.len() >= self.0.max_rooms() {
                drop(early);
                self.0.limited(MemberLimit::Rooms);
                return false;
            }
            if is_new {
                early.push(room.clone());
            }
            is_new
        };
        fence(Ordering::SeqCst);
        match self.0.lifecycle.get() {
            SocketState::PENDING => true,
            SocketState::IN if is_new => {
                self.enter_early();
                self.0.namespace.router.rooms_of(self.key()).contains(room)
            }
            SocketState::IN => true,
            _ => {
                lock(early).clear();
                false
            }
        }
    }

    /// Removes a stored room; `false` if it was not stored.
    pub(super) fn leave_early(&self, room: &Room) -> bool {
        if self.0.lifecycle.get() != SocketState::PENDING {
            return false;
        }
        let Some(extras) = self.extras() else { return false };
        let mut early = lock(&extras.early);
        let before = early.len();
        early.retain(|user_data| user_data != room);
        early.len() < before
    }

    /// Joins the stored rooms.
    pub(super) fn enter_early(&self) {
        let Some(extras) = self.extras() else { return };
        for room in std::mem::take(&mut *lock(&extras.early)) {
            // A limit has already been reported, and a socket disconnected in the meantime joins nothing.
            let _ = self.0.namespace.router.join(self.key(), &room);
        }
    }
}
