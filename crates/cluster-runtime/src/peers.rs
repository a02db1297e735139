//! Other nodes that are alive, as the task has published them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use roomcast_cluster::NodeRef;
use roomcast_cluster_task::reply::{Members, Missing};

/// Other nodes that are alive.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// No other node is known, so that publishing can be omitted.
    is_alone: AtomicBool,
    nodes: Mutex<Vec<NodeRef>>,
}

impl Peers {
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, nodes: Vec<NodeRef>) {
        *self.nodes() = nodes;
    }

    /// Notes whether no other node is known, with certainty.
    pub(crate) fn set_alone(&self, is_alone: bool) {
        self.is_alone.store(is_alone, Ordering::Relaxed);
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<NodeRef>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members for Peers {
    fn all_missing(&self) -> Missing {
        let names: Vec<_> = self.nodes().iter().map(|node| node.id.to_string()).collect();
        Missing { number: Some(names.len().max(1)), names }
    }
}
