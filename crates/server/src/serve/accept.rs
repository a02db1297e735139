//! Listening and accepting

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::Server;
use super::http::serve_connection;
use crate::drain::Phase;

/// Connections that wait to be accepted; the kernel may bound it lower
const BACKLOG: i32 = 4096;
/// How long to wait when no connection can be accepted, because there are no descriptors left
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Descriptors that are left for everything that is no connection
const RESERVE: usize = 64;

/// A listener that can share its address with those of other threads
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    #[cfg(all(unix, not(target_os = "solaris"), not(target_os = "illumos")))]
    socket.set_reuse_port(true)?;
    start(socket, address)
}

/// A listener that shares its address with nobody
pub(super) fn listen_alone(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    start(socket(address)?, address)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn start(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until the server drains
pub(super) async fn accept_all(server: &Server, listener: TcpListener) {
    // One for all connections, so that a request takes one count and not one for each part.
    let shared = Arc::new(server.clone());
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    tokio::spawn(serve_connection(shared.clone(), stream, address));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = server.io.app().lifecycle.reached(Phase::Draining) => {}
    }
}

/// How many connections the process has descriptors for
pub(super) fn descriptors() -> usize {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit: Option<u64> = None;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit.saturating_sub(RESERVE).max(1)
}
