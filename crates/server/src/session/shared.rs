//! Session state shared between the driver task and sockets.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use roomcast_core::{Codec, Outbox, Sid, Transport, TransportName};

use crate::session::mailbox::Mailbox;
use crate::web::handshake::Handshake;

/// Session state shared between the driver task and sockets.
///
/// `A` is the application, opaque to this layer.
pub(crate) struct SessionShared<A> {
    pub(crate) sid: Sid,
    pub(crate) io: A,
    pub(crate) kind: ClientKind,
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) outbox: Outbox,
    pub(crate) mailbox: Mailbox,
    pub(crate) handshake: Handshake,
    /// Whether the application has requested to close the connection.
    pub(crate) has_disconnected: AtomicBool,
    /// Whether the session has joined a namespace or ended.
    settled: AtomicBool,
    transports: Arc<[Arc<dyn Transport>]>,
    /// Index of the current transport in `transports`.
    transport: AtomicU16,
}

/// Initial values of a session.
pub(crate) struct SessionInit<A> {
    pub(crate) io: A,
    pub(crate) sid: Sid,
    pub(crate) kind: ClientKind,
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) outbox: Outbox,
    pub(crate) handshake: Handshake,
    pub(crate) transports: Arc<[Arc<dyn Transport>]>,
    /// One of `transports`.
    pub(crate) transport: TransportName,
}

impl<A> SessionShared<A> {
    pub(crate) fn new(init: SessionInit<A>) -> Self {
        let SessionInit { io, sid, kind, codec, outbox, handshake, transports, transport } = init;
        let (mailbox, has_disconnected) = (Mailbox::default(), AtomicBool::new(false));
        let at = AtomicU16::new(0);
        let settled = AtomicBool::new(false);
        let shared = Self {
            sid,
            io,
            kind,
            codec,
            outbox,
            mailbox,
            handshake,
            has_disconnected,
            settled,
            transports,
            transport: at,
        };
        shared.set_transport(transport);
        shared
    }

    /// Marks the session as joined or ended; returns whether the mark is new.
    pub(crate) fn settle(&self) -> bool {
        !self.settled.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub(crate) fn transport(&self) -> TransportName {
        self.transports[usize::from(self.transport.load(Ordering::Acquire))].name()
    }

    /// Returns the transport of this name if the session's endpoint has it.
    pub(crate) fn transport_named(&self, name: TransportName) -> Option<&Arc<dyn Transport>> {
        self.transports.iter().find(|transport| transport.name() == name)
    }

    /// Returns whether the session started at the endpoint that owns this transport list.
    pub(crate) fn began_at(&self, transports: &Arc<[Arc<dyn Transport>]>) -> bool {
        Arc::ptr_eq(&self.transports, transports)
    }

    /// Returns whether clients poll on this transport.
    pub(crate) fn is_polled(&self, name: TransportName) -> bool {
        self.transport_named(name).is_some_and(|transport| transport.capabilities().polled)
    }

    /// Sets the current transport.
    pub(crate) fn set_transport(&self, name: TransportName) {
        let at = self.transports.iter().position(|transport| transport.name() == name);
        match at.and_then(|at| u16::try_from(at).ok()) {
            Some(at) => self.transport.store(at, Ordering::Release),
            None => tracing::error!(transport = name.0, "session moved to a transport its endpoint lacks"),
        }
    }
}

impl<A> fmt::Debug for SessionShared<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionShared")
            .field("kind", &self.kind)
            .field("transport", &self.transport())
            .finish_non_exhaustive()
    }
}

/// Protocol of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientKind {
    /// Socket.IO v5 over Engine.IO v4.
    SocketIo,
    /// Engine.IO v4 without Socket.IO.
    EngineIo,
    /// Plain WebSocket; each frame is a `message` event.
    Plain,
    /// Plain WebSocket with the `roomcast.json` subprotocol.
    Json,
}

impl ClientKind {
    /// Returns a short name such as `socket.io`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SocketIo => "socket.io",
            Self::EngineIo => "engine.io",
            Self::Plain => "plain",
            Self::Json => "roomcast.json",
        }
    }
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Table of live sessions by secret id.
pub(crate) struct Sessions<A>(DashMap<BySid<A>, ()>);

impl<A> Default for Sessions<A> {
    fn default() -> Self {
        Self(DashMap::default())
    }
}

/// Table entry hashed by the id inside the session, so that an entry is one pointer.
struct BySid<A>(Arc<SessionShared<A>>);

impl<A> Borrow<str> for BySid<A> {
    fn borrow(&self) -> &str {
        self.0.sid.expose()
    }
}

impl<A> Hash for BySid<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.sid.expose().hash(state);
    }
}

impl<A> PartialEq for BySid<A> {
    fn eq(&self, other: &Self) -> bool {
        self.0.sid == other.0.sid
    }
}

impl<A> Eq for BySid<A> {}

impl<A> Sessions<A> {
    /// Inserts a session; returns `false` if the id is taken.
    pub(crate) fn insert(&self, session: Arc<SessionShared<A>>) -> bool {
        match self.0.entry(BySid(session)) {
            Entry::Vacant(free) => {
                free.insert(());
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Removes a session; returns `false` if it was absent.
    pub(crate) fn remove(&self, sid: &Sid) -> bool {
        self.0.remove(sid.expose()).is_some()
    }

    pub(crate) fn find(&self, sid: &str) -> Option<Arc<SessionShared<A>>> {
        self.0.get(sid).map(|session| session.key().0.clone())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<SessionShared<A>>> {
        self.0.iter().map(|session| session.key().0.clone()).collect()
    }
}
