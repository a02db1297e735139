//! Child namespaces of one parent, combined into one router.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use roomcast_core::{
    Delivery, Dispatched, Event, JoinOutcome, Member, MemberKey, Membership, Namespace, Overflow, Room,
    RoomWatcher, Router, RouterStats, SocketInfo, Target, WatchFilter,
};

/// Namespace created from a parent.
pub(crate) trait Child: Send + Sync + 'static {
    fn name(&self) -> &Namespace;

    fn router(&self) -> &dyn Router;

    /// Queues an event for every recipient of the target; the caller settles.
    fn dispatch(&self, target: &Target, event: &Event) -> Dispatched;

    /// Changes the rooms of matching sockets in the cluster; returns how many changed on this node.
    fn update(&self, target: &Target, change: &Membership) -> usize;

    /// Disconnects matching sockets in the cluster; returns how many on this node.
    fn disconnect(&self, target: &Target, close: bool) -> usize;
}

/// Router over all child namespaces of one parent; changes reach their sockets on other nodes too.
///
/// The parent itself has no members, so methods that concern a single member go to an empty router.
pub(crate) struct Children<C> {
    own: Arc<dyn Router>,
    // Weak, since each child holds its parent.
    states: RwLock<HashMap<Namespace, Weak<C>>>,
}

impl<C: Child> Children<C> {
    pub(crate) fn new(own: Arc<dyn Router>) -> Self {
        Self { own, states: RwLock::default() }
    }

    pub(crate) fn add(&self, state: &Arc<C>) {
        let mut states = self.states.write().unwrap_or_else(PoisonError::into_inner);
        states.insert(state.name().clone(), Arc::downgrade(state));
    }

    pub(crate) fn remove(&self, name: &Namespace) {
        self.states.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(crate) fn all(&self) -> Vec<Arc<C>> {
        let states = self.states.read().unwrap_or_else(PoisonError::into_inner);
        states.values().filter_map(Weak::upgrade).collect()
    }
}

impl<C: Child> Router for Children<C> {
    fn attach(&self, member: Member) -> MemberKey {
        self.own.attach(member)
    }

    fn detach(&self, key: MemberKey) -> bool {
        self.own.detach(key)
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        self.own.join(key, room)
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        self.own.leave(key, room)
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        self.own.rooms_of(key)
    }

    fn count(&self, room: &Room) -> usize {
        self.all().iter().map(|child| child.router().count(room)).sum()
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        let mut dispatched = Dispatched::default();
        for child in self.all() {
            dispatched += child.dispatch(target, &Event { namespace: child.name().clone(), ..event.clone() });
        }
        dispatched
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        self.own.send(member, delivery, overflow, event)
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        self.all().iter().map(|child| child.update(target, change)).sum()
    }

    fn stats(&self) -> RouterStats {
        let each = self.all().into_iter().map(|child| child.router().stats());
        let sum = each.fold((0, 0), |sum, stats| (sum.0 + stats.members, sum.1 + stats.rooms));
        RouterStats::new(sum.0, sum.1)
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        self.all().iter().flat_map(|child| child.router().find(target)).collect()
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        self.all().iter().map(|child| child.disconnect(target, close)).sum()
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) {
        self.own.watch(watcher, filter);
    }

    fn survey(&self) {
        self.own.survey();
    }
}

impl<C: Child> fmt::Debug for Children<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Children").field("count", &self.all().len()).finish_non_exhaustive()
    }
}

/// Parent of a dynamic namespace, and the number of clients that keep it alive.
pub(crate) struct Family<C> {
    children: Arc<Children<C>>,
    /// Clients that have joined or are connecting.
    occupants: AtomicUsize,
}

impl<C> Family<C> {
    pub(crate) fn new(children: &Arc<Children<C>>) -> Self {
        Self { children: children.clone(), occupants: AtomicUsize::new(0) }
    }

    pub(crate) fn children(&self) -> &Children<C> {
        &self.children
    }

    pub(crate) fn enter(&self) {
        self.occupants.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes an occupant; returns whether it was the last.
    pub(crate) fn leave(&self) -> bool {
        self.occupants.fetch_sub(1, Ordering::Relaxed) == 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.occupants.load(Ordering::Relaxed) == 0
    }
}
