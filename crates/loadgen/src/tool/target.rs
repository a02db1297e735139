use std::fmt;
use std::net::ToSocketAddrs as _;
use std::str::FromStr;
use std::sync::Arc;

use crate::Error;
use crate::error::ErrorContext as _;
use crate::scenario::{Kind, Server};
use crate::tls::{Tls, Trust};

/// Server URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    socket_io: bool,
    tls: bool,
    host: String,
    port: u16,
    /// Path and query; may be empty.
    path: String,
}

impl Target {
    pub(super) fn is_socket_io(&self) -> bool {
        self.socket_io
    }

    /// Returns path and query of the request.
    fn request_path(&self, kind: Kind) -> String {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        if kind == Kind::Plain {
            return if path.is_empty() { format!("/{}", self.path) } else { self.path.clone() };
        }
        let path = if path.is_empty() || path == "/" { "/socket.io/" } else { path };
        let transport = if kind == Kind::Poll { "polling" } else { "websocket" };
        let query = if query.is_empty() { String::new() } else { format!("{query}&") };
        format!("{path}?{query}EIO=4&transport={transport}")
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) =
            text.split_once("://").ok_or("expected ws://HOST:PORT/PATH or http://HOST:PORT")?;
        let (socket_io, tls) = match scheme {
            "ws" => (false, false),
            "wss" => (false, true),
            "http" => (true, false),
            "https" => (true, true),
            other => {
                return Err(format!(
                    "unknown scheme {other}://; expected ws://, wss://, http:// or https://"
                ));
            }
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        if authority.contains('@') {
            return Err("credentials in the URL are not supported; use --header 'Authorization: …'".into());
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the path contains characters that must be escaped".into());
        }
        // An IPv6 address is in brackets.
        let in_brackets = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[in_brackets..].rfind(':') {
            Some(at) => {
                let port = authority[in_brackets + at + 1..].parse().map_err(|_| "invalid port")?;
                (&authority[..in_brackets + at], port)
            }
            None => (authority, if tls { 443 } else { 80 }),
        };
        if host.is_empty() {
            return Err("missing host".into());
        }
        Ok(Self { socket_io, tls, host: host.into(), port, path: path.into() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.socket_io, self.tls) {
            (true, false) => "http",
            (true, true) => "https",
            (false, false) => "ws",
            (false, true) => "wss",
        };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Resolves the hosts and prepares their request headers and TLS.
pub(super) fn servers(
    targets: &[Target],
    kind: Kind,
    headers: &[String],
    trust: &Trust,
) -> Result<Vec<Arc<Server>>, Error> {
    let mut lines = String::from(concat!("User-Agent: roomcast-bench/", env!("CARGO_PKG_VERSION"), "\r\n"));
    for header in headers {
        let name = header.split_once(':').map(|(name, _)| name).filter(|name| !name.is_empty());
        if name.is_none() || !header.chars().all(|character| character == ' ' || character.is_ascii_graphic())
        {
            return Err(Error::Usage(format!("--header must have the form 'Name: value', not {header:?}")));
        }
        lines += &format!("{header}\r\n");
    }
    let server = |target: &Target| {
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (host, target.port).to_socket_addrs().doing(|| format!("resolve {host}"))?;
        let address = addresses.next().ok_or_else(|| Error::Usage(format!("{host} has no address")))?;
        let tls = target.tls.then(|| Tls::new(host, trust)).transpose()?;
        let host = format!("{}:{}", target.host, target.port);
        let (path, headers) = (target.request_path(kind), lines.clone());
        Ok(Arc::new(Server { address, host, path, headers, tls }))
    };
    targets.iter().map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn url_selects_protocol_and_path() {
        let plain = target("ws://localhost:81/chat?room=1#top");
        assert_eq!((plain.is_socket_io(), plain.port), (false, 81));
        assert_eq!(plain.request_path(Kind::Plain), "/chat?room=1");
        assert_eq!(plain.to_string(), "ws://localhost:81/chat?room=1");
        let secure = target("wss://h/chat");
        assert_eq!((secure.tls, secure.port, secure.to_string().as_str()), (true, 443, "wss://h:443/chat"));
        assert_eq!((target("https://h").is_socket_io(), target("https://h:9").port), (true, 9));
        assert_eq!(target("ws://h").request_path(Kind::Plain), "/");
        assert_eq!(target("ws://h?x").request_path(Kind::Plain), "/?x");
        let path = |text: &str, kind| target(text).request_path(kind);
        assert_eq!(path("http://h", Kind::Sio), "/socket.io/?EIO=4&transport=websocket");
        assert_eq!(path("http://h/", Kind::Poll), "/socket.io/?EIO=4&transport=polling");
        assert_eq!(path("http://h/rt/?t=1", Kind::Sio), "/rt/?t=1&EIO=4&transport=websocket");
        assert_eq!((target("ws://[::1]:9").host.as_str(), target("ws://[::1]").port), ("[::1]", 80));
    }

    #[test]
    fn rejects_invalid_urls_with_reason() {
        for (text, reason) in [
            ("localhost:80", "expected"),
            ("ftp://h", "ftp"),
            ("ws://:80", "host"),
            ("ws://h:x", "port"),
            ("ws://me:pw@h", "Authorization"),
            ("ws://h/a b", "escaped"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn checks_headers_and_resolves_hosts() {
        let servers = |headers: &[&str]| {
            let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
            servers(&[target("ws://[::1]:9/x")], Kind::Plain, &headers, &Trust::default())
        };
        let server = servers(&["A: b", "C: d"]).unwrap().remove(0);
        assert!(server.headers.ends_with("\r\nA: b\r\nC: d\r\n"));
        assert_eq!((server.address.to_string().as_str(), server.host.as_str()), ("[::1]:9", "[::1]:9"));
        for wrong in ["A", ": b", "A: b\r\nC: d", "A: \u{e9}"] {
            assert!(matches!(servers(&[wrong]), Err(Error::Usage(_))), "{wrong:?}");
        }
    }
}
