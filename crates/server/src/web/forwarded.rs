//! Client address and scheme behind trusted proxies

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::web::peer::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Proxies whose forwarding headers are trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub(crate) fn new(networks: impl IntoIterator<Item = impl Into<IpNet>>) -> Self {
        Self(networks.into_iter().map(Into::into).collect())
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the client's address and TLS flag by the headers of trusted proxies; ignores headers of other peers.
    pub(crate) fn resolve(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        let peer = Peer { address: canonical(peer.address), ..peer };
        let Hops { client, trusted } = self.hops(peer.address, headers);
        let secure = said_by(trusted, headers, &X_FORWARDED_PROTO).map_or(peer.secure, |proto| {
            proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss")
        });
        Peer { address: client, secure }
    }

    /// Returns the host the client requested, if a trusted proxy forwarded it.
    pub(crate) fn forwarded_host<'a>(&self, peer: Option<Peer>, headers: &'a HeaderMap) -> Option<&'a str> {
        let Hops { trusted, .. } = self.hops(canonical(peer?.address), headers);
        said_by(trusted, headers, &X_FORWARDED_HOST)
    }

    /// Follows the hops from the right, where each proxy appends its peer, as far as they are trusted.
    fn hops(&self, peer: SocketAddr, headers: &HeaderMap) -> Hops {
        let mut hops = Hops { client: peer, trusted: 0 };
        if !self.trusts(peer.ip()) {
            return hops;
        }
        hops.trusted = 1;
        for hop in from_the_right(headers, &X_FORWARDED_FOR) {
            // A malformed entry cannot come from a proxy that should be trusted further.
            let Some(address) = std::str::from_utf8(hop).ok().and_then(|hop| parse_hop(hop.trim())) else {
                break;
            };
            hops.client = canonical(address);
            if !self.trusts(hops.client.ip()) {
                break;
            }
            hops.trusted += 1;
        }
        hops
    }
}

/// Hops of a request to this server.
struct Hops {
    client: SocketAddr,
    /// Consecutive trusted proxies, counted from this server
    trusted: usize,
}

/// Returns the entries of a list header, last added first.
///
/// As bytes: malformed client input on the left must not affect what a proxy appended.
fn from_the_right<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lists = headers.get_all(name).into_iter().rev();
    lists.flat_map(|list| list.as_bytes().rsplit(|&byte| byte == b','))
}

/// Returns the outermost trusted proxy's entry of a header that proxies append to or overwrite.
///
/// Entries beyond the number of trusted proxies came from the client. A malformed entry ends the search at the entry
/// before, as in `X-Forwarded-For`.
fn said_by<'a>(trusted: usize, headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let values = from_the_right(headers, name).take(trusted);
    let readable = values.map_while(|value| std::str::from_utf8(value).ok());
    readable.map(str::trim).take_while(|value| !value.is_empty()).last()
}

/// Parses an address; without a port, the port is 0.
fn parse_hop(hop: &str) -> Option<SocketAddr> {
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0))
}

/// Unmaps IPv4-mapped IPv6 addresses.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn resolve(trusted: &[&str], peer: &str, headers: &[(&'static str, &str)]) -> Peer {
        let networks = trusted.iter().map(|text| {
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).expect("a network")
        });
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let peer = Peer { address: SocketAddr::new(peer.parse().expect("an address"), 9), secure: false };
        TrustedProxies::new(networks).resolve(peer, &map)
    }

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let headers: Vec<_> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
        resolve(trusted, peer, &headers).address.ip().to_string()
    }

    #[test]
    fn ignores_header_of_untrusted_peer() {
        assert_eq!(client(&[], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client(&["10.0.0.0/8"], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        let peer = resolve(&["10.0.0.0/8"], "192.0.2.1", &[("x-forwarded-proto", "https")]);
        assert!(!peer.secure);
    }

    #[test]
    fn reads_list_right_to_left() {
        let trusted = &["10.0.0.0/8", "2001:db8::1"];
        for (peer, forwarded, expected) in [
            ("10.0.0.1", &["198.51.100.7"][..], "198.51.100.7"),
            // The client's own entries are left of what the first proxy appended.
            ("10.0.0.1", &["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1,198.51.100.7, 10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.7", "10.9.9.9,10.9.9.8"], "198.51.100.7"),
            ("2001:db8::1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("10.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            // All hops are trusted: the first of them is the client.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // Without a list only the proxy is known.
            ("10.0.0.1", &[], "10.0.0.1"),
        ] {
            assert_eq!(client(trusted, peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn unparsable_hop_ends_search() {
        let trusted = &["10.0.0.0/8"];
        for unreadable in ["unknown", "", "_hidden", "256.1.1.1", "10.0.0.2 10.0.0.3", "é"] {
            assert_eq!(client(trusted, "10.0.0.1", &[unreadable]), "10.0.0.1", "{unreadable:?}");
            let list = format!("1.1.1.1, {unreadable}, 10.0.0.2");
            assert_eq!(client(trusted, "10.0.0.1", &[&list]), "10.0.0.2", "{unreadable:?}");
        }
    }

    #[test]
    fn skips_only_trusted_hops_for_scheme() {
        for (forwarded, proto, secure) in [
            (None, "https", true),
            (None, "WSS", true),
            (None, "http", false),
            // One trusted hop: earlier entries came from the client.
            (None, "https, http", false),
            (Some("198.51.100.7"), "https, http", false),
            // The outer of two trusted proxies terminates TLS, and both append.
            (Some("198.51.100.7, 10.0.0.2"), "https, http", true),
            (Some("198.51.100.7, 10.0.0.2"), "http, https", false),
            (Some("198.51.100.7, 10.0.0.2"), "https, http, http", false),
            // The inner one keeps what the outer one set.
            (Some("198.51.100.7, 10.0.0.2"), "https", true),
            (Some("10.0.0.2, 192.0.2.1"), "https, http", false),
            (Some("198.51.100.7, 10.0.0.2"), "https, ", false),
        ] {
            let mut headers = vec![("x-forwarded-proto", proto)];
            headers.extend(forwarded.map(|forwarded| ("x-forwarded-for", forwarded)));
            let peer = resolve(&["10.0.0.0/8"], "10.0.0.1", &headers);
            assert_eq!(peer.secure, secure, "{forwarded:?} {proto}");
        }
    }

    #[test]
    fn skips_only_trusted_hops_for_host() {
        let host = |peer: &str, forwarded: &str, hosts: &[&'static str]| {
            let mut map = HeaderMap::new();
            map.append("x-forwarded-for", HeaderValue::from_str(forwarded).expect("a value"));
            for host in hosts {
                map.append("x-forwarded-host", HeaderValue::from_static(host));
            }
            let peer = Peer { address: SocketAddr::new(peer.parse().expect("an address"), 9), secure: false };
            let trusted = TrustedProxies::new(["10.0.0.0/8".parse::<IpNet>().expect("a network")]);
            trusted.forwarded_host(Some(peer), &map).map(str::to_owned)
        };
        let two = "198.51.100.7, 10.0.0.2";
        assert_eq!(host("10.0.0.1", two, &["chat.example, inner"]).as_deref(), Some("chat.example"));
        assert_eq!(host("10.0.0.1", two, &["chat.example", "inner"]).as_deref(), Some("chat.example"));
        assert_eq!(host("10.0.0.1", two, &["evil, chat.example, inner"]).as_deref(), Some("chat.example"));
        assert_eq!(host("10.0.0.1", two, &["chat.example"]).as_deref(), Some("chat.example"));
        assert_eq!(
            host("10.0.0.1", "198.51.100.7", &["evil, chat.example"]).as_deref(),
            Some("chat.example")
        );
        assert_eq!(host("192.0.2.1", two, &["chat.example"]), None);
        assert_eq!(host("10.0.0.1", two, &[]), None);
    }

    #[test]
    fn parses_long_list_in_linear_time() {
        let list = vec!["10.0.0.2"; 100_000].join(",");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &[&list]), "10.0.0.2");
    }
}
