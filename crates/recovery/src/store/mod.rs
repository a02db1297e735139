//! Sessions stored outside the process, as they change.

mod claim;
mod fence;
mod queue;
mod stored;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytestring::ByteString;
use roomcast_core::{Namespace, Room, SocketId};

pub use fence::Fence;
pub use queue::{Batch, SessionQueue, StoreStats};
pub use stored::StoredSessions;

/// Store of sessions outside the process, such as a database that several nodes share.
///
/// A session has a *holder*, the node that claimed it last, and an *epoch*, which grows with each claim. The holder
/// writes the session as it changes. A write with a lower epoch than the session's is refused, unless it is from the
/// holder. So a node whose client has returned elsewhere cannot overwrite the session.
///
/// A node makes one call of `write` or `remove` at a time; `claim` may be called during them. A call that exceeds the
/// [timeout](StoreConfig::write_timeout) is dropped and counts as failed: its effect may still occur, but not after
/// that of a later call of this node for the same session.
///
/// A process that dies removes none of its sessions. So a store drops sessions that were not written for long, such as
/// for a day.
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use async_trait::async_trait;
/// use roomcast_recovery::{
///     Claimed, Confirmed, Epoch, NodeId, SessionId, SessionStore, SessionWrite, StoreError, StoredSession,
/// };
///
/// #[derive(Debug)]
/// struct Record {
///     holder: NodeId,
///     epoch: Epoch,
///     session: StoredSession,
/// }
///
/// #[derive(Debug, Default)]
/// struct Memory(Mutex<HashMap<SessionId, Record>>);
///
/// impl Record {
///     fn refuses(&self, node: &NodeId, epoch: Epoch) -> bool {
///         self.epoch > epoch && self.holder != *node
///     }
/// }
///
/// #[async_trait]
/// impl SessionStore for Memory {
///     async fn write(&self, node: &NodeId, batch: &[SessionWrite]) -> Result<Vec<SessionId>, StoreError> {
///         let mut records = self.0.lock().unwrap();
///         let mut refused = Vec::new();
///         for SessionWrite { id, epoch, session } in batch {
///             let known = records.get(id);
///             if known.is_some_and(|record| record.refuses(node, *epoch)) {
///                 refused.push(id.clone());
///                 continue;
///             }
///             let epoch = known.map_or(*epoch, |record| record.epoch.max(*epoch));
///             let record = Record { holder: node.clone(), epoch, session: session.clone() };
///             records.insert(id.clone(), record);
///         }
///         Ok(refused)
///     }
///
///     async fn remove(&self, node: &NodeId, batch: &[(SessionId, Epoch)]) -> Result<(), StoreError> {
///         let mut records = self.0.lock().unwrap();
///         for (id, epoch) in batch {
///             if records.get(id).is_some_and(|record| !record.refuses(node, *epoch)) {
///                 records.remove(id);
///             }
///         }
///         Ok(())
///     }
///
///     async fn claim(&self, node: &NodeId, id: &SessionId) -> Result<Option<Claimed>, StoreError> {
///         let mut records = self.0.lock().unwrap();
///         let Some(record) = records.get_mut(id) else { return Ok(None) };
///         record.epoch = record.epoch.next();
///         let previous = std::mem::replace(&mut record.holder, node.clone());
///         Ok(Some(Claimed { epoch: record.epoch, previous, session: record.session.clone() }))
///     }
///
///     async fn confirm(&self, node: &NodeId, held: &[(SessionId, Epoch)]) -> Result<Confirmed, StoreError> {
///         let records = self.0.lock().unwrap();
///         let mut confirmed = Confirmed::default();
///         for (id, epoch) in held {
///             match records.get(id) {
///                 Some(record) if record.refuses(node, *epoch) => confirmed.claimed.push(id.clone()),
///                 Some(_) => {}
///                 None => confirmed.missing.push(id.clone()),
///             }
///         }
///         Ok(confirmed)
///     }
/// }
/// ```
#[async_trait]
pub trait SessionStore: Send + Sync + fmt::Debug + 'static {
    /// Writes sessions, and returns the refused ones, which another node has claimed.
    ///
    /// A batch has each session once. A session that the store does not know is written, and the node is its holder.
    ///
    /// # Errors
    /// After an error the node repeats the sessions, in their latest state.
    async fn write(&self, node: &NodeId, batch: &[SessionWrite]) -> Result<Vec<SessionId>, StoreError>;

    /// Removes sessions, unless another node has claimed them.
    ///
    /// # Errors
    /// After an error the node repeats the removals.
    async fn remove(&self, node: &NodeId, batch: &[(SessionId, Epoch)]) -> Result<(), StoreError>;

    /// Makes a node the holder of a session, and raises the epoch; `None` if there is no such session.
    ///
    /// This is atomic: of several claims each gets another epoch, and from then on writes of other nodes are refused.
    ///
    /// # Errors
    /// Returns an error if the outcome is unknown.
    async fn claim(&self, node: &NodeId, id: &SessionId) -> Result<Option<Claimed>, StoreError>;

    /// Returns which of these sessions another node has claimed.
    ///
    /// A node that was frozen calls it before it runs handlers and writes again.
    ///
    /// # Errors
    /// After an error the node calls again.
    async fn confirm(&self, node: &NodeId, held: &[(SessionId, Epoch)]) -> Result<Confirmed, StoreError>;

    /// Renews the lease of a node, which begins with the call.
    ///
    /// A node whose lease has run out, by its own clock, stops before it does anything for its sessions, and
    /// [confirms](Self::confirm) them. So a claim need not wait for it. Default: does nothing, which suits a store
    /// whose claims wait for no holder.
    ///
    /// # Errors
    /// After an error the node goes on, if it was not frozen: only the store knows whether another node could claim.
    async fn renew(&self, node: &NodeId, lease: Duration) -> Result<(), StoreError> {
        _ = (node, lease);
        Ok(())
    }

    /// Waits for claims of sessions of this node by other nodes, and returns these sessions with their new epochs.
    ///
    /// A store that supports this notifies the former holder of a claim. If the holder has a [lease](Self::renew), the
    /// claim completes once it has [released](Self::release) the session, or its lease has run out. So a session has no
    /// live sockets on two nodes while the nodes reach the store. One call is made at a time.
    ///
    /// Default: never completes. The holder then notices the claim when it writes the session.
    ///
    /// # Errors
    /// Returns an error if claims may have been missed. The node then writes all of its sessions, and calls again.
    ///
    /// # Cancel safety
    /// No claim is lost if the future is dropped.
    async fn claimed_elsewhere(&self, node: &NodeId) -> Result<Vec<(SessionId, Epoch)>, StoreError> {
        _ = node;
        std::future::pending().await
    }

    /// Records that this node has dropped its sockets of sessions that other nodes have claimed. Default: does nothing.
    ///
    /// # Errors
    /// An error is ignored: the claims wait for their limit.
    async fn release(&self, node: &NodeId, sessions: &[(SessionId, Epoch)]) -> Result<(), StoreError> {
        _ = (node, sessions);
        Ok(())
    }
}

/// Id of a node, unique among all runs of all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "stores and tests build it")]
pub struct NodeId(pub ByteString);

/// Session that was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "stores build it")]
pub struct Claimed {
    /// Its new epoch.
    pub epoch: Epoch,
    /// Its holder before.
    pub previous: NodeId,
    /// Its state.
    pub session: StoredSession,
}

/// Sessions that a node does not hold any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_structs, reason = "stores build it")]
pub struct Confirmed {
    /// Sessions that another node has claimed.
    pub claimed: Vec<SessionId>,
    /// Sessions that are not in the store: never written, or claimed and then removed by another node.
    ///
    /// A store that has lost its content reports none, since these sessions were not claimed.
    pub missing: Vec<SessionId>,
}

/// Key of a session in a store.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "stores and tests build it")]
pub struct SessionId {
    /// Namespace of the session.
    pub namespace: Namespace,
    /// Recovery token of the client.
    pub secret: ByteString,
}

impl fmt::Debug for SessionId {
    // The recovery token authenticates the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionId").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Number of the claim by which a node holds a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "stores write it as a number")]
pub struct Epoch(pub u64);

impl Epoch {
    /// Epoch of a new session.
    pub const FIRST: Self = Self(1);

    /// Returns the epoch of the next claim.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// State of a session in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredSession {
    /// Public id of the socket.
    pub socket: SocketId,
    /// Rooms besides its own.
    pub rooms: Vec<Room>,
    /// Data of the application as JSON text; empty if none was set.
    pub data: ByteString,
    /// Handshake as a JSON object, in the form of
    /// [`MemberControl::handshake`](roomcast_core::MemberControl::handshake).
    pub handshake: ByteString,
    /// Events of the client that were handled, so that a repeat on another node is not; in the form of the server that
    /// wrote it, empty if there are none.
    pub handled: ByteString,
    /// Whether the client was connected.
    pub connected: bool,
    /// Offset in the shared log after which its events begin, for a client that has no offset; empty without a log.
    pub offset: ByteString,
}

impl StoredSession {
    /// Creates the state of a connected session without rooms.
    pub fn new(socket: SocketId) -> Self {
        let none = ByteString::new;
        Self {
            socket,
            rooms: Vec::new(),
            data: none(),
            handshake: none(),
            handled: none(),
            connected: true,
            offset: none(),
        }
    }

    /// Returns its approximate size in bytes.
    pub fn byte_len(&self) -> usize {
        let rooms = self.rooms.iter().map(|room| room.as_str().len() + size_of::<Room>()).sum::<usize>();
        let texts = [&self.data, &self.handshake, &self.handled, &self.offset];
        let texts = texts.into_iter().map(|text| text.len()).sum::<usize>();
        size_of::<Self>() + self.socket.as_str().len() + rooms + texts
    }
}

/// Session to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "tests of stores build it")]
pub struct SessionWrite {
    /// Key of the session.
    pub id: SessionId,
    /// Epoch by which the writer holds it.
    pub epoch: Epoch,
    /// Its state.
    pub session: StoredSession,
}

/// Error of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session store failed: {0}")]
#[allow(clippy::exhaustive_structs, reason = "stores build it")]
pub struct StoreError(pub String);

/// Settings of the sessions that are stored outside the process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct StoreConfig {
    pub(crate) interval: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) max_bytes: usize,
    pub(crate) write_timeout: Duration,
    pub(crate) refresh: Duration,
    pub(crate) lease: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            batch_bytes: 1 << 20,
            max_bytes: 16 << 20,
            write_timeout: Duration::from_secs(5),
            refresh: Duration::from_secs(6 * 3_600),
            lease: Duration::from_secs(2),
        }
    }
}

impl StoreConfig {
    /// Returns the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long changes are collected before they are written. Default: 100 ms.
    ///
    /// A session that changes more often is written once in this time, in its latest state. It is also what a process
    /// that dies loses.
    pub fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// Sets the maximum bytes of a batch. Default: 1 MiB. A single larger session is written alone.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets the maximum bytes of the states that are kept for disconnected clients. Default: 16 MiB.
    ///
    /// Beyond it, the oldest are dropped, and the store keeps their former state, if any. A connected session takes a
    /// fixed number of bytes, since its state is read when it is written.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets after what time a call of the store counts as failed. Default: 5 s.
    pub fn write_timeout(mut self, time: Duration) -> Self {
        self.write_timeout = time;
        self
    }

    /// Sets after what time all sessions are written again, so that the store does not drop them. Default: 6 hours.
    pub fn refresh(mut self, time: Duration) -> Self {
        self.refresh = time;
        self
    }

    /// Sets the lease of this node: for how long it may be frozen without confirming its sessions. Default: 2 s.
    ///
    /// It is renewed four times as often. A node that did not run for longer first asks the store which sessions it
    /// still holds. If a client returns elsewhere while its node is frozen, its claim waits for the rest of the lease.
    pub fn lease(mut self, time: Duration) -> Self {
        self.lease = time;
        self
    }
}
