use std::io;
use std::mem;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Duration;

use roomcast_loadgen::socket::{self, EventFlags, Poller, READ_BUFFER, ReadOutcome};

use super::connection::{Connection, Connections, Gone};

/// Handler of received bytes.
pub(super) trait Service {
    /// State per connection.
    type State: Default;

    /// Handles the complete frames or requests at the start of `input`; returns their length.
    fn receive(
        &mut self,
        connections: &mut Connections<Self::State>,
        index: usize,
        input: &[u8],
    ) -> Result<usize, Gone>;

    /// Returns whether messages for all clients are pending, which more messages should join.
    fn is_collecting(&self) -> bool;

    /// Called at the end of a turn, when all ready sockets have been read.
    fn end_turn(&mut self, connections: &mut Connections<Self::State>);

    /// Called when a connection has been closed.
    fn left(&mut self, index: usize, state: Self::State);
}

/// Event loop of a service: accepts, receives, and sends queued bytes.
pub(super) struct Server<S: Service> {
    service: S,
    poller: Poller,
    listener: OwnedFd,
    address: SocketAddrV4,
    connections: Connections<S::State>,
    buffer: Vec<u8>,
    /// Time without an event after which pending messages are sent.
    quiet: Duration,
}

impl<S: Service> Server<S> {
    pub(super) fn bind(address: SocketAddrV4, service: S, quiet: Duration) -> io::Result<Self> {
        let listener = socket::listen(address)?;
        let address = SocketAddrV4::try_from(rustix::net::getsockname(&listener)?)?;
        let poller = Poller::new()?;
        poller.add_listener(&listener, LISTENER)?;
        let (connections, buffer) = (Connections::new(), vec![0; READ_BUFFER]);
        Ok(Self { service, poller, listener, address, connections, buffer, quiet })
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Waits for events and handles them.
    ///
    /// While messages for all clients are pending, a turn goes on until `quiet` has passed without an event, so that
    /// messages that are on the way share the writes.
    pub(super) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.poller.wait(timeout)?;
        self.handle_events()?;
        for _ in 0..LONGEST_COLLECTION {
            if !self.service.is_collecting() {
                break;
            }
            self.poller.wait(Some(self.quiet))?;
            if self.poller.ready() == 0 {
                break;
            }
            self.handle_events()?;
        }
        self.service.end_turn(&mut self.connections);
        // At the end, so that no slot number in use can refer to a newer connection.
        while let Some(index) = self.connections.next_gone() {
            if let Some(connection) = self.connections.remove(index) {
                self.service.left(index, connection.state);
            }
        }
        Ok(())
    }

    fn handle_events(&mut self) -> io::Result<()> {
        for event in 0..self.poller.ready() {
            match self.poller.event(event) {
                (LISTENER, _) => self.accept()?,
                (index, flags) => {
                    if flags.contains(EventFlags::OUT) {
                        self.connections.with(index, Connection::unblock);
                    }
                    if flags
                        .intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
                        && self.receive(index).is_err()
                    {
                        self.connections.with(index, |_| Err(Gone));
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(socket) = socket::accept(&self.listener)? {
            let index = self.connections.insert(Connection::new(socket));
            if let Some(connection) = self.connections.at(index) {
                self.poller.add(&connection.socket, index)?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<(), Gone> {
        loop {
            let Some(connection) = self.connections.at(index) else { return Ok(()) };
            let received = match socket::receive(&connection.socket, &mut self.buffer).map_err(|_| Gone)? {
                ReadOutcome::Bytes(received) => received,
                ReadOutcome::Nothing => return Ok(()),
                ReadOutcome::Closed => return Err(Gone),
            };
            let bytes = &self.buffer[..received];
            if connection.partial.is_empty() {
                let taken = self.service.receive(&mut self.connections, index, bytes)?;
                if taken < received
                    && let Some(connection) = self.connections.at(index)
                {
                    connection.partial = bytes[taken..].to_vec();
                }
            } else {
                let mut input = mem::take(&mut connection.partial);
                input.extend_from_slice(bytes);
                let taken = self.service.receive(&mut self.connections, index, &input)?;
                input.drain(..taken);
                if let Some(connection) = self.connections.at(index)
                    && !input.is_empty()
                {
                    connection.partial = input;
                }
            }
            // A short read means that the socket is empty; later data is a new edge.
            if received < self.buffer.len() {
                return Ok(());
            }
        }
    }
}

const LISTENER: usize = usize::MAX;
/// Maximum number of waits in one turn.
const LONGEST_COLLECTION: usize = 64;
