//! HTTP/1.1 request checks that the HTTP library does not make

use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use roomcast_core::Rejection;
use roomcast_transport_ws::handshake::has_host;

/// Rejects requests that a proxy could interpret differently (request smuggling).
///
/// # Errors
/// Returns the rejection; the connection is closed after it.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Rejection> {
    if request.version() >= Version::HTTP_11 && !has_host(request.headers()) {
        const TEXT: &str = "Exactly one Host header is required, with a host and perhaps a port.\n";
        return Err(closing(StatusCode::BAD_REQUEST, TEXT));
    }
    if has_coding_besides_chunked(request.headers()) {
        const TEXT: &str = "The only transfer coding that is understood here is chunked.\n";
        return Err(closing(StatusCode::NOT_IMPLEMENTED, TEXT));
    }
    Ok(())
}

/// Returns whether a transfer coding besides chunked is applied (RFC 9112 section 6.1).
fn has_coding_besides_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    let is_chunked = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    first.is_some_and(|first| !is_chunked(first) || codings.next().is_some())
}

fn closing(status: StatusCode, text: &'static str) -> Rejection {
    Rejection::new(status, text).header(CONNECTION, HeaderValue::from_static("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::get("/").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).expect("a request")).err().map(|rejection| rejection.status.as_u16())
    }

    #[test]
    fn cve_2026_61666_requires_one_valid_host() {
        let of = |headers: &[(&str, &str)]| status(Version::HTTP_11, headers);
        for host in ["a", "a.example:80", "[::1]:3000", "127.0.0.1"] {
            assert_eq!(of(&[("host", host)]), None, "{host}");
        }
        for host in ["", "[", "a b", "user@a", "a:b"] {
            assert_eq!(of(&[("host", host)]), Some(400), "{host}");
        }
        assert_eq!(of(&[]), Some(400));
        assert_eq!(of(&[("host", "a"), ("host", "a")]), Some(400));
        assert_eq!(status(Version::HTTP_10, &[]), None, "the older version needs none");
    }

    #[test]
    fn rejects_unsupported_transfer_coding() {
        let of = |codings: &[&str]| {
            let codings = codings.iter().map(|coding| ("transfer-encoding", *coding));
            status(Version::HTTP_11, &[("host", "a")].into_iter().chain(codings).collect::<Vec<_>>())
        };
        assert_eq!(of(&["chunked"]), None);
        assert_eq!(of(&["Chunked"]), None);
        for codings in
            [["gzip, chunked"].as_slice(), &["identity", "chunked"], &["chunked", "chunked"], &[""]]
        {
            assert_eq!(of(codings), Some(501), "{codings:?}");
        }
    }
}
