//! Listen addresses: `127.0.0.1:3000`, `localhost:3000`, `:3000`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;

/// Resolved listen address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Original text.
    text: String,
    /// Resolved addresses; the first local one is used.
    candidates: Vec<SocketAddr>,
}

impl Address {
    /// Returns the wildcard address, IPv6 and IPv4.
    pub(crate) fn any(port: u16) -> Self {
        let candidates = vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
        Self { text: format!(":{port}"), candidates }
    }

    /// Returns the IPv4 loopback address.
    pub(crate) fn loopback(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { text: address.to_string(), candidates: vec![address] }
    }

    pub(crate) fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// Returns the first address that can be bound on this machine.
    pub(crate) fn first(&self) -> SocketAddr {
        let is_here = |address: &&SocketAddr| UdpSocket::bind((address.ip(), 0)).is_ok();
        *self.candidates.iter().find(is_here).unwrap_or(&self.candidates[0])
    }

    /// Returns whether all resolved addresses are loopback addresses.
    pub(crate) fn is_loopback(&self) -> bool {
        self.candidates.iter().all(|address| address.ip().to_canonical().is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self { text: text.to_owned(), candidates: vec![address] });
        }
        let form = "expected HOST:PORT, as in 127.0.0.1:3000, localhost:3000 or [::1]:3000, or :3000 for any interface";
        let (host, port) = text.rsplit_once(':').ok_or(form)?;
        let port = port.parse().map_err(|_| form)?;
        if host.is_empty() || host == "*" {
            return Ok(Self { text: text.to_owned(), ..Self::any(port) });
        }
        // An IPv6 address needs brackets, or its last group would be taken for the port.
        if host.contains(':') {
            return Err(form.to_owned());
        }
        let found = (host, port).to_socket_addrs();
        let mut candidates: Vec<_> =
            found.map_err(|error| format!("cannot resolve {host}: {error}"))?.collect();
        // Clients that try `localhost` over IPv6 fall back to IPv4; few do the reverse.
        candidates.sort_by_key(SocketAddr::is_ipv6);
        candidates.dedup();
        if candidates.is_empty() {
            return Err(format!("{host} has no address"));
        }
        Ok(Self { text: text.to_owned(), candidates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn resolves_names_and_wildcards() {
        assert_eq!(address("127.0.0.1:3000").candidates(), [SocketAddr::from(([127, 0, 0, 1], 3000))]);
        assert_eq!(address("[::1]:3000").candidates(), [SocketAddr::from((Ipv6Addr::LOCALHOST, 3000))]);
        let localhost = address("localhost:3000");
        assert!(localhost.is_loopback() && localhost.candidates()[0].port() == 3000);
        assert_eq!(localhost.to_string(), "localhost:3000");
        assert!(localhost.first().ip().is_loopback() && address(":3000").first().ip().is_unspecified());
        for text in [":3000", "*:3000"] {
            let any = address(text);
            assert_eq!(any.candidates(), Address::any(3000).candidates());
            assert!(!any.is_loopback() && any.to_string() == text);
        }
        assert!(!address("0.0.0.0:0").is_loopback() && !address("[::]:0").is_loopback());
    }

    #[test]
    fn error_shows_expected_form() {
        for text in
            ["localhost", "3000", "::1:3000", "::1", "localhost:", "localhost:http", "localhost:65536", ""]
        {
            let error = text.parse::<Address>().expect_err(text);
            assert!(error.contains("127.0.0.1:3000"), "{text}: {error}");
        }
        assert!("no such host.invalid:1".parse::<Address>().expect_err("no host").contains("resolve"));
    }
}
