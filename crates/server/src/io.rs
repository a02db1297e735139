//! The server as an application sees it

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use roomcast_core::{CloseReason, IntoArgs, Namespace, Receipt, Room, Router, RouterStats, Transport};
use roomcast_recovery::Usage;
use roomcast_rooms::Rooms;
use roomcast_transport_polling::Polling;

use crate::ack::Answers;
use crate::budget::Budget;
use crate::client_files::ClientFiles;
use crate::config::Config;
use crate::drain::Lifecycle;
use crate::dynamic::Dynamic;
use crate::emit::{Emit, IntoRooms};
use crate::endpoint::Endpoint;
use crate::error::{ConfigError, EmitError};
use crate::handler::Handler;
use crate::heads::Heads;
use crate::hooks::Hooks;
use crate::inbox::Visit;
use crate::limits::Limits;
use crate::listeners::{Board, Topic};
use crate::listening::listening;
use crate::metrics::Metrics;
use crate::namespace::{NamespaceHandle, NamespaceState};
use crate::operators::operators;
use crate::runtime::Flushers;
use crate::session::Sessions;
use crate::validate;

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
    state: http::Extensions,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) sessions: Sessions,
    pub(crate) flushers: Flushers,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) heads: Arc<Heads>,
    pub(crate) lifecycle: Lifecycle,
    /// Labels of the metric that tells which build this is
    pub(crate) build_info: Vec<(String, String)>,
    main: Arc<NamespaceState>,
    pub(crate) namespaces: RwLock<HashMap<Namespace, Arc<NamespaceState>>>,
    pub(crate) dynamic: Dynamic,
    router: RouterFactory,
}

impl App {
    /// A router for this namespace, by the application's factory; may panic, and is to be called under no lock
    pub(crate) fn make_router(&self, name: &Namespace) -> Arc<dyn Router> {
        let _making = Making::begin(self, name);
        (self.router)(name)
    }
}

pub(crate) type RouterFactory = Box<dyn Fn(&Namespace) -> Arc<dyn Router> + Send + Sync>;

impl Io {
    /// A server with default settings: Socket.IO at `/socket.io/` by long-polling and WebSocket, plain WebSocket
    /// at `/ws`
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// For everything that is not left as it is
    pub fn builder() -> IoBuilder {
        IoBuilder::default()
    }

    /// A namespace; it exists, and clients may join it, from the first time it is named here
    ///
    /// A name that does not begin with `/` is given one, as on Node. One that fits
    /// [`of_pattern`](Self::of_pattern) or [`of_matching`](Self::of_matching) begins with what is registered there.
    ///
    /// # Panics
    /// When the name has a comma, with which clients could not name it; [`try_of`](Self::try_of) does not. Inside the
    /// [router factory](IoBuilder::router) of this very namespace.
    #[track_caller]
    pub fn of(&self, namespace: impl Into<Namespace>) -> NamespaceHandle {
        self.try_of(namespace).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The main namespace
    pub fn main(&self) -> NamespaceHandle {
        NamespaceHandle { io: self.clone(), state: self.0.main.clone() }
    }

    /// See [`NamespaceHandle::on_connect`]
    #[track_caller]
    pub fn on_connect<M: 'static>(&self, handler: impl Handler<M>) -> &Self {
        self.listen(Topic::Connect, handler)
    }

    /// See [`NamespaceHandle::middleware`]
    #[doc(alias = "use")]
    #[track_caller]
    pub fn middleware<M: 'static>(&self, middleware: impl Handler<M>) -> &Self {
        self.listen(Topic::Door, middleware)
    }

    /// How many sockets are in a room of the main namespace on this node
    pub fn count(&self, room: impl Into<Room>) -> usize {
        self.main().count(room)
    }

    /// How many clients are connected to this node, in whichever namespaces
    ///
    /// [`NamespaceHandle::client_count`] counts those of one namespace.
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

    /// State of the application of this type, if it was [given](IoBuilder::state)
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

listening!(Io);
operators!(Io, |io| io.main().target());

impl Default for Io {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").field("clients", &self.client_count()).finish_non_exhaustive()
    }
}

/// Builds an [`Io`]
pub struct IoBuilder {
    config: Config,
    pub(crate) hooks: Hooks,
    client_files: Option<ClientFiles>,
    state: http::Extensions,
    transports: Option<Vec<Arc<dyn Transport>>>,
    endpoints: Option<Vec<Endpoint>>,
    router: RouterFactory,
    build_info: Vec<(String, String)>,
}

impl Default for IoBuilder {
    fn default() -> Self {
        Self {
            config: Config::default(),
            hooks: Hooks::default(),
            client_files: None,
            state: http::Extensions::new(),
            transports: None,
            endpoints: None,
            router: Box::new(|_| Arc::new(Rooms::default())),
            build_info: vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        }
    }
}

impl IoBuilder {
    /// Replaces the settings
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Gives handlers state of the application, which they take by [`State`](crate::State); one value of each type
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.state.insert(state);
        self
    }

    /// Serves the official browser clients beside Socket.IO, from a folder such as `node_modules/socket.io/client-dist`
    ///
    /// By the names they have on Node: `/socket.io/socket.io.js`, `.min.js`, `.esm.min.js`, `.msgpack.min.js`, and their
    /// `.map` files; with an `ETag` made of their content, compressed for browsers that take it. They are read once,
    /// here, and kept in memory, with what was asked for in compressed form.
    ///
    /// # Errors
    /// When none of them is there, or one cannot be read or has more than 8 MiB.
    pub fn serve_client(mut self, folder: impl AsRef<std::path::Path>) -> std::io::Result<Self> {
        self.client_files = Some(ClientFiles::read(folder.as_ref())?);
        Ok(self)
    }

    /// Carries sessions by this transport; once called, by those it was called with and no others
    ///
    /// ```
    /// use roomcast_server::{Io, WebSocket};
    ///
    /// let io = Io::builder().transport(WebSocket::new()).build(); // WebSocket only
    /// ```
    ///
    /// Default: long-polling and WebSocket.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transports.get_or_insert_default().push(Arc::new(transport));
        self
    }

    /// Serves this endpoint; once called, those it was called with and no others
    ///
    /// The first whose path fits a request takes it. Default: [`Endpoint::socket_io`] and [`Endpoint::plain`].
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.get_or_insert_default().push(endpoint);
        self
    }

    /// Routes each namespace by a router of this kind
    ///
    /// The function may name other namespaces with [`Io::of`], but not the one it is to make a router for, nor one whose
    /// router needs that one again: that panics. It is called on the thread that asks for the namespace, under no lock.
    /// So two that ask for a new one at the same moment may both have a router made; one of them is used, and the
    /// other is dropped before it has members. If it panics when a client asks for the namespace, the client may not
    /// join.
    ///
    /// Default: [`Rooms`], which knows the clients of this process.
    pub fn router<R: Router>(mut self, router: impl Fn(&Namespace) -> R + Send + Sync + 'static) -> Self {
        self.router = Box::new(move |namespace| Arc::new(router(namespace)));
        self
    }

    /// Adds a label to the metric `roomcast_build_info`, which has the label `version` already, as in
    /// `build_info("commit", env!("COMMIT"))`
    ///
    /// `name` has to be a label's: letters, digits and underscores. One of the same name is replaced.
    pub fn build_info(mut self, name: &str, value: impl Into<String>) -> Self {
        self.build_info.retain(|(known, _)| known != name);
        self.build_info.push((name.to_owned(), value.into()));
        self
    }

    /// Builds it
    ///
    /// # Panics
    /// When a setting lets nobody in, or could never have an effect; [`try_build`](Self::try_build) does not.
    #[track_caller]
    pub fn build(self) -> Io {
        self.try_build().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Builds it, if its settings make sense
    ///
    /// ```
    /// use roomcast_server::{Config, Io};
    ///
    /// let error = Io::builder().config(Config::default().allow_origin("chat.example")).try_build().unwrap_err();
    /// assert!(error.to_string().contains("write `https://chat.example`"));
    /// ```
    ///
    /// # Errors
    /// When a setting lets nobody in, such as a limit of 0, or could never have an effect, such as an origin that no
    /// browser sends.
    pub fn try_build(self) -> Result<Io, ConfigError> {
        let Self { mut config, hooks, client_files, state, transports, endpoints, router, build_info } = self;
        validate::settings(&mut config)?;
        let mut transports = transports.unwrap_or_else(|| {
            let websocket = config.websocket().bare_close(true);
            vec![Arc::new(Polling::new().max_payload(config.max_payload)), Arc::new(websocket)]
        });
        if let Some(names) = &config.transports {
            transports.retain(|transport| names.contains(&transport.name()));
        }
        let endpoints = endpoints.unwrap_or_else(|| vec![Endpoint::socket_io(), Endpoint::plain("/ws")]);
        validate::endpoints(&endpoints)?;
        let endpoints: Vec<_> = endpoints
            .into_iter()
            .filter_map(|endpoint| endpoint.with_transports(&transports, &config))
            .collect();
        let budget = Arc::new(Budget::new(config.memory_budget));
        let (main, router_of_main) = (Namespace::main(), router(&Namespace::main()));
        let main = Arc::new(NamespaceState::new(main, router_of_main, &config, &budget));
        let limits = Limits::new(
            config.max_sessions,
            config.max_unjoined_sessions,
            config.max_connections_per_address,
        );
        let io = Io(Arc::new(App {
            config,
            hooks,
            client_files,
            state,
            endpoints,
            sessions: Sessions::default(),
            flushers: Flushers::default(),
            metrics: Metrics::default(),
            limits,
            budget,
            heads: Arc::default(),
            lifecycle: Lifecycle::default(),
            build_info,
            main,
            namespaces: RwLock::default(),
            dynamic: Dynamic::default(),
            router,
        }));
        io.0.budget.guard(Arc::downgrade(&io.0));
        // A namespace that an endpoint puts its clients into exists without being asked for.
        for namespace in io.0.endpoints.iter().filter_map(Endpoint::namespace) {
            if !namespace.is_main() {
                io.of(namespace.clone());
            }
        }
        Ok(io)
    }
}

impl fmt::Debug for IoBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

thread_local! {
    /// Namespaces that this thread is making routers for, each for the one before it
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
