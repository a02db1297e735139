//! Hooks for room changes.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once, PoisonError, RwLock, Weak};

use roomcast_core::{Namespace, PresenceUpdate, Room, RoomChange, RoomWatcher, Router, WatchFilter};

use crate::app::model::cluster_link::ClusterLink;
use crate::util::log_limit::log_limited;

/// Hook for changes of the rooms in a namespace.
pub(crate) trait RoomHook: Send + Sync {
    /// Returns whether existing members are reported first, as [`RoomChange::Present`].
    fn wants_survey(&self) -> bool {
        false
    }

    /// Called when every existing room has been reported.
    fn surveyed(&self) {}

    fn changed(&self, rooms: &RoomsOf, change: &RoomChange);

    /// Takes news of the members of a room on other nodes; returns how many clients were notified.
    fn remote(&self, _rooms: &RoomsOf, _room: &Room, _update: &PresenceUpdate) -> usize {
        0
    }

    /// Returns the same hook for another namespace.
    fn copy(self: Arc<Self>) -> Arc<dyn RoomHook>;
}

/// Rooms of one namespace.
pub(crate) struct RoomsOf {
    pub(crate) namespace: Namespace,
    /// Weak, since the router holds its watcher.
    router: Weak<dyn Router>,
    /// Other nodes.
    pub(crate) link: Arc<ClusterLink>,
}

impl RoomsOf {
    /// Returns the router; `None` while the server shuts down.
    pub(crate) fn router(&self) -> Option<Arc<dyn Router>> {
        self.router.upgrade()
    }
}

/// Hooks of one namespace; the router is watched only while there are any.
pub(crate) struct RoomHooks {
    rooms: RoomsOf,
    watching: Once,
    hooks: RwLock<Arc<[Arc<dyn RoomHook>]>>,
}

impl RoomHooks {
    pub(crate) fn new(namespace: Namespace, router: &Arc<dyn Router>, link: Arc<ClusterLink>) -> Arc<Self> {
        let rooms = RoomsOf { namespace, router: Arc::downgrade(router), link };
        Arc::new(Self { rooms, watching: Once::new(), hooks: RwLock::new(Arc::new([])) })
    }

    pub(crate) fn add(self: &Arc<Self>, hook: Arc<dyn RoomHook>) {
        {
            let mut hooks = self.hooks.write().unwrap_or_else(PoisonError::into_inner);
            *hooks = hooks.iter().cloned().chain([hook.clone()]).collect();
        }
        if let Some(router) = self.rooms.router() {
            self.watching.call_once(|| router.watch(self.clone(), WatchFilter::Members));
        }
        if hook.wants_survey()
            && let Some(router) = self.rooms.router()
        {
            router.survey();
            hook.surveyed();
        }
    }

    /// Copies the hooks of another namespace.
    pub(crate) fn copy_from(self: &Arc<Self>, other: &Self) {
        other.hooks().iter().for_each(|hook| self.add(hook.clone().copy()));
    }

    /// Passes news of other nodes to the hooks; returns how many clients were notified.
    pub(crate) fn remote(&self, room: &Room, update: &PresenceUpdate) -> usize {
        self.hooks().iter().map(|hook| hook.remote(&self.rooms, room, update)).sum()
    }

    fn hooks(&self) -> Arc<[Arc<dyn RoomHook>]> {
        self.hooks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RoomWatcher for RoomHooks {
    fn room_changed(&self, change: &RoomChange) {
        for hook in self.hooks().iter() {
            if catch_unwind(AssertUnwindSafe(|| hook.changed(&self.rooms, change))).is_err() {
                let (namespace, room) = (&self.rooms.namespace, change.room());
                log_limited!(ERROR, namespace, %namespace, %room, "room hook panicked");
            }
        }
    }
}

impl fmt::Debug for RoomHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomHooks").field("count", &self.hooks().len()).finish_non_exhaustive()
    }
}
