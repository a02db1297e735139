//! Load balancer for HTTP/1.1 that keeps each Engine.IO session on its server.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::request::{RequestHead, opened_session};

/// Load balancer: the fewest connections for a new session, and the same server for its further requests.
///
/// It learns the server of a session from the answer that opens it, so clients without cookies are sticky too. For
/// demonstrations: two threads serve each connection, which carries one request.
#[derive(Debug)]
pub(crate) struct Balancer {
    servers: Vec<Server>,
    /// Opened sessions in order.
    sessions: Mutex<Sessions>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct Sessions {
    servers: HashMap<String, usize>,
    order: VecDeque<String>,
}

impl Balancer {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        let servers =
            addresses.into_iter().map(|address| Server { address, connections: AtomicUsize::new(0) });
        Self { servers: servers.collect(), sessions: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// Serves connections; never returns.
    pub(crate) fn serve(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let Ok(client) = client else {
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let balancer = self.clone();
            // A failure concerns one client, which connects again.
            thread::spawn(move || balancer.forward(client));
        }
    }

    fn forward(&self, mut client: TcpStream) -> io::Result<()> {
        let (head, body) = read_head(&mut client)?;
        let Some(request) = RequestHead::parse(&head) else {
            return client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        };
        let Some((server, mut stream)) = self.connect(request.session()) else {
            return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n");
        };
        self.servers[server].connections.fetch_add(1, Ordering::Relaxed);
        let mut exchange = || {
            stream.write_all(request.forwarded(client.peer_addr()?.ip()).as_bytes())?;
            stream.write_all(&body)?;
            if request.opens_session() {
                let (answer, session) = read_answer(&mut stream)?;
                if let Some(session) = session {
                    self.sessions().insert(session, server);
                }
                client.write_all(&answer)?;
            }
            copy_both_ways(&client, &stream)
        };
        let outcome = exchange();
        self.servers[server].connections.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Connects to the server of a session, or for a new one to the server with the fewest connections.
    fn connect(&self, session: Option<&str>) -> Option<(usize, TcpStream)> {
        let known = session.and_then(|session| self.sessions().servers.get(session).copied());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut candidates: Vec<_> = match known {
            Some(server) => vec![server],
            None => (0..self.servers.len()).collect(),
        };
        let count = self.servers.len();
        candidates.sort_by_key(|&server| {
            (self.servers[server].connections.load(Ordering::Relaxed), (server + turn) % count)
        });
        candidates.into_iter().find_map(|server| {
            let stream = TcpStream::connect(self.servers[server].address).ok()?;
            let _ = stream.set_nodelay(true);
            Some((server, stream))
        })
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn insert(&mut self, session: String, server: usize) {
        if self.order.len() >= MAX_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.servers.remove(&oldest);
        }
        self.order.push_back(session.clone());
        self.servers.insert(session, server);
    }
}

/// Reads a request up to the empty line; returns what follows it as well.
fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let body = bytes.split_off(end + 4);
            client.set_read_timeout(None)?;
            return match String::from_utf8(bytes) {
                Ok(head) => Ok((head, body)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            };
        }
        let read = client.read(&mut buffer)?;
        if read == 0 || bytes.len() > MAX_HEAD {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
    }
}

/// Reads an answer up to the session that it opens, or to its end.
fn read_answer(stream: &mut TcpStream) -> io::Result<(Vec<u8>, Option<String>)> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..read]);
        let session = opened_session(&answer);
        if session.is_some() || read == 0 || answer.len() > MAX_HEAD {
            return Ok((answer, session));
        }
    }
}

/// Copies in both directions until each has ended.
fn copy_both_ways(client: &TcpStream, server: &TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let upstream = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        // A client that leaves aborts its poll.
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let (mut from_server, mut to_client) = (server, client);
    let copied = io::copy(&mut from_server, &mut to_client);
    // The answer is complete, or the WebSocket is closed: no further request comes on this connection.
    let _ = client.shutdown(Shutdown::Both);
    let _ = upstream.join();
    copied.map(drop)
}

const MAX_HEAD: usize = 64 << 10;
/// Sessions that are known; an older one is opened again by its client.
const MAX_SESSIONS: usize = 100_000;
