//! Listening and accepting

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::descriptors::report_failure_to_client;
use super::http::serve_connection;
use super::server::Server;
use crate::host::lifecycle::Phase;

/// Listen backlog; the kernel may cap it lower
const BACKLOG: i32 = 4096;
/// Whether accepted connections have the listener's `TCP_NODELAY`, so that it is not set for each of them
const INHERITS_NODELAY: bool = cfg!(target_os = "linux");
/// Pause after a failed accept, such as when descriptors are exhausted
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens exclusively on an address.
///
/// Without `SO_REUSEPORT` the kernel rejects an address in use, also between IPv4 and an IPv6 wildcard.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    start(socket(address)?, address)
}

/// Opens a further listener on the same address, for another thread.
///
/// The kernel spreads connections over listeners that all set `SO_REUSEPORT`. The first listener sets it only now, when
/// its address is known to be free, so a second server cannot join. Where this fails the threads share one accept
/// queue.
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
    // Allows binding while connections of a former server are in TIME_WAIT. On Windows it would mean sharing.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // The wildcard includes IPv4, regardless of the system setting.
        let _ = socket.set_only_v6(false);
    }
    // Poll responses are small and must not wait for the previous ACK.
    if INHERITS_NODELAY {
        socket.set_tcp_nodelay(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn start(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until the server drains.
pub(super) async fn accept_all(server: &Server, listener: TcpListener) {
    // Shared by all connections, so that a request costs one reference count.
    let shared = Arc::new(server.clone());
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    if !INHERITS_NODELAY {
                        let _ = stream.set_nodelay(true);
                    }
                    // Boxed, so that the task is small: tasks are aligned to 128 bytes, and an allocator such as glibc's
                    // before 2.38 does not use the place of a former one for the next, so each connection would leave
                    // a hole of two kilobytes.
                    tokio::spawn(Box::pin(serve_connection(shared.clone(), stream, address)));
                }
                Err(error) => {
                    report_failure_to_client(&server.io, &error, "cannot accept a connection");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_connections_inherit_nodelay() {
        let first = listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        first.set_nonblocking(false).expect("a socket");
        let _client =
            std::net::TcpStream::connect(first.local_addr().expect("a socket")).expect("a listener");
        let (accepted, _) = first.accept().expect("a connection");
        assert_eq!(accepted.nodelay().expect("a socket"), INHERITS_NODELAY);
    }
}
