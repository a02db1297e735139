//! A server of one's own, and its settings

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use roomcast_core::ResponseBody;
use tokio::sync::Semaphore;

use super::descriptors;
use super::drain::Drain;
#[cfg(feature = "tls")]
use super::tls::Tls;
use crate::app::error::ConfigError;
use crate::app::model::io::Io;
use crate::app::validate::at_least_one;

/// How many are told at a time; in a flood the others are just cut off
pub(super) const FAREWELLS: usize = 256;

/// Serves an [`Io`] on TCP, without another HTTP server around it
///
/// [`bind`](Self::bind) it, then [`serve`](crate::server::Bound::serve) on the runtime that is there, or [`run`](crate::server::Bound::run) on
/// threads of its own.
///
/// Its settings concern TCP and HTTP, so they hold here and not when the [`Io`] is mounted in another server, which
/// has its own. Those of [`Config`](crate::Config) hold in both.
#[derive(Clone)]
#[must_use]
pub struct Server {
    pub(super) io: Io,
    pub(super) fallback: Arc<Fallback>,
    pub(super) http: HttpSettings,
    pub(super) drain: Drain,
    pub(super) admin: Option<SocketAddr>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Tls>,
    /// How many clients that are refused may be told so at a time
    pub(super) refusals: Arc<Semaphore>,
}

pub(super) type Fallback = dyn Fn(Request<()>) -> Response<ResponseBody> + Send + Sync;

#[derive(Debug, Clone, Copy)]
pub(super) struct HttpSettings {
    pub(super) max_connections: usize,
    pub(super) max_sessions_per_connection: usize,
    pub(super) max_header_bytes: usize,
    pub(super) max_headers: usize,
    pub(super) header_timeout: Duration,
    pub(super) keep_alive_timeout: Duration,
    pub(super) proxy_protocol: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_connections: descriptors::room(),
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
    pub(super) fn check(&self) -> Result<(), ConfigError> {
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
            refusals: Arc::new(Semaphore::new(FAREWELLS)),
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
    /// without a word. Counted as [`Breach::Connections`](crate::metrics::Breach::Connections).
    pub fn max_connections(mut self, max: usize) -> Self {
        self.http.max_connections = max;
        self
    }

    /// Long-polling sessions that may be open at once of those that began on one TCP connection. Default: 100
    ///
    /// A browser begins one at a time. A proxy that reuses its connections begins those of many clients on one, so its
    /// connections are not bounded if it is [trusted](crate::config::HttpConfig::trusted_proxies). A session that moves to
    /// WebSocket counts no longer. One more is answered with 503, `Retry-After` and a text. Counted as
    /// [`Breach::ConnectionSessions`](crate::metrics::Breach::ConnectionSessions).
    pub fn max_sessions_per_connection(mut self, max: usize) -> Self {
        self.http.max_sessions_per_connection = max;
        self
    }

    /// Bytes that the first line and the headers of a request may have. Default: 16 KiB; at least 1 KiB
    ///
    /// More are answered with 431, and the connection is closed. Counted as
    /// [`Breach::HeaderSize`](crate::metrics::Breach::HeaderSize).
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.http.max_header_bytes = bytes.max(1024);
        self
    }

    /// Headers that a request may have. Default: 100
    ///
    /// More are answered with 431, and the connection is closed. Counted as
    /// [`Breach::HeaderSize`](crate::metrics::Breach::HeaderSize). Any other number than the default costs an allocation for
    /// each request.
    pub fn max_headers(mut self, headers: usize) -> Self {
        self.http.max_headers = headers;
        self
    }

    /// How long the headers of a request may take to come, counted from their first byte, and for the first request
    /// from the beginning of the connection. Default: 10 s
    ///
    /// After that the connection is closed. Counted as [`Breach::HeaderTime`](crate::metrics::Breach::HeaderTime). It bounds
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
    /// Clients then come by `https` and `wss`, and [are secure](crate::http::Handshake::is_secure). The handshake has to be
    /// done within [`header_timeout`](Self::header_timeout). A client that finds no room is closed without a word. What
    /// [`admin`](Self::admin) answers is not affected.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    pub(super) fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    /// Expects the header of the PROXY protocol, version 1 or 2, from [trusted
    /// proxies](crate::config::HttpConfig::trusted_proxies). Default: off
    ///
    /// A trusted proxy that sends none is closed; from anybody else none is expected, and none believed. The address
    /// it tells is [`Handshake::address`](crate::http::Handshake::address) and the one that limits count; a client that
    /// came to it over TLS is [secure](crate::http::Handshake::is_secure). Failures are counted as
    /// [`Breach::ProxyHeader`](crate::metrics::Breach::ProxyHeader).
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
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("io", &self.io).field("http", &self.http).finish_non_exhaustive()
    }
}

fn not_found() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
