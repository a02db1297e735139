//! Listeners for events emitted to a socket.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use roomcast_core::{Args, Event, MemberKey, Room, Router, Target};

use crate::app::model::listeners::ListenerId;
use crate::app::model::socket::Socket;
use crate::host::metrics::count;
use crate::util::log_limit::log_limited;

/// Event emitted to a socket.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// Recipient.
    pub socket: &'a Socket,
    /// Name of the event.
    pub event: &'a str,
    /// Arguments of the event.
    pub args: &'a Args,
}

/// Sockets of a namespace with listeners for outgoing events.
#[derive(Default)]
pub(crate) struct OutgoingListeners {
    /// Upper bound of the number of sockets, so that emits and disconnects need not take the lock.
    count: AtomicUsize,
    /// Keyed by address, since two sockets may briefly have the same id.
    sockets: RwLock<HashMap<usize, Watched>>,
}

struct Watched {
    socket: Socket,
    listeners: Vec<Registered>,
}

/// Called with each outgoing event.
pub(crate) type Listener = dyn Fn(&Outgoing<'_>) + Send + Sync;
/// Listener and its id.
pub(crate) type Registered = (ListenerId, Arc<Listener>);

impl OutgoingListeners {
    pub(crate) fn add(
        &self,
        socket: &Socket,
        listener: Arc<Listener>,
        add: impl FnOnce(&mut Vec<Registered>, Registered),
    ) {
        let mut sockets = self.write();
        // Either this thread sees that the socket is closed, or `clear` sees the count.
        self.count.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !socket.is_cleared() {
            let watched = sockets
                .entry(socket.address())
                .or_insert_with(|| Watched { socket: socket.clone(), listeners: Vec::new() });
            add(&mut watched.listeners, (ListenerId::next(), listener));
        }
        self.recount(&sockets);
    }

    /// Removes a socket that has left.
    pub(crate) fn clear(&self, socket: &Socket) {
        fence(Ordering::SeqCst);
        if self.is_used() {
            self.forget(socket);
        }
    }

    pub(crate) fn forget(&self, socket: &Socket) {
        let gone = {
            let mut sockets = self.write();
            let gone = sockets.remove(&socket.address());
            self.recount(&sockets);
            gone
        };
        // Dropped outside the lock, since destructors run code of the application.
        drop(gone);
    }

    /// Removes one listener; `false` if it is not registered.
    pub(crate) fn remove(&self, socket: &Socket, id: ListenerId) -> bool {
        if !self.is_used() {
            return false;
        }
        let gone = {
            let mut sockets = self.write();
            let Some(watched) = sockets.get_mut(&socket.address()) else { return false };
            let at = watched.listeners.iter().position(|(listener, _)| *listener == id);
            let gone = at.map(|at| watched.listeners.remove(at));
            let empty = watched.listeners.is_empty().then(|| sockets.remove(&socket.address()));
            self.recount(&sockets);
            (gone, empty)
        };
        gone.0.is_some()
    }

    pub(crate) fn ids(&self, socket: &Socket) -> Vec<ListenerId> {
        let sockets = self.read();
        sockets
            .get(&socket.address())
            .map(|watched| watched.listeners.iter().map(|(id, _)| *id).collect())
            .unwrap_or_default()
    }

    pub(crate) fn is_used(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Calls the listeners of every recipient of the target.
    pub(crate) fn notify(&self, router: &dyn Router, target: &Target, event: &Event) {
        self.notify_matching(event, |socket| is_named(router, socket.key(), target));
    }

    /// Calls the listeners of one socket.
    pub(crate) fn notify_one(&self, one: &Socket, event: &Event) {
        self.notify_matching(event, |socket| socket.is(one));
    }

    fn notify_matching(&self, event: &Event, is_meant: impl Fn(&Socket) -> bool) {
        let told: Vec<_> = {
            let sockets = self.read();
            let meant = sockets.values().filter(|watched| is_meant(&watched.socket));
            meant.map(|watched| (watched.socket.clone(), watched.listeners.clone())).collect()
        };
        for (socket, listeners) in &told {
            let outgoing = Outgoing { socket, event: &event.name, args: &event.args };
            for (_, listener) in listeners {
                if catch_unwind(AssertUnwindSafe(|| listener(&outgoing))).is_err() {
                    count::handlers_panicked(socket.metrics());
                    log_limited!(
                        ERROR, &event.name, event = &*event.name, namespace = %event.namespace,
                        socket = %socket.id(), "outgoing listener panicked"
                    );
                }
            }
        }
    }

    fn recount(&self, sockets: &HashMap<usize, Watched>) {
        self.count.store(sockets.len(), Ordering::Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<usize, Watched>> {
        self.sockets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<usize, Watched>> {
        self.sockets.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for OutgoingListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutgoingListeners").field(&self.count).finish()
    }
}

fn is_named(router: &dyn Router, key: MemberKey, target: &Target) -> bool {
    let joined = router.rooms_of(key);
    let is_in = |rooms: &[Room]| rooms.iter().any(|room| joined.contains(room));
    target.skip != Some(key)
        && !joined.is_empty()
        && (target.rooms.is_empty() || is_in(&target.rooms))
        && !is_in(&target.except)
}
