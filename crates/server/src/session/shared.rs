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
    transports: Arc<Vec<Arc<dyn Transport>>>,
    /// The current transport.
    transport: AtomicU16,
}

/// Index of a transport among those of a session's endpoint; smaller than its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransportIndex(pub(crate) u16);

/// Initial values of a session.
pub(crate) struct SessionInit<A> {
    pub(crate) io: A,
    pub(crate) sid: Sid,
    pub(crate) kind: ClientKind,
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) outbox: Outbox,
    pub(crate) handshake: Handshake,
    pub(crate) transports: Arc<Vec<Arc<dyn Transport>>>,
    /// One of `transports`.
    pub(crate) transport: TransportName,
}

impl<A> SessionShared<A> {
    pub(crate) fn new(init: SessionInit<A>) -> Self {
        let SessionInit { io, sid, kind, codec, outbox, handshake, transports, transport } = init;
        let (mailbox, has_disconnected) = (Mailbox::default(), AtomicBool::new(false));
        let settled = AtomicBool::new(false);
        let mut shared = Self {
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
            transport: AtomicU16::new(0),
        };
        match shared.find_transport(transport) {
            Some((TransportIndex(index), _)) => shared.transport = AtomicU16::new(index),
            None => {
                tracing::error!(transport = transport.0, "session began on a transport its endpoint lacks")
            }
        }
        shared
    }

    /// Marks the session as joined or ended; returns whether the mark is new.
    pub(crate) fn settle(&self) -> bool {
        !self.settled.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    /// Returns the name of the current transport.
    pub(crate) fn transport(&self) -> TransportName {
        self.name_of_transport(self.transport_index())
    }

    /// Returns the current transport.
    pub(crate) fn transport_index(&self) -> TransportIndex {
        TransportIndex(self.transport.load(Ordering::Acquire))
    }

    pub(crate) fn name_of_transport(&self, index: TransportIndex) -> TransportName {
        self.transports[usize::from(index.0)].name()
    }

    /// Returns the transport of this name if the session's endpoint has it.
    pub(crate) fn find_transport(
        &self,
        name: TransportName,
    ) -> Option<(TransportIndex, &Arc<dyn Transport>)> {
        let index = self.transports.iter().position(|transport| transport.name() == name)?;
        Some((TransportIndex(u16::try_from(index).ok()?), &self.transports[index]))
    }

    /// Returns whether the session started at the endpoint that owns this transport list.
    pub(crate) fn began_at(&self, transports: &Arc<Vec<Arc<dyn Transport>>>) -> bool {
        Arc::ptr_eq(&self.transports, transports)
    }

    /// Returns whether clients poll on this transport.
    pub(crate) fn is_polled(&self, index: TransportIndex) -> bool {
        self.transports[usize::from(index.0)].capabilities().polled
    }

    /// Sets the current transport.
    pub(crate) fn set_transport(&self, index: TransportIndex) {
        self.transport.store(index.0, Ordering::Release);
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
