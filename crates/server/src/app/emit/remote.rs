//! Sockets that were looked up, on this node or another

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Args, ByteString, Found, IntoArgs, Receipt, Room, RouterError, SocketId, Target};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::emit::broadcast::Emit;
use crate::app::emit::socket::SocketEmit;
use crate::app::error::{AckError, EmitError};
use crate::app::into_rooms::{IntoRooms, into_rooms};
use crate::app::model::io::Io;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::socket::Socket;
use crate::app::model::user_data::{DataError, read};
use crate::app::namespace::NamespaceHandle;

/// A socket that was looked up, on this node or another
///
/// What it is told here reaches it wherever it is. If it is gone meanwhile, that comes to nothing.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
    namespace: Arc<NamespaceState>,
    found: Found,
}

impl RemoteSocket {
    pub(crate) fn new(namespace: Arc<NamespaceState>, found: Found) -> Self {
        Self { namespace, found }
    }

    /// Its public id
    pub fn id(&self) -> &SocketId {
        &self.found.id
    }

    /// The rooms it was in when it was looked up, its own first
    pub fn rooms(&self) -> &[Room] {
        &self.found.rooms
    }

    /// Returns whether it was in a room when it was looked up.
    pub fn is_in(&self, room: impl Into<Room>) -> bool {
        self.found.rooms.contains(&room.into())
    }

    /// The request that its session began with
    ///
    /// # Errors
    /// When another node described it in a form that is not known here.
    pub fn handshake(&self) -> Result<RemoteHandshake, DataError> {
        let told = self.found.control.as_ref().map(|control| control.handshake());
        read(&told.unwrap_or_else(|| ByteString::from_static("{}")))
    }

    /// What the application [keeps](Socket::set_data) with it; `None` if none was set
    ///
    /// Of a socket on this node as it is now, of one elsewhere as it was when it was looked up.
    ///
    /// # Errors
    /// When it is not of this type.
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, DataError> {
        match self.found.control.as_ref().map(|control| control.data()) {
            Some(data) if !data.is_empty() => read(&data).map(Some),
            _ => Ok(None),
        }
    }

    /// The socket itself, if it is on this node
    pub fn here(&self) -> Option<Socket> {
        self.found.control.clone().and_then(Socket::from_control)
    }

    /// Makes it join rooms
    pub fn join(&self, rooms: impl IntoRooms) {
        match self.here() {
            Some(socket) => into_rooms(rooms).into_iter().for_each(|room| _ = socket.join(room)),
            None => _ = self.addressed().sockets_join(rooms),
        }
    }

    /// Makes it leave rooms
    pub fn leave(&self, rooms: impl IntoRooms) {
        match self.here() {
            Some(socket) => into_rooms(rooms).into_iter().for_each(|room| _ = socket.leave(room)),
            None => _ = self.addressed().sockets_leave(rooms),
        }
    }

    /// Takes it out of this namespace; its other namespaces and its connection stay
    pub fn disconnect(&self) {
        match &self.found.control {
            Some(control) => control.disconnect(false),
            None => _ = self.addressed().disconnect(),
        }
    }

    /// Closes the connection of its client, with all its namespaces
    pub fn disconnect_client(&self) {
        match &self.found.control {
            Some(control) => control.disconnect(true),
            None => _ = self.addressed().disconnect_client(),
        }
    }

    #[doc = include_str!("../../../docs/emit.md")]
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<Receipt, EmitError> {
        self.target().emit(event, args)
    }

    #[doc = include_str!("../../../docs/emit_with_ack_one.md")]
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs) -> Result<Args, AckError> {
        self.target().emit_with_ack(event, args).await
    }

    #[doc = include_str!("../../../docs/timeout.md")]
    pub fn timeout(&self, timeout: Duration) -> SocketEmit {
        self.target().timeout(timeout)
    }

    #[doc = include_str!("../../../docs/volatile.md")]
    pub fn volatile(&self) -> SocketEmit {
        self.target().volatile()
    }

    /// It alone, for setting how it is emitted to
    ///
    /// A socket of this node is told by itself. One of another node is known by its id alone, so others who joined a
    /// room of that name are addressed, and left out, with it.
    pub fn target(&self) -> SocketEmit {
        if let Some(socket) = self.here() {
            return SocketEmit::here(&socket);
        }
        SocketEmit::by_id(self.id().clone(), Emit::new(self.namespace.clone(), Target::default()))
    }

    fn addressed(&self) -> Emit {
        Emit::new(self.namespace.clone(), Target::default()).to(self.id())
    }
}

/// The request that a session began with, as servers of a cluster tell each other
///
/// The fields are those of Node's `socket.handshake`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RemoteHandshake {
    /// Headers, names in lower case; several of one name are joined by commas
    pub headers: BTreeMap<String, Value>,
    /// When it was, as text in the form that JavaScript gives a date
    pub time: String,
    /// Where the client connected from, without the port; empty if its server does not know
    pub address: String,
    /// Whether the request named an origin
    pub xdomain: bool,
    /// Whether it came over TLS
    pub secure: bool,
    /// When it was, in milliseconds since 1970
    pub issued: u64,
    /// Path and query
    pub url: String,
    /// Query parameters, decoded; several of one name are a list
    pub query: BTreeMap<String, Value>,
    /// What the client showed when it asked to join the namespace
    pub auth: Value,
}

impl RemoteHandshake {
    /// A header that came once
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }

    /// A query parameter that came once
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.get(name).and_then(Value::as_str)
    }
}

impl Emit {
    #[doc = include_str!("../../../docs/fetch_sockets.md")]
    pub async fn fetch_sockets(&self) -> Result<Vec<RemoteSocket>, RouterError<RemoteSocket>> {
        let here = |found| RemoteSocket::new(self.namespace.clone(), found);
        match self.namespace.router.fetch(&self.target).await {
            Ok(found) => Ok(found.into_iter().map(here).collect()),
            Err(RouterError { missing, partial }) => {
                Err(RouterError { missing, partial: partial.into_iter().map(here).collect() })
            }
        }
    }
}

impl NamespaceHandle {
    /// The socket of this id, if it is on this node; it is `sockets.get(id)` on Node
    pub fn socket(&self, id: &SocketId) -> Option<Socket> {
        let target = Target { rooms: vec![id.into()], ..Target::default() };
        // Others may have joined a room of that name.
        let found = self.state.router.find(&target).into_iter().find(|found| found.id == *id)?;
        found.control.and_then(Socket::from_control)
    }

    /// The sockets of this namespace on this node
    ///
    /// Those of the whole cluster, or of a room, are found by [`fetch_sockets`](Self::fetch_sockets).
    pub fn sockets(&self) -> Vec<Socket> {
        let found = self.state.router.find(&Target::default()).into_iter();
        found.filter_map(|found| found.control.and_then(Socket::from_control)).collect()
    }
}

impl Io {
    /// See [`NamespaceHandle::socket`]
    pub fn socket(&self, id: &SocketId) -> Option<Socket> {
        self.main().socket(id)
    }

    /// See [`NamespaceHandle::sockets`]
    pub fn sockets(&self) -> Vec<Socket> {
        self.main().sockets()
    }
}
