//! Connection of a namespace to the other nodes of its cluster.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use roomcast_core::{Cluster, ClusterNamespace, ClusterPresence, Scope, WatchFilter};

/// Connection of a namespace to the other nodes of its cluster; empty without a cluster, and for a parent.
#[derive(Default)]
pub(crate) struct ClusterLink {
    cluster: Option<ClusterHandle>,
    namespace: OnceLock<Box<dyn ClusterNamespace>>,
    /// Whether the subscription of the namespace was awaited.
    heard: AtomicBool,
    /// Whether presence shows the data of sockets to other nodes.
    shows_data: AtomicBool,
}

/// Cluster of a server.
#[derive(Clone)]
pub(crate) struct ClusterHandle {
    pub(crate) cluster: Arc<dyn Cluster>,
    /// Rooms that are reported to the cluster.
    pub(crate) filter: WatchFilter,
}

impl ClusterHandle {
    /// Creates a handle; `has_own_ids` is whether the application generates the ids of sockets.
    pub(crate) fn new(cluster: Arc<dyn Cluster>, has_own_ids: bool) -> Self {
        // The rooms of ids without a tag need subscriptions like other rooms.
        let is_tagged = !has_own_ids && !cluster.id_tag().is_empty();
        let filter = if is_tagged { WatchFilter::JoinedRooms } else { WatchFilter::Rooms };
        Self { cluster, filter }
    }
}

impl ClusterLink {
    pub(crate) fn new(cluster: Option<ClusterHandle>) -> Self {
        Self { cluster, ..Self::default() }
    }

    /// Returns the other nodes, if there may be any and the scope includes them.
    #[inline]
    pub(crate) fn others(&self, scope: Scope) -> Option<&dyn ClusterNamespace> {
        let namespace = self.namespace.get()?;
        (scope == Scope::Cluster && !namespace.is_alone()).then_some(&**namespace)
    }

    /// Returns the cluster's part of the namespace, if the cluster orders its events.
    #[inline]
    pub(super) fn ordering(&self) -> Option<&dyn ClusterNamespace> {
        let namespace = self.namespace.get()?;
        namespace.orders_events().then_some(&**namespace)
    }

    pub(super) fn get(&self) -> Option<&dyn ClusterNamespace> {
        self.namespace.get().map(|namespace| &**namespace)
    }

    /// Returns the replication of members between nodes, if there is one.
    #[inline]
    pub(crate) fn presence(&self) -> Option<&dyn ClusterPresence> {
        self.namespace.get()?.presence()
    }

    /// Returns whether no other node is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.namespace.get().is_none_or(|namespace| namespace.is_alone())
    }

    /// Records that presence shows the data of sockets to other nodes.
    pub(crate) fn show_data(&self) {
        self.shows_data.store(true, Ordering::Relaxed);
    }

    /// Returns whether presence may show the data of sockets to other nodes.
    #[inline]
    pub(super) fn shows_data(&self) -> bool {
        self.shows_data.load(Ordering::Relaxed)
    }

    /// Returns whether clients have to wait until events of other nodes arrive.
    pub(crate) fn is_unheard(&self) -> bool {
        self.namespace.get().is_some() && !self.heard.load(Ordering::Relaxed)
    }

    /// Returns whether there is a cluster in which the namespace is not open yet.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.cluster.is_some() && self.namespace.get().is_none()
    }

    /// Opens the namespace by `open`, unless another thread has.
    pub(super) fn open(&self, open: impl FnOnce(&ClusterHandle) -> Box<dyn ClusterNamespace>) {
        if let Some(handle) = &self.cluster {
            self.namespace.get_or_init(|| open(handle));
        }
    }

    /// Records that the subscription of the namespace was awaited.
    pub(super) fn mark_heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Ends the namespace on this node.
    pub(crate) fn close(&self) {
        self.get().into_iter().for_each(ClusterNamespace::close);
    }
}

impl fmt::Debug for ClusterLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLink").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}
