use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;

use super::polling::{Poller as PollLane, Poster};
use super::session::{Session, append_close, append_message, upgrade_request};
use super::settings::{Server, Settings};
use super::stamp::Action;
use super::violation::FaultMessage;
use super::wire_protocol::WireProtocol;
use super::{Habit, Kind, Watch};
use crate::Error;
use crate::error::ErrorContext as _;
use crate::process::now;
use crate::socket::{self, EventFlags, Poller, READ_BUFFER, ReadOutcome};
use crate::tls::{Tls, TlsStream};

/// Clients of a run, and their event loop.
pub(super) struct ClientPool {
    servers: Vec<Arc<Server>>,
    kind: Kind,
    wire_protocol: Arc<WireProtocol>,
    gentle: bool,
    habit: Habit,
    /// Polling clients whose next poll waits for the end of the turn.
    unsent: Vec<usize>,
    poller: Poller,
    /// Number of handled events of the latest wait.
    handled: usize,
    links: Links,
    clients: usize,
    ready: usize,
    /// Number of the connection on which each client sends.
    speaks_on: Vec<usize>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    started: Duration,
}

/// Connections. A client's first connection has the client's number; POST connections are numbered after all clients.
///
/// A polling client may need its POST connection for a heartbeat while others are still connecting, so the numbers
/// start after the final number of clients.
struct Links {
    most: usize,
    clients: Vec<Link>,
    posters: Vec<Link>,
}

struct Link {
    socket: OwnedFd,
    role: Role,
    server: Arc<Server>,
    connected: bool,
    /// Unsent bytes.
    out: Vec<u8>,
    tls: Option<TlsStream>,
}

enum Role {
    Frames(Session),
    Polls(PollLane),
    Posts(Poster),
}

impl ClientPool {
    /// Connects all clients and waits until they are ready.
    pub(super) fn connect(settings: &Settings, watch: &mut dyn Watch) -> Result<Self, Error> {
        let mut client_pool = Self {
            servers: settings.servers.clone(),
            kind: settings.kind,
            wire_protocol: Arc::clone(&settings.wire_protocol),
            gentle: settings.gentle,
            habit: settings.habit,
            unsent: Vec::new(),
            poller: Poller::new().doing(|| "create an epoll instance".into())?,
            handled: 0,
            links: Links { most: settings.clients, clients: Vec::new(), posters: Vec::new() },
            clients: settings.clients,
            ready: 0,
            speaks_on: (0..settings.clients).collect(),
            buffer: vec![0; READ_BUFFER],
            scratch: Vec::new(),
            started: now(),
        };
        let mut patience = Patience::new(settings.stall);
        while client_pool.ready < client_pool.clients {
            while client_pool.links.clients.len()
                < client_pool.clients.min(client_pool.ready + CONNECTING_AT_ONCE)
            {
                let wire_protocol = Arc::clone(&client_pool.wire_protocol);
                let client = client_pool.links.clients.len();
                let server = Arc::clone(&client_pool.servers[client % client_pool.servers.len()]);
                let role = match client_pool.kind {
                    Kind::Plain | Kind::Sio | Kind::Msgpack => {
                        Role::Frames(Session::new(client_pool.kind, wire_protocol, settings.deflate))
                    }
                    Kind::Poll => Role::Polls(PollLane::new(Arc::clone(&server), wire_protocol)),
                };
                let link = client_pool.open(client, role, server)?;
                client_pool.links.clients.push(link);
            }
            let before = client_pool.ready;
            client_pool.turn(settings.patience(), &mut |_, _, _| ())?;
            let progress = client_pool.ready > before;
            if !progress && patience.is_over() && !client_pool.links.clients.iter().any(|link| link.connected)
            {
                let cause = std::io::ErrorKind::TimedOut.into();
                return Err(connect_error(&settings.servers[0], cause));
            }
            patience.check(progress, || {
                let Server { host, path, .. } = &*settings.servers[0];
                let spoken = if settings.kind == Kind::Plain { "WebSocket" } else { "Socket.IO" };
                let (ready, clients) = (client_pool.ready, client_pool.clients);
                format!("{ready} of {clients} clients connected; does {host}{path} speak {spoken}?")
            })?;
            watch.connecting(client_pool.ready, client_pool.clients);
        }
        Ok(client_pool)
    }

    /// Opens the POST connection of a polling client, unless it is open.
    pub(super) fn let_speak(&mut self, client: usize) -> Result<(), Error> {
        let Link { role, server, .. } = &self.links.clients[client];
        if let Role::Polls(lane) = role
            && self.speaks_on[client] == client
        {
            let (poster, server) = (lane.poster(), Arc::clone(server));
            let number = self.clients + self.links.posters.len();
            let link = self.open(number, Role::Posts(poster), server)?;
            self.links.posters.push(link);
            self.speaks_on[client] = number;
        }
        Ok(())
    }

    /// Queues a client message until it is [flushed](Self::flush).
    pub(super) fn say(&mut self, client: usize, action: Action, write_payload: impl FnOnce(&mut Vec<u8>)) {
        let link = self.links.at(self.speaks_on[client]);
        match &mut link.role {
            Role::Frames(_) => append_message(&mut link.out, &mut self.scratch, self.kind.opcode(), |out| {
                self.wire_protocol.write(action, out, write_payload);
            }),
            Role::Posts(poster) => poster.say(|out| self.wire_protocol.write(action, out, write_payload)),
            Role::Polls(_) => unreachable!("a polling client sends on its POST connection"),
        }
    }

    /// Sends queued client messages.
    pub(super) fn flush(&mut self, client: usize) -> Result<(), Error> {
        let link = self.links.at(self.speaks_on[client]);
        if let Role::Posts(poster) = &mut link.role
            && link.connected
        {
            poster.post(&mut link.out);
        }
        link.flush().doing(|| format!("send for client {client}"))
    }

    /// Waits for events once, and delivers each payload with its client and the time in nanoseconds.
    pub(super) fn turn(
        &mut self,
        timeout: Duration,
        deliver: &mut impl FnMut(usize, &[u8], u64),
    ) -> Result<(), Error> {
        self.part_turn(usize::MAX, timeout, deliver).map(|_| ())
    }

    /// Like [`turn`](Self::turn), but handles at most `most` events and keeps the others for the next call.
    ///
    /// Returns whether there were events.
    pub(super) fn part_turn(
        &mut self,
        most: usize,
        timeout: Duration,
        deliver: &mut impl FnMut(usize, &[u8], u64),
    ) -> Result<bool, Error> {
        if self.handled == self.poller.ready() {
            self.poller.wait(Some(timeout)).doing(|| "wait for events".into())?;
            self.handled = 0;
        }
        let from = self.handled;
        self.handled = self.poller.ready().min(from.saturating_add(most));
        for event in from..self.handled {
            let (index, flags) = self.poller.event(event);
            let link = self.links.at(index);
            if !link.connected {
                link.finish_connecting().map_err(|cause| connect_error(&link.server, cause))?;
            } else if flags.contains(EventFlags::OUT) && link.has_more() {
                link.flush().doing(|| format!("send for client {index}"))?;
            }
            if !flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                continue;
            }
            let was_ready = link.is_ready();
            loop {
                let received = link.read(&mut self.buffer);
                let received = match received.doing(|| format!("receive for client {index}"))? {
                    ReadOutcome::Bytes(received) => received,
                    ReadOutcome::Nothing => break,
                    ReadOutcome::Closed => return Err(Error::Server(format!("closed client {index}"))),
                };
                let at = (now() - self.started).as_nanos() as u64;
                link.receive(&self.buffer[..received], &mut |payload| deliver(index, payload, at))
                    .map_err(|violation| Error::Server(format!("sent client {index} {violation}")))?;
                // Without TLS, a short read means that the socket is empty; later data is a new edge.
                if received < self.buffer.len() && link.tls.is_none() {
                    break;
                }
            }
            if !was_ready && link.is_ready() {
                self.ready += 1;
                if !self.gentle && self.habit != Habit::DelayedAcks {
                    link.acknowledge_at_once().doing(|| format!("set up client {index}"))?;
                }
            }
            if self.habit == Habit::SteadyAcks {
                link.acknowledge_at_once().doing(|| format!("set up client {index}"))?;
            }
            if self.habit == Habit::BatchedPolls && matches!(link.role, Role::Polls(_)) {
                self.unsent.push(index);
            } else if link.has_more() {
                link.flush().doing(|| format!("send for client {index}"))?;
            }
            if let Role::Polls(lane) = &mut link.role
                && lane.take_ping()
            {
                self.answer_ping(index)?;
            }
        }
        for index in self.unsent.drain(..) {
            self.links.at(index).flush().doing(|| format!("send for client {index}"))?;
        }
        Ok(self.handled > from)
    }

    /// Answers a heartbeat of a polling client on its POST connection.
    fn answer_ping(&mut self, client: usize) -> Result<(), Error> {
        self.let_speak(client)?;
        if let Role::Posts(poster) = &mut self.links.at(self.speaks_on[client]).role {
            poster.say(|out| out.push(PONG));
        }
        self.flush(client)
    }

    /// Returns the nanoseconds since the start of connecting.
    pub(super) fn clock(&self) -> u64 {
        (now() - self.started).as_nanos() as u64
    }

    /// Returns the number of messages that the server sent on its own.
    pub(super) fn others(&self) -> u64 {
        let others = self.links.clients.iter().map(|link| match &link.role {
            Role::Frames(session) => session.others(),
            Role::Polls(lane) => lane.others(),
            Role::Posts(_) => 0,
        });
        others.sum()
    }

    /// Returns the number of connections whose TLS handshake resumed an earlier session.
    pub(super) fn resumed(&self) -> usize {
        let resumed = |link: &&Link| link.tls.as_ref().is_some_and(TlsStream::is_resumed);
        self.links.clients.iter().filter(resumed).count()
    }

    /// Returns the number of heartbeats that WebSocket clients have answered.
    pub(super) fn heartbeats(&self) -> u64 {
        let heartbeats = self.links.clients.iter().map(|link| match &link.role {
            Role::Frames(session) => session.heartbeats(),
            Role::Polls(_) | Role::Posts(_) => 0,
        });
        heartbeats.sum()
    }

    /// Sends close frames, as far as possible without waiting.
    pub(super) fn send_close(&mut self) {
        for link in &mut self.links.clients {
            if let Role::Frames(_) = link.role {
                append_close(&mut link.out);
                // A closed connection needs no close frame.
                _ = link.flush();
            }
        }
    }

    fn open(&self, number: usize, role: Role, server: Arc<Server>) -> Result<Link, Error> {
        // A source address has some 28,000 ports, and picking one of the last is slow. Loopback has many addresses.
        let own = server.address.ip() == Ipv4Addr::LOCALHOST;
        let source =
            own.then(|| Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + (number / CLIENTS_PER_SOURCE) as u32));
        let socket = socket::connect(source, server.address, self.gentle)
            .and_then(|socket| self.poller.add(&socket, number).map(|()| socket))
            .map_err(|cause| connect_error(&server, cause))?;
        let tls = server.tls.as_ref().map(Tls::connect).transpose();
        let tls = tls.doing(|| format!("begin TLS with {}", server.host))?;
        Ok(Link { socket, role, server, connected: false, out: Vec::new(), tls })
    }
}

impl Links {
    fn at(&mut self, number: usize) -> &mut Link {
        if number < self.most { &mut self.clients[number] } else { &mut self.posters[number - self.most] }
    }
}

impl Link {
    /// Returns whether the client is ready; always `true` for POST connections.
    fn is_ready(&self) -> bool {
        match &self.role {
            Role::Frames(session) => session.is_ready(),
            Role::Polls(lane) => lane.is_ready(),
            Role::Posts(_) => true,
        }
    }

    fn finish_connecting(&mut self) -> std::io::Result<()> {
        sockopt::socket_error(&self.socket)??;
        self.connected = true;
        match &mut self.role {
            Role::Frames(_) => self.out = upgrade_request(&self.server),
            Role::Polls(lane) => self.out = lane.request(),
            Role::Posts(poster) => poster.post(&mut self.out),
        }
        self.flush()
    }

    /// Disables delayed TCP acknowledgements.
    ///
    /// Linux delays acknowledgements of a socket that has sent data. Over loopback they are then processed in the
    /// sender's time, 1.3 µs per message of a kilobyte. Socket.IO clients have sent a packet and plain WebSocket
    /// clients have not, so the results of the servers would not be comparable.
    fn acknowledge_at_once(&self) -> std::io::Result<()> {
        Ok(sockopt::set_tcp_quickack(&self.socket, true)?)
    }

    fn receive(&mut self, bytes: &[u8], deliver: &mut impl FnMut(&[u8])) -> Result<(), FaultMessage> {
        match &mut self.role {
            Role::Frames(session) => session.receive(bytes, &mut self.out, deliver),
            Role::Polls(lane) => lane.receive(bytes, &mut self.out, deliver),
            Role::Posts(poster) => poster.receive(bytes, &mut self.out),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<ReadOutcome> {
        match &mut self.tls {
            Some(tls) => tls.receive(&self.socket, buffer),
            None => socket::receive(&self.socket, buffer),
        }
    }

    /// Returns whether data waits to be sent.
    fn has_more(&self) -> bool {
        !self.out.is_empty() || self.tls.as_ref().is_some_and(TlsStream::has_more)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.connected && self.has_more() {
            let sent = match &mut self.tls {
                Some(tls) => tls.send(&self.socket, &self.out)?,
                None => socket::send(&self.socket, &self.out)?,
            };
            self.out.drain(..sent);
            if self.out.is_empty() && self.out.capacity() > KEPT_CAPACITY {
                self.out = Vec::new();
            }
        }
        Ok(())
    }
}

/// Names the target if it is the cause; a lack of ports or files on this machine is not.
fn connect_error(server: &Server, cause: std::io::Error) -> Error {
    use std::io::ErrorKind as Kind;
    let host = &server.host;
    match cause.kind() {
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::TimedOut
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown => Error::Unreachable { target: host.clone(), cause },
        _ => Error::System { doing: format!("connect to {host}"), cause },
    }
}

/// Timeout of a wait without progress.
pub(super) struct Patience {
    limit: Duration,
    last_progress: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, last_progress: now() }
    }

    /// Returns whether there has been no progress for too long.
    fn is_over(&self) -> bool {
        now() - self.last_progress > self.limit
    }

    /// Fails if there has been no progress for too long; `state` describes the progress so far.
    pub(super) fn check(&mut self, progress: bool, state: impl FnOnce() -> String) -> Result<(), Error> {
        let now = now();
        if progress {
            self.last_progress = now;
        } else if now - self.last_progress > self.limit {
            return Err(Error::Stalled(format!(
                "no progress for {} s: {}",
                self.limit.as_secs_f64(),
                state()
            )));
        }
        Ok(())
    }
}

const PONG: u8 = b'3';
/// Limit that does not overflow the server's listen backlog.
const CONNECTING_AT_ONCE: usize = 128;
const CLIENTS_PER_SOURCE: usize = 4000;
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Maximum capacity of an empty buffer; fits the upgrade request.
const KEPT_CAPACITY: usize = 64 << 10;
