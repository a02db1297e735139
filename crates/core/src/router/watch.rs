//! Rooms as they come and go, told in order and once

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::control::MemberControl;
use crate::{MemberKey, Room, SocketId};

/// What became of a room on this node
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums, reason = "watchers match every change")]
pub enum RoomChange {
    /// Somebody is about to be its first member
    Created {
        /// Which room
        room: Room,
    },
    /// A socket has joined it
    Joined {
        /// Which room
        room: Room,
        /// Who
        socket: SocketId,
        /// Which of those that may have this id
        key: MemberKey,
        /// More about whoever joined
        control: Option<Arc<dyn MemberControl>>,
    },
    /// A socket has left it, or is gone
    Left {
        /// Which room
        room: Room,
        /// Who
        socket: SocketId,
        /// Which of those that may have this id
        key: MemberKey,
    },
    /// No change: who is in it at this point, for a watcher that [asked](crate::Router::survey)
    Present {
        /// Which room
        room: Room,
        /// Everybody who has joined it
        members: Vec<PresentMember>,
    },
    /// Its last member has left
    Deleted {
        /// Which room
        room: Room,
    },
}

impl RoomChange {
    /// The room
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

/// A member of a room that was [surveyed](crate::Router::survey)
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "routers build it")]
pub struct PresentMember {
    /// What tells it from every other member
    pub key: MemberKey,
    /// Its public id
    pub socket: SocketId,
    /// More about it
    pub control: Option<Arc<dyn MemberControl>>,
}

/// Is told what becomes of rooms
///
/// One change at a time, under no lock, on the thread of whoever made it or of another that makes one at the same
/// time; so it may use the router, and must be quick. For each room changes come in their order: created, then
/// everybody who joins and leaves, then deleted, then perhaps created again. None is lost and none is told twice. By
/// the time a method of the router returns, what it changed has been told, except to a watcher that called the
/// method itself: it is told when it returns.
pub trait RoomWatcher: Send + Sync + 'static {
    /// Something became of a room
    fn room_changed(&self, change: &RoomChange);
}

/// Changes on their way to a watcher, for routers
///
/// [`push`](Self::push) under the lock that makes the change one, so that changes stand in their order, and
/// [`tell`](Self::tell) under no lock, when it is made. It holds no more than threads are about to tell.
pub struct ChangeQueue {
    changes: Mutex<VecDeque<RoomChange>>,
    /// Held by the one who tells
    watcher: Mutex<Arc<dyn RoomWatcher>>,
}

thread_local! {
    /// Whether this thread is inside a watcher, where it must not wait for another thread that tells.
    ///
    /// A watcher may call any method of a router, which ends in [`ChangeQueue::tell`] without a parameter that could
    /// say so; waiting there for the thread's own lock would never end. A field of the queue does not do: two watchers
    /// that change rooms of each other's namespaces would wait for each other. Bounded: one flag a thread.
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

impl ChangeQueue {
    /// A queue without changes
    pub fn new(watcher: Arc<dyn RoomWatcher>) -> Self {
        Self { changes: Mutex::default(), watcher: Mutex::new(watcher) }
    }

    /// Puts a change behind the others; calls nobody
    pub fn push(&self, change: RoomChange) {
        self.changes().push_back(change);
    }

    /// Tells all changes, or waits until whoever tells already has told them
    ///
    /// Inside a watcher it does not wait: what is left is told by the one who called the watcher.
    pub fn tell(&self) {
        loop {
            let watcher = if TELLING.get() {
                match self.watcher.try_lock() {
                    Ok(watcher) => watcher,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => return,
                }
            } else {
                self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
            };
            while let Some(change) = self.next() {
                let _telling = Telling::begin();
                watcher.room_changed(&change);
            }
            drop(watcher);
            // Somebody inside a watcher may have pushed and found this one still telling.
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

/// This thread is inside a watcher until it is dropped, a panic of the watcher included
struct Telling {
    before: bool,
}

impl Telling {
    fn begin() -> Self {
        Self { before: TELLING.replace(true) }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        TELLING.set(self.before);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Says what it is told, and waits until it may go on
    struct Slow {
        told: Mutex<mpsc::SyncSender<String>>,
        goes_on: Mutex<mpsc::Receiver<()>>,
    }

    impl RoomWatcher for Slow {
        fn room_changed(&self, change: &RoomChange) {
            self.told.lock().unwrap().send(change.room().to_string()).unwrap();
            self.goes_on.lock().unwrap().recv().unwrap();
        }
    }

    #[test]
    fn whoever_changes_a_room_while_another_is_told_of_waits_until_its_own_is_told_too() {
        let (told, hears) = mpsc::sync_channel(2);
        let (lets_go_on, goes_on) = mpsc::sync_channel(2);
        let watcher = Slow { told: Mutex::new(told), goes_on: Mutex::new(goes_on) };
        let queue = &ChangeQueue::new(Arc::new(watcher));
        let change = |room: &str| {
            queue.push(RoomChange::Created { room: room.into() });
            queue.tell();
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
            assert!(early.is_err(), "it is not told yet");
            assert_eq!(hears.recv().unwrap(), "second");
            returns.recv().unwrap();
        });
    }
}
