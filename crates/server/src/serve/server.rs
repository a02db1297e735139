//! Standalone server and its settings

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

/// Rejections sent concurrently; further connections are dropped without a response
pub(super) const FAREWELLS: usize = 256;

/// Serves an [`Io`] on TCP, without another HTTP server.
///
/// [`bind`](Self::bind) it, then [`serve`](crate::server::Bound::serve) on the current runtime, or
/// [`run`](crate::server::Bound::run) on dedicated threads.
///
/// Its settings concern TCP and HTTP and do not apply when the [`Io`] is mounted in another server.
/// [`Config`](crate::Config) applies to both.
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
    /// Limits concurrent rejections
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
    /// Returns an error if a setting would reject every client.
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
    /// Creates a server for this [`Io`].
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

    /// Sets the handler for requests that match no endpoint.
    ///
    /// If it panics, the response is 500. Default: 404.
    pub fn fallback(
        mut self,
        fallback: impl Fn(Request<()>) -> Response<ResponseBody> + Send + Sync + 'static,
    ) -> Self {
        self.fallback = Arc::new(fallback);
        self
    }

    /// Sets the maximum open TCP connections, over all threads. Default: the process's descriptor limit less 64.
    ///
    /// Further connections are answered with 503 and `Retry-After`, then closed; under a flood some are closed without
    /// a response. Counted as [`Limit::Connections`](crate::metrics::Limit::Connections).
    pub fn max_connections(mut self, max: usize) -> Self {
        self.http.max_connections = max;
        self
    }

    /// Sets the maximum number of long-polling sessions begun on one TCP connection. Default: 100.
    ///
    /// A browser begins one at a time. A proxy begins sessions of many clients on one connection, so connections from
    /// [trusted proxies](crate::config::HttpConfig::trusted_proxies) are exempt. A session that upgrades to WebSocket
    /// no longer counts. Further sessions are rejected with 503 and `Retry-After`. Counted as
    /// [`Limit::ConnectionSessions`](crate::metrics::Limit::ConnectionSessions).
    pub fn max_sessions_per_connection(mut self, max: usize) -> Self {
        self.http.max_sessions_per_connection = max;
        self
    }

    /// Sets the maximum size of the request line and headers, in bytes. Default: 16 KiB; minimum 1 KiB.
    ///
    /// Larger ones are answered with 431, and the connection is closed. Counted as
    /// [`Limit::HeaderSize`](crate::metrics::Limit::HeaderSize).
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.http.max_header_bytes = bytes.max(1024);
        self
    }

    /// Sets the maximum number of headers of a request. Default: 100.
    ///
    /// Requests with more are answered with 431, and the connection is closed. Counted as
    /// [`Limit::HeaderSize`](crate::metrics::Limit::HeaderSize). Any value but the default costs an allocation per
    /// request.
    pub fn max_headers(mut self, headers: usize) -> Self {
        self.http.max_headers = headers;
        self
    }

    /// Sets the time limit for request headers, counted from their first byte. Default: 10 s.
    ///
    /// For the first request the time counts from the start of the connection. After it the connection is closed.
    /// Counted as [`Limit::HeaderTime`](crate::metrics::Limit::HeaderTime). Also limits the
    /// [PROXY protocol](Self::proxy_protocol) header.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.http.header_timeout = timeout;
        self
    }

    /// Sets how long an idle connection stays open after a response. Default: 75 s.
    ///
    /// Behind a load balancer, use more than its idle timeout, which is often 60 s; otherwise it will occasionally send
    /// a request on a connection that is being closed. A waiting poll and a WebSocket are not idle.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.http.keep_alive_timeout = timeout;
        self
    }

    /// Enables TLS with this certificate on all connections. Default: no TLS.
    ///
    /// Clients then use `https` and `wss`, and [are secure](crate::http::Handshake::is_secure). The handshake has to
    /// complete within [`header_timeout`](Self::header_timeout). Connections above the limit are closed without a
    /// response. [`admin`](Self::admin) is not affected.
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

    /// Expects a PROXY protocol header, version 1 or 2, from [trusted
    /// proxies](crate::config::HttpConfig::trusted_proxies). Default: off.
    ///
    /// A trusted proxy that sends no header is disconnected; other peers send none, and theirs is not trusted. The
    /// reported address becomes [`Handshake::address`](crate::http::Handshake::address) and counts for limits; a client
    /// that reached the proxy over TLS is [secure](crate::http::Handshake::is_secure). Failures are counted as
    /// [`Limit::ProxyHeader`](crate::metrics::Limit::ProxyHeader).
    pub fn proxy_protocol(mut self, expected: bool) -> Self {
        self.http.proxy_protocol = expected;
        self
    }

    /// Sets the graceful shutdown behaviour. Default: [`Drain::default`].
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Serves `/live`, `/ready` and, for Prometheus, `/metrics` on a separate address. Default: none.
    ///
    /// It has no authentication; restrict network access to this address. `/ready` is 503 while the server drains.
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
