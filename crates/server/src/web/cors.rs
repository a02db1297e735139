//! CORS settings: which pages of other origins may use the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::web::origin::OriginPolicy;

/// CORS settings: which pages of other origins may read responses, begin sessions and open WebSockets.
///
/// They determine two checks. The `Access-Control-` headers of responses tell browsers which pages may read them, as
/// long-polling needs. The origin check refuses handshakes of other pages; WebSockets are not subject to the
/// same-origin policy, so otherwise any page could connect in the user's name (RFC 6455 section 10.2).
///
/// | Origin of the page | may read answers | may connect with cookies | may connect without |
/// | --- | --- | --- | --- |
/// | this server's own | yes | yes | yes |
/// | listed, with [`credentials`](Self::credentials) | yes, with cookies | yes | yes |
/// | [allowed](Self::allow_origin) | yes, with cookies | yes | yes |
/// | listed, without credentials | yes, without cookies | by the [policy](Self::origin_policy): no | by the policy: yes |
/// | any other | only with [`any`](Self::any) or [`mirrored`](Self::mirrored) | by the policy: no | by the policy: yes |
///
/// Listed are the origins of [`origins`](Self::origins) and [`matching`](Self::matching). Origins are compared in
/// normal form (RFC 6454), regardless of case, a default port, a trailing slash and the encoding of a non-ASCII host.
/// An origin that no browser can send, with a path or without a scheme, is an error when the [`Io`](crate::Io) is
/// built. Pages from files have the origin `file://` for WebSocket and `null` for polling.
///
/// The constructors and setters are named after Node's `cors` option.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_server::http::header::AUTHORIZATION;
/// use roomcast_server::http::Cors;
/// use roomcast_server::Config;
///
/// // These pages may do what the server's own pages may.
/// let shop = Cors::origins(["https://shop.example", "https://admin.example"]).credentials(true);
/// let config = Config::new().http(|http| http.cors(shop));
///
/// let subdomains = Cors::matching(|origin| origin.ends_with(".example.org"))
///     .credentials(true)
///     .allowed_headers([AUTHORIZATION])
///     .max_age(Duration::from_secs(600));
///
/// // All pages may read answers to requests without cookies, and those of one may use cookies.
/// let public = Cors::any().allow_origin("https://shop.example");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Cors {
    pub(crate) listed: Allowed,
    pub(crate) credentials: bool,
    pub(crate) trusted: Vec<String>,
    pub(crate) policy: OriginPolicy,
    pub(crate) methods: HeaderValue,
    pub(crate) allowed_headers: Option<HeaderValue>,
    pub(crate) exposed_headers: Option<HeaderValue>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) preflight_status: StatusCode,
}

impl Default for Cors {
    fn default() -> Self {
        Self::new()
    }
}

impl Cors {
    /// Lists no origin, so that no page of another origin may read responses. This is the default.
    pub fn new() -> Self {
        Self::of(Allowed::None)
    }

    /// Lets pages of all origins read responses, by sending `*`; on Node `origin: "*"`.
    ///
    /// With `*` browsers send no cookies, regardless of [`credentials`](Self::credentials).
    pub fn any() -> Self {
        Self::of(Allowed::Any)
    }

    /// Lets pages of all origins read responses, each naming the page's origin; on Node `origin: true`.
    ///
    /// With [`credentials`](Self::credentials) CORS then lets every page act for its users. The
    /// [policy](Self::origin_policy) still decides which pages may connect.
    pub fn mirrored() -> Self {
        Self::of(Allowed::Mirrored)
    }

    /// Lists these origins, such as `https://chat.example`; on Node a string or an array.
    pub fn origins<O: Into<String>>(origins: impl IntoIterator<Item = O>) -> Self {
        Self::of(Allowed::Named(origins.into_iter().map(Into::into).collect()))
    }

    /// Lists the origins for which a function returns `true`; on Node a regular expression or a function.
    ///
    /// It is called for each request with an `Origin`, in normal form (RFC 6454), so it should be fast. If it panics
    /// the request is answered with 500.
    pub fn matching(fits: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::of(Allowed::Matching(Matching(Arc::new(fits))))
    }

    fn of(listed: Allowed) -> Self {
        Self {
            listed,
            credentials: false,
            trusted: Vec::new(),
            policy: OriginPolicy::default(),
            methods: HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"),
            allowed_headers: None,
            exposed_headers: None,
            max_age: None,
            preflight_status: StatusCode::NO_CONTENT,
        }
    }

    /// Sets whether pages of the listed origins may send cookies. Default: no.
    ///
    /// Otherwise their requests with cookies are refused like for any other page.
    pub fn credentials(mut self, credentials: bool) -> Self {
        self.credentials = credentials;
        self
    }

    /// Adds an origin whose pages may use WebSocket and long-polling with cookies, besides the listed ones.
    ///
    /// Use it to list other origins without cookies, as in `Cors::any().allow_origin("https://chat.example")`.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Self {
        self.trusted.push(origin.into());
        self
    }

    /// Sets which other pages may begin sessions and open WebSockets. Default: [`OriginPolicy::SameOrCookieless`].
    pub fn origin_policy(mut self, policy: OriginPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the methods a page may use. Default: `GET,HEAD,PUT,PATCH,POST,DELETE`.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = list(methods.into_iter().map(|method| method.as_str().to_owned()));
        self
    }

    /// Sets the headers a page may send. Default: the requested ones.
    pub fn allowed_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.allowed_headers = Some(list(headers.into_iter().map(|name| name.as_str().to_owned())));
        self
    }

    /// Sets the response headers a page may read, besides the safelisted ones. Default: none.
    pub fn exposed_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.exposed_headers = Some(list(headers.into_iter().map(|name| name.as_str().to_owned())));
        self
    }

    /// Sets how long browsers may cache a preflight response, in whole seconds. Default: up to the browser.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets the status of preflight responses; on Node `optionsSuccessStatus`. Default: 204.
    pub fn preflight_status(mut self, status: StatusCode) -> Self {
        self.preflight_status = status;
        self
    }

    /// Returns whether no other origin may read a response.
    pub(crate) fn is_off(&self) -> bool {
        self.listed == Allowed::None && self.trusted.is_empty()
    }

    /// Returns whether a normalised origin is listed itself, not by a wildcard.
    pub(crate) fn lists(&self, origin: &str) -> bool {
        match &self.listed {
            Allowed::None | Allowed::Any | Allowed::Mirrored => false,
            Allowed::Named(names) => names.iter().any(|name| name == origin),
            Allowed::Matching(Matching(fits)) => fits(origin),
        }
    }
}

/// Joins names into a header value. Names of methods and headers are tokens, so this cannot fail.
fn list(names: impl Iterator<Item = String>) -> HeaderValue {
    let joined = names.collect::<Vec<_>>().join(",");
    HeaderValue::try_from(joined).unwrap_or(HeaderValue::from_static(""))
}

impl Cors {
    /// Returns whether equal requests always get equal headers: no function of the application decides.
    pub(crate) fn is_fixed(&self) -> bool {
        !matches!(self.listed, Allowed::Matching(_))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
    None,
    Any,
    Mirrored,
    Named(Vec<String>),
    Matching(Matching),
}

#[derive(Clone)]
pub(crate) struct Matching(pub(crate) Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl PartialEq for Matching {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Matching {}

impl fmt::Debug for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Matching")
    }
}
