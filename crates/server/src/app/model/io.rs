//! The server as an application sees it

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use roomcast_core::{CloseReason, Namespace, Outbox, Router, RouterStats};
use roomcast_recovery::Usage;

use crate::app::model::event_input::Board;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::parents::Dynamic;
use crate::host::budget::{Budget, Clients};
use crate::host::config::Config;
use crate::host::hooks::Hooks;
use crate::host::lifecycle::Lifecycle;
use crate::host::limits::Limits;
use crate::host::metrics::{Metrics, count};
use crate::host::runtime::Flushers;
use crate::session::endpoint::Endpoint;
use crate::session::inbox::Visit;
use crate::session::shared::Sessions;
use crate::session::unjoined::Unjoined;
use crate::util::heads::Heads;
use crate::web::client_files::ClientFiles;

/// The server as an application sees it: handlers are registered on it, and it emits; cloning gives another handle
///
/// It does nothing by itself until requests reach it, through a [`Server`](crate::Server) of its own or mounted
/// as a [layer](Self::layer) or a [service](Self::service) in somebody else's.
///
/// Its own methods mean the main namespace, `/`; [`of`](Self::of) gives the others.
#[derive(Clone)]
pub struct Io(Arc<App>);

pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) hooks: Hooks,
    pub(crate) client_files: Option<ClientFiles>,
    pub(crate) state: http::Extensions,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) sessions: Sessions<Io>,
    pub(crate) unjoined: Unjoined<Io>,
    pub(crate) flushers: Flushers,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Arc<Limits>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) lifecycle: Lifecycle,
    /// Labels of the metric that tells which build this is
    pub(crate) build_info: Vec<(String, String)>,
    pub(crate) main: Arc<NamespaceState>,
    pub(crate) namespaces: RwLock<HashMap<Namespace, Arc<NamespaceState>>>,
    pub(crate) dynamic: Dynamic,
    pub(crate) router: RouterFactory,
}

impl Clients for App {
    fn outboxes(&self) -> Vec<Outbox> {
        self.sessions.all().into_iter().map(|session| session.outbox.clone()).collect()
    }

    fn count_evicted(&self) {
        count::clients_evicted(&self.metrics);
    }
}

/// What is known of a session of this application
pub(crate) type SessionShared = crate::session::shared::SessionShared<Io>;

// With its two counts it lies in a block of 240 bytes, of which malloc takes eight.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<SessionShared>() <= 216, "one field more would cost each client 16 bytes");

impl App {
    /// A router for this namespace, by the application's factory; may panic, and is to be called under no lock
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

    /// How many clients are connected to this node, in whichever namespaces
    ///
    /// [`NamespaceHandle::client_count`](crate::namespace::NamespaceHandle::client_count) counts those of one namespace.
    pub fn client_count(&self) -> usize {
        self.0.sessions.len()
    }

    /// Closes the connection of every client, which may come back elsewhere
    pub fn close(&self) {
        for session in self.0.sessions.all() {
            // One that is over already needs no closing.
            let _ = session.inbox.push(Visit::Close(CloseReason::ServerShutdown));
        }
    }

    /// What this node has counted
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// State of the application of this type, if it was [given](crate::config::IoBuilder::state)
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0.state.get().cloned()
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.0.hooks
    }

    /// The settings
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// How much there is in each namespace
    pub(crate) fn router_stats(&self) -> Vec<(Namespace, RouterStats)> {
        self.all_namespaces().iter().map(|state| (state.name.clone(), state.router.stats())).collect()
    }

    pub(crate) fn board(&self) -> &Board {
        &self.0.main.board
    }

    /// How much each namespace keeps for clients that come back
    pub(crate) fn recovery_usage(&self) -> Vec<(Namespace, Usage)> {
        let all = self.all_namespaces();
        all.iter().filter_map(|state| Some((state.name.clone(), state.sequencer.as_ref()?.usage()))).collect()
    }

    /// Cloned, so that routers, which may be anybody's, are asked under no lock
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
        self.0.namespaces.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("clients", &self.client_count()).finish_non_exhaustive()
    }
}

thread_local! {
    // Namespaces that this thread is making routers for, each for the one before it. Detects a router factory that asks
    // for its own namespace, which would not return: the call passes through code of the application, so a parameter
    // cannot follow it. At most `MAX_MAKING`.
    static MAKING: RefCell<Vec<(*const App, Namespace)>> = const { RefCell::new(Vec::new()) };
}

/// This thread is inside the router factory until it is dropped
struct Making;

impl Making {
    /// # Panics
    /// When it would never come to an end.
    fn begin(app: &App, name: &Namespace) -> Self {
        MAKING.with_borrow_mut(|making| {
            let is_circle = making.iter().any(|(other, made)| std::ptr::eq(*other, app) && made == name);
            if is_circle || making.len() >= MAX_MAKING {
                let names: Vec<_> = making.iter().map(|(_, name)| name).chain([name]).map(Namespace::as_str).collect();
                panic!(
                    "the router factory asks for namespaces that ask for each other, {}; name such a namespace \
                     outside of the factory, when the first one is there",
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

/// So many namespaces that ask for each other have no end
const MAX_MAKING: usize = 32;
