//! Demo page, embedded in the binary.

use std::net::SocketAddr;
use std::sync::OnceLock;

use roomcast::http::ResponseBody;
use roomcast::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use roomcast::{Bytes, json};

/// Content-Security-Policy: connections only to this server, no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The demo page and what it shows about the server.
#[derive(Debug)]
pub(crate) struct Pages {
    /// The official browser client is served.
    has_client: bool,
    /// Address of the admin endpoint, once it is bound.
    admin: OnceLock<SocketAddr>,
}

impl Pages {
    pub(crate) fn new(has_client: bool) -> Self {
        Self { has_client, admin: OnceLock::new() }
    }

    /// Sets the address of the admin endpoint.
    pub(crate) fn bound(&self, admin: SocketAddr) {
        self.admin.get_or_init(|| admin);
    }

    /// Serves the files of the demo page.
    pub(crate) fn answer(&self, request: &Request<()>) -> Response<ResponseBody> {
        let (kind, text) = match request.uri().path() {
            "/" | "/index.html" => ("text/html; charset=utf-8", include_str!("../demo/index.html")),
            "/style.css" => ("text/css; charset=utf-8", include_str!("../demo/style.css")),
            "/demo.js" => ("text/javascript; charset=utf-8", include_str!("../demo/demo.js")),
            "/client.js" => ("text/javascript; charset=utf-8", include_str!("../demo/client.js")),
            "/official.js" => ("text/javascript; charset=utf-8", include_str!("../demo/official.js")),
            "/about.json" => ("application/json", ""),
            _ => return plain(StatusCode::NOT_FOUND, "There is nothing here. The demo page is at /\n"),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "This can only be read.\n");
        }
        let bytes = if text.is_empty() { self.about(request) } else { Bytes::from_static(text.as_bytes()) };
        let mut response = Response::new(ResponseBody::from(bytes));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        response
    }

    fn about(&self, request: &Request<()>) -> Bytes {
        // The admin endpoint has no authentication, so only pages of this machine link to it.
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let is_local = host.is_some_and(|host| {
            let name =
                host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(name, _)| name);
            matches!(name, "localhost" | "127.0.0.1" | "[::1]")
        });
        let metrics_port = self.admin.get().filter(|_| is_local).map(SocketAddr::port);
        let source = Some(env!("CARGO_PKG_REPOSITORY")).filter(|url| !url.is_empty());
        // A package is published together with its documentation.
        let docs = source.map(|_| concat!("https://docs.rs/roomcast/", env!("CARGO_PKG_VERSION")));
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("ROOMCAST_BUILD_COMMIT"),
            "client": self.has_client,
            "metrics_port": metrics_port,
            "docs": docs,
            "source": source,
        });
        about.to_string().into()
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
