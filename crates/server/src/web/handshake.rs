//! Opening request of a session, in compact form

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::util::header_interner::{Head, HeaderInterner};

/// Opening request of a session.
///
/// Retained while the client is connected, so it is one block of memory with the request's own text rather than a
/// header map, and it keeps no buffer of the HTTP library alive. Headers common to many clients, such as `User-Agent`,
/// are stored once.
#[derive(Clone)]
pub struct Handshake {
    /// Each header in order: `name: value`, or `name` alone if its value is in `text`, and a line feed, which neither
    /// can contain
    head: Arc<Head>,
    /// `uri`, then each value specific to the client, and a line feed
    text: Box<[u8]>,
    uri_len: u32,
    address: Address,
    secure: bool,
    /// Length in bytes of the path remainder left to the application; fits into the gap behind `secure`
    rest_len: u16,
    /// Nanoseconds since 1970; suffices until 2554
    issued: u64,
    /// Extensions set by outer layers; an empty map owns no memory
    extensions: http::Extensions,
}

impl Handshake {
    pub(crate) fn new(
        header_names: &Arc<HeaderInterner>,
        request: &http::request::Parts,
        address: Option<SocketAddr>,
        secure: bool,
        issued: SystemTime,
    ) -> Self {
        let uri = request.uri.path_and_query().map_or("/", |uri| uri.as_str());
        let own = request.headers.iter().filter(|(name, value)| !is_common(name, value));
        let mut text = Vec::with_capacity(uri.len() + own.map(|(_, value)| value.len() + 1).sum::<usize>());
        let mut head = Vec::with_capacity(COMMON_HEAD);
        text.extend_from_slice(uri.as_bytes());
        for (name, value) in &request.headers {
            head.extend_from_slice(name.as_str().as_bytes());
            if is_common(name, value) {
                head.extend_from_slice(b": ");
                head.extend_from_slice(value.as_bytes());
            } else {
                text.extend_from_slice(value.as_bytes());
                text.push(b'\n');
            }
            head.push(b'\n');
        }
        // Request lines are limited far below 4 GiB.
        let uri_len = u32::try_from(uri.len()).unwrap_or(0);
        let (address, extensions) = (Address::from(address), http::Extensions::new());
        let issued = issued.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let issued = u64::try_from(issued).unwrap_or(u64::MAX);
        let (head, text, rest_len) = (header_names.share(&head), text.into(), 0);
        Self { head, text, uri_len, address, secure, rest_len, issued, extensions }
    }

    /// Records the length of the path beyond its endpoint's.
    pub(crate) fn with_path_rest(mut self, len: usize) -> Self {
        // A longer one exceeds the default header limit, and is not reported.
        self.rest_len = u16::try_from(len).unwrap_or(0);
        self
    }

    /// Keeps the extensions set by outer layers.
    pub(crate) fn with_extensions(mut self, extensions: http::Extensions) -> Self {
        self.extensions = extensions;
        self
    }

    /// Returns the bytes retained for this request alone.
    pub(crate) fn own_bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the bytes retained, including shared ones.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.head.text().len()
    }

    /// Returns the path and query of the request.
    #[doc(alias = "url")]
    pub fn uri(&self) -> &str {
        std::str::from_utf8(&self.text[..self.uri_len as usize]).unwrap_or_default()
    }

    /// Returns the part of the path behind the one of the [`Endpoint`](crate::transport::Endpoint), decoded.
    ///
    /// For `Endpoint::plain("/rooms/*")` this is the part matched by `*`, such as `red` in `/rooms/red?token=x`; for an
    /// endpoint of a single path it is empty. It is untrusted input, and may contain slashes.
    pub fn path_rest(&self) -> String {
        let path = self.uri().split('?').next().unwrap_or_default();
        let rest = path.len().checked_sub(usize::from(self.rest_len)).and_then(|at| path.get(at..));
        percent_decode_str(rest.unwrap_or_default()).decode_utf8_lossy().into_owned()
    }

    /// Returns the headers in order of arrival, with names in lower case.
    ///
    /// Values are untrusted and need not be UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut own = self.text[self.uri_len as usize..].split(|&byte| byte == b'\n');
        let lines = self.head.text().split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.filter_map(move |line| {
            let (name, value) = match line.iter().position(|&byte| byte == b':') {
                Some(colon) => (&line[..colon], line.get(colon + 2..)?),
                None => (line, own.next()?),
            };
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// Returns the first header of this name, in lower case, if it is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers().find(|(known, _)| *known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// Returns the query parameters in order of arrival, decoded.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let query = self.uri().split_once('?').map_or("", |(_, query)| query);
        query_pairs(query).map(|(name, value)| (decoded(name), decoded(value)))
    }

    /// Returns the first query parameter of this name, decoded.
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Returns the client's address, if known.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get()
    }

    /// Returns the address as a log field, omitted if unknown.
    pub(crate) fn address_field(&self) -> Option<impl tracing::Value + use<>> {
        self.address().map(tracing::field::display)
    }

    /// Returns whether the client used TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the extensions set by outer layers, such as an authenticated user.
    ///
    /// Handlers extract a single one by the parameter [`Extension`](crate::extract::Extension).
    pub fn extensions(&self) -> &http::Extensions {
        &self.extensions
    }

    /// Returns when the session began.
    pub fn issued(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.issued)
    }
}

/// Compact socket address; rare forms are boxed.
#[derive(Clone)]
enum Address {
    Unknown,
    V4(SocketAddrV4),
    V6(Ipv6Addr, u16),
    /// With a flow label or a scope
    Labelled(Box<SocketAddrV6>),
}

impl From<Option<SocketAddr>> for Address {
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::Unknown,
            Some(SocketAddr::V4(v4)) => Self::V4(v4),
            Some(SocketAddr::V6(v6)) if v6.flowinfo() == 0 && v6.scope_id() == 0 => {
                Self::V6(*v6.ip(), v6.port())
            }
            Some(SocketAddr::V6(v6)) => Self::Labelled(Box::new(v6)),
        }
    }
}

impl Address {
    fn get(&self) -> Option<SocketAddr> {
        match self {
            Self::Unknown => None,
            Self::V4(v4) => Some(SocketAddr::V4(*v4)),
            Self::V6(ip, port) => Some(SocketAddr::from((*ip, *port))),
            Self::Labelled(v6) => Some(SocketAddr::V6(**v6)),
        }
    }
}

impl fmt::Debug for Handshake {
    // Headers contain cookies and the query may contain tokens: neither belongs in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("address", &self.address())
            .field("secure", &self.secure)
            .finish_non_exhaustive()
    }
}

/// Returns whether many clients are likely to send this header with this value.
///
/// Excludes headers that may identify or admit a client, such as `Cookie`, or subprotocols, which may carry a token.
fn is_common(name: &HeaderName, value: &HeaderValue) -> bool {
    value.len() <= MAX_COMMON_VALUE
        && matches!(
            name.as_str(),
            "accept"
                | "accept-encoding"
                | "accept-language"
                | "cache-control"
                | "connection"
                | "dnt"
                | "host"
                | "origin"
                | "pragma"
                | "priority"
                | "sec-ch-ua"
                | "sec-ch-ua-mobile"
                | "sec-ch-ua-platform"
                | "sec-fetch-dest"
                | "sec-fetch-mode"
                | "sec-fetch-site"
                | "sec-fetch-storage-access"
                | "sec-gpc"
                | "sec-websocket-extensions"
                | "sec-websocket-version"
                | "upgrade"
                | "user-agent"
                | "x-forwarded-host"
                | "x-forwarded-port"
                | "x-forwarded-proto"
        )
}

/// Longer values are unlikely to be common
const MAX_COMMON_VALUE: usize = 256;
/// Typical size of a browser's common headers, in bytes
const COMMON_HEAD: usize = 768;

/// Returns names and values of a query, undecoded.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_request_unchanged() {
        let request = http::Request::get("/socket.io/?EIO=4&room=red%20sea&x=a+b&flag&%26=%3D")
            .header("Cookie", "a=b: c")
            .header("x-twice", "1")
            .header("x-twice", "2")
            .header("x-empty", "")
            .body(())
            .expect("a valid request");
        let header_names = Arc::default();
        let handshake =
            Handshake::new(&header_names, &request.into_parts().0, None, false, SystemTime::UNIX_EPOCH);
        assert_eq!(handshake.uri(), "/socket.io/?EIO=4&room=red%20sea&x=a+b&flag&%26=%3D");
        assert_eq!(handshake.header("cookie"), Some("a=b: c"));
        assert_eq!(handshake.header("x-empty"), Some(""));
        assert_eq!(handshake.header("x-twice"), Some("1"));
        assert_eq!(handshake.headers().count(), 4);
        assert_eq!(handshake.query_value("room").as_deref(), Some("red sea"));
        assert_eq!(handshake.query_value("x").as_deref(), Some("a b"));
        assert_eq!(handshake.query_value("flag").as_deref(), Some(""));
        assert_eq!(handshake.query_value("&").as_deref(), Some("="));
        assert_eq!(handshake.query_value("none"), None);
        assert!(!format!("{handshake:?}").contains("a=b"));
    }

    #[test]
    fn path_rest_is_decoded() {
        let header_names = Arc::default();
        for (uri, len, rest) in [
            ("/rooms/red?x=1", 3, "red"),
            ("/rooms/red%20sea/a+b", 13, "red sea/a+b"),
            ("/rooms/?red", 0, ""),
            ("/rooms/%ff", 3, "\u{fffd}"),
            ("/ws", 9, ""),
        ] {
            let request = http::Request::get(uri).body(()).expect("a valid request").into_parts().0;
            let handshake = Handshake::new(&header_names, &request, None, false, SystemTime::UNIX_EPOCH);
            assert_eq!(handshake.with_path_rest(len).path_rest(), rest, "{uri}");
        }
        assert!(size_of::<Handshake>() <= 72, "each session has one");
    }

    #[test]
    fn address_and_time_are_kept_whole() {
        let request = http::Request::get("/").body(()).expect("a valid request").into_parts().0;
        let header_names = Arc::default();
        let (v4, v6) = ("192.0.2.1:65535", "[2001:db8::1]:80");
        let addresses = [v4, v6, "[fe80::1%7]:443"].map(|text| text.parse().expect("an address"));
        let flow = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 2, 0));
        for address in addresses.into_iter().chain([flow]).map(Some).chain([None]) {
            let issued = SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 123_456_789);
            let handshake = Handshake::new(&header_names, &request, address, true, issued);
            assert_eq!((handshake.address(), handshake.issued()), (address, issued));
        }
        // A clock this wrong yields the earliest time that fits.
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(
            Handshake::new(&header_names, &request, None, true, before).issued(),
            SystemTime::UNIX_EPOCH
        );
    }

    #[test]
    fn shared_headers_keep_their_order() {
        let long = "l".repeat(MAX_COMMON_VALUE + 1);
        let sent = |key: &str| {
            let request = http::Request::get("/")
                .header("Host", "example.com:3000")
                .header("Cookie", key)
                .header("User-Agent", "Somebody/1.0 (X11: y)")
                .header("Origin", "")
                .header("Accept-Language", &long)
                .header("Sec-WebSocket-Key", key)
                .header("Upgrade", HeaderValue::from_bytes(b"\xff: \x80").expect("it may stand there"))
                .header("X-Empty", "")
                .header("Cookie", "second");
            request.body(()).expect("a valid request").into_parts().0
        };
        let header_names = Arc::default();
        let kept = ["one", "another: one"].map(|key| {
            let sent = sent(key);
            let handshake = Handshake::new(&header_names, &sent, None, false, SystemTime::UNIX_EPOCH);
            let expected: Vec<_> =
                sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
            assert_eq!(handshake.headers().collect::<Vec<_>>(), expected);
            handshake
        });
        assert!(Arc::ptr_eq(&kept[0].head, &kept[1].head));
    }
}
