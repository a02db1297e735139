//! Head of an HTTP request, as far as a load balancer needs it.

use std::net::IpAddr;

/// Head of an HTTP request.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    head: &'a str,
    query: &'a str,
    is_upgrade: bool,
}

impl<'a> RequestHead<'a> {
    /// Parses a head, with the empty line at its end; `None` if it is invalid.
    pub(crate) fn parse(head: &'a str) -> Option<Self> {
        let (line, _) = head.split_once("\r\n")?;
        let target = line.split(' ').nth(1)?;
        let query = target.split_once('?').map_or("", |(_, query)| query);
        Some(Self { head, query, is_upgrade: field(head, "upgrade").is_some() })
    }

    /// Returns the Engine.IO session of the request.
    pub(crate) fn session(&self) -> Option<&'a str> {
        self.parameter("sid")
    }

    /// Returns whether the answer opens a session that continues on other connections.
    pub(crate) fn opens_session(&self) -> bool {
        self.session().is_none() && self.parameter("transport") == Some("polling")
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Returns the head for the server: one request for each connection, with the address of the client.
    pub(crate) fn forwarded(&self, client: IpAddr) -> String {
        let replaced = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            !name.eq_ignore_ascii_case("x-forwarded-for")
                && (self.is_upgrade || !name.eq_ignore_ascii_case("connection"))
        };
        let mut lines: Vec<_> = self.head.trim_end().split("\r\n").filter(replaced).collect();
        let client = format!("X-Forwarded-For: {client}");
        lines.push(&client);
        if !self.is_upgrade {
            lines.push("Connection: close");
        }
        lines.join("\r\n") + "\r\n\r\n"
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Returns the session that an answer opens, once its packet has arrived.
pub(crate) fn opened_session(answer: &[u8]) -> Option<String> {
    let answer = String::from_utf8_lossy(answer);
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let (_, rest) = body.split_once("\"sid\":\"")?;
    rest.split_once('"').map(|(session, _)| session.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn finds_session_of_request() {
        let parse = |target: &str| {
            let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let request = RequestHead::parse(&head).unwrap();
            (request.session().map(str::to_owned), request.opens_session())
        };
        assert_eq!(parse("/"), (None, false));
        assert_eq!(parse("/socket.io/?EIO=4&transport=polling"), (None, true));
        assert_eq!(parse("/socket.io/?EIO=4&transport=websocket"), (None, false));
        assert_eq!(parse("/socket.io/?EIO=4&transport=polling&sid=a_-1"), (Some("a_-1".into()), false));
        assert!(RequestHead::parse("nonsense").is_none());
    }

    #[test]
    fn closes_connection_after_request_but_not_upgrade() {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let forwarded = |head: &str| RequestHead::parse(head).unwrap().forwarded(client);
        assert_eq!(
            forwarded(
                "GET / HTTP/1.1\r\nHost: a\r\nconnection: keep-alive\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"
            ),
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            forwarded("GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
            "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n"
        );
    }

    #[test]
    fn finds_opened_session() {
        let answer = b"HTTP/1.1 200 OK\r\n\r\n0{\"sid\":\"abc\",\"upgrades\":[]}";
        assert_eq!(opened_session(answer), Some("abc".into()));
        assert_eq!(opened_session(&answer[..30]), None);
        assert_eq!(opened_session(b"HTTP/1.1 503\r\n\r\nno room"), None);
    }
}
