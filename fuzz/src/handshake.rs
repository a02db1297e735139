//! WebSocket opening handshake.

use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use roomcast_core::Rejection;
use roomcast_transport_ws::handshake::{check, response};

/// A request is rejected with a client error, or answered with a valid 101 response.
///
/// The lines are a method, a digit that selects the version, then headers. The line `!` inserts the headers of a valid
/// request.
pub fn handshake(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let method = lines.next().and_then(|method| Method::from_bytes(method).ok()).unwrap_or_default();
    let version = match lines.next() {
        Some(b"0") => Version::HTTP_10,
        Some(b"2") => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.version_mut() = version;
    for line in lines {
        if line == b"!" {
            for (name, value) in LAWFUL {
                request.headers_mut().append(name, HeaderValue::from_static(value));
            }
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            request.headers_mut().append(name, value);
        }
    }
    match check(&request.into_parts().0) {
        Ok(accepted) => {
            assert_eq!(accepted.accept_key.len(), 28, "base64 of a SHA-1");
            let chosen = accepted.protocols.last().cloned();
            let answer = response(&accepted, chosen.as_deref());
            assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(answer.headers()[SEC_WEBSOCKET_ACCEPT], accepted.accept_key);
            assert_eq!(answer.headers().get(SEC_WEBSOCKET_PROTOCOL).is_some(), chosen.is_some());
            let unasked = response(&accepted, Some("never offered"));
            assert!(!unasked.headers().contains_key(SEC_WEBSOCKET_PROTOCOL));
        }
        Err(refused) => {
            let rejection = Rejection::from(refused);
            assert!(
                rejection.status.is_client_error()
                    || rejection.status == StatusCode::HTTP_VERSION_NOT_SUPPORTED
            );
        }
    }
}

const LAWFUL: [(&str, &str); 5] = [
    ("host", "example.com"),
    ("upgrade", "websocket"),
    ("connection", "keep-alive, Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
