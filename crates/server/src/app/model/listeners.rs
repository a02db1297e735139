//! Handler registry of a namespace or a socket.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytestring::ByteString;
use indexmap::IndexMap;

/// Identifies one registration of a handler, so that it can be removed.
///
/// Unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(u64);

impl ListenerId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Registered handler.
#[derive(Clone)]
pub(crate) struct Listener<H> {
    id: ListenerId,
    once: bool,
    pub(crate) handler: H,
}

impl<H> Listener<H> {
    pub(crate) fn new(handler: H) -> Self {
        Self { id: ListenerId::next(), once: false, handler }
    }

    fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

impl<H> fmt::Debug for Listener<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).field("once", &self.once).finish_non_exhaustive()
    }
}

/// Handlers of one kind, in calling order; cloning costs one reference count.
#[derive(Clone, Default)]
pub(crate) enum Listeners<H> {
    #[default]
    Empty,
    One(Listener<H>),
    Several(Arc<[Listener<H>]>),
}

impl<H> Listeners<H> {
    pub(crate) fn as_slice(&self) -> &[Listener<H>] {
        match self {
            Self::Empty => &[],
            Self::One(listener) => std::slice::from_ref(listener),
            Self::Several(listeners) => listeners,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn ids(&self) -> Vec<ListenerId> {
        self.as_slice().iter().map(|listener| listener.id).collect()
    }

    fn has_once(&self) -> bool {
        self.as_slice().iter().any(|listener| listener.once)
    }
}

impl<H: Clone> Listeners<H> {
    fn append(&mut self, listener: Listener<H>) {
        self.change(|listeners| listeners.push(listener));
    }

    fn prepend(&mut self, listener: Listener<H>) {
        self.change(|listeners| listeners.insert(0, listener));
    }

    fn remove(&mut self, id: ListenerId) -> Option<Listener<H>> {
        let at = self.as_slice().iter().position(|listener| listener.id == id)?;
        let mut removed = None;
        self.change(|listeners| removed = Some(listeners.remove(at)));
        removed
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Listener<H>>)) {
        let mut listeners = self.as_slice().to_vec();
        change(&mut listeners);
        *self = match <[Listener<H>; 1]>::try_from(listeners) {
            Ok([one]) => Self::One(one),
            Err(none) if none.is_empty() => Self::Empty,
            Err(several) => Self::Several(several.into()),
        };
    }
}

impl<H> fmt::Debug for Listeners<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Kind of listener other than for an event name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenerKind {
    /// Connect middleware.
    ConnectMiddleware,
    Connect,
    Disconnecting,
    Disconnect,
    /// Every event, before its handlers.
    Any,
    /// Event middleware, before the handlers of an event.
    Middleware,
    /// Events without a handler for their name.
    Other,
    /// Failures of events.
    Error,
}

const TOPICS: usize = 8;

/// Handler registry of a namespace or a socket.
///
/// The table is behind an `Arc`, so that the namespaces created from one parent share it until one of them changes it.
pub(crate) struct HandlerRegistry<H> {
    table: RwLock<Arc<Table<H>>>,
    /// Identifies the content of the table among the tables of all registries; zero for the initial, empty table.
    version: AtomicU64,
    /// Set once anything has been registered.
    used: AtomicBool,
    /// Set once an `on_error` handler has been registered.
    has_error_listeners: AtomicBool,
}

impl<H> Default for HandlerRegistry<H> {
    fn default() -> Self {
        Self {
            table: RwLock::default(),
            version: AtomicU64::default(),
            used: AtomicBool::default(),
            has_error_listeners: AtomicBool::default(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Table<H> {
    // Clients choose the looked-up keys, but only the application inserts, so hash flooding is not possible.
    events: IndexMap<Box<str>, Listeners<H>, foldhash::fast::RandomState>,
    topics: [Listeners<H>; TOPICS],
    /// Whether registration is disabled.
    closed: bool,
}

impl<H> Default for Table<H> {
    fn default() -> Self {
        Self { events: IndexMap::default(), topics: Default::default(), closed: false }
    }
}

impl<H> Table<H> {
    fn topic(&self, topic: ListenerKind) -> &Listeners<H> {
        &self.topics[topic as usize]
    }

    fn every(&mut self) -> impl Iterator<Item = &mut Listeners<H>> {
        self.topics.iter_mut().chain(self.events.values_mut())
    }
}

impl<H: Clone> HandlerRegistry<H> {
    /// Returns a registry that starts with the same listeners.
    pub(crate) fn copy(&self) -> Self {
        let table = self.table();
        let has_error_listeners = AtomicBool::new(self.has_error_listeners());
        Self {
            table: RwLock::new(table),
            version: AtomicU64::new(next_version()),
            used: AtomicBool::new(self.is_used()),
            has_error_listeners,
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the handlers of an event, or `None` if other listeners apply too; removes handlers registered by `once`.
    ///
    /// They come with the version of the table, unless they are for this event only.
    fn find(&self, event: &str) -> Option<(Option<u64>, Listeners<H>)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let version = Some(self.version.load(Ordering::Relaxed));
        if !table.topic(ListenerKind::Any).is_empty() || !table.topic(ListenerKind::Middleware).is_empty() {
            return None;
        }
        match table.events.get(event) {
            Some(listeners) if listeners.has_once() => {
                drop(table);
                let taken = self.take_event(event);
                // Another event may have taken the last `once` handlers in the meantime.
                Some((None, if taken.is_empty() { self.topic(ListenerKind::Other) } else { taken }))
            }
            Some(listeners) => Some((version, listeners.clone())),
            None => Some((version, table.topic(ListenerKind::Other).clone())),
        }
    }

    /// Returns the handlers of an event and removes those registered by `once`.
    pub(crate) fn take_event(&self, event: &str) -> Listeners<H> {
        let listeners = self.table().events.get(event).cloned().unwrap_or_default();
        if !listeners.has_once() {
            return listeners;
        }
        self.change(|table| {
            // A concurrent event may have removed them.
            let Some(listeners) = table.events.get_mut(event) else { return Listeners::Empty };
            let found = listeners.clone();
            listeners.change(|listeners| listeners.retain(|listener| !listener.once));
            if listeners.is_empty() {
                table.events.shift_remove(event);
            }
            found
        })
    }

    pub(crate) fn topic(&self, topic: ListenerKind) -> Listeners<H> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).topic(topic).clone()
    }

    pub(crate) fn on(&self, event: &str, listener: Listener<H>) {
        self.add(listener, |table| table.events.entry(event.into()).or_default(), Listeners::append);
    }

    pub(crate) fn once(&self, event: &str, listener: Listener<H>) {
        self.on(event, listener.once());
    }

    /// Returns whether an `on_error` handler has ever been registered.
    #[inline]
    pub(crate) fn has_error_listeners(&self) -> bool {
        self.has_error_listeners.load(Ordering::Relaxed)
    }

    pub(crate) fn on_topic(&self, topic: ListenerKind, listener: Listener<H>) {
        if topic == ListenerKind::Error {
            self.has_error_listeners.store(true, Ordering::Relaxed);
        }
        self.add(listener, |table| &mut table.topics[topic as usize], Listeners::append);
    }

    pub(crate) fn prepend_topic(&self, topic: ListenerKind, listener: Listener<H>) {
        self.add(listener, |table| &mut table.topics[topic as usize], Listeners::prepend);
    }

    // Removed handlers are dropped outside the lock, since their destructors run code of the application.

    pub(crate) fn off(&self, event: &str) {
        drop(self.change(|table| table.events.shift_remove(event)));
    }

    pub(crate) fn off_all(&self) {
        drop(self.change(|table| std::mem::take(&mut table.events)));
    }

    pub(crate) fn off_topic(&self, topic: ListenerKind) {
        drop(self.change(|table| std::mem::take(&mut table.topics[topic as usize])));
    }

    pub(crate) fn remove(&self, id: ListenerId) -> bool {
        let removed = self.change(|table| {
            let removed = table.every().find_map(|listeners| listeners.remove(id));
            table.events.retain(|_, listeners| !listeners.is_empty());
            removed
        });
        removed.is_some()
    }

    pub(crate) fn ids(&self, event: &str) -> Vec<ListenerId> {
        self.table().events.get(event).map(Listeners::ids).unwrap_or_default()
    }

    pub(crate) fn ids_of_topic(&self, topic: ListenerKind) -> Vec<ListenerId> {
        self.topic(topic).ids()
    }

    /// Drops all listeners and ignores new ones.
    ///
    /// Handlers may hold the owner of the registry, which would be a reference cycle.
    pub(crate) fn close(&self) {
        let closed = Arc::new(Table { closed: true, ..Table::default() });
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let let_go = std::mem::replace(&mut *table, closed);
        self.version.store(next_version(), Ordering::Release);
        drop(table);
        drop(let_go);
    }

    fn add(
        &self,
        listener: Listener<H>,
        place: impl FnOnce(&mut Table<H>) -> &mut Listeners<H>,
        add: impl FnOnce(&mut Listeners<H>, Listener<H>),
    ) {
        self.used.store(true, Ordering::Relaxed);
        let refused = self.change(|table| {
            if table.closed {
                return Some(listener);
            }
            add(place(table), listener);
            None
        });
        drop(refused);
    }

    fn table(&self) -> Arc<Table<H>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Table<H>) -> T) -> T {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        // Before the change, which may panic. No reader sees the new version with the old table, since both are
        // protected by the lock.
        self.version.store(next_version(), Ordering::Release);
        change(Arc::make_mut(&mut table))
    }
}

/// Returns a version that no registry has had.
fn next_version() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Handlers found for an event, for the next events of the same name.
///
/// A lookup takes the lock of the registry and a reference to the handlers: four atomic operations. The events of a
/// read nearly always have the same name, and then share one lookup. A change of the registry invalidates it. The
/// cached handlers are not dropped before the cache, so it should not outlive a read.
pub(crate) struct LookupCache<H>(Option<Lookup<H>>);

struct Lookup<H> {
    /// Version of the registry; `None` if the handlers must be looked up again.
    version: Option<u64>,
    name: ByteString,
    listeners: Listeners<H>,
}

impl<H> Default for LookupCache<H> {
    fn default() -> Self {
        Self(None)
    }
}

impl<H: Clone> LookupCache<H> {
    /// Returns the handlers of an event, or `None` if other listeners apply too; removes handlers registered by `once`.
    #[inline]
    pub(crate) fn find(
        &mut self,
        registry: &HandlerRegistry<H>,
        event: &ByteString,
    ) -> Option<&Listeners<H>> {
        let version = registry.version.load(Ordering::Acquire);
        // Often the same text in memory.
        let is_named = |last: &ByteString| std::ptr::eq(&**last, &**event) || last == event;
        let is_found = |last: &Lookup<H>| last.version == Some(version) && is_named(&last.name);
        if !self.0.as_ref().is_some_and(is_found) {
            self.look_up(registry, event);
        }
        self.0.as_ref().map(|found| &found.listeners)
    }

    #[cold]
    fn look_up(&mut self, registry: &HandlerRegistry<H>, event: &ByteString) {
        // Dropped first, since destructors run code of the application.
        self.0 = None;
        self.0 = registry.find(event).map(|(version, listeners)| Lookup {
            version,
            name: event.clone(),
            listeners,
        });
    }
}

impl<H: Clone> fmt::Debug for HandlerRegistry<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerRegistry").field("events", &self.table().events.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Listener = super::Listener<Arc<()>>;
    type HandlerRegistry = super::HandlerRegistry<Arc<()>>;

    fn listener() -> Listener {
        Listener::new(Arc::new(()))
    }

    fn found(registry: &HandlerRegistry, event: &str) -> Vec<ListenerId> {
        let mut cache = LookupCache::default();
        cache.find(registry, &event.into()).expect("no listener for every event").ids()
    }

    #[test]
    fn keeps_registration_order() {
        let registry = HandlerRegistry::default();
        let listeners: Vec<_> = (0..4).map(|_| listener()).collect();
        let ids: Vec<_> = listeners.iter().map(|listener| listener.id).collect();
        for listener in listeners {
            registry.on("event", listener);
        }
        assert_eq!(found(&registry, "event"), ids);
        assert_eq!(registry.ids("event"), ids);
        assert!(registry.remove(ids[1]) && !registry.remove(ids[1]));
        assert_eq!(found(&registry, "event"), [ids[0], ids[2], ids[3]]);
        registry.off("event");
        assert_eq!(found(&registry, "event"), []);
        registry.on("event", listener());
        registry.off_all();
        assert_eq!(found(&registry, "event"), []);
    }

    #[test]
    fn removes_only_once_handlers() {
        let registry = HandlerRegistry::default();
        let (first, once, last) = (listener(), listener(), listener());
        let ids = [first.id, once.id, last.id];
        registry.on("event", first);
        registry.once("event", once);
        registry.on("event", last);
        registry.once("alone", listener());
        assert_eq!(found(&registry, "event"), ids);
        assert_eq!(found(&registry, "event"), [ids[0], ids[2]]);
        assert_eq!(found(&registry, "alone").len(), 1);
        assert_eq!(found(&registry, "alone"), []);
        assert!(!registry.table().events.contains_key("alone"));
    }

    #[test]
    fn once_taken_elsewhere_falls_through() {
        const EVENTS: usize = 9_000;
        let registry = HandlerRegistry::default();
        let (once, other) = (listener(), listener());
        let (once_id, other_id) = (once.id, other.id);
        registry.on_topic(ListenerKind::Other, other);
        let found: Vec<_> = std::thread::scope(|scope| {
            let finding: Vec<_> = (0..4)
                .map(|_| {
                    let (registry, once) = (&registry, &once);
                    scope.spawn(move || {
                        let find = |_| {
                            registry.once("event", once.clone());
                            found(registry, "event")
                        };
                        (0..EVENTS).map(find).collect::<Vec<_>>()
                    })
                })
                .collect();
            finding.into_iter().flat_map(|found| found.join().expect("no panic")).collect()
        });
        let swallowed = found.iter().filter(|found| found.is_empty()).count();
        assert_eq!(swallowed, 0, "of {}", found.len());
        let times = found.iter().flatten().filter(|id| **id == once_id).count();
        assert!(times <= 4 * EVENTS, "found more than once: {times}");
        assert!(found.iter().all(|found| found.contains(&once_id) || *found == [other_id]));
    }

    #[test]
    fn copies_table_on_first_change() {
        let registry = HandlerRegistry::default();
        registry.on("event", listener());
        let copy = registry.copy();
        assert!(Arc::ptr_eq(&registry.table(), &copy.table()));
        copy.on("event", listener());
        assert_eq!((registry.ids("event").len(), copy.ids("event").len()), (1, 2));
    }

    #[test]
    fn lookup_sees_each_change() {
        let (registry, other) = (HandlerRegistry::default(), HandlerRegistry::default());
        let mut cache = LookupCache::default();
        let mut heard = |registry: &HandlerRegistry| {
            let names = ["event", "event", "evens", "event"].map(ByteString::from_static);
            let [_, first, absent, last] =
                names.map(|name| cache.find(registry, &name).map(|listeners| listeners.ids().len()));
            assert_eq!((first, absent), (last, Some(0)));
            first.expect("no listener for every event")
        };
        assert_eq!((heard(&registry), heard(&other)), (0, 0));
        let first = listener();
        let id = first.id;
        registry.on("event", first);
        assert_eq!((heard(&registry), heard(&other), heard(&registry)), (1, 0, 1));
        let copy = registry.copy();
        registry.on("event", listener());
        assert_eq!((heard(&registry), heard(&copy)), (2, 1));
        assert!(registry.remove(id));
        assert_eq!(heard(&registry), 1);
        registry.close();
        assert_eq!((heard(&registry), heard(&copy)), (0, 1));
    }

    #[test]
    fn cached_lookup_takes_once_handlers() {
        let (registry, mut cache) = (HandlerRegistry::default(), LookupCache::default());
        let mut heard = |registry: &HandlerRegistry| {
            cache.find(registry, &ByteString::from_static("event")).map(|listeners| listeners.ids().len())
        };
        registry.on("event", listener());
        assert_eq!((heard(&registry), heard(&registry)), (Some(1), Some(1)));
        registry.once("event", listener());
        assert_eq!([heard(&registry), heard(&registry), heard(&registry)], [Some(2), Some(1), Some(1)]);
        registry.on_topic(ListenerKind::Any, listener());
        assert_eq!((heard(&registry), heard(&registry)), (None, None));
    }

    #[test]
    fn closing_drops_and_refuses_handlers() {
        let registry = HandlerRegistry::default();
        let held = Arc::new(());
        registry.on("event", Listener::new(held.clone()));
        assert_eq!(Arc::strong_count(&held), 2);
        registry.close();
        assert_eq!(Arc::strong_count(&held), 1);
        registry.on("event", listener());
        registry.on_topic(ListenerKind::Any, listener());
        registry.prepend_topic(ListenerKind::Any, listener());
        assert_eq!(found(&registry, "event"), []);
    }

    #[test]
    fn catch_all_listeners_take_slow_path() {
        for topic in [ListenerKind::Any, ListenerKind::Middleware] {
            let registry = HandlerRegistry::default();
            registry.prepend_topic(topic, listener());
            assert!(LookupCache::default().find(&registry, &"event".into()).is_none());
            registry.off_topic(topic);
            assert_eq!(found(&registry, "event"), []);
        }
    }
}
