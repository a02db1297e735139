//! Builder of an [`Io`]: settings, state, transports, endpoints and HTTP hooks.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, RwLock};

use http::HeaderMap;
use http::request::Parts;
use roomcast_core::{Cluster, Namespace, Router, SocketId, Transport};
use roomcast_rooms::Rooms;
use roomcast_transport_polling::Polling;

use crate::app::error::ConfigError;
use crate::app::model::cluster_link::ClusterHandle;
use crate::app::model::io::{App, Io, RouterFactory};
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::parents::Dynamic;
use crate::app::validate;
use crate::host::budget::Budget;
use crate::host::config::Config;
use crate::host::hooks::{Hooks, RefusedRequest};
use crate::host::lifecycle::Lifecycle;
use crate::host::limits::Limits;
use crate::host::metrics::Metrics;
use crate::host::runtime::Flushers;
use crate::host::timers::Timers;
use crate::session::endpoint::Endpoint;
use crate::session::pending_sessions::PendingSessions;
use crate::session::shared::Sessions;
use crate::web::client_files::ClientFiles;
use crate::web::handshake::Handshake;

impl Io {
    /// Creates a server with the default settings.
    ///
    /// Socket.IO is served at `/socket.io/` over HTTP long-polling and WebSocket, and plain WebSocket at `/ws`.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Creates a builder to configure a server.
    pub fn builder() -> IoBuilder {
        IoBuilder::default()
    }
}

impl Default for Io {
    fn default() -> Self {
        Self::new()
    }
}

/// Builder of an [`Io`].
#[must_use]
pub struct IoBuilder {
    config: Config,
    pub(crate) hooks: Hooks,
    client_files: Option<ClientFiles>,
    state: http::Extensions,
    transports: Option<Vec<Arc<dyn Transport>>>,
    endpoints: Option<Vec<Endpoint>>,
    router: RouterFactory,
    cluster: Option<Arc<dyn Cluster>>,
    build_info: Vec<(String, String)>,
}

impl Default for IoBuilder {
    fn default() -> Self {
        Self {
            config: Config::new(),
            hooks: Hooks::default(),
            client_files: None,
            state: http::Extensions::new(),
            transports: None,
            endpoints: None,
            router: Box::new(|_| Arc::new(Rooms::default())),
            cluster: None,
            build_info: vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())],
        }
    }
}

impl IoBuilder {
    /// Replaces all settings.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds application state, which handlers extract with [`State`](crate::State); one value of each type.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.state.insert(state);
        self
    }

    /// Serves the official browser client from a folder such as `node_modules/socket.io/client-dist`.
    ///
    /// The paths match the Node server: `/socket.io/socket.io.js`, `.min.js`, `.esm.min.js`, `.msgpack.min.js`,
    /// and their `.map` files. Responses carry an `ETag` computed from the content and are compressed for browsers that
    /// support it. The files are read once, by this call, and stay in memory, as do the compressed variants that
    /// browsers have requested.
    ///
    /// # Errors
    /// Returns an error if the folder has none of these files, or if a file cannot be read or is larger than 8 MiB.
    pub fn serve_client(mut self, folder: impl AsRef<std::path::Path>) -> std::io::Result<Self> {
        self.client_files = Some(ClientFiles::read(folder.as_ref())?);
        Ok(self)
    }

    /// Adds a transport. The first call replaces the default transports, later calls add to it.
    ///
    /// ```
    /// use roomcast_server::transport::WebSocket;
    /// use roomcast_server::Io;
    ///
    /// let io = Io::builder().transport(WebSocket::new()).build(); // WebSocket only
    /// ```
    ///
    /// Default: long-polling and WebSocket.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transports.get_or_insert_default().push(Arc::new(transport));
        self
    }

    /// Adds an endpoint. The first call replaces the default endpoints, later calls add to it.
    ///
    /// The first endpoint whose path matches a request serves it. Default: [`Endpoint::socket_io`] and
    /// [`Endpoint::plain`] at `/ws`.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.get_or_insert_default().push(endpoint);
        self
    }

    /// Sets the factory that creates the router of each namespace.
    ///
    /// The factory may use other namespaces through [`Io::of`]. It runs on the thread that requests the namespace,
    /// without a lock held. If two threads request a new namespace at the same time, the factory may run twice; one of
    /// the two routers is dropped before it has members.
    ///
    /// If the factory panics while a client connects to the namespace, that client is rejected.
    ///
    /// A router serves the clients of this process; [`cluster`](Self::cluster) adds the clients of other nodes. Default:
    /// [`Rooms`].
    ///
    /// # Panics
    /// [`Io::of`] panics inside the factory if it requests the namespace whose router is being created, or a namespace
    /// whose router in turn requires that one.
    pub fn router<R: Router>(mut self, router: impl Fn(&Namespace) -> R + Send + Sync + 'static) -> Self {
        self.router = Box::new(move |namespace| Arc::new(router(namespace)));
        self
    }

    /// Connects the server to the other nodes of a cluster.
    ///
    /// Emits, changes of rooms, disconnects and queries then reach the sockets of all nodes, unless they are
    /// [local](crate::emit::Emit::local). At the end of [`Io::drain`] the node leaves the cluster.
    ///
    /// Default: none.
    pub fn cluster(mut self, cluster: impl Cluster) -> Self {
        self.cluster = Some(Arc::new(cluster));
        self
    }

    /// Adds a label to the metric `roomcast_build_info`, which already has the label `version`.
    ///
    /// For example `build_info("commit", env!("COMMIT"))`. `name` must be a valid label name: letters, digits and
    /// underscores. A label of the same name is replaced.
    pub fn build_info(mut self, name: &str, value: impl Into<String>) -> Self {
        self.build_info.retain(|(known, _)| known != name);
        self.build_info.push((name.to_owned(), value.into()));
        self
    }

    /// Builds the server.
    ///
    /// # Panics
    /// Panics if a setting is invalid; see [`try_build`](Self::try_build), which returns the error instead.
    #[track_caller]
    pub fn build(self) -> Io {
        self.try_build().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Builds the server, or returns the first invalid setting.
    ///
    /// ```
    /// use roomcast_server::http::Cors;
    /// use roomcast_server::{Config, Io};
    ///
    /// let config = Config::new().http(|http| http.cors(Cors::origins(["chat.example"])));
    /// let error = Io::builder().config(config).try_build().unwrap_err();
    /// assert!(error.to_string().contains("write `https://chat.example`"));
    /// ```
    ///
    /// # Errors
    /// Returns an error if no client could be served with a setting, such as a limit of 0, or if a setting could never
    /// have an effect, such as an origin that no browser sends.
    pub fn try_build(self) -> Result<Io, ConfigError> {
        let Self {
            mut config,
            hooks,
            client_files,
            state,
            transports,
            endpoints,
            router,
            cluster,
            build_info,
        } = self;
        validate::settings(&mut config)?;
        let mut transports = transports.unwrap_or_else(|| {
            let websocket = config.websocket.transport(&config.limits).bare_close(true);
            vec![Arc::new(Polling::new().max_payload(config.limits.max_payload)), Arc::new(websocket)]
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
        let budget = Arc::new(Budget::new(config.limits.memory_budget));
        let (main, router_of_main) = (Namespace::main(), router(&Namespace::main()));
        let has_own_ids = hooks.generate_socket_id.is_some();
        let cluster = cluster.map(|cluster| ClusterHandle::new(cluster, has_own_ids));
        let main = Arc::new(NamespaceState::new(main, router_of_main, &config, &budget, cluster.clone()));
        let limits =
            Arc::new(Limits::new(config.limits.max_sessions, config.limits.max_connections_per_address));
        let unjoined = PendingSessions::new(config.limits.max_unjoined_sessions);
        let io = Io::of_app(App {
            config,
            hooks,
            client_files,
            state,
            endpoints,
            sessions: Sessions::default(),
            unjoined,
            flushers: Flushers::default(),
            timers: Timers::default(),
            metrics: Metrics::default(),
            limits,
            budget,
            header_names: Arc::default(),
            lifecycle: Lifecycle::default(),
            build_info,
            main,
            namespaces: RwLock::default(),
            dynamic: Dynamic::default(),
            router,
            cluster,
        });
        io.app().main.open();
        // An endpoint's default namespace must exist before its first client connects.
        for namespace in io.app().endpoints.iter().filter_map(Endpoint::namespace) {
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

/// Hooks for HTTP requests and responses.
impl IoBuilder {
    /// Sets a hook that accepts or rejects each request to open a session.
    ///
    /// An `Err` rejects the client with status 403 and its text as the message: as JSON with Engine.IO code 4, or as
    /// plain text for a WebSocket request. An empty text becomes `Forbidden`. The hook runs once per session, for
    /// clients of every kind, after the check of the [origin](crate::http::Cors). The session counts against the limits
    /// while the hook runs. If the client disconnects, the future is dropped at its next `.await`. A panic is logged
    /// and answered with 500.
    ///
    /// ```
    /// use roomcast_server::http::Handshake;
    /// use roomcast_server::Io;
    ///
    /// let io = Io::builder()
    ///     .allow_request(async |request: Handshake| match request.query_value("key").as_deref() {
    ///         Some("sesame") => Ok(()),
    ///         _ => Err("no key, no entry"),
    ///     })
    ///     .build();
    /// ```
    pub fn allow_request<F, E>(mut self, allow: impl Fn(Handshake) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.hooks.allow_request = Some(Box::new(move |request| {
            let answer = allow(request);
            Box::pin(async move { answer.await.map_err(|refusal| refusal.to_string()) })
        }));
        self
    }

    /// Sets the generator of session ids, which clients send in the URL of each request.
    ///
    /// **A session id is a secret**, like a password: anyone with it can act as the client. It must be hard to
    /// guess, must not be shown to other clients, and must not be derived from anything they know. The public id is
    /// that of the [socket](crate::Socket::id).
    ///
    /// An id must be unique and consist of 1 to 256 letters, digits, `-`, `_`, `.` or `~`. If it does not, or the
    /// generator fails, the client is rejected with `Bad request` and the reason is logged. Plain WebSocket clients
    /// never receive their session id and always get the default one.
    ///
    /// Default: 120 bits from the operating system's random source, as 20 characters.
    ///
    /// ```
    /// use roomcast_server::http::Handshake;
    /// use roomcast_server::Io;
    ///
    /// # fn random_128_bits() -> Result<u128, String> { Ok(4) }
    /// let io = Io::builder()
    ///     .generate_id(async |_: Handshake| random_128_bits().map(|bits| format!("node7-{bits:032x}")))
    ///     .build();
    /// ```
    pub fn generate_id<F, E>(mut self, generate: impl Fn(Handshake) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.hooks.generate_id = Some(Box::new(move |request| {
            let id = generate(request);
            Box::pin(async move { id.await.map_err(|error| error.to_string()) })
        }));
        self
    }

    /// Sets the generator of socket ids, which are public.
    ///
    /// An id must be unique within its namespace, since it also names the socket's own room. It is not a secret, so it
    /// must neither equal the session id nor reveal any part of it. If the generator panics, the client is rejected.
    ///
    /// Default: 120 bits from the operating system's random source, as 20 characters. In a cluster, the first 8 may name
    /// the node; ids of other forms cost the cluster a subscription for each socket.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use roomcast_server::http::Handshake;
    /// use roomcast_server::namespace::Namespace;
    /// use roomcast_server::Io;
    ///
    /// let next = AtomicU64::new(1);
    /// let io = Io::builder()
    ///     .generate_socket_id(move |_: &Handshake, _: &Namespace| {
    ///         format!("guest-{}", next.fetch_add(1, Ordering::Relaxed))
    ///     })
    ///     .build();
    /// ```
    pub fn generate_socket_id<I: Into<SocketId>>(
        mut self,
        generate: impl Fn(&Handshake, &Namespace) -> I + Send + Sync + 'static,
    ) -> Self {
        self.hooks.generate_socket_id =
            Some(Box::new(move |handshake, namespace| generate(handshake, namespace).into()));
        self
    }

    /// Sets a hook that changes the headers of the first response of each session.
    ///
    /// That is the response to the handshake, or the 101 of a WebSocket. The hook runs after the server has set its own
    /// headers. Rejections are not passed to it.
    ///
    /// ```
    /// use roomcast_server::Io;
    /// use roomcast_server::http::HeaderValue;
    ///
    /// let io = Io::builder()
    ///     .initial_headers(|headers, request| {
    ///         if !request.headers.contains_key("cookie") {
    ///             headers.append("set-cookie", HeaderValue::from_static("seen=1"));
    ///         }
    ///     })
    ///     .build();
    /// ```
    pub fn initial_headers(
        mut self,
        change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.initial_headers = Some(Box::new(change));
        self
    }

    /// Sets a hook that changes the headers of every response of a session, including the first.
    ///
    /// It runs after [`initial_headers`](Self::initial_headers). Rejections are not passed to it. While either hook is
    /// set, the head of each request is copied. If a hook panics, the client receives a 500 and the body of the
    /// response is lost.
    pub fn headers(mut self, change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) -> Self {
        self.hooks.headers = Some(Box::new(change));
        self
    }

    /// Sets a listener for requests rejected by Engine.IO, like Node's `connection_error` event.
    ///
    /// The listener runs on the task that answers the request, so it must not block.
    ///
    /// ```
    /// use roomcast_server::Io;
    ///
    /// let io = Io::builder()
    ///     .connection_error(|refused| {
    ///         eprintln!("{} {}: {}", refused.code, refused.message, refused.context);
    ///     })
    ///     .build();
    /// ```
    pub fn connection_error(
        mut self,
        tell: impl for<'a> Fn(&RefusedRequest<'a>) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.connection_error = Some(Box::new(tell));
        self
    }
}
