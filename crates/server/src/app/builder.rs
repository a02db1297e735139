//! What an application sets before there is a server

use std::fmt;
use std::future::Future;
use std::sync::{Arc, RwLock};

use http::HeaderMap;
use http::request::Parts;
use roomcast_core::{Namespace, Router, SocketId, Transport};
use roomcast_rooms::Rooms;
use roomcast_transport_polling::Polling;

use crate::app::error::ConfigError;
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
use crate::session::endpoint::Endpoint;
use crate::session::shared::Sessions;
use crate::session::unjoined::Unjoined;
use crate::web::client_files::ClientFiles;
use crate::web::handshake::Handshake;

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
}

impl Default for Io {
    fn default() -> Self {
        Self::new()
    }
}

/// Builds an [`Io`]
#[must_use]
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
            config: Config::new(),
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
    /// use roomcast_server::http::Cors;
    /// use roomcast_server::{Config, Io};
    ///
    /// let config = Config::new().http(|http| http.cors(Cors::origins(["chat.example"])));
    /// let error = Io::builder().config(config).try_build().unwrap_err();
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
        let main = Arc::new(NamespaceState::new(main, router_of_main, &config, &budget));
        let limits =
            Arc::new(Limits::new(config.limits.max_sessions, config.limits.max_connections_per_address));
        let unjoined = Unjoined::new(config.limits.max_unjoined_sessions);
        let io = Io::of_app(App {
            config,
            hooks,
            client_files,
            state,
            endpoints,
            sessions: Sessions::default(),
            unjoined,
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
        });
        // A namespace that an endpoint puts its clients into exists without being asked for.
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

/// What is asked, and told, about requests
impl IoBuilder {
    /// Asked about each request that would begin a session, before it does
    ///
    /// An error refuses the client: its text is what the client is told, with 403 and Engine.IO's code 4, or as plain
    /// text if it asked for a WebSocket; an empty one reads `Forbidden`. Asked once for a session and not for its
    /// further requests, and of clients of every kind. It comes behind the check of
    /// [origin](crate::http::Cors), and the session counts in the limits while it waits. If the client goes away
    /// it is dropped at its next wait. If it panics the client is told 500, which is logged.
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

    /// Makes the ids of sessions, which clients carry in the URL of each request. Default: 120 bits from the operating
    /// system, as 20 characters
    ///
    /// **Such an id is a secret**, like a password: whoever knows it can speak for the client. So it must be hard to
    /// guess, must not be told to other clients, and must not be made of anything that they know. What others may see
    /// is the id of a [socket](crate::Socket::id).
    ///
    /// It has to be new, and of 1 to 256 letters, digits, and `-`, `_`, `.` or `~`; otherwise, or when it fails, the
    /// client is told `Bad request`, and the log says why. Plain WebSocket clients are never told theirs, and get the
    /// default.
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

    /// Makes the ids of sockets, which everybody may see. Default: 120 bits from the operating system, as 20 characters
    ///
    /// Two sockets of a namespace must never have the same, since it is also the name of a socket's own room. It is no
    /// secret, so it must not be the session's, nor tell anything of it. If it panics the client may not join.
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

    /// Changes the headers of the first answer of each session: that to a handshake, or the 101 of a WebSocket
    ///
    /// It comes after everything that the server sets itself. Answers that refuse are left alone.
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

    /// Changes the headers of each answer to a session's requests, the first one included
    ///
    /// It comes after [`initial_headers`](Self::initial_headers). Answers that refuse are left alone. While one of the
    /// two is set, the head of each request is copied. If one panics the client is told 500 instead, and what was in
    /// the answer is lost.
    pub fn headers(mut self, change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) -> Self {
        self.hooks.headers = Some(Box::new(change));
        self
    }

    /// Told of each request that is refused by the rules of Engine.IO, as the event `connection_error` on Node
    ///
    /// It runs where the request is answered, so it must not block.
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
