//! Ordered, exactly-once notification of room changes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::control::MemberControl;
use crate::{MemberKey, Room, SocketId};

/// Change of a room on this node.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "watchers match every change")]
pub enum RoomChange {
    /// The room is about to get its first member.
    Created {
        /// Changed room.
        room: Room,
    },
    /// A socket has joined the room.
    Joined {
        /// Changed room.
        room: Room,
        /// Id of the socket.
        socket: SocketId,
        /// Key of the member, distinct from others with the same id.
        key: MemberKey,
        /// Further queries and commands for the member.
        control: Option<Arc<dyn MemberControl>>,
    },
    /// A socket has left the room, or was detached.
    Left {
        /// Changed room.
        room: Room,
        /// Id of the socket.
        socket: SocketId,
        /// Key of the member, distinct from others with the same id.
        key: MemberKey,
    },
    /// No change: the members of the room at this point, in reply to a [survey](crate::Router::survey).
    Present {
        /// Surveyed room.
        room: Room,
        /// All members that have joined it.
        members: Vec<PresentMember>,
    },
    /// The last member has left the room.
    Deleted {
        /// Deleted room.
        room: Room,
    },
}

impl RoomChange {
    /// Returns the room.
    pub fn room(&self) -> &Room {
        match self {
            Self::Created { room }
            | Self::Joined { room, .. }
            | Self::Left { room, .. }
            | Self::Present { room, .. }
            | Self::Deleted { room } => room,
        }
    }
}

/// Member of a room in a [survey](crate::Router::survey).
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "routers build it")]
pub struct PresentMember {
    /// Key that is unique among all members.
    pub key: MemberKey,
    /// Public id.
    pub socket: SocketId,
    /// Further queries and commands for the member.
    pub control: Option<Arc<dyn MemberControl>>,
}

/// Room changes that a watcher receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "routers match every filter")]
pub enum WatchFilter {
    /// All changes.
    Members,
    /// Creation and deletion of rooms.
    Rooms,
    /// Creation and deletion of rooms because of members that joined them.
    ///
    /// The room that a member has by its own id alone is not reported, so attaching a member costs nothing.
    JoinedRooms,
}

/// Listener for room changes.
///
/// It receives one change at a time, under no lock, on the thread that made the change or one that makes another at the
/// same time. So it may call the router, and must return quickly. Changes of one room arrive in order: created, then
/// joins and leaves, then deleted, then possibly created again. None is lost or repeated. A router's method returns
/// after its changes were delivered, except inside the watcher: changes that a watcher makes are delivered after it
/// returns.
pub trait RoomWatcher: Send + Sync + 'static {
    /// Handles a change of a room.
    fn room_changed(&self, change: &RoomChange);
}

/// Queue of changes for a watcher, for use by routers.
///
/// Call [`push`](Self::push) under the lock that orders the change, and [`notify`](Self::notify) under no lock afterwards.
/// The queue holds no more changes than threads are about to deliver.
pub struct ChangeQueue {
    changes: Mutex<VecDeque<RoomChange>>,
    /// Locked by the delivering thread.
    watcher: Mutex<Arc<dyn RoomWatcher>>,
}

thread_local! {
    /// Whether this thread is inside a watcher, where it must not wait for another delivering thread.
    ///
    /// A watcher may call any method of a router, which ends in [`ChangeQueue::notify`] without a parameter that could
    /// carry it; waiting there for the thread's own lock would deadlock. A field of the queue is not enough: two
    /// watchers that change rooms of each other's namespaces would deadlock. Bounded: one flag a thread.
    static NOTIFYING: Cell<bool> = const { Cell::new(false) };
}

impl ChangeQueue {
    /// Creates an empty queue.
    pub fn new(watcher: Arc<dyn RoomWatcher>) -> Self {
        Self { changes: Mutex::default(), watcher: Mutex::new(watcher) }
    }

    /// Appends a change; calls no watcher.
    pub fn push(&self, change: RoomChange) {
        self.changes().push_back(change);
    }

    /// Delivers all changes, or waits until another thread has delivered them.
    ///
    /// Inside a watcher it does not wait: the thread that called the watcher delivers the rest.
    pub fn notify(&self) {
        loop {
            let watcher = if NOTIFYING.get() {
                match self.watcher.try_lock() {
                    Ok(watcher) => watcher,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => return,
                }
            } else {
                self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
            };
            while let Some(change) = self.next() {
                let _guard = NotifyGuard::begin();
                watcher.room_changed(&change);
            }
            drop(watcher);
            // A watcher's own call may have pushed a change while this thread held the watcher.
            if self.changes().is_empty() {
                return;
            }
        }
    }

    fn next(&self) -> Option<RoomChange> {
        self.changes().pop_front()
    }

    fn changes(&self) -> MutexGuard<'_, VecDeque<RoomChange>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ChangeQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangeQueue").field("waiting", &self.changes().len()).finish()
    }
}

/// Marks this thread as inside a watcher until dropped, including by a panic of the watcher.
struct NotifyGuard {
    before: bool,
}

impl NotifyGuard {
    fn begin() -> Self {
        Self { before: NOTIFYING.replace(true) }
    }
}

impl Drop for NotifyGuard {
    fn drop(&mut self) {
        NOTIFYING.set(self.before);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Watcher that reports each change, and then waits for permission to return.
    struct Slow {
        notified: Mutex<mpsc::SyncSender<String>>,
        resume: Mutex<mpsc::Receiver<()>>,
    }

    impl RoomWatcher for Slow {
        fn room_changed(&self, change: &RoomChange) {
            self.notified.lock().unwrap().send(change.room().to_string()).unwrap();
            self.resume.lock().unwrap().recv().unwrap();
        }
    }

    #[test]
    fn tell_waits_for_concurrent_delivery() {
        let (notified, hears) = mpsc::sync_channel(2);
        let (lets_go_on, resume) = mpsc::sync_channel(2);
        let watcher = Slow { notified: Mutex::new(notified), resume: Mutex::new(resume) };
        let queue = &ChangeQueue::new(Arc::new(watcher));
        let change = |room: &str| {
            queue.push(RoomChange::Created { room: room.into() });
            queue.notify();
        };
        let (returned, returns) = mpsc::sync_channel(2);
        std::thread::scope(|scope| {
            scope.spawn(move || change("first"));
            assert_eq!(hears.recv().unwrap(), "first");
            scope.spawn(move || {
                change("second");
                returned.send(()).unwrap();
            });
            let early = returns.recv_timeout(Duration::from_millis(100));
            (0..2).for_each(|_| lets_go_on.send(()).unwrap());
            assert!(early.is_err(), "returned before delivery");
            assert_eq!(hears.recv().unwrap(), "second");
            returns.recv().unwrap();
        });
    }
}
