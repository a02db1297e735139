//! Handles to sockets found by a lookup, on this node or another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{Args, ByteString, IntoArgs, QueryError, Receipt, Room, SocketId, SocketInfo, Target};
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

/// Handle to a socket found by a lookup, on this node or another.
///
/// Its methods reach the socket on any node of the cluster, and have no effect once it has disconnected.
#[derive(Debug, Clone)]
pub struct RemoteSocket {
    namespace: Arc<NamespaceState>,
    found: SocketInfo,
}

impl RemoteSocket {
    pub(crate) fn new(namespace: Arc<NamespaceState>, found: SocketInfo) -> Self {
        Self { namespace, found }
    }

    /// Returns the public id of the socket.
    pub fn id(&self) -> &SocketId {
        &self.found.id
    }

    /// Returns the rooms it was in at the time of the lookup, its own first.
    pub fn rooms(&self) -> &[Room] {
        &self.found.rooms
    }

    /// Returns whether it was in a room at the time of the lookup.
    pub fn is_in(&self, room: impl Into<Room>) -> bool {
        self.found.rooms.contains(&room.into())
    }

    /// Returns the handshake request of the session.
    ///
    /// # Errors
    /// Returns an error if another node sent it in an unknown format.
    pub fn handshake(&self) -> Result<RemoteHandshake, DataError> {
        let told = self.found.control.as_ref().map(|control| control.handshake());
        read(&told.unwrap_or_else(|| ByteString::from_static("{}")))
    }

    /// Returns the [user data](Socket::set_data) of the socket, or `None` if none was set.
    ///
    /// The data of a local socket is current; the data of a remote socket dates from the lookup.
    ///
    /// # Errors
    /// Returns an error if the data does not deserialize as `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<Option<T>, DataError> {
        match self.found.control.as_ref().map(|control| control.data()) {
            Some(data) if !data.is_empty() => read(&data).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the socket itself if it is on this node.
    pub fn here(&self) -> Option<Socket> {
        self.found.control.clone().and_then(Socket::from_control)
    }

    /// Adds the socket to rooms.
    pub fn join(&self, rooms: impl IntoRooms) {
        match self.here() {
            Some(socket) => into_rooms(rooms).into_iter().for_each(|room| _ = socket.join(room)),
            None => _ = self.addressed().sockets_join(rooms),
        }
    }

    /// Removes the socket from rooms.
    pub fn leave(&self, rooms: impl IntoRooms) {
        match self.here() {
            Some(socket) => into_rooms(rooms).into_iter().for_each(|room| _ = socket.leave(room)),
            None => _ = self.addressed().sockets_leave(rooms),
        }
    }

    /// Disconnects the socket from this namespace; the connection and its other namespaces stay open.
    pub fn disconnect(&self) {
        match &self.found.control {
            Some(control) => control.disconnect(false),
            None => _ = self.addressed().disconnect(),
        }
    }

    /// Closes the connection of the client, including all its namespaces.
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

    #[doc = include_str!("../../../docs/retries.md")]
    pub fn retries(&self, retries: u32) -> SocketEmit {
        self.target().retries(retries)
    }

    #[doc = include_str!("../../../docs/volatile.md")]
    pub fn volatile(&self) -> SocketEmit {
        self.target().volatile()
    }

    /// Returns an emit builder for this socket alone.
    ///
    /// A local socket is addressed directly. A remote socket is addressed by the room of its id, so other members of a
    /// room with that name are included and excluded with it.
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

/// Handshake request of a session in the format that cluster nodes exchange.
///
/// The fields match Node's `socket.handshake`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RemoteHandshake {
    /// Headers with lower-case names; repeated headers are joined by commas.
    pub headers: BTreeMap<String, Value>,
    /// Time of the request, formatted as JavaScript prints a date.
    pub time: String,
    /// Client address without the port; empty if its server does not know it.
    pub address: String,
    /// Whether the request had an `Origin` header.
    pub xdomain: bool,
    /// Whether the connection used TLS.
    pub secure: bool,
    /// Time of the request, in milliseconds since the Unix epoch.
    pub issued: u64,
    /// Path and query.
    pub url: String,
    /// Decoded query parameters; repeated parameters form a list.
    pub query: BTreeMap<String, Value>,
    /// Auth payload of the CONNECT packet for the namespace.
    pub auth: Value,
}

impl RemoteHandshake {
    /// Returns the value of a header that occurs once.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }

    /// Returns the value of a query parameter that occurs once.
    pub fn query_value(&self, name: &str) -> Option<&str> {
        self.query.get(name).and_then(Value::as_str)
    }
}

impl Emit {
    #[doc = include_str!("../../../docs/fetch_sockets.md")]
    pub async fn fetch_sockets(&self) -> Result<Vec<RemoteSocket>, QueryError<RemoteSocket>> {
        let handle = |found| RemoteSocket::new(self.namespace.clone(), found);
        match self.namespace.fetch(&self.target, self.timeout).await {
            Ok(found) => Ok(found.into_iter().map(handle).collect()),
            Err(error) => Err(error.map(handle)),
        }
    }

    #[doc = include_str!("../../../docs/count_all.md")]
    pub async fn count_all(&self) -> Result<usize, QueryError<usize>> {
        Ok(self.namespace.count_all(&self.target, self.timeout).await?.into_iter().sum())
    }
}

impl NamespaceHandle {
    /// Returns the socket with this id if it is on this node; `sockets.get(id)` on Node.
    pub fn socket(&self, id: &SocketId) -> Option<Socket> {
        let target = Target { rooms: vec![id.into()], ..Target::default() };
        // Other sockets may have joined the room of this name.
        let found = self.state.router.find(&target).into_iter().find(|found| found.id == *id)?;
        found.control.and_then(Socket::from_control)
    }

    /// Returns the sockets of this namespace on this node.
    ///
    /// [`fetch_sockets`](Self::fetch_sockets) returns the sockets of a room or of the whole cluster.
    pub fn sockets(&self) -> Vec<Socket> {
        let found = self.state.router.find(&Target::default()).into_iter();
        found.filter_map(|found| found.control.and_then(Socket::from_control)).collect()
    }
}

impl Io {
    /// Returns a socket of the main namespace; see [`NamespaceHandle::socket`].
    pub fn socket(&self, id: &SocketId) -> Option<Socket> {
        self.main().socket(id)
    }

    /// Returns the sockets of the main namespace; see [`NamespaceHandle::sockets`].
    pub fn sockets(&self) -> Vec<Socket> {
        self.main().sockets()
    }
}
