//! HTTP requests to a server with every kind of endpoint.

use std::time::Duration;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use roomcast_server::http::Cors;
use roomcast_server::transport::Endpoint;
use roomcast_server::{Args, Config, Io, Socket};
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

/// Every request is answered without a server error, and no session remains.
///
/// Requests are separated by `---` lines. Each is a line `METHOD target`, headers, an empty line, and a body. `$` in a
/// target represents the id of the last opened session.
pub fn requests(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime of one thread");
    runtime.block_on(play(data));
}

async fn play(data: &[u8]) {
    let io = server();
    let mut service = io.service();
    let mut sid = String::from("none");
    let mut waiting = Vec::new();
    for text in parts(data).take(REQUESTS) {
        let Some(request) = request(text, &sid) else { continue };
        // Upgrades cannot work here, because the service is mounted without them. A method that a session does not know
        // is answered with 500, as on Node.
        let odd = request.headers().contains_key(UPGRADE)
            || ![Method::GET, Method::POST, Method::OPTIONS].contains(request.method());
        let mut answer = tokio::spawn(service.call(request));
        // An exchange without a response waits for an outgoing message.
        match timeout(Duration::from_millis(10), &mut answer).await {
            Ok(response) => {
                let response = response.expect("no panic").expect("the service is infallible");
                if !odd && let Some(opened) = hold(response).await {
                    sid = opened;
                }
            }
            Err(_) => waiting.push(answer),
        }
    }
    // Longer than all timeouts that a client could wait for.
    sleep(Duration::from_secs(300)).await;
    for answer in waiting {
        hold(answer.await.expect("no panic").expect("the service is infallible")).await;
    }
    let metrics = io.metrics();
    assert_eq!(metrics.sessions_opened(), metrics.sessions_closed(), "a session remains");
    assert_eq!(metrics.handlers_panicked(), 0);
}

fn server() -> Io {
    let io = Io::builder()
        .config(
            Config::new()
                .limits(|limits| limits.max_payload(1000).max_sessions(3))
                .http(|http| http.cors(Cors::any())),
        )
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::engine_io("/engine"))
        .endpoint(Endpoint::plain("/plain").in_namespace("/plain"))
        .build();
    for namespace in ["/", "/engine", "/plain"] {
        io.of(namespace).on("message", async |socket: Socket, args: Args| {
            let _ = socket.emit("message", args);
        });
    }
    io
}

fn parts(data: &[u8]) -> impl Iterator<Item = &str> {
    str::from_utf8(data).unwrap_or_default().split("---\n")
}

fn request(text: &str, sid: &str) -> Option<Request<Full<Bytes>>> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = target.replace('$', sid).parse::<Uri>().ok()?;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().append(name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?);
    }
    Some(request)
}

/// Checks the properties of all responses; returns the id of the session that the response opens.
async fn hold<B: http_body::Body<Data = Bytes> + Unpin>(response: Response<B>) -> Option<String> {
    let status = response.status();
    // The session limit is reported as 503.
    assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
    let body = response.into_body().collect().await.ok()?.to_bytes();
    let text = str::from_utf8(&body).ok()?;
    let (_, rest) = text.split_once(r#"{"sid":""#)?;
    rest.split_once('"').map(|(sid, _)| sid.to_owned())
}

/// More requests find no more bugs and take longer.
const REQUESTS: usize = 20;
