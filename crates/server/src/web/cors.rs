//! Which pages of other origins may read answers, as an application says it

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

/// Which pages of other origins may read answers to their requests
///
/// Browsers ask before they let a page of one origin use long-polling at another. WebSockets are not asked about; see
/// [`Origins`](crate::http::Origins).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cors {
    /// None
    #[default]
    Off,
    /// All of them, without cookies
    Any,
    /// These, such as `https://chat.example`, with or without cookies
    ///
    /// Without, a request of theirs that carries cookies is still refused, as that of any other page
    /// ([`Origins`](crate::http::Origins)).
    Origins {
        /// Which
        origins: Vec<String>,
        /// Whether cookies may be sent along
        credentials: bool,
    },
    /// Everything that can be said
    Rules(CorsRules),
}

impl From<CorsRules> for Cors {
    fn from(rules: CorsRules) -> Self {
        Self::Rules(rules)
    }
}

/// Everything that can be said about requests of other origins; each part is called as in Node's `cors` option
///
/// ```
/// use std::time::Duration;
///
/// use roomcast_server::http::header::AUTHORIZATION;
/// use roomcast_server::http::CorsRules;
/// use roomcast_server::Config;
///
/// let rules = CorsRules::matching(|origin| origin.ends_with(".example.org"))
///     .credentials(true)
///     .allowed_headers([AUTHORIZATION])
///     .max_age(Duration::from_secs(600));
/// let config = Config::new().http(|http| http.cors(rules));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRules {
    pub(crate) origin: Allowed,
    pub(crate) credentials: bool,
    pub(crate) methods: HeaderValue,
    pub(crate) allowed_headers: Option<HeaderValue>,
    pub(crate) exposed_headers: Option<HeaderValue>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) preflight_status: StatusCode,
}

impl CorsRules {
    /// Pages of all origins, which are told so by `*`; on Node `origin: "*"`
    ///
    /// With `*` browsers send no cookies along, whatever [`credentials`](Self::credentials) says.
    pub fn any() -> Self {
        Self::of(Allowed::Any)
    }

    /// Pages of all origins, each of which is told its own; on Node `origin: true`
    ///
    /// Together with [`credentials`](Self::credentials) every page may act for its visitors as far as CORS goes.
    pub fn mirrored() -> Self {
        Self::of(Allowed::Mirrored)
    }

    /// Pages of these origins, such as `https://chat.example`; on Node a string or an array
    pub fn origins<O: Into<String>>(origins: impl IntoIterator<Item = O>) -> Self {
        Self::of(Allowed::Named(origins.into_iter().map(Into::into).collect()))
    }

    /// Pages of the origins that fit; on Node a regular expression or a function
    ///
    /// It is called for each request with an `Origin`, which it gets in normal form (RFC 6454), so it should be quick. If
    /// it panics the request is told 500.
    pub fn matching(fits: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::of(Allowed::Matching(Matching(Arc::new(fits))))
    }

    fn of(origin: Allowed) -> Self {
        Self {
            origin,
            credentials: false,
            methods: HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"),
            allowed_headers: None,
            exposed_headers: None,
            max_age: None,
            preflight_status: StatusCode::NO_CONTENT,
        }
    }

    /// Whether cookies may be sent along. Default: no
    ///
    /// If so, pages whose origins are named here, or fit, pass the check of [`Origins`](crate::http::Origins) too.
    pub fn credentials(mut self, credentials: bool) -> Self {
        self.credentials = credentials;
        self
    }

    /// Methods a page may use. Default: `GET,HEAD,PUT,PATCH,POST,DELETE`
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = list(methods.into_iter().map(|method| method.as_str().to_owned()));
        self
    }

    /// Headers a page may send. Default: those that it asks for
    pub fn allowed_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.allowed_headers = Some(list(headers.into_iter().map(|name| name.as_str().to_owned())));
        self
    }

    /// Headers of answers that a page may read, besides the harmless ones. Default: none
    pub fn exposed_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.exposed_headers = Some(list(headers.into_iter().map(|name| name.as_str().to_owned())));
        self
    }

    /// How long a browser may remember the answer to its question, in whole seconds. Default: as it likes
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The status of the answer to a browser's question; on Node `optionsSuccessStatus`. Default: 204
    pub fn preflight_status(mut self, status: StatusCode) -> Self {
        self.preflight_status = status;
        self
    }

    /// Whether this very origin, in normal form, is meant, and not just everybody
    pub(crate) fn names(&self, origin: &str) -> bool {
        match &self.origin {
            Allowed::Any | Allowed::Mirrored => false,
            Allowed::Named(names) => names.iter().any(|name| name == origin),
            Allowed::Matching(Matching(fits)) => fits(origin),
        }
    }
}

/// Names of methods and headers are tokens, so a list of them can always stand in a header
fn list(names: impl Iterator<Item = String>) -> HeaderValue {
    let joined = names.collect::<Vec<_>>().join(",");
    HeaderValue::try_from(joined).unwrap_or(HeaderValue::from_static(""))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
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
