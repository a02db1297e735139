//! Those who listen to what is emitted to a socket

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

/// An event on its way to a socket
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// Whom it goes to
    pub socket: &'a Socket,
    /// Its name
    pub event: &'a str,
    /// Its arguments
    pub args: &'a Args,
}

impl Socket {
    /// Called for each event that is emitted to this socket, alone or with others, before it is put into its outbox
    ///
    /// Several are called in order. They run in the task that emits, so they must not block, and cannot keep the event
    /// back; it may still be dropped, as its delivery allows. Answers to events of the client are no events. A socket
    /// that has left takes no more listeners, and lets go of those it had.
    ///
    /// While no socket of a namespace has one, emitting costs nothing more. While some have, each broadcast looks at
    /// their rooms. Events that another node of a cluster emits are not heard.
    ///
    /// ```
    /// # use roomcast_server::{Io, Socket};
    /// # let io = Io::new();
    /// io.on_connect(async |socket: Socket| {
    ///     socket.on_any_outgoing(|outgoing| {
    ///         println!("{} to {}: {}", outgoing.event, outgoing.socket.id(), outgoing.args.json());
    ///     });
    /// });
    /// ```
    pub fn on_any_outgoing(&self, listener: impl Fn(&Outgoing<'_>) + Send + Sync + 'static) -> &Self {
        self.state().outgoing.add(self, Arc::new(listener), Vec::push);
        self
    }

    /// As [`on_any_outgoing`](Self::on_any_outgoing), but called before those that were registered so far
    pub fn prepend_any_outgoing(&self, listener: impl Fn(&Outgoing<'_>) + Send + Sync + 'static) -> &Self {
        self.state().outgoing.add(self, Arc::new(listener), |all, new| all.insert(0, new));
        self
    }

    /// Takes back all that was registered by [`on_any_outgoing`](Self::on_any_outgoing) and
    /// [`prepend_any_outgoing`](Self::prepend_any_outgoing)
    pub fn off_any_outgoing(&self) -> &Self {
        self.state().outgoing.forget(self);
        self
    }

    /// Those registered by [`on_any_outgoing`](Self::on_any_outgoing), in the order in which they are called
    ///
    /// [`remove_listener`](Self::remove_listener) takes one back.
    pub fn listeners_any_outgoing(&self) -> Vec<ListenerId> {
        self.state().outgoing.ids(self)
    }
}

/// The sockets of a namespace that have somebody listen to what is emitted to them
#[derive(Default)]
pub(crate) struct OutgoingListeners {
    /// At least as many as there are, so that whoever emits or leaves need not look
    count: AtomicUsize,
    /// By their addresses: for a moment there may be two of one id
    sockets: RwLock<HashMap<usize, Watched>>,
}

struct Watched {
    socket: Socket,
    listeners: Vec<Registered>,
}

type Listener = dyn Fn(&Outgoing<'_>) + Send + Sync;
type Registered = (ListenerId, Arc<Listener>);

impl OutgoingListeners {
    fn add(
        &self,
        socket: &Socket,
        listener: Arc<Listener>,
        add: impl FnOnce(&mut Vec<Registered>, Registered),
    ) {
        let mut sockets = self.write();
        // Either this sees that the socket is over, or the socket sees that there is something to let go of.
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

    /// Lets go of a socket that has left
    pub(crate) fn clear(&self, socket: &Socket) {
        fence(Ordering::SeqCst);
        if self.is_used() {
            self.forget(socket);
        }
    }

    fn forget(&self, socket: &Socket) {
        let gone = {
            let mut sockets = self.write();
            let gone = sockets.remove(&socket.address());
            self.recount(&sockets);
            gone
        };
        // Outside the lock: it runs what the application wrote.
        drop(gone);
    }

    /// Takes back one listener; `false` if it is not there
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

    fn ids(&self, socket: &Socket) -> Vec<ListenerId> {
        let sockets = self.read();
        sockets
            .get(&socket.address())
            .map(|watched| watched.listeners.iter().map(|(id, _)| *id).collect())
            .unwrap_or_default()
    }

    pub(crate) fn is_used(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Tells the listeners of whoever the target names
    pub(crate) fn tell(&self, router: &dyn Router, target: &Target, event: &Event) {
        self.tell_those(event, |socket| is_named(router, socket.key(), target));
    }

    /// Tells the listeners of one socket
    pub(crate) fn tell_one(&self, one: &Socket, event: &Event) {
        self.tell_those(event, |socket| socket.is(one));
    }

    fn tell_those(&self, event: &Event, is_meant: impl Fn(&Socket) -> bool) {
        let told: Vec<_> = {
            let sockets = self.read();
            let meant = sockets.values().filter(|watched| is_meant(&watched.socket));
            meant.map(|watched| (watched.socket.clone(), watched.listeners.clone())).collect()
        };
        for (socket, listeners) in &told {
            let outgoing = Outgoing { socket, event: &event.name, args: &event.args };
            for (_, listener) in listeners {
                if catch_unwind(AssertUnwindSafe(|| listener(&outgoing))).is_err() {
                    count::handlers_panicked(socket.io().metrics());
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
