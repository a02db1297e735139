//! Which pages may begin sessions: browsers send a user's cookies with requests of any page.

mod name;

pub(crate) use self::name::{authority, normalise, split_port};

/// Policy for pages of other origins that begin sessions or open WebSockets.
///
/// Origins that [`Cors`](crate::http::Cors) lists with credentials are accepted regardless. A page is identified by its
/// `Origin`, or else by `Sec-Fetch-Site`. Programs other than browsers send neither, and are accepted. A refused
/// request is answered with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Accepts a page whose request carries neither `Cookie` nor `Authorization`, so it cannot act for its user.
    ///
    /// Stricter than Node's server, which lets every page open a WebSocket with cookies.
    #[default]
    SameOrCookieless,
    /// Accepts no other page.
    Same,
    /// Accepts every page, with cookies; for servers that authenticate by other means.
    Any,
}

/// Text sent to the page. The log has the details.
pub(crate) const REPAIR: &str = "This page's origin may not connect here. If it should, its operator can add it with \
                                 Cors::allow_origin, or with --allow-origin of roomcast serve; a reverse proxy has \
                                 to pass on the Host header. The server's log names the fix";
