use std::mem;
use std::os::fd::OwnedFd;

use roomcast_loadgen::socket;

/// Accepted socket with its buffered bytes.
///
/// Allocates no memory while no message is partly read or sent.
pub(super) struct Connection<S> {
    pub(super) socket: OwnedFd,
    /// Input that is not yet a whole frame or request.
    pub(super) partial: Vec<u8>,
    /// Output that was not sent yet; `sent` bytes of it are gone.
    rest: Vec<u8>,
    sent: usize,
    /// The socket was full; its next edge says that it has room.
    blocked: bool,
    pub(super) state: S,
}

/// The connection is over: the peer left, broke the protocol, or did not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl<S: Default> Connection<S> {
    pub(super) fn new(socket: OwnedFd) -> Self {
        let (partial, rest) = (Vec::new(), Vec::new());
        Self { socket, partial, rest, sent: 0, blocked: false, state: S::default() }
    }
}

impl<S> Connection<S> {
    /// Sends now, and keeps what does not fit.
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

    /// Keeps bytes until the next [`flush`](Self::flush).
    pub(super) fn queue(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if self.rest.len() - self.sent + bytes.len() > UNREAD_LIMIT {
            return Err(Gone);
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// Sends buffered bytes, unless the socket is known to be full.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        if self.blocked || self.rest.is_empty() {
            return Ok(());
        }
        self.sent += socket::send(&self.socket, &self.rest[self.sent..]).map_err(|_| Gone)?;
        if self.sent < self.rest.len() {
            self.blocked = true;
            // Sent bytes are removed once they are the larger part, so that each byte moves at most once.
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

    /// The socket has room; if it was full, the rest goes out.
    pub(super) fn unblock(&mut self) -> Result<(), Gone> {
        if mem::take(&mut self.blocked) { self.flush() } else { Ok(()) }
    }
}

/// All connections, by a small number that epoll hands back.
pub(super) struct Connections<S> {
    slots: Vec<Option<Connection<S>>>,
    free: Vec<usize>,
    /// Connections to close at the end of the turn.
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

    /// Does one thing with one connection, which is closed at the end of the turn if it fails.
    pub(super) fn with(&mut self, index: usize, act: impl FnOnce(&mut Connection<S>) -> Result<(), Gone>) {
        if let Some(connection) = self.at(index)
            && act(connection).is_err()
        {
            self.gone.push(index);
        }
    }

    /// The same with every connection.
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

/// Bytes a client may leave unread before it is dropped.
const UNREAD_LIMIT: usize = 1 << 20;
/// The largest emptied buffer that a connection keeps.
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
    fn a_full_socket_keeps_its_rest_and_loses_no_byte() {
        let (mut connection, mut peer) = pair();
        rustix::net::sockopt::set_socket_send_buffer_size(&connection.socket, 8 << 10).unwrap();
        let mut expected = Vec::new();
        let mut read_some = |expected: &mut Vec<u8>, most: usize| {
            let mut buffer = vec![0; most];
            // Nothing may be there while the peer's acknowledgement is delayed.
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
        assert!(connection.blocked && !connection.rest.is_empty(), "the socket never got full");
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
    fn a_client_that_never_reads_is_gone() {
        let (mut connection, _peer) = pair();
        let written = (0..).take_while(|_| connection.write(&[0; 65_536]).is_ok()).take(1000).count();
        assert!((1..1000).contains(&written), "{written}");
    }

    #[test]
    fn slots_are_used_again() {
        let mut connections = Connections::new();
        let first = connections.insert(pair().0);
        let second = connections.insert(pair().0);
        assert!(connections.remove(first).is_some() && connections.remove(first).is_none());
        assert_eq!(connections.insert(pair().0), first);
        connections.with(second, |_| Err(Gone));
        assert_eq!((connections.next_gone(), connections.next_gone()), (Some(second), None));
    }
}
