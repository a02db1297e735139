//! Handshake in the JSON form that Node servers exchange

use std::time::{Duration, SystemTime};

use bytestring::ByteString;
use jiff::Timestamp;
use jiff::tz::Offset;
use roomcast_plain::SUBPROTOCOL;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::web::handshake::Handshake;

/// Subprotocol that precedes a client's token
pub(crate) const BEARER: &str = "bearer";

impl Handshake {
    /// Returns whether the request had an `Origin`, so came from a page.
    pub fn is_xdomain(&self) -> bool {
        self.headers().any(|(name, value)| name == "origin" && !value.is_empty())
    }

    /// Returns when the session began, formatted as a JavaScript date in UTC.
    pub fn time(&self) -> String {
        js_date(self.since_1970().as_secs())
    }

    /// Returns the fields of Node's `socket.handshake` as JSON text; `auth` is JSON text itself.
    pub(crate) fn to_json(&self, auth: &str) -> String {
        #[derive(Serialize)]
        struct Described<'a> {
            headers: Map<String, Value>,
            time: String,
            address: String,
            xdomain: bool,
            secure: bool,
            issued: u64,
            url: &'a str,
            query: Map<String, Value>,
            auth: Option<Box<RawValue>>,
        }
        let described = Described {
            headers: self.headers_joined(),
            time: self.time(),
            address: self.address().map(|address| address.ip().to_string()).unwrap_or_default(),
            xdomain: self.is_xdomain(),
            secure: self.is_secure(),
            issued: u64::try_from(self.since_1970().as_millis()).unwrap_or(u64::MAX),
            url: self.uri(),
            query: self.query_listed(),
            auth: RawValue::from_string(auth.to_owned()).ok(),
        };
        // Text-keyed maps and text always serialise.
        serde_json::to_string(&described).unwrap_or_else(|_| "{}".into())
    }

    /// Returns the credentials of a plain WebSocket client as a JSON object, or an empty string.
    ///
    /// They are its query parameters and a token offered as a subprotocol, since browsers cannot set headers.
    pub(crate) fn plain_auth(&self) -> ByteString {
        let mut shown = self.query_listed();
        if let Some(token) = self.bearer_token() {
            shown.insert("token".to_owned(), token.into());
        }
        // A text-keyed map of text always serialises.
        if shown.is_empty() { ByteString::new() } else { Value::Object(shown).to_string().into() }
    }

    /// Returns the subprotocol offered behind `bearer`.
    fn bearer_token(&self) -> Option<String> {
        let offered = self.headers().filter(|(name, _)| *name == "sec-websocket-protocol");
        let mut offered = offered.filter_map(|(_, value)| std::str::from_utf8(value).ok());
        let is_behind_bearer = |list: &str| {
            let mut names = list.split(',').map(str::trim);
            names.find(|name| *name == BEARER)?;
            names.next().filter(|token| !token.is_empty() && *token != SUBPROTOCOL).map(str::to_owned)
        };
        offered.find_map(is_behind_bearer)
    }

    /// Returns the headers as Node's HTTP library has them: text, with repeated names joined.
    fn headers_joined(&self) -> Map<String, Value> {
        let mut headers = Map::new();
        for (name, value) in self.headers() {
            // There, non-ASCII bytes are Latin-1.
            let text: String = match std::str::from_utf8(value) {
                Ok(text) if text.is_ascii() => text.to_owned(),
                _ => value.iter().map(|&byte| char::from(byte)).collect(),
            };
            match headers.get_mut(name) {
                Some(Value::String(before)) => {
                    before.push_str(if name == "cookie" { "; " } else { ", " });
                    before.push_str(&text);
                }
                _ => _ = headers.insert(name.to_owned(), text.into()),
            }
        }
        headers
    }

    /// Returns the query parameters as Node has them: text, or a list for repeated names.
    fn query_listed(&self) -> Map<String, Value> {
        let mut query = Map::new();
        for (name, value) in self.query() {
            match query.get_mut(&name) {
                Some(Value::Array(list)) => list.push(value.into()),
                Some(one) => *one = Value::Array(vec![one.take(), value.into()]),
                None => _ = query.insert(name, value.into()),
            }
        }
        query
    }

    fn since_1970(&self) -> Duration {
        self.issued().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// Formats a date such as `Mon Nov 23 2026 15:51:35 GMT+0000 (Coordinated Universal Time)`.
fn js_date(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    // jiff's dates end with the year 9999.
    let at = Offset::UTC.to_datetime(at.unwrap_or(Timestamp::MAX));
    at.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)").to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_dates_like_javascript() {
        // Output of `new Date(ms) + ""` on Node with TZ=UTC.
        for (seconds, text) in [
            (0, "Thu Jan 01 1970 00:00:00"),
            (68_169_600, "Tue Feb 29 1972 00:00:00"),
            (951_827_696, "Tue Feb 29 2000 12:34:56"),
            (1_795_449_095, "Mon Nov 23 2026 15:51:35"),
            (4_107_542_400, "Mon Mar 01 2100 00:00:00"),
            (13_574_649_599, "Tue Feb 29 2400 23:59:59"),
        ] {
            assert_eq!(js_date(seconds), format!("{text} GMT+0000 (Coordinated Universal Time)"));
        }
    }

    #[test]
    fn describes_handshake_like_node() {
        let request = http::Request::get("/socket.io/?EIO=4&tag=a&tag=b%20c&tag=d")
            .header("Origin", "http://page.example")
            .header("Cookie", "a=1")
            .header("Cookie", "b=2")
            .header("X-Name", &b"caf\xe9"[..])
            .header("X-Twice", "1")
            .header("X-Twice", "2")
            .body(())
            .expect("a valid request");
        let address = "127.0.0.1:4321".parse().expect("an address");
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(951_827_696_789);
        let handshake =
            Handshake::new(&Default::default(), &request.into_parts().0, Some(address), true, time);
        let described: Value = serde_json::from_str(&handshake.to_json(r#"{"token":"t"}"#)).expect("JSON");
        let expected = json!({
            "headers": { "origin": "http://page.example", "cookie": "a=1; b=2", "x-name": "café", "x-twice": "1, 2" },
            "time": "Tue Feb 29 2000 12:34:56 GMT+0000 (Coordinated Universal Time)",
            "address": "127.0.0.1",
            "xdomain": true,
            "secure": true,
            "issued": 951_827_696_789_u64,
            "url": "/socket.io/?EIO=4&tag=a&tag=b%20c&tag=d",
            "query": { "EIO": "4", "tag": ["a", "b c", "d"] },
            "auth": { "token": "t" },
        });
        assert_eq!(described, expected);
        // As the peer server reads it.
        let read: crate::rooms::RemoteHandshake = serde_json::from_value(expected).expect("a handshake");
        assert_eq!((read.header("cookie"), read.query_value("EIO")), (Some("a=1; b=2"), Some("4")));
    }
}
