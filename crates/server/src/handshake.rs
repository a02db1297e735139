//! The request that a session began with, kept small

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use percent_encoding::percent_decode_str;

/// The request that a session began with
///
/// Kept for as long as the client is connected, so it is one block of memory with the request's own text in it and
/// not a header map, and it keeps no buffer of the HTTP library alive.
#[derive(Clone)]
pub struct Handshake {
    /// `uri`, then each header as `name: value` and a line feed; header values hold no line feeds
    text: Box<[u8]>,
    uri_len: u32,
    address: Option<SocketAddr>,
    secure: bool,
    issued: SystemTime,
    /// What layers in front of the server put there; without any it owns no memory
    extensions: http::Extensions,
}

impl Handshake {
    pub(crate) fn new(
        request: &http::request::Parts,
        address: Option<SocketAddr>,
        secure: bool,
        issued: SystemTime,
    ) -> Self {
        let uri = request.uri.path_and_query().map_or("/", |uri| uri.as_str());
        let headers = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3);
        let mut text = Vec::with_capacity(uri.len() + headers.sum::<usize>());
        text.extend_from_slice(uri.as_bytes());
        for (name, value) in &request.headers {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.push(b'\n');
        }
        // A request line is bounded far below 4 GiB.
        let uri_len = u32::try_from(uri.len()).unwrap_or(0);
        let extensions = http::Extensions::new();
        Self { text: text.into(), uri_len, address, secure, issued, extensions }
    }

    /// Keeps what layers put beside the request
    pub(crate) fn with_extensions(mut self, extensions: http::Extensions) -> Self {
        self.extensions = extensions;
        self
    }

    /// Path and query of the request
    #[doc(alias = "url")]
    pub fn uri(&self) -> &str {
        std::str::from_utf8(&self.text[..self.uri_len as usize]).unwrap_or_default()
    }

    /// Headers in the order in which they came, names in lower case
    ///
    /// Values are whatever the client sent; they need not be UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let lines = self.text[self.uri_len as usize..].split(|&byte| byte == b'\n');
        lines.filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((std::str::from_utf8(&line[..colon]).ok()?, line.get(colon + 2..)?))
        })
    }

    /// The first header of this name, in lower case, if it is there and is UTF-8
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers().find(|(known, _)| *known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// Query parameters in the order in which they came, decoded
    pub fn query(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let query = self.uri().split_once('?').map_or("", |(_, query)| query);
        query_pairs(query).map(|(name, value)| (decoded(name), decoded(value)))
    }

    /// The first query parameter of this name, decoded
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Where the client connects from, if the server knows
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Whether the client came over TLS
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// What layers in front of the server put beside the request, such as the user that one of them found out
    ///
    /// Handlers take one part of it by the parameter [`Extension`](crate::Extension).
    pub fn extensions(&self) -> &http::Extensions {
        &self.extensions
    }

    /// When the session began
    pub fn issued(&self) -> SystemTime {
        self.issued
    }
}

impl fmt::Debug for Handshake {
    // Headers hold cookies and the query may hold tokens: neither belongs in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("address", &self.address)
            .field("secure", &self.secure)
            .finish_non_exhaustive()
    }
}

/// Names and values of a query as they stand, undecoded
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
    fn the_request_is_kept_as_it_came() {
        let request = http::Request::get("/socket.io/?EIO=4&room=red%20sea&x=a+b&flag&%26=%3D")
            .header("Cookie", "a=b: c")
            .header("x-twice", "1")
            .header("x-twice", "2")
            .header("x-empty", "")
            .body(())
            .expect("a valid request");
        let handshake = Handshake::new(&request.into_parts().0, None, false, SystemTime::UNIX_EPOCH);
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
}
