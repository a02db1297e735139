//! Which pages may use this server: a browser sends a visitor's cookies along, whichever page asks

mod name;

pub(crate) use self::name::{authority, normalise, split_port};

/// Which pages may begin sessions, and open WebSockets
///
/// A WebSocket is not subject to the same-origin policy: without this, any page that a visitor opens could connect
/// in the visitor's name, with the visitor's cookies, and read the answers (RFC 6455 section 10.2). Long-polling
/// is treated alike, although CORS keeps such a page from reading. What a page may *read* across origins is
/// [`Cors`](crate::http::Cors).
///
/// A page is known by the `Origin` that browsers send; where there is none, by `Sec-Fetch-Site`. Programs that
/// are no browsers send neither, and nothing here stops them.
///
/// Origins that [`HttpConfig::allow_origin`](crate::config::HttpConfig::allow_origin) names are let in by each of these, and so are those that [`Cors`](crate::http::Cors) names
/// *with* credentials. Origins are compared in their normal form (RFC 6454): case, a default port and the spelling of
/// a host with other letters than ASCII make no difference. A request that is not let in is answered with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Pages of this server's own origin; and any other page whose request carries neither `Cookie` nor
    /// `Authorization`, so that nobody can be impersonated
    ///
    /// Stricter than Node's server, which lets every page open a WebSocket with cookies.
    #[default]
    SameOrCookieless,
    /// Pages of this server's own origin, and no others but those that are named
    Same,
    /// Every page, with cookies; for servers that know their users by something else
    Any,
}

/// What the page is told; the log says more
pub(crate) const REPAIR: &str = "This page's origin may not connect here. If it should, its operator can add it with \
                                 HttpConfig::allow_origin, or with --allow-origin of roomcast serve; a reverse proxy has \
                                 to pass on the Host header. The server's log names the fix";
