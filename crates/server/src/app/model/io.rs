//! Handle to the server.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use roomcast_core::{CloseReason, ClusterStatus, Namespace, Outbox, Router, RouterStats};
use roomcast_recovery::{Recovery, Usage};

use crate::app::model::cluster_link::ClusterHandle;
use crate::app::model::event_input::HandlerRegistry;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::parents::Dynamic;
use crate::host::budget::{Budget, Clients};
use crate::host::config::Config;
use crate::host::hooks::Hooks;
use crate::host::lifecycle::Lifecycle;
use crate::host::limits::Limits;
use crate::host::metrics::{Metrics, count};
use crate::host::runtime::Flushers;
use crate::host::timers::Timers;
use crate::session::endpoint::Endpoint;
use crate::session::mailbox::SessionCommand;
use crate::session::pending_sessions::PendingSessions;
use crate::session::shared::Sessions;
use crate::util::header_interner::HeaderInterner;
use crate::web::client_files::ClientFiles;

/// Handle to the server, to register handlers and to emit; clones refer to the same server.
///
/// The server handles requests that reach it through a standalone [`Server`](crate::Server), or mounted as a
/// [layer](Self::layer) or [service](Self::service) in another server.
///
/// The methods of `Io` act on the main namespace, `/`; [`of`](Self::of) returns other namespaces.
#[derive(Clone)]
pub struct Io(Arc<App>);

pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) hooks: Hooks,
    pub(crate) client_files: Option<ClientFiles>,
    pub(crate) state: http::Extensions,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) sessions: Sessions<Io>,
    pub(crate) unjoined: PendingSessions<Io>,
    pub(crate) flushers: Flushers,
    pub(crate) timers: Timers,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Arc<Limits>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) header_names: Arc<HeaderInterner>,
    pub(crate) lifecycle: Lifecycle,
    /// Labels of the build information metric.
    pub(crate) build_info: Vec<(String, String)>,
    pub(crate) main: Arc<NamespaceState>,
    pub(crate) namespaces: RwLock<HashMap<Namespace, Arc<NamespaceState>>>,
    pub(crate) dynamic: Dynamic,
    pub(crate) router: RouterFactory,
    pub(crate) cluster: Option<ClusterHandle>,
}

impl Clients for App {
    fn outboxes(&self) -> Vec<Outbox> {
        self.sessions.all().into_iter().map(|session| session.outbox.clone()).collect()
    }

    fn count_evicted(&self) {
        count::clients_evicted(&self.metrics);
    }
}

/// Shared state of a session.
pub(crate) type SessionShared = crate::session::shared::SessionShared<Io>;

// Together with the two reference counts it fits a block of 208 bytes, of which malloc takes eight.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<SessionShared>() <= 184, "one field more would cost each client 16 bytes");

impl App {
    /// Returns the characters with which the ids of this node's sockets begin.
    pub(crate) fn id_tag(&self) -> &str {
        self.cluster.as_ref().map_or("", |handle| handle.cluster.id_tag())
    }

    /// Returns the state of the connection to the cluster, if there is one.
    pub(crate) fn cluster_status(&self) -> Option<ClusterStatus> {
        self.cluster.as_ref().map(|handle| handle.cluster.status())
    }

    /// Creates the router of a namespace with the application's factory.
    ///
    /// The factory may panic and must be called without a lock held.
    pub(crate) fn make_router(&self, name: &Namespace) -> Arc<dyn Router> {
        let _making = Making::begin(self, name);
        (self.router)(name)
    }
}

pub(crate) type RouterFactory = Box<dyn Fn(&Namespace) -> Arc<dyn Router> + Send + Sync>;

impl Io {
    pub(crate) fn of_app(app: App) -> Self {
        let app = Arc::new(app);
        let clients: Weak<dyn Clients> = Arc::downgrade(&app) as _;
        app.budget.guard(clients);
        Self(app)
    }

    /// Returns the number of clients connected to this node, in any namespace.
    ///
    /// [`NamespaceHandle::client_count`](crate::namespace::NamespaceHandle::client_count) counts clients
    /// of one namespace.
    pub fn client_count(&self) -> usize {
        self.0.sessions.len()
    }

    /// Closes the connection of every client; clients may reconnect to another node.
    pub fn close(&self) {
        for session in self.0.sessions.all() {
            // Fails only if the session has already ended.
            let _ = session.mailbox.push(SessionCommand::Close(CloseReason::ServerShutdown));
        }
    }

    /// Returns the metrics of this node.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the state of the connection to the [cluster](crate::config::IoBuilder::cluster); `None` without one.
    pub fn cluster_status(&self) -> Option<ClusterStatus> {
        self.0.cluster_status()
    }

    /// Returns the application state of type `T`, if [set](crate::config::IoBuilder::state).
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0.state.get().cloned()
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.0.hooks
    }

    /// Returns the settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Returns the number of members and rooms of each namespace.
    pub(crate) fn router_stats(&self) -> Vec<(Namespace, RouterStats)> {
        self.all_namespaces().iter().map(|state| (state.name.clone(), state.router.stats())).collect()
    }

    pub(crate) fn registry(&self) -> &HandlerRegistry {
        &self.0.main.registry
    }

    /// Returns the retained sessions and their memory for each namespace.
    pub(crate) fn recovery_usage(&self) -> Vec<(Namespace, Usage)> {
        let all = self.all_namespaces();
        all.iter().filter_map(|state| Some((state.name.clone(), state.recovery.as_ref()?.usage()))).collect()
    }

    /// Returns the recovery of each namespace that has one.
    pub(crate) fn recoveries(&self) -> Vec<Arc<dyn Recovery>> {
        self.all_namespaces().iter().filter_map(|state| state.recovery.clone()).collect()
    }

    /// Returns all namespaces, cloned so that custom routers are called without a lock held.
    fn all_namespaces(&self) -> Vec<Arc<NamespaceState>> {
        let named = self.0.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.0.main).chain(named.values()).cloned().collect()
    }

    pub(crate) fn app(&self) -> &App {
        &self.0
    }

    pub(crate) fn namespace(&self, name: &Namespace) -> Option<Arc<NamespaceState>> {
        if name.is_main() {
            return Some(self.0.main.clone());
        }
        let state = self.0.namespaces.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()?;
        state.open();
        Some(state)
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("clients", &self.client_count()).finish_non_exhaustive()
    }
}

thread_local! {
    // Namespaces whose routers this thread is creating, each requested by the factory call before it. Detects a
    // factory that requests its own namespace and would never return. The calls pass through code of the application,
    // so a parameter cannot carry this. At most `MAX_MAKING` entries.
    static MAKING: RefCell<Vec<(*const App, Namespace)>> = const { RefCell::new(Vec::new()) };
}

/// Guard that marks this thread as running the router factory.
struct Making;

impl Making {
    /// Enters the router factory.
    ///
    /// # Panics
    /// Panics if the factory would recurse without end.
    fn begin(app: &App, name: &Namespace) -> Self {
        MAKING.with_borrow_mut(|making| {
            let is_circle = making.iter().any(|(other, made)| std::ptr::eq(*other, app) && made == name);
            if is_circle || making.len() >= MAX_MAKING {
                let names: Vec<_> = making.iter().map(|(_, name)| name).chain([name]).map(Namespace::as_str).collect();
                panic!(
                    "the router factory requests namespaces recursively, {}; request such a namespace outside of the \
                     factory, after the first one exists",
                    names.join(" for ")
                );
            }
            making.push((std::ptr::from_ref(app), name.clone()));
        });
        Self
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        MAKING.with_borrow_mut(|making| making.pop());
    }
}

/// Nested factory calls after which the recursion is considered endless.
const MAX_MAKING: usize = 32;
