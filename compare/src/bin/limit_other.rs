//! `limit_other PORT broadcast|echo`: a bare loop of another design, to check the limits.
//!
//! It shares no code with them: level-triggered epoll, blocking writes of the standard library, and a fixed tick. Messages
//! to all clients are collected for a millisecond after the first one, and then written once per socket; an echo is
//! written once per read.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use tungstenite::handshake::derive_accept_key;

#[derive(Default)]
struct Client {
    open: bool,
    /// Received bytes without a complete frame.
    rest: Vec<u8>,
}

struct Loop {
    echo: bool,
    clients: HashMap<u64, (TcpStream, Client)>,
    /// Frames of this tick for all clients.
    tick: Vec<u8>,
}

#[expect(clippy::disallowed_methods, reason = "it is a program of its own")]
fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || io::Error::other("usage: limit_other PORT broadcast|echo");
    let port: u16 = arguments.next().and_then(|port| port.parse().ok()).ok_or_else(usage)?;
    let echo = match arguments.next().as_deref() {
        Some("echo") => true,
        Some("broadcast") => false,
        _ => return Err(usage()),
    };
    roomcast_loadgen::process::raise_open_files()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    println!("listening on {}", listener.local_addr()?);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let watch = |socket: BorrowedFd<'_>, token| {
        epoll::add(&epoll, socket, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
    };
    watch(listener.as_fd(), LISTENER)?;
    let mut state = Loop { echo, clients: HashMap::new(), tick: Vec::new() };
    let mut buffer = vec![0; 64 << 10];
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
    let mut due: Option<Instant> = None;
    loop {
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) });
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => {
                    while let Ok((socket, _)) = listener.accept() {
                        socket.set_nodelay(true)?;
                        let token = socket.as_raw_fd() as u64;
                        watch(socket.as_fd(), token)?;
                        state.clients.insert(token, (socket, Client::default()));
                    }
                }
                token => {
                    if state.receive(token, &mut buffer).is_err() {
                        state.clients.remove(&token);
                    }
                }
            }
        }
        if state.tick.is_empty() {
            due = None;
        } else if *due.get_or_insert_with(|| Instant::now() + TICK) <= Instant::now() {
            state.broadcast();
            due = None;
        }
    }
}

impl Loop {
    fn receive(&mut self, token: u64, buffer: &mut [u8]) -> io::Result<()> {
        let Some((socket, client)) = self.clients.get_mut(&token) else { return Ok(()) };
        let read = socket.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        client.rest.extend_from_slice(&buffer[..read]);
        if !client.open {
            let Some(end) = client.rest.windows(4).position(|it| it == b"\r\n\r\n") else { return Ok(()) };
            let head = String::from_utf8_lossy(&client.rest[..end]).into_owned();
            let key = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("sec-websocket-key").then_some(value.trim())
            });
            let accept = derive_accept_key(key.ok_or(io::ErrorKind::InvalidData)?.as_bytes());
            socket.write_all(
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                )
                .as_bytes(),
            )?;
            client.rest.drain(..end + 4);
            client.open = true;
        }
        let mut own = Vec::new();
        let out = if self.echo { &mut own } else { &mut self.tick };
        let mut at = 0;
        while let Some(len) = text_frame(&client.rest[at..], out)? {
            at += len;
        }
        client.rest.drain(..at);
        if own.is_empty() { Ok(()) } else { socket.write_all(&own) }
    }

    fn broadcast(&mut self) {
        let tick = std::mem::take(&mut self.tick);
        self.clients.retain(|_, (socket, client)| !client.open || socket.write_all(&tick).is_ok());
        self.tick = tick;
        self.tick.clear();
    }
}

/// Appends the frame at the start of `input` without its mask; returns its length, or `None` if it is incomplete.
fn text_frame(input: &[u8], out: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let [first, second, after @ ..] = input else { return Ok(None) };
    if *first != FINAL_TEXT || second & 0x80 == 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (extended, len) = match second & 0x7f {
        126 => match after {
            [high, low, ..] => (2, usize::from(*high) << 8 | usize::from(*low)),
            _ => return Ok(None),
        },
        127 => return Err(io::ErrorKind::Unsupported.into()),
        len => (0, usize::from(len)),
    };
    let Some(body) = after.get(extended..extended + 4 + len) else { return Ok(None) };
    out.extend_from_slice(&[*first, second & 0x7f]);
    out.extend_from_slice(&after[..extended]);
    let (mask, payload) = body.split_at(4);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(Some(2 + extended + body.len()))
}

const LISTENER: u64 = u64::MAX;
const FINAL_TEXT: u8 = 0x81;
const TICK: Duration = Duration::from_millis(1);
