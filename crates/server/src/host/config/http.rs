//! Settings of HTTP requests and answers.

use ipnet::IpNet;

use crate::web::compression::HttpCompression;
use crate::web::cookie::Cookie;
use crate::web::cors::Cors;
use crate::web::forwarded::TrustedProxies;
use crate::web::origin::Origins;

/// Settings of HTTP requests and answers.
///
/// Set with [`Config::http`](crate::Config::http). What concerns TCP connections and the size of HTTP headers is set on the
/// [`Server`](crate::Server).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct HttpConfig {
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) cors: Cors,
    pub(crate) cookie: Option<Cookie>,
    pub(crate) compression: Option<HttpCompression>,
    pub(crate) origins: Origins,
    pub(crate) allowed_origins: Vec<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            trusted_proxies: TrustedProxies::default(),
            cors: Cors::Off,
            cookie: None,
            compression: Some(HttpCompression::default()),
            origins: Origins::default(),
            allowed_origins: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Sets the cookie that carries the session's id to clients that begin with long-polling; `None` for no cookie.
    /// Default: none.
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

    /// Compresses answers to polls for clients that accept it; `None` turns it off. Default: [`HttpCompression::default`].
    pub fn compression(mut self, compression: impl Into<Option<HttpCompression>>) -> Self {
        self.compression = compression.into();
        self
    }

    /// Sets which pages of other origins may read answers to their requests, which long-polling needs. Default: none.
    pub fn cors(mut self, cors: impl Into<Cors>) -> Self {
        self.cors = cors.into();
        self
    }

    /// Sets which pages may begin sessions and open WebSockets. Default: [`Origins::SameOrCookieless`].
    ///
    /// Others are answered with 403 and a text that says how to let them in. Counted as
    /// [`Breach::Origin`](crate::metrics::Breach::Origin).
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Adds an origin, such as `https://chat.example`, whose pages may use WebSocket and long-polling with cookies.
    ///
    /// It comes on top of [`origins`](Self::origins) and [`cors`](Self::cors). Case, a default port and a trailing slash
    /// make no difference. One that no browser can send, as it has a path or no scheme, is refused when the
    /// [`Io`](crate::Io) is built; patterns are for [`CorsRules::matching`](crate::http::CorsRules::matching). Pages from files
    /// have the origin `file://` for WebSocket and `null` for polling.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Sets the proxies whose headers tell where a client comes from. Default: none.
    ///
    /// From these `X-Forwarded-For` is read, from the right and past trusted hops only, into
    /// [`Handshake::address`](crate::http::Handshake::address) and the limit for each address; `X-Forwarded-Proto` into
    /// [`Handshake::is_secure`](crate::http::Handshake::is_secure); and `X-Forwarded-Host` is taken for this server's own
    /// host when origins are compared. Of the latter two the value that counts is that of the outermost trusted hop, as
    /// far as proxies add to the list, or the one that is left if they overwrite it. The headers are ignored from any
    /// other peer. When mounted it needs axum's `ConnectInfo<SocketAddr>` or a [`Peer`](crate::http::Peer) with the request.
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
