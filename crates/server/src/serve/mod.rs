//! A server of one's own: sockets, threads, HTTP

pub(crate) mod accept;
pub(crate) mod admin;
pub(crate) mod drain;
pub(crate) mod exposition;
pub(crate) mod families;
mod http;
pub(crate) mod layer;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod proxy_protocol;
mod rules;
#[cfg(feature = "tls")]
mod tls;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use roomcast_core::ResponseBody;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use self::accept::{accept_all, listen, listen_beside};
#[cfg(feature = "tls")]
pub use self::tls::{Tls, TlsError};
use crate::app::error::{ConfigError, ServeError};
use crate::app::model::io::Io;
use crate::app::validate::at_least_one;
use crate::host::lifecycle::Phase;
use crate::serve::drain::{Drain, Drained};
use crate::util::clock;

/// Serves an [`Io`] on TCP, without another HTTP server around it
///
/// [`bind`](Self::bind) it, then [`serve`](Bound::serve) on the runtime that is there, or [`run`](Bound::run) on
/// threads of its own.
///
/// Its settings concern TCP and HTTP, so they hold here and not when the [`Io`] is mounted in another server, which
/// has its own. Those of [`Config`](crate::Config) hold in both.
#[derive(Clone)]
#[must_use]
pub struct Server {
    io: Io,
    fallback: Arc<Fallback>,
    http: HttpSettings,
    drain: Drain,
    admin: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    /// How many clients that are refused may be told so at a time
    refusals: Arc<Semaphore>,
}

type Fallback = dyn Fn(Request<()>) -> Response<ResponseBody> + Send + Sync;

#[derive(Debug, Clone, Copy)]
struct HttpSettings {
    max_connections: usize,
    max_sessions_per_connection: usize,
    max_header_bytes: usize,
    max_headers: usize,
    header_timeout: Duration,
    keep_alive_timeout: Duration,
    proxy_protocol: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_connections: accept::room(),
            max_sessions_per_connection: 100,
            max_header_bytes: 16 * 1024,
            max_headers: 100,
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            proxy_protocol: false,
        }
    }
}

impl HttpSettings {
    /// # Errors
    /// When a setting lets nobody in.
    fn check(&self) -> Result<(), ConfigError> {
        at_least_one(&[
            ("max_connections", self.max_connections, "no client could connect; allow at least 1"),
            ("max_headers", self.max_headers, "no request would be taken; browsers send about 20"),
        ])?;
        if self.header_timeout.is_zero() {
            return Err(ConfigError::new("header_timeout", "is 0: every connection would be closed at once"));
        }
        Ok(())
    }
}

impl Server {
    /// Serves this
    pub fn new(io: Io) -> Self {
        Self {
            io,
            fallback: Arc::new(|_| not_found()),
            http: HttpSettings::default(),
            drain: Drain::default(),
            admin: None,
            #[cfg(feature = "tls")]
            tls: None,
            refusals: Arc::new(Semaphore::new(http::FAREWELLS)),
        }
    }

    /// Answers requests that no endpoint takes
    ///
    /// If it panics the request is told 500. Default: 404.
    pub fn fallback(
        mut self,
        fallback: impl Fn(Request<()>) -> Response<ResponseBody> + Send + Sync + 'static,
    ) -> Self {
        self.fallback = Arc::new(fallback);
        self
    }

    /// TCP connections that may be open at once, on all threads together. Default: as many as the process may have
    /// descriptors, less 64
    ///
    /// One more is told 503 with `Retry-After`, and closed; those that are open go on. In a flood some are closed
    /// without a word. Counted as [`Breach::Connections`](crate::Breach::Connections).
    pub fn max_connections(mut self, max: usize) -> Self {
        self.http.max_connections = max;
        self
    }

    /// Long-polling sessions that may be open at once of those that began on one TCP connection. Default: 100
    ///
    /// A browser begins one at a time. A proxy that reuses its connections begins those of many clients on one, so its
    /// connections are not bounded if it is [trusted](crate::HttpConfig::trusted_proxies). A session that moves to
    /// WebSocket counts no longer. One more is answered with 503, `Retry-After` and a text. Counted as
    /// [`Breach::ConnectionSessions`](crate::Breach::ConnectionSessions).
    pub fn max_sessions_per_connection(mut self, max: usize) -> Self {
        self.http.max_sessions_per_connection = max;
        self
    }

    /// Bytes that the first line and the headers of a request may have. Default: 16 KiB; at least 1 KiB
    ///
    /// More are answered with 431, and the connection is closed. Counted as
    /// [`Breach::HeaderSize`](crate::Breach::HeaderSize).
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.http.max_header_bytes = bytes.max(1024);
        self
    }

    /// Headers that a request may have. Default: 100
    ///
    /// More are answered with 431, and the connection is closed. Counted as
    /// [`Breach::HeaderSize`](crate::Breach::HeaderSize). Any other number than the default costs an allocation for
    /// each request.
    pub fn max_headers(mut self, headers: usize) -> Self {
        self.http.max_headers = headers;
        self
    }

    /// How long the headers of a request may take to come, counted from their first byte, and for the first request
    /// from the beginning of the connection. Default: 10 s
    ///
    /// After that the connection is closed. Counted as [`Breach::HeaderTime`](crate::Breach::HeaderTime). It bounds
    /// the header of the [PROXY protocol](Self::proxy_protocol) too.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.http.header_timeout = timeout;
        self
    }

    /// How long a connection may stay open after an answer without another request. Default: 75 s
    ///
    /// After that it is closed. Behind a load balancer it should be longer than the time for which that keeps idle
    /// connections, which is often 60 s; otherwise it will now and then send a request into a connection that is
    /// just being closed. A poll that waits is no idle connection, nor is a WebSocket.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.http.keep_alive_timeout = timeout;
        self
    }

    /// Speaks TLS with everybody, by this certificate. Default: no TLS
    ///
    /// Clients then come by `https` and `wss`, and [are secure](crate::Handshake::is_secure). The handshake has to be
    /// done within [`header_timeout`](Self::header_timeout). A client that finds no room is closed without a word. What
    /// [`admin`](Self::admin) answers is not affected.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Expects the header of the PROXY protocol, version 1 or 2, from [trusted
    /// proxies](crate::HttpConfig::trusted_proxies). Default: off
    ///
    /// A trusted proxy that sends none is closed; from anybody else none is expected, and none believed. The address
    /// it tells is [`Handshake::address`](crate::Handshake::address) and the one that limits count; a client that
    /// came to it over TLS is [secure](crate::Handshake::is_secure). Failures are counted as
    /// [`Breach::ProxyHeader`](crate::Breach::ProxyHeader).
    pub fn proxy_protocol(mut self, expected: bool) -> Self {
        self.http.proxy_protocol = expected;
        self
    }

    /// How it goes away when it is told to. Default: [`Drain::default`]
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Answers questions about the server on another address: `/live`, `/ready` and, for Prometheus, `/metrics`
    ///
    /// Default: none, so that nothing listens that was not asked for. It asks nobody who he is; keep it on an
    /// address that only those reach who run the server. While the server drains `/ready` is 503.
    pub fn admin(mut self, address: SocketAddr) -> Self {
        self.admin = Some(address);
        self
    }

    /// Listens on an address, such as `"127.0.0.1:3000"`; port 0 takes a free one
    ///
    /// Nobody else may listen there, another server of this kind included. `[::]` stands for all addresses of the
    /// machine, those of IPv4 too. Of a name with several addresses it takes the first that the machine has.
    ///
    /// # Errors
    /// When the address cannot be resolved or is taken, or that for [`admin`](Self::admin) is; when a setting lets
    /// nobody in.
    pub fn bind(self, address: impl ToSocketAddrs + fmt::Debug) -> Result<Bound, ServeError> {
        self.http.check()?;
        accept::tell_of_few_descriptors(self.http.max_connections);
        let admin = match self.admin {
            Some(address) => {
                let failed = |source| ServeError::Bind { address: address.to_string(), source };
                Some(listen(address).map_err(failed)?)
            }
            None => None,
        };
        let text = format!("{address:?}");
        let failed = |source| ServeError::Bind { address: text.clone(), source };
        let mut last =
            std::io::Error::new(std::io::ErrorKind::InvalidInput, "the address resolves to nothing");
        for address in address.to_socket_addrs().map_err(failed)? {
            match listen(address) {
                Ok(listener) => {
                    let address = listener.local_addr().map_err(failed)?;
                    self.io.app().budget.announce();
                    return Ok(Bound { server: self, listener, address, admin });
                }
                // Behind another address of the name nobody would find it who tries this one first.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(failed(error)),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("io", &self.io).field("http", &self.http).finish_non_exhaustive()
    }
}

/// A server that listens and does not accept yet
#[derive(Debug)]
#[must_use]
pub struct Bound {
    server: Server,
    listener: std::net::TcpListener,
    address: SocketAddr,
    admin: Option<std::net::TcpListener>,
}

impl Bound {
    /// Where it listens
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers questions about itself, if it was [told to](Server::admin)
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// Serves on the runtime that is there, until the future is dropped
    ///
    /// Connections that are open then stay as long as the runtime does; see [`Io::drain`], which also makes it stop
    /// accepting.
    ///
    /// # Errors
    /// When a listener cannot be used on this runtime.
    pub async fn serve(self) -> Result<Infallible, ServeError> {
        self.serve_with_shutdown(pending()).await?;
        // Drained by the application, which knows.
        pending().await
    }

    /// Serves on the runtime that is there; when `shutdown` resolves it goes away as [`Drain`] tells, and returns
    ///
    /// The [`Io`] cannot be served again.
    ///
    /// # Errors
    /// When a listener cannot be used on this runtime.
    pub async fn serve_with_shutdown(
        self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Drained, ServeError> {
        let Self { server, listener, address, admin } = self;
        let bind = |source| ServeError::Bind { address: address.to_string(), source };
        let listener = TcpListener::from_std(listener).map_err(bind)?;
        let admin = admin.map(TcpListener::from_std).transpose().map_err(bind)?;
        let admin = async {
            match admin {
                Some(listener) => admin::serve(server.io.clone(), listener).await,
                None => pending().await,
            }
        };
        tokio::select! {
            drained = serve_until(&server, listener, shutdown) => {
                server.io.app().lifecycle.advance(Phase::Over);
                Ok(drained)
            }
            () = admin => Err(ServeError::Thread(std::io::Error::other("the admin listener ended"))),
        }
    }

    /// Serves on this many threads of its own, each with a runtime, a listener and clients of its own; blocks
    ///
    /// A client stays on the thread that accepted it, so most of what concerns it stays in the memory of one core.
    /// A broadcast reaches the clients of all threads; each thread writes for its own.
    ///
    /// # Errors
    /// When a thread, its runtime or its listener cannot be made.
    pub fn run(self, threads: usize) -> Result<Infallible, ServeError> {
        self.run_with_shutdown(threads, pending())?;
        loop {
            // Drained by the application, which knows.
            std::thread::park();
        }
    }

    /// As [`run`](Self::run); when `shutdown` resolves it goes away as [`Drain`] tells, and returns
    ///
    /// `shutdown` is polled on the calling thread, within a runtime. Another thread answers for
    /// [`admin`](Server::admin), so that asking does not disturb those that serve. All threads have ended when it
    /// returns; the [`Io`] cannot be served again.
    ///
    /// # Errors
    /// When a thread, its runtime or its listener cannot be made.
    pub fn run_with_shutdown(
        self,
        threads: usize,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Drained, ServeError> {
        let Self { server, listener: first, address, admin } = self;
        let mut running = Running { io: server.io.clone(), threads: Vec::new() };
        if let Some(listener) = admin {
            let io = server.io.clone();
            running.spawn("roomcast-admin".into(), listener, async move |listener| {
                tokio::select! {
                    () = admin::serve(io.clone(), listener) => {}
                    () = io.app().lifecycle.reached(Phase::Over) => {}
                }
            })?;
        }
        for number in 1..threads {
            let bind = |source| ServeError::Bind { address: address.to_string(), source };
            let listener = listen_beside(&first).map_err(bind)?;
            let server = server.clone();
            running.spawn(format!("roomcast-{number}"), listener, async move |listener| {
                let _relay = server.io.app().flushers.relay();
                accept_all(&server, listener).await;
                server.io.app().lifecycle.reached(Phase::Over).await;
            })?;
        }
        let runtime = runtime()?;
        let drained = runtime.block_on(async {
            let listener = TcpListener::from_std(first).map_err(ServeError::Thread)?;
            let _relay = server.io.app().flushers.relay();
            Ok(serve_until(&server, listener, shutdown).await)
        });
        drop(running);
        drained
    }
}

/// Threads that end, and are waited for, when this is dropped
struct Running {
    io: Io,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "each thread of the server has a runtime of its own")]
    fn spawn<F: Future<Output = ()>>(
        &mut self,
        name: String,
        listener: std::net::TcpListener,
        serve: impl FnOnce(TcpListener) -> F + Send + 'static,
    ) -> Result<(), ServeError> {
        let runtime = runtime()?;
        let listener = {
            let _within = runtime.enter();
            TcpListener::from_std(listener).map_err(ServeError::Thread)?
        };
        let thread = std::thread::Builder::new().name(name).spawn(move || runtime.block_on(serve(listener)));
        self.threads.push(thread.map_err(ServeError::Thread)?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.io.app().lifecycle.advance(Phase::Over);
        for thread in self.threads.drain(..) {
            // A panic there was said already, by the hook.
            let _ = thread.join();
        }
    }
}

/// Accepts until it is told to stop, by `shutdown` or by [`Io::drain`], and goes away
async fn serve_until(server: &Server, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Drained {
    let io = &server.io;
    let stop = async {
        shutdown.await;
        let drained = io.drain(server.drain).await;
        // HTTP connections that are answering something end with it; the others now.
        io.app().lifecycle.advance(Phase::Closing);
        io.until_gone(clock::now() + LAST_ANSWERS, || io.app().limits.connections() == 0).await;
        drained
    };
    let ((), drained) = tokio::join!(accept_all(server, listener), stop);
    drained
}

/// How long HTTP connections may take to end when all sessions are closed
const LAST_ANSWERS: Duration = Duration::from_secs(1);

fn runtime() -> Result<Runtime, ServeError> {
    Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)
}

fn not_found() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
