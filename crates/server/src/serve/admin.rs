//! Admin endpoint on a separate address

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use roomcast_core::{ClusterStatus, ResponseBody};
use roomcast_transport_ws::handshake::has_host;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::app::model::io::Io;
use crate::serve::descriptors::report_failure_to_client;
use crate::serve::exposition;
use crate::serve::probe::probe;

/// Maximum connections; a further one closes the oldest
const MAX_CONNECTIONS: usize = 16;
/// Lifetime of a connection, including its request and response
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin endpoint and runs the latency probe; never returns.
///
/// A connection carries one request, so a silent or slow peer cannot hold its place.
///
/// # Cancel safety
/// Everything this started ends with it.
pub(crate) async fn serve(io: Io, listener: TcpListener) {
    let mut tasks = JoinSet::new();
    tasks.spawn(probe(io.clone()));
    let any_host = listener.local_addr().is_ok_and(|address| !address.ip().is_loopback());
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.retain(|connection| !connection.is_finished());
                if connections.len() >= MAX_CONNECTIONS
                    && let Some(oldest) = connections.pop_front()
                {
                    oldest.abort();
                }
                connections.push_back(tasks.spawn(serve_connection(io.clone(), stream, any_host)));
            }
            Err(error) => {
                report_failure_to_client(&io, &error, "cannot accept a connection of the admin listener");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

async fn serve_connection(io: Io, stream: TcpStream, any_host: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let io = io.clone();
        async move {
            Ok::<_, Infallible>(match check_host(request.headers(), any_host) {
                Ok(()) => answer(&io, request.method(), request.uri().path()).await,
                Err((status, text)) => plain(status, text),
            })
        }
    });
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // A peer that disconnects or does not read misses the response.
    let _ = tokio::time::timeout(TIMEOUT, connection).await;
}

/// Rejects requests whose `Host` does not name this server.
///
/// A web page can make its own name resolve to a loopback address (DNS rebinding) and read responses not meant for it.
/// At loopback addresses only the server's own names are accepted.
fn check_host(headers: &HeaderMap, any_host: bool) -> Result<(), (StatusCode, &'static str)> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_local = host.and_then(|host| host.parse::<Authority>().ok()).is_some_and(|host| {
        let name = host.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost") || address.is_ok()
    });
    if !has_host(headers) {
        return Err((StatusCode::BAD_REQUEST, "Exactly one Host header is required.\n"));
    }
    if any_host || is_local {
        return Ok(());
    }
    const TEXT: &str = "Name this address by its number or as localhost; for other names let the admin endpoint \
                        listen on an address that is not loopback.\n";
    Err((StatusCode::FORBIDDEN, TEXT))
}

async fn answer(io: &Io, method: &Method, path: &str) -> Response<ResponseBody> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "This can only be read.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/live" => plain(StatusCode::OK, "live\n"),
        "/ready" => ready(io),
        "/metrics" => {
            let mut response = plain(StatusCode::OK, io.openmetrics().await);
            let kind = HeaderValue::from_static(exposition::CONTENT_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "There are /live, /ready and /metrics.\n"),
    }
}

/// Answers whether the server accepts clients, with the state of its cluster.
fn ready(io: &Io) -> Response<ResponseBody> {
    let cluster = io.cluster_status();
    let cluster_line = cluster.map_or_else(String::new, |status| format!("cluster {}\n", status.as_str()));
    match io.is_ready() {
        true => plain(StatusCode::OK, format!("ready\n{cluster_line}")),
        false if cluster == Some(ClusterStatus::Joining) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, "joining cluster\n")
        }
        false => plain(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_answers_to_its_own_names() {
        let status = |hosts: &[&str], any_host| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_str(host).expect("a value"));
            }
            check_host(&headers, any_host).err().map(|(status, _)| status.as_u16())
        };
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464", "10.0.0.1"] {
            assert_eq!(status(&[host], false), None, "{host}");
        }
        for host in ["evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example"]
        {
            assert_eq!(status(&[host], false), Some(403), "{host}");
            assert_eq!(status(&[host], true), None, "{host}");
        }
        for hosts in [&[][..], &["localhost", "localhost"], &["a b"]] {
            assert_eq!(status(hosts, true), Some(400), "{hosts:?}");
        }
    }
}
