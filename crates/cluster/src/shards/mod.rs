//! Several servers of message engines as one engine.

mod agreement;
mod backplane;
mod control;
mod handover;
mod interest;
mod metrics;
mod note;
mod servers;
mod shard;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

pub use self::backplane::ShardedBackplane;
use self::metrics::ServerCounters;
pub use self::metrics::{ServerMetrics, ShardsMetrics};

/// Server for a [`ShardedBackplane`]: a name, and the connection to it.
pub struct Server<B> {
    name: String,
    is_retired: bool,
    connect: Box<dyn FnOnce() -> B + Send>,
}

impl<B> Server<B> {
    /// Creates a server; `connect` is called once if the server is added.
    ///
    /// All nodes have to give a server the same name, such as its address: the name decides which channels it has.
    pub fn new(name: impl Into<String>, connect: impl FnOnce() -> B + Send + 'static) -> Self {
        Self { name: name.into(), is_retired: false, connect: Box::new(connect) }
    }

    /// Marks a server that is being removed: it is used only as long as other nodes publish by it.
    ///
    /// For nodes that start before the others know of the removal.
    #[must_use]
    pub fn retired(mut self) -> Self {
        self.is_retired = true;
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<B> fmt::Debug for Server<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("is_retired", &self.is_retired)
            .finish_non_exhaustive()
    }
}

/// Handle of a [`ShardedBackplane`], to change its servers and to read its counters. Clones are the same handle.
pub struct Shards<B>(Arc<Shared<B>>);

impl<B> Shards<B> {
    /// Changes the servers.
    ///
    /// Servers that are known by their name keep their connection. The node publishes by the new servers once all nodes
    /// of the cluster listen to them, and leaves removed ones once no node publishes by them; see
    /// [`ShardedBackplane`]. A later call replaces one that is not complete.
    ///
    /// # Errors
    /// Returns an error if there is no server or more than 16, or if two have the same name.
    pub fn set(&self, servers: Vec<Server<B>>) -> Result<(), ServersError> {
        check(&servers)?;
        *lock(&self.0.servers) = Some(servers);
        self.0.is_changed.store(true, Relaxed);
        if let Some(waker) = lock(&self.0.waker).take() {
            waker.wake();
        }
        Ok(())
    }

    /// Returns the counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> ShardsMetrics {
        let servers: Vec<_> = lock(&self.0.counters).iter().map(|counters| counters.snapshot()).collect();
        let shared = &self.0;
        ShardsMetrics {
            is_changing: shared.is_changing.load(Relaxed),
            strangers: shared.strangers.load(Relaxed),
            changes: shared.changes.load(Relaxed),
            copies: shared.copies.load(Relaxed),
            dropped: shared.dropped.load(Relaxed) + servers.iter().map(|server| server.dropped).sum::<u64>(),
            servers,
        }
    }
}

impl<B> Clone for Shards<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> fmt::Debug for Shards<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shards").field(&self.metrics()).finish()
    }
}

/// Servers that cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServersError {
    /// There is no server, or only retired ones.
    #[error("no server")]
    None,
    /// There are more than 16.
    #[error("{0} servers exceed the limit of {MAX_SERVERS}")]
    TooMany(usize),
    /// Two have the same name.
    #[error("server {0} is listed twice")]
    Duplicate(String),
}

fn check<B>(servers: &[Server<B>]) -> Result<(), ServersError> {
    if servers.iter().all(|server| server.is_retired) {
        return Err(ServersError::None);
    }
    if servers.len() > MAX_SERVERS {
        return Err(ServersError::TooMany(servers.len()));
    }
    for (index, server) in servers.iter().enumerate() {
        if servers[..index].iter().any(|other| other.name == server.name) {
            return Err(ServersError::Duplicate(server.name.clone()));
        }
    }
    Ok(())
}

/// State that a [`ShardedBackplane`] shares with its handles.
struct Shared<B> {
    servers: Mutex<Option<Vec<Server<B>>>>,
    is_changed: AtomicBool,
    waker: Mutex<Option<Waker>>,
    counters: Mutex<Vec<Arc<ServerCounters>>>,
    is_changing: AtomicBool,
    strangers: AtomicUsize,
    changes: AtomicU64,
    copies: AtomicU64,
    /// Publications dropped for other reasons than the loss of a present server.
    dropped: AtomicU64,
}

impl<B> Default for Shared<B> {
    fn default() -> Self {
        Self {
            servers: Mutex::default(),
            is_changed: AtomicBool::new(false),
            waker: Mutex::default(),
            counters: Mutex::default(),
            is_changing: AtomicBool::new(false),
            strangers: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            copies: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }
}

impl<B> fmt::Debug for Shared<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Servers of a set.
const MAX_SERVERS: usize = 16;
/// Servers of a node, removed ones in use included; they are the bits of a number.
const MAX_SLOTS: usize = 32;
