//! Which pages of other origins may use the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::web::origin::OriginPolicy;

/// Which pages of other origins may use the server: read its answers, begin sessions and open WebSockets.
///
/// Two checks follow from it. The `Access-Control-` headers of answers tell browsers which pages may read them, which
/// long-polling needs. The origin check refuses the handshakes of pages that may not connect; WebSockets are not subject to
/// the same-origin policy, so any page that a visitor opens could connect in the visitor's name otherwise (RFC 6455
/// section 10.2).
///
/// | Origin of the page | may read answers | may connect with cookies | may connect without |
/// | --- | --- | --- | --- |
/// | this server's own | yes | yes | yes |
/// | listed, with [`credentials`](Self::credentials) | yes, with cookies | yes | yes |
/// | [allowed](Self::allow_origin) | yes, with cookies | yes | yes |
/// | listed, without credentials | yes, without cookies | by the [policy](Self::origin_policy): no | by the policy: yes |
/// | any other | only with [`any`](Self::any) or [`mirrored`](Self::mirrored) | by the policy: no | by the policy: yes |
///
/// Listed are the origins of [`origins`](Self::origins) and [`matching`](Self::matching). Origins are compared in their
/// normal form (RFC 6454): case, a default port, a trailing slash and the spelling of a host with other letters than ASCII
/// make no difference. An origin that no browser can send, as it has a path or no scheme, is refused when the
/// [`Io`](crate::Io) is built. Pages from files have the origin `file://` for WebSocket and `null` for polling.
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
    /// Lists no origin, so that no page of another origin may read answers. This is the default.
    pub fn new() -> Self {
        Self::of(Allowed::None)
    }

    /// Lets pages of all origins read answers, which are told so by `*`; on Node `origin: "*"`.
    ///
    /// With `*` browsers send no cookies along, whatever [`credentials`](Self::credentials) says.
    pub fn any() -> Self {
        Self::of(Allowed::Any)
    }

    /// Lets pages of all origins read answers, each of which names the page's own; on Node `origin: true`.
    ///
    /// Together with [`credentials`](Self::credentials) every page may act for its visitors as far as CORS goes. Which may
    /// connect is still up to the [policy](Self::origin_policy).
    pub fn mirrored() -> Self {
        Self::of(Allowed::Mirrored)
    }

    /// Lists these origins, such as `https://chat.example`; on Node a string or an array.
    pub fn origins<O: Into<String>>(origins: impl IntoIterator<Item = O>) -> Self {
        Self::of(Allowed::Named(origins.into_iter().map(Into::into).collect()))
    }

    /// Lists the origins for which a function returns `true`; on Node a regular expression or a function.
    ///
    /// It is called for each request with an `Origin`, which it gets in normal form (RFC 6454), so it should be quick. If
    /// it panics the request is answered with 500.
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

    /// Sets whether pages of the listed origins may send cookies along. Default: no.
    ///
    /// Without, a request of theirs that carries cookies is refused like that of any other page.
    pub fn credentials(mut self, credentials: bool) -> Self {
        self.credentials = credentials;
        self
    }

    /// Adds an origin whose pages may use WebSocket and long-polling with cookies, besides the listed ones.
    ///
    /// Needed where the listed origins are to be without cookies, as in `Cors::any().allow_origin("https://chat.example")`.
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

    /// Sets the headers a page may send. Default: those that it asks for.
    pub fn allowed_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.allowed_headers = Some(list(headers.into_iter().map(|name| name.as_str().to_owned())));
        self
    }

    /// Sets the headers of answers that a page may read, besides the safelisted ones. Default: none.
    pub fn exposed_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.exposed_headers = Some(list(headers.into_iter().map(|name| name.as_str().to_owned())));
        self
    }

    /// Sets how long a browser may cache the answer to a preflight request, in whole seconds. Default: up to the browser.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets the status of the answer to a preflight request; on Node `optionsSuccessStatus`. Default: 204.
    pub fn preflight_status(mut self, status: StatusCode) -> Self {
        self.preflight_status = status;
        self
    }

    /// Returns whether no other origin may read an answer.
    pub(crate) fn is_off(&self) -> bool {
        self.listed == Allowed::None && self.trusted.is_empty()
    }

    /// Returns whether an origin, in normal form, is listed itself, and not only as one of all.
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
