//! Opening handshake (RFC 6455 section 4.2), without I/O: validates requests and builds the 101 response.

use std::collections::HashSet;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
    },
    request::Parts,
    uri::Authority,
};
use roomcast_core::Rejection;
use thiserror::Error;
use tungstenite::handshake::derive_accept_key;

/// Validates a request that opens a WebSocket.
///
/// Runs in time linear in the size of the headers. Does not check authorization (`Origin`, cookies).
///
/// # Errors
///
/// Returns the client's error, which converts into the HTTP response that describes it.
pub fn check(request: &Parts) -> Result<Accepted, HandshakeError> {
    let headers = &request.headers;
    if request.method != Method::GET {
        return Err(HandshakeError::Method);
    }
    if request.version < Version::HTTP_11 {
        return Err(HandshakeError::HttpTooOld);
    }
    if request.version > Version::HTTP_11 {
        return Err(HandshakeError::HttpTooNew);
    }
    if !has_host(headers) {
        return Err(HandshakeError::Host);
    }
    if !lists(headers, &UPGRADE, "websocket") || !lists(headers, &CONNECTION, "upgrade") {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        return Err(HandshakeError::Version);
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(HandshakeError::Key)?;
    Ok(Accepted {
        accept_key: derive_accept_key(key.as_bytes()),
        protocols: protocols(headers)?,
        extensions: headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().cloned().collect(),
    })
}

/// Builds the 101 response that switches the connection to WebSocket.
///
/// `protocol` is the one chosen among [`Accepted::protocols`]; one that the client did not offer is omitted, as the
/// client would fail the connection.
pub fn response(accepted: &Accepted, protocol: Option<&str>) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    // Base64 and tokens are valid header values, so neither is ever omitted.
    if let Ok(key) = HeaderValue::from_str(&accepted.accept_key) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    }
    let offered = protocol.filter(|chosen| accepted.protocols.iter().any(|offered| offered == chosen));
    if let Some(Ok(protocol)) = offered.map(HeaderValue::from_str) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

/// A valid WebSocket request and its offers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// The offered subprotocols in order of preference: distinct tokens.
    pub protocols: Vec<String>,
    /// The unparsed values of `Sec-WebSocket-Extensions`: an extension absent from the response is declined.
    pub extensions: Vec<HeaderValue>,
}

/// Reason why a request does not open a WebSocket; always the client's fault.
///
/// The text states what to send instead. [`Rejection::from`] builds the whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The method is not GET.
    #[error("A WebSocket is opened with GET.\n")]
    Method,
    /// HTTP/1.0 or older, which has no upgrade.
    #[error("A WebSocket is opened with HTTP/1.1.\n")]
    HttpTooOld,
    /// HTTP/2 or newer, which opens WebSockets differently (RFC 8441).
    #[error("A WebSocket is opened with HTTP/1.1 here, not with a later version.\n")]
    HttpTooNew,
    /// `Host` is missing, repeated, or not a host and port.
    #[error("Exactly one Host header with a valid host is required.\n")]
    Host,
    /// `Upgrade: websocket` or `Connection: Upgrade` is missing.
    #[error("Upgrade: websocket and Connection: Upgrade are required; a proxy may have removed them.\n")]
    NotAnUpgrade,
    /// A version other than 13, the only one of the RFC: 8 was a draft that no current client speaks.
    #[error("Sec-WebSocket-Version: 13 is required, once.\n")]
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated, or not base64 of 16 bytes.
    #[error("Exactly one Sec-WebSocket-Key header with the base64 of 16 bytes is required.\n")]
    Key,
    /// A subprotocol is not a token or is repeated.
    #[error("Sec-WebSocket-Protocol must list tokens, each once, separated by commas.\n")]
    Protocol,
}

impl HandshakeError {
    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HttpTooNew => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::HttpTooOld | Self::Host | Self::Key | Self::Protocol => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the headers that tell a program which request to send instead.
    pub fn headers(&self) -> &'static [(HeaderName, HeaderValue)] {
        static ALLOWED: [(HeaderName, HeaderValue); 1] = [(ALLOW, HeaderValue::from_static("GET"))];
        // RFC 9110 section 15.5.22 requires Upgrade with each 426; it only counts if Connection names it.
        static UPGRADED: [(HeaderName, HeaderValue); 3] = [
            (UPGRADE, HeaderValue::from_static("websocket")),
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION)),
        ];
        match self {
            Self::Method => &ALLOWED,
            Self::NotAnUpgrade => &UPGRADED[..2],
            Self::Version => &UPGRADED,
            _ => &[],
        }
    }
}

impl From<HandshakeError> for Rejection {
    fn from(refused: HandshakeError) -> Self {
        let rejection = Self::new(refused.status(), refused.to_string());
        refused
            .headers()
            .iter()
            .fold(rejection, |rejection, (name, value)| rejection.header(name.clone(), value.clone()))
    }
}

/// Returns whether a request has exactly one well-formed host (RFC 9112 section 3.2).
pub fn has_host(headers: &HeaderMap) -> bool {
    only(headers, &HOST).is_some_and(is_host)
}

/// Returns the value of a header that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Returns whether the list of a header contains `token`, ignoring case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    elements(headers, name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// Iterates over the elements of a list, which may span several header lines.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(name).iter();
    values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii)
}

fn protocols(headers: &HeaderMap) -> Result<Vec<String>, HandshakeError> {
    let mut seen = HashSet::new();
    elements(headers, &SEC_WEBSOCKET_PROTOCOL)
        .map(|element| match str::from_utf8(element) {
            Ok(protocol) if is_token(protocol) && seen.insert(protocol) => Ok(protocol.to_owned()),
            _ => Err(HandshakeError::Protocol),
        })
        .collect()
}

fn is_token(text: &str) -> bool {
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Returns whether this is a host with an optional port (RFC 9110 section 7.2).
fn is_host(value: &HeaderValue) -> bool {
    let Ok(authority) = Authority::try_from(value.as_bytes()) else { return false };
    let (host, authority) = (authority.host(), authority.as_str());
    let Some(port) = authority.strip_prefix(host) else { return false };
    let is_port = |port: &str| {
        port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    !host.is_empty() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Returns whether this is the base64 of 16 bytes.
///
/// The unused bits of the last character are ignored: the RFC's own example sets them (section 4.1).
fn is_key(value: &HeaderValue) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    match value.as_bytes().split_last_chunk() {
        Some((digits, b"==")) => digits.len() == 22 && digits.iter().all(is_base64),
        _ => false,
    }
}

/// The version of RFC 6455.
const VERSION: &str = "13";

#[cfg(test)]
mod tests {
    use http::Request;
    use tungstenite::client::IntoClientRequest;

    use super::*;

    /// Returns the request of RFC 6455 section 1.3.
    fn example() -> Parts {
        Request::get("/chat")
            .header("Host", "server.example.com")
            .header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Origin", "http://example.com")
            .header("Sec-WebSocket-Protocol", "chat, superchat")
            .header("Sec-WebSocket-Version", "13")
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    /// Returns the result of the example with these values for a header.
    fn with(name: HeaderName, values: &[&str]) -> Result<Accepted, HandshakeError> {
        let mut request = example();
        request.headers.remove(&name);
        for value in values {
            request.headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        check(&request)
    }

    fn protocols_of(values: &[&str]) -> Result<Vec<String>, HandshakeError> {
        with(SEC_WEBSOCKET_PROTOCOL, values).map(|accepted| accepted.protocols)
    }

    #[test]
    fn answers_the_rfc_example() {
        let accepted = check(&example()).unwrap();
        assert_eq!(accepted.protocols, ["chat", "superchat"]);
        assert_eq!(accepted.extensions, [] as [HeaderValue; 0]);

        let response = response(&accepted, Some("chat"));
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers();
        assert_eq!(headers.len(), 4);
        assert_eq!(headers[UPGRADE], "websocket");
        assert_eq!(headers[CONNECTION], "Upgrade");
        assert_eq!(headers[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "chat");
    }

    #[test]
    fn answers_only_offered_protocol() {
        let accepted = check(&example()).unwrap();
        for protocol in [None, Some("other"), Some("Chat"), Some("")] {
            assert!(!response(&accepted, protocol).headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        }
    }

    #[test]
    fn accepts_request_of_tungstenite() {
        let request = "ws://[::1]:8080/path?query".into_client_request().unwrap();
        let key = request.headers()[SEC_WEBSOCKET_KEY].clone();
        let accepted = check(&request.into_parts().0).unwrap();
        assert_eq!(accepted.accept_key, derive_accept_key(key.as_bytes()));
        assert_eq!(accepted.protocols, [] as [&str; 0]);
    }

    #[test]
    fn rejects_methods_except_get() {
        for method in [Method::POST, Method::HEAD, Method::OPTIONS, Method::CONNECT] {
            let mut request = example();
            request.method = method;
            assert_eq!(check(&request), Err(HandshakeError::Method));
        }
        assert_eq!(HandshakeError::Method.status(), 405);
        assert_eq!(HandshakeError::Method.headers(), [(ALLOW, HeaderValue::from_static("GET"))]);
    }

    #[test]
    fn rejects_versions_except_http_1_1() {
        for (version, refused, status) in [
            (Version::HTTP_09, HandshakeError::HttpTooOld, 400),
            (Version::HTTP_10, HandshakeError::HttpTooOld, 400),
            (Version::HTTP_2, HandshakeError::HttpTooNew, 505),
            (Version::HTTP_3, HandshakeError::HttpTooNew, 505),
        ] {
            let mut request = example();
            request.version = version;
            assert_eq!(check(&request), Err(refused));
            assert_eq!(refused.status(), status);
        }
    }

    #[test]
    fn finds_tokens_in_any_case() {
        for values in
            [["WebSocket"].as_slice(), &["h2c, websocket"], &["h2c", "WEBSOCKET"], &[" \twebsocket\t"]]
        {
            assert!(with(UPGRADE, values).is_ok(), "{values:?}");
        }
        for values in
            [["upgrade"].as_slice(), &["keep-alive, Upgrade"], &["keep-alive", "UPGRADE"], &["Upgrade,"]]
        {
            assert!(with(CONNECTION, values).is_ok(), "{values:?}");
        }
    }

    #[test]
    fn rejects_request_without_upgrade() {
        for values in [[].as_slice(), &[""], &["h2c"], &["websockets"], &["web socket"], &["webs\u{f6}cket"]]
        {
            assert_eq!(with(UPGRADE, values), Err(HandshakeError::NotAnUpgrade), "{values:?}");
        }
        for values in [[].as_slice(), &["close"], &["upgrades"], &["keep-alive; upgrade"]] {
            assert_eq!(with(CONNECTION, values), Err(HandshakeError::NotAnUpgrade), "{values:?}");
        }
        let rejection = Rejection::from(HandshakeError::NotAnUpgrade);
        assert_eq!(rejection.status, 426);
        let headers = rejection.response().headers().clone();
        assert_eq!(headers[UPGRADE], "websocket");
        assert_eq!(headers[CONNECTION], "Upgrade");
        assert!(!headers.contains_key(SEC_WEBSOCKET_VERSION));
    }

    /// Also covers CVE-2026-54466: without the header, a draft might be spoken.
    #[test]
    fn rejects_versions_except_13() {
        for values in
            [[].as_slice(), &[""], &["8"], &["0"], &["14"], &["13, 8"], &["013"], &["13", "13"], &["13", "8"]]
        {
            assert_eq!(with(SEC_WEBSOCKET_VERSION, values), Err(HandshakeError::Version), "{values:?}");
        }
        assert_eq!(HandshakeError::Version.status(), 426);
        assert!(
            HandshakeError::Version
                .headers()
                .contains(&(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")))
        );
    }

    #[test]
    fn requires_base64_key_of_16_bytes() {
        // The second is from section 4.1 and not canonical.
        for value in ["dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC==", "//////////////////////=="] {
            assert!(with(SEC_WEBSOCKET_KEY, &[value]).is_ok(), "{value}");
        }
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        for values in [
            [].as_slice(),
            &[""],
            &["=="],
            &["dGhlIHNhbXBsZSBub25jZQ"],
            &["dGhlIHNhbXBsZSBub25jZQ= "],
            &["dGhlIHNhbXBsZSBub25jZQA="],
            &["dGhlIHNhbXBsZSBub25jZ==="],
            &["dGhlIHNhbXBsZSBub25j_Q=="],
            &["dGhlIHNhbXBsZSBub25jZQAAAA=="],
            &[key, key],
        ] {
            assert_eq!(with(SEC_WEBSOCKET_KEY, values), Err(HandshakeError::Key), "{values:?}");
        }
        assert_eq!(HandshakeError::Key.status(), 400);
    }

    #[test]
    fn cve_2026_61666_malformed_host() {
        for value in ["a", "a.example:1", "a_b", "127.0.0.1:65535", "[::1]", "[::1]:80", "example.com:"] {
            assert!(with(HOST, &[value]).is_ok(), "{value}");
        }
        for values in [
            [].as_slice(),
            &[""],
            &["["],
            &["[::1"],
            &["a b"],
            &[":80"],
            &["a:b"],
            &["a:+1"],
            &["a:65536"],
            &["a:1:2"],
            &["user@a"],
            &["a/b"],
            &["\u{e4}"],
            &["a", "a"],
            &["a", "b"],
        ] {
            assert_eq!(with(HOST, values), Err(HandshakeError::Host), "{values:?}");
        }
        assert_eq!(HandshakeError::Host.status(), 400);
    }

    #[test]
    fn reads_protocols_in_preference_order() {
        assert_eq!(protocols_of(&[]).unwrap(), [] as [&str; 0]);
        assert_eq!(protocols_of(&["a"]).unwrap(), ["a"]);
        assert_eq!(
            protocols_of(&["b ,\ta", "v1.!#$%&'*+-.^_`|~"]).unwrap(),
            ["b", "a", "v1.!#$%&'*+-.^_`|~"]
        );
        assert_eq!(protocols_of(&["a, A"]).unwrap(), ["a", "A"]);
    }

    #[test]
    fn malformed_or_repeated_protocols_are_refused() {
        for values in [
            [""].as_slice(),
            &["a,"],
            &[",a"],
            &["a,,b"],
            &["a b"],
            &["a;b"],
            &["\"a\""],
            &["\u{e4}"],
            &["a, a"],
            &["a", "a"],
        ] {
            assert_eq!(protocols_of(values), Err(HandshakeError::Protocol), "{values:?}");
        }
        assert_eq!(HandshakeError::Protocol.status(), 400);
    }

    #[test]
    fn cve_2021_32640_parses_protocols_linearly() {
        // With quadratic parsing these sizes would keep the test from ending.
        let spaces = " ".repeat(4 << 20);
        assert_eq!(protocols_of(&[&format!("b{spaces}x")]), Err(HandshakeError::Protocol));
        assert_eq!(protocols_of(&[&format!("b{spaces},{spaces}x")]).unwrap(), ["b", "x"]);
        let many: Vec<String> = (0..200_000).map(|at| format!("p{at}")).collect();
        assert_eq!(protocols_of(&[&many.join(",")]).unwrap(), many);
    }

    /// Also covers CVE-2020-7662 and CVE-2020-7663, whose parser took exponential time.
    #[test]
    fn ghsa_5v72_xg48_5rpm_ignores_extensions() {
        let unclosed = format!("a;b=\"{}", "\\c".repeat(15_000));
        for value in [
            "constructor",
            ",;constructor",
            "__proto__; toString=1",
            "",
            &unclosed,
            "permessage-deflate; x=\u{e4}",
        ] {
            let accepted = with(SEC_WEBSOCKET_EXTENSIONS, &[value]).unwrap();
            assert_eq!(accepted.extensions, [HeaderValue::from_bytes(value.as_bytes()).unwrap()]);
            assert!(!response(&accepted, None).headers().contains_key(SEC_WEBSOCKET_EXTENSIONS));
        }
    }

    #[test]
    fn cve_2024_37890_reads_all_headers() {
        let mut request = example();
        let mut headers = HeaderMap::new();
        for at in 0..2500 {
            headers.append(
                HeaderName::from_bytes(format!("h{at}").as_bytes()).unwrap(),
                HeaderValue::from_static("x"),
            );
        }
        headers.extend(request.headers);
        request.headers = headers;
        assert!(check(&request).is_ok());
        request.headers.remove(UPGRADE);
        assert_eq!(check(&request), Err(HandshakeError::NotAnUpgrade));
    }

    #[test]
    fn each_rejection_names_the_fix() {
        let rejection = Rejection::from(HandshakeError::Version);
        assert!(rejection.text.contains("Sec-WebSocket-Version: 13"));
        assert_eq!(rejection.headers.len(), 3);
        assert!(!rejection.fatal);
    }
}
