use std::mem;
use std::os::fd::OwnedFd;

use roomcast_loadgen::socket;

/// Accepted socket with its buffered bytes.
///
/// Allocates memory only for partly read or sent messages.
pub(super) struct Connection<S> {
    pub(super) socket: OwnedFd,
    /// Incomplete frame or request.
    pub(super) partial: Vec<u8>,
    /// Pending output, of which `sent` bytes are already sent.
    rest: Vec<u8>,
    sent: usize,
    /// Whether the socket was full; its next edge reports that it is writable.
    blocked: bool,
    pub(super) state: S,
}

/// End of a connection: the peer disconnected, violated the protocol, or did not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl<S: Default> Connection<S> {
    pub(super) fn new(socket: OwnedFd) -> Self {
        let (partial, rest) = (Vec::new(), Vec::new());
        Self { socket, partial, rest, sent: 0, blocked: false, state: S::default() }
    }
}

impl<S> Connection<S> {
    /// Sends bytes, and queues the rest if the socket is full.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if !self.rest.is_empty() {
            return self.queue(bytes);
        }
        let sent = socket::send(&self.socket, bytes).map_err(|_| Gone)?;
        if sent < bytes.len() {
            self.blocked = true;
            self.queue(&bytes[sent..])?;
        }
        Ok(())
    }

    /// Queues bytes until the next [`flush`](Self::flush).
    pub(super) fn queue(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if self.rest.len() - self.sent + bytes.len() > UNREAD_LIMIT {
            return Err(Gone);
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// Sends queued bytes, unless the socket is known to be full.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        if self.blocked || self.rest.is_empty() {
            return Ok(());
        }
        self.sent += socket::send(&self.socket, &self.rest[self.sent..]).map_err(|_| Gone)?;
        if self.sent < self.rest.len() {
            self.blocked = true;
            // Remove sent bytes only once they are the larger part, so that each byte moves at most once.
            if self.sent > self.rest.len() / 2 {
                self.rest.drain(..self.sent);
                self.sent = 0;
            }
            return Ok(());
        }
        self.sent = 0;
        if self.rest.capacity() > KEPT_CAPACITY {
            self.rest = Vec::new();
        }
        self.rest.clear();
        Ok(())
    }

    /// Handles a write edge: sends queued bytes if the socket was full.
    pub(super) fn unblock(&mut self) -> Result<(), Gone> {
        if mem::take(&mut self.blocked) { self.flush() } else { Ok(()) }
    }
}

/// Connections by slot number, the epoll token.
pub(super) struct Connections<S> {
    slots: Vec<Option<Connection<S>>>,
    free: Vec<usize>,
    /// Slots of connections to close at the end of the turn.
    gone: Vec<usize>,
}

impl<S> Connections<S> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), gone: Vec::new() }
    }

    pub(super) fn insert(&mut self, connection: Connection<S>) -> usize {
        if let Some(index) = self.free.pop() {
            self.slots[index] = Some(connection);
            return index;
        }
        self.slots.push(Some(connection));
        self.slots.len() - 1
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Connection<S>> {
        let connection = self.slots.get_mut(index)?.take()?;
        self.free.push(index);
        Some(connection)
    }

    pub(super) fn at(&mut self, index: usize) -> Option<&mut Connection<S>> {
        self.slots.get_mut(index)?.as_mut()
    }

    /// Runs `act` on a connection, which is closed at the end of the turn if it fails.
    pub(super) fn with(&mut self, index: usize, act: impl FnOnce(&mut Connection<S>) -> Result<(), Gone>) {
        if let Some(connection) = self.at(index)
            && act(connection).is_err()
        {
            self.gone.push(index);
        }
    }

    /// Runs `act` on every connection; see [`with`](Self::with).
    pub(super) fn with_all(&mut self, mut act: impl FnMut(&mut Connection<S>) -> Result<(), Gone>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(connection) = slot
                && act(connection).is_err()
            {
                self.gone.push(index);
            }
        }
    }

    pub(super) fn next_gone(&mut self) -> Option<usize> {
        self.gone.pop()
    }
}

/// Maximum number of unread bytes before a client is closed.
const UNREAD_LIMIT: usize = 1 << 20;
/// Maximum capacity of an empty buffer.
const KEPT_CAPACITY: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use super::*;

    fn pair() -> (Connection<()>, std::net::TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let socket = socket::connect(None, (Ipv4Addr::LOCALHOST, port).into(), false).unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        (Connection::new(socket), peer)
    }

    #[test]
    fn full_socket_loses_no_bytes() {
        let (mut connection, mut peer) = pair();
        rustix::net::sockopt::set_socket_send_buffer_size(&connection.socket, 8 << 10).unwrap();
        let mut expected = Vec::new();
        let mut read_some = |expected: &mut Vec<u8>, most: usize| {
            let mut buffer = vec![0; most];
            // No data may arrive while the peer's acknowledgement is delayed.
            let read = peer.read(&mut buffer).unwrap_or(0);
            assert_eq!(buffer[..read], expected[..read]);
            expected.drain(..read);
        };
        for round in 0..60_u32 {
            let chunk: Vec<u8> = (0..16_384_u32).map(|index| (index * 7 + round) as u8).collect();
            match round % 2 {
                0 => connection.write(&chunk).unwrap(),
                _ => connection.queue(&chunk).unwrap(),
            }
            expected.extend_from_slice(&chunk);
            if round % 3 > 0 {
                connection.blocked = true;
                connection.unblock().unwrap();
            }
            read_some(&mut expected, 5000);
        }
        assert!(connection.blocked && !connection.rest.is_empty(), "the socket was never full");
        for _ in 0..1000 {
            connection.blocked = true;
            connection.unblock().unwrap();
            if expected.is_empty() {
                break;
            }
            read_some(&mut expected, 50_000);
        }
        assert!(expected.is_empty() && connection.rest.is_empty() && !connection.blocked);
    }

    #[test]
    fn closes_client_that_never_reads() {
        let (mut connection, _peer) = pair();
        let written = (0..).take_while(|_| connection.write(&[0; 65_536]).is_ok()).take(1000).count();
        assert!((1..1000).contains(&written), "{written}");
    }

    #[test]
    fn reuses_freed_slots() {
        let mut connections = Connections::new();
        let first = connections.insert(pair().0);
        let second = connections.insert(pair().0);
        assert!(connections.remove(first).is_some() && connections.remove(first).is_none());
        assert_eq!(connections.insert(pair().0), first);
        connections.with(second, |_| Err(Gone));
        assert_eq!((connections.next_gone(), connections.next_gone()), (Some(second), None));
    }
}
