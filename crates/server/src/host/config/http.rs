//! Settings of HTTP requests and responses.

use ipnet::IpNet;

use crate::web::compression::HttpCompression;
use crate::web::cookie::Cookie;
use crate::web::cors::Cors;
use crate::web::forwarded::TrustedProxies;

/// Settings of HTTP requests and responses.
///
/// Set with [`Config::http`](crate::Config::http). TCP connections and header sizes are configured on the
/// [`Server`](crate::Server).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct HttpConfig {
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) cors: Cors,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) compression: Option<HttpCompression>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            trusted_proxies: TrustedProxies::default(),
            cors: Cors::new(),
            cookie: None,
            compression: Some(HttpCompression::default()),
        }
    }
}

impl HttpConfig {
    /// Sets the session id cookie for clients that begin with long-polling; `None` for no cookie. Default: none.
    ///
    /// # Examples
    ///
    /// ```
    /// use roomcast_server::http::Cookie;
    /// use roomcast_server::Config;
    ///
    /// let config = Config::new().http(|http| http.cookie(Cookie::new("io").secure(true)));
    /// ```
    pub fn cookie(mut self, cookie: impl Into<Option<Cookie>>) -> Self {
        self.cookie = cookie.into();
        self
    }

    /// Compresses poll responses for clients that accept it; `None` turns it off. Default:
    /// [`HttpCompression::default`].
    pub fn compression(mut self, compression: impl Into<Option<HttpCompression>>) -> Self {
        self.compression = compression.into();
        self
    }

    /// Sets which pages of other origins may use the server. Default: [`Cors::new`].
    ///
    /// By default these are pages of the server's own origin, and pages whose requests carry no cookies. Determines
    /// both the CORS response headers and the handshake check. A handshake that fails the check is answered with 403
    /// and a hint how to allow the page, and counted as [`Limit::Origin`](crate::metrics::Limit::Origin).
    ///
    /// # Examples
    ///
    /// ```
    /// use roomcast_server::http::Cors;
    /// use roomcast_server::Config;
    ///
    /// let cors = Cors::origins(["https://chat.example"]).credentials(true);
    /// let config = Config::new().http(|http| http.cors(cors));
    /// ```
    pub fn cors(mut self, cors: Cors) -> Self {
        self.cors = cors;
        self
    }

    /// Sets the proxies whose forwarding headers are trusted. Default: none.
    ///
    /// `X-Forwarded-For` is read from the right, past trusted hops only, and sets
    /// [`Handshake::address`](crate::http::Handshake::address) and the address for per-address limits.
    /// `X-Forwarded-Proto` sets [`Handshake::is_secure`](crate::http::Handshake::is_secure). `X-Forwarded-Host` is the
    /// server's own host in origin checks. For the latter two the value of the outermost trusted hop counts, or the
    /// only one if proxies overwrite it. Headers from other peers are ignored. When mounted this needs axum's
    /// `ConnectInfo<SocketAddr>` or a [`Peer`](crate::http::Peer) with the request.
    ///
    /// # Examples
    ///
    /// ```
    /// use roomcast_server::http::IpNet;
    /// use roomcast_server::Config;
    ///
    /// let proxies = ["10.0.0.0/8".parse::<IpNet>()?];
    /// let config = Config::new().http(|http| http.trusted_proxies(proxies));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = impl Into<IpNet>>) -> Self {
        self.trusted_proxies = TrustedProxies::new(networks);
        self
    }
}
