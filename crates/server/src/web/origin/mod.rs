//! Which pages may begin sessions: a browser sends a visitor's cookies along, whichever page asks.

mod name;

pub(crate) use self::name::{authority, normalise, split_port};

/// Which pages of other origins may begin sessions and open WebSockets, besides those that [`Cors`](crate::http::Cors) lists with
/// credentials.
///
/// A page is known by the `Origin` that browsers send; where there is none, by `Sec-Fetch-Site`. Programs that are no
/// browsers send neither, and are let in. A request that is refused is answered with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Lets in a page whose request carries neither `Cookie` nor `Authorization`, so that it cannot act for its visitor.
    ///
    /// Stricter than Node's server, which lets every page open a WebSocket with cookies.
    #[default]
    SameOrCookieless,
    /// Lets in no other page.
    Same,
    /// Lets in every page, with cookies; for servers that identify users by something else.
    Any,
}

/// Text sent to the page. The log says more.
pub(crate) const REPAIR: &str = "This page's origin may not connect here. If it should, its operator can add it with \
                                 Cors::allow_origin, or with --allow-origin of roomcast serve; a reverse proxy has \
                                 to pass on the Host header. The server's log names the fix";
