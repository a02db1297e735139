//! Namespaces of this server, which are called for what other nodes send.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use roomcast_core::{ClusterHost, Namespace, Room};

use crate::shared::Shared;

/// Hosts by namespace.
#[derive(Debug)]
pub(super) struct Hosts {
    hosts: HashMap<Namespace, Weak<dyn ClusterHost>>,
    shared: Arc<Shared>,
}

impl Hosts {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { hosts: HashMap::new(), shared }
    }

    /// Adds or replaces a host; returns whether the namespace is new.
    pub(super) fn open(&mut self, namespace: Namespace, host: Weak<dyn ClusterHost>) -> bool {
        self.hosts.insert(namespace, host).is_none()
    }

    /// Removes a host; returns whether there was one.
    pub(super) fn close(&mut self, namespace: &Namespace) -> bool {
        self.hosts.remove(namespace).is_some()
    }

    /// Returns the host of a namespace, unless it was dropped.
    pub(super) fn get(&self, namespace: &Namespace) -> Option<Arc<dyn ClusterHost>> {
        self.hosts.get(namespace)?.upgrade()
    }

    /// Reports lost events of a room, or of the whole namespace.
    pub(super) fn missed(&self, namespace: &Namespace, room: Option<&Room>) {
        if let Some(host) = self.get(namespace) {
            self.guard(|| host.missed(room));
        }
    }

    /// Reports lost events of all namespaces.
    pub(super) fn missed_all(&self) {
        for host in self.hosts.values().filter_map(Weak::upgrade) {
            self.guard(|| host.missed(None));
        }
    }

    /// Calls a host; returns `None` after a panic.
    pub(super) fn guard<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        self.shared.guard.call(call)
    }
}
