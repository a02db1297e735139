//! What the application does when rooms come and go

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use roomcast_core::{Namespace, RoomChange, RoomWatcher, Router};

use crate::util::log_limit::log_limited;

/// Does something when a room of a namespace changes
pub(crate) trait RoomHook: Send + Sync {
    /// Whether it wants to know who is in the rooms already, by [`RoomChange::Present`]
    fn wants_survey(&self) -> bool {
        false
    }

    /// Every room that was there has been reported
    fn surveyed(&self) {}

    fn changed(&self, rooms: &RoomsOf, change: &RoomChange);

    /// The same for another namespace
    fn copy(self: Arc<Self>) -> Arc<dyn RoomHook>;
}

/// The rooms of one namespace
pub(crate) struct RoomsOf {
    pub(crate) namespace: Namespace,
    /// Weak, since the router holds whoever watches
    router: Weak<dyn Router>,
}

impl RoomsOf {
    /// Its router; none when the server goes away
    pub(crate) fn router(&self) -> Option<Arc<dyn Router>> {
        self.router.upgrade()
    }
}

/// The hooks of one namespace; while there are none, nothing is watched
pub(crate) struct RoomHooks {
    rooms: RoomsOf,
    hooks: RwLock<Arc<[Arc<dyn RoomHook>]>>,
}

impl RoomHooks {
    pub(crate) fn new(namespace: Namespace, router: &Arc<dyn Router>) -> Arc<Self> {
        let rooms = RoomsOf { namespace, router: Arc::downgrade(router) };
        Arc::new(Self { rooms, hooks: RwLock::new(Arc::new([])) })
    }

    pub(crate) fn add(self: &Arc<Self>, hook: Arc<dyn RoomHook>) {
        {
            let mut hooks = self.hooks.write().unwrap_or_else(PoisonError::into_inner);
            *hooks = hooks.iter().cloned().chain([hook.clone()]).collect();
        }
        if let Some(router) = self.rooms.router() {
            // There is one watcher, so all calls but the first do nothing.
            router.watch(self.clone());
        }
        if hook.wants_survey()
            && let Some(router) = self.rooms.router()
        {
            router.survey();
            hook.surveyed();
        }
    }

    /// Begins as another namespace is now
    pub(crate) fn copy_from(self: &Arc<Self>, other: &Self) {
        other.hooks().iter().for_each(|hook| self.add(hook.clone().copy()));
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
