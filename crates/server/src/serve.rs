//! A server of one's own: sockets, threads, HTTP

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use roomcast_core::ResponseBody;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::error::ServeError;
use crate::io::Io;
use crate::requests::{Peer, answer};

/// Serves an [`Io`] on TCP, without another HTTP server around it
///
/// [`bind`](Self::bind) it, then [`serve`](Bound::serve) on the runtime that is there, or [`run`](Bound::run) on
/// threads of its own.
#[derive(Clone)]
pub struct Server {
    io: Io,
    fallback: Arc<Fallback>,
}

type Fallback = dyn Fn(Request<()>) -> Response<ResponseBody> + Send + Sync;

/// Connections that wait to be accepted; the kernel may bound it lower
const BACKLOG: i32 = 4096;
/// Bytes of a request's headers, and of what is buffered of its body
const HTTP_BUFFER: usize = 64 * 1024;
/// How long a client may take to send the headers of a request, and a connection without request may stay
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait when no connection can be accepted, because there are no descriptors left
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    /// Serves this
    pub fn new(io: Io) -> Self {
        Self { io, fallback: Arc::new(|_| not_found()) }
    }

    /// Answers requests that no endpoint takes
    ///
    /// Default: 404.
    pub fn fallback(
        mut self,
        fallback: impl Fn(Request<()>) -> Response<ResponseBody> + Send + Sync + 'static,
    ) -> Self {
        self.fallback = Arc::new(fallback);
        self
    }

    /// Listens on an address, such as `"127.0.0.1:3000"`; port 0 takes a free one
    ///
    /// # Errors
    /// When the address cannot be resolved or is taken.
    pub fn bind(self, address: impl ToSocketAddrs + fmt::Debug) -> Result<Bound, ServeError> {
        let text = format!("{address:?}");
        let failed = |source| ServeError::Bind { address: text.clone(), source };
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the address resolves to nothing");
        for address in address.to_socket_addrs().map_err(failed)? {
            match listen(address) {
                Ok(listener) => {
                    let address = listener.local_addr().map_err(failed)?;
                    return Ok(Bound { server: self, listener, address });
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("io", &self.io).finish_non_exhaustive()
    }
}

/// A server that listens and does not accept yet
#[derive(Debug)]
pub struct Bound {
    server: Server,
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Where it listens
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves on the runtime that is there, until the future is dropped
    ///
    /// Connections that are open then stay as long as the runtime does; see [`Io::close`].
    ///
    /// # Errors
    /// When the listener cannot be used on this runtime.
    pub async fn serve(self) -> Result<Infallible, ServeError> {
        let listener = TcpListener::from_std(self.listener)
            .map_err(|source| ServeError::Bind { address: self.address.to_string(), source })?;
        accept_all(self.server, listener).await
    }

    /// Serves on this many threads of its own, each with a runtime, a listener and clients of its own; blocks
    ///
    /// A client stays on the thread that accepted it, so most of what concerns it stays in the memory of one core.
    /// A broadcast reaches the clients of all threads; each thread writes for its own.
    ///
    /// # Errors
    /// When a thread, its runtime or its listener cannot be made.
    pub fn run(self, threads: usize) -> Result<Infallible, ServeError> {
        let mut listeners = vec![self.listener];
        for _ in 1..threads {
            let bind = |source| ServeError::Bind { address: self.address.to_string(), source };
            listeners.push(listen(self.address).map_err(bind)?);
        }
        let first = listeners.swap_remove(0);
        for (number, listener) in (1..).zip(listeners) {
            let (server, runtime) = (self.server.clone(), runtime()?);
            std::thread::Builder::new()
                .name(format!("roomcast-{number}"))
                .spawn(move || run_one(server, listener, &runtime))
                .map_err(ServeError::Thread)?;
        }
        run_one(self.server, first, &runtime()?)
    }
}

fn run_one(
    server: Server,
    listener: std::net::TcpListener,
    runtime: &Runtime,
) -> Result<Infallible, ServeError> {
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listener).map_err(ServeError::Thread)?;
        accept_all(server, listener).await
    })
}

fn runtime() -> Result<Runtime, ServeError> {
    Builder::new_current_thread().enable_all().build().map_err(ServeError::Thread)
}

/// A listener that can share its address with those of other threads
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(target_os = "solaris"), not(target_os = "illumos")))]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn accept_all(server: Server, listener: TcpListener) -> ! {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                tokio::spawn(serve_connection(server.clone(), stream, address));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(server: Server, stream: TcpStream, address: SocketAddr) {
    // Answers to polls are small, and one must not wait for the acknowledgement of the one before it.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let server = server.clone();
        async move {
            request.extensions_mut().insert(Peer { address, secure: false });
            Ok::<_, Infallible>(match answer(&server.io, request).await {
                Ok(response) => response,
                Err(request) => (server.fallback)(request.map(drop)),
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HTTP_BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

fn not_found() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}
