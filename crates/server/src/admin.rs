//! Questions about the server, asked on an address of their own

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use roomcast_core::ResponseBody;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::exposition;
use crate::io::Io;
use crate::probe::probe;
use crate::serve::accept::tell_of_failure;

/// Connections at a time; whoever comes then waits
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may take over a request, and stay without one
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when no connection can be accepted
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers, and probes how long frames wait, for ever
///
/// Cancel safe in that everything it began ends with it.
pub(crate) async fn serve(io: Io, listener: TcpListener) {
    let mut tasks = JoinSet::new();
    tasks.spawn(probe(io.clone()));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed, so there is always a place some day.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let io = io.clone();
                tasks.spawn(async move {
                    serve_connection(io, stream).await;
                    drop(place);
                });
            }
            Err(error) => {
                tell_of_failure(&io, &error, "cannot accept a connection of the admin listener");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn serve_connection(io: Io, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let io = io.clone();
        async move { Ok::<_, Infallible>(answer(&io, request.method(), request.uri().path()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever asks and goes away misses the answer.
    let _ = connection.await;
}

async fn answer(io: &Io, method: &Method, path: &str) -> Response<ResponseBody> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "This can only be read.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/live" => plain(StatusCode::OK, "live\n"),
        "/ready" if io.is_ready() => plain(StatusCode::OK, "ready\n"),
        "/ready" => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/metrics" => {
            let mut response = plain(StatusCode::OK, io.openmetrics().await);
            let kind = HeaderValue::from_static(exposition::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "There are /live, /ready and /metrics.\n"),
    }
}

fn plain(status: StatusCode, text: impl Into<ResponseBody>) -> Response<ResponseBody> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
