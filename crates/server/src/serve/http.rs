//! HTTP connection: its deadlines and rejections

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use roomcast_core::{BoxError, ResponseBody};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use super::rules;
use super::server::Server;
use crate::app::model::io::Io;
use crate::host::lifecycle::Phase;
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::limits::{ConnectionPermit, OpenedOn};
use crate::ingress::repeat::RepeatedPoll;
use crate::ingress::{RETRY_AFTER, answer, panicked};
use crate::serve::proxy_protocol::{self, Proxied};
use crate::util::clock::{self, millis};
use crate::util::coop::yield_now;
use crate::web::forwarded::canonical;
use crate::web::peer::Peer;
use crate::web::repeated_poll::detached;
use crate::web::shared_stream::SharedStream;
use crate::web::stream::{ActiveBody, Activity, ArrivingBody, HttpStream};
use crate::web::upgrade;

/// Serves one connection until it ends or leaves HTTP.
pub(super) async fn serve_connection(server: Arc<Server>, mut stream: TcpStream, address: SocketAddr) {
    let io = server.io.clone();
    let limits = &io.app().limits;
    let permit = match limits.begin_connection(server.http.max_connections) {
        Ok(permit) => permit,
        Err(limit) => return refuse(&server, stream, limit, address).await,
    };
    let Some(peer) = peer(&server, &mut stream, canonical(address)).await else { return };
    // A proxy's connections carry many clients, which their requests identify.
    let shared = io.config().http.trusted_proxies.trusts(peer.address.ip());
    let permit = if shared { Ok(permit) } else { limits.for_address(permit, peer.address.ip()) };
    let permit = match permit {
        Ok(permit) => ConnectionPermit::new(permit),
        Err(limit) => return refuse(&server, stream, limit, peer.address).await,
    };
    crate::host::metrics::count::connections_opened(io.metrics());
    #[cfg(feature = "tls")]
    if let Some(tls) = server.tls.clone() {
        let Some(stream) = secure(&server, &tls, stream, peer).await else { return };
        let peer = Peer { secure: true, ..peer };
        let activity = activity(&server);
        // Boxed, so that connections without TLS do not pay for its size.
        return Box::pin(serve_http(server, stream, peer, permit, activity)).await;
    }
    let activity = activity(&server);
    first_bytes(&io, &stream, &activity).await;
    serve_http(server, stream, peer, permit, activity).await;
}

/// Returns the activity of a connection whose first request is awaited from now on.
fn activity(server: &Server) -> Arc<Activity> {
    Arc::new(Activity::new(server.http.header_timeout, server.http.keep_alive_timeout))
}

/// Waits for the first bytes of a connection, the deadline for them, or the end of the server.
///
/// The HTTP library reserves two buffers of 8 KiB before it reads: a connection that sends nothing does without.
async fn first_bytes(io: &Io, stream: &TcpStream, activity: &Activity) {
    // The runtime takes a new socket for readable until a read finds that it is not.
    let peek = || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    if stream.try_io(Interest::READABLE, peek).is_ok() {
        return;
    }
    let late = async {
        match activity.deadline() {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        // An error is found again by the first read.
        _ = stream.readable() => {}
        () = io.app().lifecycle.reached(Phase::Closing) => {}
        () = late => {}
    }
}

/// Performs the TLS handshake; returns `None` if it fails.
#[cfg(feature = "tls")]
async fn secure(
    server: &Server,
    tls: &super::tls::Tls,
    stream: TcpStream,
    peer: Peer,
) -> Option<crate::web::tls_stream::TlsStream> {
    match tokio::time::timeout(server.http.header_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, address = %peer.address, "TLS handshake failed");
            None
        }
        Err(_) => {
            limit_exceeded!(
                server.io, Limit::HeaderTime, address = %peer.address, timeout_ms = millis(server.http.header_timeout),
                "connection closed: TLS handshake timed out"
            );
            None
        }
    }
}

/// Determines the peer, by PROXY header if expected; returns `None` if that is missing or malformed.
async fn peer(server: &Server, stream: &mut TcpStream, address: SocketAddr) -> Option<Peer> {
    let direct = Peer { address, secure: false };
    if !server.http.proxy_protocol || !server.io.config().http.trusted_proxies.trusts(address.ip()) {
        return Some(direct);
    }
    let read = tokio::time::timeout(server.http.header_timeout, proxy_protocol::read(stream));
    match read.await {
        Ok(Ok(Proxied::From(address, secure))) => Some(Peer { address: canonical(address), secure }),
        Ok(Ok(Proxied::Itself)) => Some(direct),
        Ok(Err(error)) => {
            limit_exceeded!(server.io, Limit::ProxyHeader, %address, %error, "connection closed: PROXY header not valid");
            None
        }
        Err(_) => {
            limit_exceeded!(server.io, Limit::ProxyHeader, %address, "connection closed: PROXY header timed out");
            None
        }
    }
}

async fn serve_http<S>(
    server: Arc<Server>,
    stream: S,
    peer: Peer,
    permit: ConnectionPermit,
    activity: Arc<Activity>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (io, http) = (server.io.clone(), server.http);
    let stream = SharedStream::new(HttpStream::new(stream, activity.clone()));
    // A proxy's connections carry many clients.
    let is_shared = io.config().http.trusted_proxies.trusts(peer.address.ip());
    let opened_on = (!is_shared).then(|| OpenedOn::new(http.max_sessions_per_connection));
    let service = {
        let activity = activity.clone();
        service_fn(move |mut request: Request<Incoming>| {
            let is_poll = waits(&request);
            activity.request_began(request.body().size_hint().exact(), is_poll);
            let (server, permit, activity) = (server.clone(), permit.clone(), activity.clone());
            let opened_on = opened_on.as_ref().filter(|_| may_begin_session(&request)).cloned();
            async move {
                request.extensions_mut().insert(peer);
                if request.headers().contains_key(http::header::UPGRADE) {
                    request.extensions_mut().insert(permit);
                }
                if let Some(opened_on) = opened_on {
                    request.extensions_mut().insert(opened_on);
                }
                let (request, body) = request.into_parts();
                let poll = if is_poll && activity.may_repeat() { detached(&request) } else { None };
                let request = Request::from_parts(request, ArrivingBody::new(body, activity.clone()));
                let response = match rules::check(&request) {
                    Ok(()) => respond(&server, &activity, request).await,
                    Err(broken) => broken.response(),
                };
                if let Some(poll) = poll
                    && response.status() == StatusCode::OK
                    && let Some(poll) = RepeatedPoll::of(&server.io, poll)
                {
                    activity.remember(Box::new(poll));
                }
                Ok::<_, Infallible>(response.map(|body| ActiveBody::new(body, activity)))
            }
        })
    };
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(HTTP_BUFFER.max(http.max_header_bytes));
    builder.max_header_size(http.max_header_bytes);
    if http.max_headers != DEFAULT_MAX_HEADERS {
        // Set only if it differs, since it makes hyper allocate per request.
        builder.max_headers(http.max_headers);
    }
    let connection = builder.serve_connection(TokioIo::new(stream.clone()), service).with_upgrades();
    let mut connection = pin!(connection);
    let mut timer = pin!(tokio::time::sleep_until(clock::now().into()));
    let mut closing = pin!(io.app().lifecycle.closing());
    let mut watches = false;
    let mut told = false;
    let mut hurries = false;
    let mut overslept = false;
    let end = poll_fn(|cx| {
        if std::mem::take(&mut hurries) {
            yield_now(cx);
            return Poll::Pending;
        }
        if !std::mem::replace(&mut watches, true) {
            // Once, since the task's waker stays the same.
            _ = closing.as_mut().poll(cx);
        }
        let is_leaving = io.app().lifecycle.has_reached(Phase::Closing);
        let before = activity.requests();
        loop {
            // The HTTP library would close the connection under a poll that it does not see.
            if is_leaving && !told && !activity.answers_poll() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            if (!told || activity.answers_poll()) && stream.poll_repeated(cx).is_pending() {
                if is_leaving && !activity.answers_poll() {
                    // The last poll is answered: the library may close.
                    continue;
                }
                break;
            }
            if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
                return Poll::Ready(End::Over(outcome));
            }
            if !is_leaving || told || activity.answers_poll() {
                break;
            }
        }
        // After this many pipelined requests hyper has woken itself to continue immediately.
        hurries = activity.requests().wrapping_sub(before) >= IN_A_HURRY;
        // Deadlines change only in the lines above.
        let Some(deadline) = activity.deadline() else {
            overslept = false;
            return Poll::Pending;
        };
        if timer.deadline().into_std() > deadline {
            timer.as_mut().reset(deadline.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            if deadline > now {
                timer.as_mut().reset(deadline.into());
                continue;
            }
            // After a process pause, timers may fire before the socket is polled, although data has arrived.
            if now > clock::after(deadline, LATE) && !std::mem::replace(&mut overslept, true) {
                yield_now(cx);
                return Poll::Pending;
            }
            return Poll::Ready(End::Late);
        }
        overslept = false;
        Poll::Pending
    });
    match end.await {
        End::Over(Ok(())) => {}
        End::Over(Err(error)) => {
            if error.is_parse_too_large() {
                limit_exceeded!(
                    io, Limit::HeaderSize, address = %peer.address, max_header_bytes = http.max_header_bytes,
                    max_headers = http.max_headers, status = 431, "request refused: headers too large"
                );
            }
            tracing::debug!(%error, address = %peer.address, "HTTP connection failed");
        }
        End::Late if activity.is_in_header() => limit_exceeded!(
            io, Limit::HeaderTime, address = %peer.address, timeout_ms = millis(http.header_timeout),
            "connection closed: request headers timed out"
        ),
        End::Late => {
            // An idle connection is closed by its protocol, such as with TLS close_notify.
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(FAREWELL, connection).await;
        }
    }
}

/// Answers a request that passed the [rules].
async fn respond<B>(server: &Server, activity: &Activity, request: Request<B>) -> Response<ResponseBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match answer(&server.io, "", request).await {
        Ok(response) => {
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                activity.leave_http();
            }
            response
        }
        Err(request) => {
            let fallback = AssertUnwindSafe(|| (server.fallback)(request.map(drop)));
            catch_unwind(fallback).unwrap_or_else(|_| panicked(&server.io))
        }
    }
}

/// Returns whether a request is a poll, which is useless once the client has disconnected.
fn waits<B>(request: &Request<B>) -> bool {
    request.method() == Method::GET && !may_begin_session(request) && !upgrade::is_asked(request.headers())
}

/// Returns whether a request appears to belong to no session yet.
fn may_begin_session<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|query| !query.contains("sid="))
}

/// Outcome of an HTTP connection.
enum End {
    Over(hyper::Result<()>),
    /// A deadline passed
    Late,
}

/// Lateness of a deadline after which the socket is polled once more
const LATE: Duration = Duration::from_millis(100);
/// Requests handled in one poll before the connection yields to others
const IN_A_HURRY: usize = 8;
/// Read buffer for request bodies, in bytes
const HTTP_BUFFER: usize = 64 * 1024;
/// Default of the HTTP library
const DEFAULT_MAX_HEADERS: usize = 100;

/// Rejects a connection above a limit, and closes it.
async fn refuse(server: &Server, mut stream: TcpStream, limit: Limit, address: SocketAddr) {
    limit_exceeded!(server.io, limit, %address, status = 503, "connection refused");
    if server.has_tls() {
        // A TLS handshake would cost more than the rejection is worth.
        return;
    }
    let Some(_place) = server.refusals.clone().try_acquire_owned().ok() else { return };
    let text = "There is no room for another connection here; try again later.\n";
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: {RETRY_AFTER}\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let farewell = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with an unread request would reset the connection and could lose the response.
        let mut sink = tokio::io::sink();
        let mut request = tokio::io::AsyncReadExt::take(stream, HTTP_BUFFER as u64);
        tokio::io::copy(&mut request, &mut sink).await
    };
    // A client that does not read in time misses the response.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Time a rejected client has to read the response
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn silent_connection_is_left_out_of_http() {
        let io = Io::builder().build();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("a socket")).await.expect("a listener");
        let (stream, _) = listener.accept().await.expect("a connection");
        let activity = Activity::new(Duration::from_secs(60), Duration::from_secs(60));
        let moment = Duration::from_millis(50);
        assert!(tokio::time::timeout(moment, first_bytes(&io, &stream, &activity)).await.is_err());
        client.write_all(b"G").await.expect("an open connection");
        // Twice, since it takes nothing out of the stream.
        first_bytes(&io, &stream, &activity).await;
        first_bytes(&io, &stream, &activity).await;
    }
}
