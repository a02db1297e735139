//! Listening and accepting

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::descriptors::tell_of_failure;
use super::http::serve_connection;
use super::server::Server;
use crate::host::lifecycle::Phase;

/// Connections that wait to be accepted; the kernel may bound it lower
const BACKLOG: i32 = 4096;
/// How long to wait when no connection can be accepted, because there are no descriptors left
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Listens on an address that nobody else listens on
///
/// Without `SO_REUSEPORT` the kernel refuses an address that is taken, also between IPv4 and a wildcard of IPv6.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    start(socket(address)?, address)
}

/// Listens beside a listener of this process, for another thread
///
/// The kernel spreads connections over listeners that all have `SO_REUSEPORT`. The first one gets it only now, when its
/// address is known to be free, so a second server never joins in. Where that cannot be done the threads share one
/// queue of connections.
pub(super) fn listen_beside(first: &std::net::TcpListener) -> io::Result<std::net::TcpListener> {
    #[cfg(all(unix, not(target_os = "solaris"), not(target_os = "illumos")))]
    {
        let beside = || {
            let address = first.local_addr()?;
            socket2::SockRef::from(first).set_reuse_port(true)?;
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            start(socket, address)
        };
        if let Ok(listener) = beside() {
            return Ok(listener);
        }
    }
    first.try_clone()
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // For connections of a server that was here before and wait for their end. On Windows it would mean to share.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All addresses are meant, those of IPv4 too, however the system is set.
        let _ = socket.set_only_v6(false);
    }
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
                    tell_of_failure(&server.io, &error, "cannot accept a connection");
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
