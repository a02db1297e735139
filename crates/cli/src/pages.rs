//! Demo page, embedded in the binary.

use roomcast::Bytes;
use roomcast::http::ResponseBody;
use roomcast::http::{HeaderValue, Method, Request, Response, StatusCode, header};

/// Content-Security-Policy: connections only to this server, no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves the files of the demo page.
pub(crate) fn answer(request: &Request<()>) -> Response<ResponseBody> {
    let (kind, text) = match request.uri().path() {
        "/" | "/index.html" => ("text/html; charset=utf-8", include_str!("../demo/index.html")),
        "/style.css" => ("text/css; charset=utf-8", include_str!("../demo/style.css")),
        "/demo.js" => ("text/javascript; charset=utf-8", include_str!("../demo/demo.js")),
        "/client.js" => ("text/javascript; charset=utf-8", include_str!("../demo/client.js")),
        _ => return plain(StatusCode::NOT_FOUND, "There is nothing here. The demo page is at /\n"),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "This can only be read.\n");
    }
    let mut response = Response::new(ResponseBody::from(Bytes::from_static(text.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
