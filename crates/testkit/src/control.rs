//! Recording socket controls and room watchers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{ByteString, MemberControl, MemberLimit, RoomChange, RoomWatcher};

/// Records disconnects and reached limits.
#[derive(Debug)]
pub struct ControlProbe {
    data: &'static str,
    max_rooms: usize,
    disconnected: Mutex<Vec<bool>>,
    limited: Mutex<Vec<MemberLimit>>,
    displaced: AtomicUsize,
}

impl ControlProbe {
    /// Creates a control whose data is this JSON text.
    pub fn new(data: &'static str) -> Arc<Self> {
        Arc::new(Self::with_limits(data, usize::MAX))
    }

    /// Creates a control with this room limit.
    pub fn with_max_rooms(max_rooms: usize) -> Arc<Self> {
        Arc::new(Self::with_limits("{}", max_rooms))
    }

    fn with_limits(data: &'static str, max_rooms: usize) -> Self {
        Self {
            data,
            max_rooms,
            disconnected: Mutex::default(),
            limited: Mutex::default(),
            displaced: AtomicUsize::new(0),
        }
    }

    /// Returns each limit reached so far.
    pub fn limited(&self) -> Vec<MemberLimit> {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how often the member was displaced.
    pub fn displaced(&self) -> usize {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Returns each disconnect so far: whether it closes the connection.
    pub fn disconnected(&self) -> Vec<bool> {
        self.disconnected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl MemberControl for ControlProbe {
    fn handshake(&self) -> ByteString {
        ByteString::from_static(r#"{"headers":{},"url":"/"}"#)
    }

    fn data(&self) -> ByteString {
        ByteString::from_static(self.data)
    }

    fn disconnect(&self, close: bool) {
        self.disconnected.lock().unwrap_or_else(PoisonError::into_inner).push(close);
    }

    fn displace(&self) {
        self.displaced.fetch_add(1, Ordering::Relaxed);
    }

    fn max_rooms(&self) -> usize {
        self.max_rooms
    }

    fn limited(&self, limit: MemberLimit) {
        self.limited.lock().unwrap_or_else(PoisonError::into_inner).push(limit);
    }
}

/// Records room changes and checks the order guaranteed to a watcher.
#[derive(Debug, Default)]
pub struct RoomLog(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    changes: Vec<String>,
    rooms: HashMap<String, Known>,
}

/// State of a room according to the reports.
#[derive(Debug, Default)]
struct Known {
    /// Whether the creation was observed, so that all members are known.
    creation_seen: bool,
    /// Whether an owner of the name may have been attached before watching began; no report covers it.
    may_have_owner: bool,
    /// Attachments by id; an id may be attached twice.
    members: HashMap<String, usize>,
}

impl RoomLog {
    /// Creates an empty log.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns the changes since the last call, such as `created r`, `a joined r`, `a left r`, `deleted r`.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.recorded().changes)
    }

    /// Returns the reported members of a room, sorted; `None` if there is no such room.
    pub fn members(&self, room: &str) -> Option<Vec<String>> {
        let mut members: Vec<_> = self.recorded().rooms.get(room)?.members.keys().cloned().collect();
        members.sort();
        Some(members)
    }

    /// Returns the reported number of rooms.
    pub fn room_count(&self) -> usize {
        self.recorded().rooms.len()
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoomWatcher for RoomLog {
    /// # Panics
    ///
    /// Panics if the change cannot follow the earlier reports, so that a report was lost, duplicated or early.
    fn room_changed(&self, change: &RoomChange) {
        let mut recorded = self.recorded();
        let Recorded { changes, rooms } = &mut *recorded;
        let name = change.room().as_str();
        match change {
            RoomChange::Created { .. } => {
                let known = Known { creation_seen: true, ..Known::default() };
                assert!(rooms.insert(name.to_owned(), known).is_none(), "`{name}` was created twice");
                changes.push(format!("created {name}"));
            }
            RoomChange::Joined { socket, .. } => {
                let known = rooms.entry(name.to_owned()).or_default();
                *known.members.entry(socket.to_string()).or_default() += 1;
                changes.push(format!("{socket} joined {name}"));
            }
            RoomChange::Left { socket, .. } => {
                let known = rooms.entry(name.to_owned()).or_default();
                let times = known.members.remove(socket.as_str()).unwrap_or(0);
                let is_owner = known.may_have_owner && socket.as_str() == name;
                let may_leave = times > 0 || !known.creation_seen || is_owner;
                assert!(may_leave, "`{socket}` left `{name}` without being a member");
                if times > 1 {
                    known.members.insert(socket.to_string(), times - 1);
                }
                changes.push(format!("{socket} left {name}"));
            }
            RoomChange::Present { members: present, .. } => {
                let known = rooms.entry(name.to_owned()).or_default();
                let mut there = HashMap::new();
                for member in present {
                    *there.entry(member.socket.to_string()).or_default() += 1;
                }
                // The room of an id also contains its owner, without a join.
                let owner = known.members.remove(name);
                assert!(
                    !known.creation_seen || known.members == there,
                    "`{name}` was reported with members {there:?}, expected {:?}",
                    known.members
                );
                there.extend(owner.map(|times| (name.to_owned(), times)));
                let may_have_owner = known.may_have_owner || !known.creation_seen;
                *known = Known { creation_seen: true, may_have_owner, members: there };
                changes.push(format!("reported {name}"));
            }
            RoomChange::Deleted { .. } => {
                let members = rooms.remove(name).unwrap_or_default().members;
                assert!(members.is_empty(), "`{name}` was deleted with members {members:?}");
                changes.push(format!("deleted {name}"));
            }
        }
    }
}
