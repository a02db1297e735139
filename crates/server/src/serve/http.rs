//! One HTTP connection: how long it may take, and what it is told when it may not

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use roomcast_core::{BoxError, ResponseBody};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::{Server, rules};
use crate::breach::{Breach, breach};
use crate::clock::{self, millis};
use crate::drain::Phase;
use crate::driver::give_way;
use crate::limits::{ConnectionPermit, OpenedOn, Permit};
use crate::proxy::canonical;
use crate::proxy_protocol::{self, Proxied};
use crate::requests::{Peer, RETRY_AFTER, answer, panicked};

/// Serves one connection to its end, or until it leaves HTTP
pub(super) async fn serve_connection(server: Arc<Server>, mut stream: TcpStream, address: SocketAddr) {
    let io = server.io.clone();
    let permit = match ConnectionPermit::new(&io, server.http.max_connections) {
        Ok(permit) => permit,
        Err(limit) => return refuse(&server, stream, limit, address).await,
    };
    // Answers to polls are small, and one must not wait for the acknowledgement of the one before it.
    let _ = stream.set_nodelay(true);
    let Some(peer) = peer(&server, &mut stream, canonical(address)).await else { return };
    // A proxy's own connections carry many clients; those are told apart by the requests.
    let shared = io.config().trusted_proxies.trusts(peer.address.ip());
    let permit = if shared { Ok(permit) } else { permit.for_address(peer.address.ip()) };
    let permit = match permit {
        Ok(permit) => Arc::new(Permit::Connection(permit)),
        Err(limit) => return refuse(&server, stream, limit, peer.address).await,
    };
    crate::metrics::count::connections_opened(io.metrics());
    #[cfg(feature = "tls")]
    if let Some(tls) = server.tls.clone() {
        let Some(stream) = secure(&server, &tls, stream, peer).await else { return };
        let peer = Peer { secure: true, ..peer };
        // On the heap, since whoever has no TLS is not to pay for its size.
        return Box::pin(serve_http(server, stream, peer, permit)).await;
    }
    serve_http(server, stream, peer, permit).await;
}

/// Shakes hands over TLS; `None` if that came to nothing
#[cfg(feature = "tls")]
async fn secure(
    server: &Server,
    tls: &super::Tls,
    stream: TcpStream,
    peer: Peer,
) -> Option<super::tls::TlsStream> {
    match tokio::time::timeout(server.http.header_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, address = %peer.address, "TLS handshake failed");
            None
        }
        Err(_) => {
            breach!(
                server.io, Breach::HeaderTime, address = %peer.address, timeout_ms = millis(server.http.header_timeout),
                "connection closed: TLS handshake timed out"
            );
            None
        }
    }
}

/// Who is at the other end; `None` if it did not say so as it should
async fn peer(server: &Server, stream: &mut TcpStream, address: SocketAddr) -> Option<Peer> {
    let direct = Peer { address, secure: false };
    if !server.http.proxy_protocol || !server.io.config().trusted_proxies.trusts(address.ip()) {
        return Some(direct);
    }
    let read = tokio::time::timeout(server.http.header_timeout, proxy_protocol::read(stream));
    match read.await {
        Ok(Ok(Proxied::From(address, secure))) => Some(Peer { address: canonical(address), secure }),
        Ok(Ok(Proxied::Itself)) => Some(direct),
        Ok(Err(error)) => {
            breach!(server.io, Breach::ProxyHeader, %address, %error, "connection closed: PROXY header not valid");
            None
        }
        Err(_) => {
            breach!(server.io, Breach::ProxyHeader, %address, "connection closed: PROXY header timed out");
            None
        }
    }
}

async fn serve_http<S>(server: Arc<Server>, stream: S, peer: Peer, permit: Arc<Permit>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (io, http) = (server.io.clone(), server.http);
    let activity = Arc::new(Activity::new(http.header_timeout, http.keep_alive_timeout));
    let stream = HttpStream { stream, activity: activity.clone() };
    // A proxy's own connections carry many clients.
    let is_shared = io.config().trusted_proxies.trusts(peer.address.ip());
    let opened_on = (!is_shared).then(|| OpenedOn::new(http.max_sessions_per_connection));
    let service = {
        let activity = activity.clone();
        service_fn(move |mut request: Request<Incoming>| {
            activity.request_began();
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
                let response = match rules::check(&request) {
                    Ok(()) => match answer(&server.io, "", request).await {
                        Ok(response) => response,
                        Err(request) => {
                            let fallback = AssertUnwindSafe(|| (server.fallback)(request.map(drop)));
                            catch_unwind(fallback).unwrap_or_else(|_| panicked(&server.io))
                        }
                    },
                    Err(broken) => broken.response(),
                };
                Ok::<_, Infallible>(response.map(|body| ActiveBody { body, activity }))
            }
        })
    };
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(HTTP_BUFFER.max(http.max_header_bytes));
    builder.max_header_size(http.max_header_bytes);
    if http.max_headers != DEFAULT_MAX_HEADERS {
        // Said only when it differs, since it makes the library allocate for each request.
        builder.max_headers(http.max_headers);
    }
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let mut timer = pin!(tokio::time::sleep_until(clock::now().into()));
    let mut leaving = pin!(io.app().lifecycle.reached(Phase::Closing));
    let mut told = false;
    let mut hurries = false;
    let end = poll_fn(|cx| {
        if std::mem::take(&mut hurries) {
            give_way(cx);
            return Poll::Pending;
        }
        if !told && leaving.as_mut().poll(cx).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        let before = activity.requests();
        if let Poll::Ready(outcome) = connection.as_mut().poll(cx) {
            return Poll::Ready(End::Over(outcome));
        }
        // With so many requests behind each other the HTTP library has woken itself to go on at once.
        hurries = activity.requests().wrapping_sub(before) >= IN_A_HURRY;
        // What is waited for changes only in the lines above, so here is the place to look.
        let Some(deadline) = activity.deadline() else { return Poll::Pending };
        if timer.deadline().into_std() > deadline {
            timer.as_mut().reset(deadline.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= clock::now() {
                return Poll::Ready(End::Late);
            }
            timer.as_mut().reset(deadline.into());
        }
        Poll::Pending
    });
    match end.await {
        End::Over(Ok(())) => {}
        End::Over(Err(error)) => {
            if error.is_parse_too_large() {
                breach!(
                    io, Breach::HeaderSize, address = %peer.address, max_header_bytes = http.max_header_bytes,
                    max_headers = http.max_headers, status = 431, "request refused: headers too large"
                );
            }
            tracing::debug!(%error, address = %peer.address, "HTTP connection failed");
        }
        End::Late if activity.is_in_header() => breach!(
            io, Breach::HeaderTime, address = %peer.address, timeout_ms = millis(http.header_timeout),
            "connection closed: request headers timed out"
        ),
        End::Late => {}
    }
}

/// Returns whether a request belongs to no session yet, as far as can be seen at once.
fn may_begin_session<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|query| !query.contains("sid="))
}

/// How an HTTP connection ended
enum End {
    Over(hyper::Result<()>),
    /// What was waited for did not come
    Late,
}

/// So many requests at one go make a connection wait until all others have had their turn
const IN_A_HURRY: usize = 8;
/// Bytes that are buffered of the body of a request
const HTTP_BUFFER: usize = 64 * 1024;
/// What the HTTP library takes when it is told nothing
const DEFAULT_MAX_HEADERS: usize = 100;

/// Tells a client that there is no room for its connection, and hangs up
async fn refuse(server: &Server, mut stream: TcpStream, limit: Breach, address: SocketAddr) {
    breach!(server.io, limit, %address, status = 503, "connection refused");
    if server.has_tls() {
        // A handshake would cost more than there is to tell.
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
        // Closed with its request unread the connection would be reset, and the answer could be lost by that.
        let mut sink = tokio::io::sink();
        let mut request = tokio::io::AsyncReadExt::take(stream, HTTP_BUFFER as u64);
        tokio::io::copy(&mut request, &mut sink).await
    };
    // Whoever does not listen misses it.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// How long a client that is refused may take to hear it
const FAREWELL: Duration = Duration::from_secs(1);
/// How many are told at a time; in a flood the others are just cut off
pub(super) const FAREWELLS: usize = 256;

/// What a connection waits for, and since when
///
/// One task changes and reads it.
#[derive(Debug)]
struct Activity {
    began: Instant,
    header_timeout: Duration,
    keep_alive_timeout: Duration,
    /// Whether a request is being answered
    busy: AtomicBool,
    /// Whether a request has begun to come, or the first one is awaited
    in_header: AtomicBool,
    /// Milliseconds from `began` to the last change of the two
    since: AtomicU64,
    /// How many requests there were
    requests: AtomicUsize,
}

impl Activity {
    fn new(header_timeout: Duration, keep_alive_timeout: Duration) -> Self {
        Self {
            began: clock::now(),
            header_timeout,
            keep_alive_timeout,
            busy: AtomicBool::new(false),
            in_header: AtomicBool::new(true),
            since: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
        }
    }

    fn bytes_arrived(&self) {
        if !self.busy.load(Ordering::Relaxed) && !self.in_header.swap(true, Ordering::Relaxed) {
            self.mark();
        }
    }

    fn bytes_left(&self) {
        // An answer that is read slowly is no idleness.
        if !self.busy.load(Ordering::Relaxed) && !self.is_in_header() {
            self.mark();
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    fn request_began(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_header.store(false, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }

    fn request_ended(&self) {
        self.busy.store(false, Ordering::Relaxed);
        self.mark();
    }

    fn mark(&self) {
        // Rounded up, so that nobody has less time than there is.
        let since = clock::now().saturating_duration_since(self.began).as_nanos().div_ceil(1_000_000);
        self.since.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_in_header(&self) -> bool {
        self.in_header.load(Ordering::Relaxed)
    }

    /// Until when a request, or the rest of one, is waited for; `None` while one is being answered
    fn deadline(&self) -> Option<Instant> {
        if self.busy.load(Ordering::Relaxed) {
            return None;
        }
        let since = self.began + Duration::from_millis(self.since.load(Ordering::Relaxed));
        let timeout = if self.is_in_header() { self.header_timeout } else { self.keep_alive_timeout };
        // A timeout beyond what can be reckoned is none.
        since.checked_add(timeout)
    }
}

/// The body of an answer; the request is over when it is
struct ActiveBody {
    body: ResponseBody,
    activity: Arc<Activity>,
}

impl Body for ActiveBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ActiveBody {
    fn drop(&mut self) {
        self.activity.request_ended();
    }
}

/// A stream that tells when a request begins to come
#[derive(Debug)]
pub(crate) struct HttpStream<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S> HttpStream<S> {
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.bytes_arrived();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if outcome.is_ready() {
            self.activity.bytes_left();
        }
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if outcome.is_ready() {
            self.activity.bytes_left();
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
