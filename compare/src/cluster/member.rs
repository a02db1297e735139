//! Socket.IO client of a server under test, which checks the numbers of the events.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use roomcast_loadgen::websocket::{FrameHeader, Opcode, append_frame, head_len};
use roomcast_loadgen::{Error, ErrorContext as _};

use super::ROOMS;

/// Connected client; a thread reads its events.
pub(super) struct Member {
    stream: TcpStream,
    events: Arc<Events>,
    reader: Option<JoinHandle<()>>,
}

/// Events that a client received.
pub(super) struct Events {
    /// Events in order, without probes.
    count: AtomicU64,
    probes: AtomicU64,
    /// Bits of the rooms whose probe arrived.
    probed: AtomicU64,
    /// Number of events at which the waiting thread is woken.
    wake_at: AtomicU64,
    waiting: Thread,
    problem: Mutex<Option<String>>,
}

/// Numbers that a client expects, in order within each room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) first: u64,
    pub(super) step: u64,
    /// Number of rooms; an event is for the room of its number modulo this.
    pub(super) rooms: u64,
}

impl Numbers {
    /// Returns the first number in each room.
    fn next_by_room(self) -> Vec<u64> {
        if self.rooms == 1 {
            return vec![self.first];
        }
        (0..self.rooms)
            .map(|room| self.first + (room + self.rooms - self.first % self.rooms) % self.rooms)
            .collect()
    }
}

impl Member {
    /// Connects and waits for the namespace.
    #[expect(clippy::disallowed_methods, reason = "a program without a runtime, and a blocking socket")]
    pub(super) fn connect(port: u16, expected: Numbers) -> Result<Self, Error> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).doing(|| "connect".into())?;
        stream.set_nodelay(true).doing(|| "set an option of a socket".into())?;
        stream.set_read_timeout(Some(PATIENCE)).doing(|| "set an option of a socket".into())?;
        stream.write_all(REQUEST).doing(|| "request an upgrade".into())?;
        let mut input = Input::default();
        let head = loop {
            if let Some(len) = head_len(&input.bytes) {
                break len;
            }
            input.read(&mut stream).doing(|| "read the response to an upgrade".into())?;
        };
        if !input.bytes.starts_with(b"HTTP/1.1 101") {
            return Err(Error::Server("no upgrade to WebSocket".into()));
        }
        input.at = head;
        let events = Arc::new(Events {
            count: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            probed: AtomicU64::new(0),
            wake_at: AtomicU64::new(u64::MAX),
            waiting: thread::current(),
            problem: Mutex::default(),
        });
        let mut member = Self { stream, events, reader: None };
        input.next(&mut member.stream, |packet| packet.starts_with(b"0").then_some(()))?;
        member.send("40")?;
        input.next(&mut member.stream, |packet| packet.starts_with(b"40").then_some(()))?;
        let mut stream = member.stream.try_clone().doing(|| "duplicate a socket".into())?;
        let events = member.events.clone();
        // It ends when the socket is shut down.
        member.reader = Some(thread::spawn(move || events.read(&mut input, &mut stream, expected)));
        Ok(member)
    }

    /// Sends an event with JSON arguments.
    pub(super) fn emit(&mut self, event: &str, args: &str) -> Result<(), Error> {
        self.send(&format!("42[\"{event}\",{args}]"))
    }

    fn send(&mut self, packet: &str) -> Result<(), Error> {
        let mut frame = Vec::with_capacity(packet.len() + 16);
        append_frame(&mut frame, Opcode::Text, Some([0; 4]), packet.as_bytes());
        self.stream.write_all(&frame).doing(|| "send to the server".into())
    }

    pub(super) fn events(&self) -> &Events {
        &self.events
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The server may have closed it.
        _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            _ = reader.join();
        }
    }
}

impl Events {
    /// Returns the number of events.
    ///
    /// # Errors
    /// Returns the first fault.
    pub(super) fn count(&self) -> Result<u64, Error> {
        match &*self.problem.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(problem) => Err(Error::Server(problem.clone())),
            None => Ok(self.count.load(Ordering::Acquire)),
        }
    }

    pub(super) fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Returns whether a probe of each room arrived.
    pub(super) fn is_probed(&self, rooms: u64) -> bool {
        self.probed.load(Ordering::Relaxed).count_ones() == u32::try_from(rooms).unwrap_or(u32::MAX)
    }

    /// Wakes the thread that connected the client at this number of events.
    pub(super) fn wake_at(&self, count: u64) {
        self.wake_at.store(count, Ordering::SeqCst);
    }

    fn read(&self, input: &mut Input, stream: &mut TcpStream, expected: Numbers) {
        let mut next_by_room = expected.next_by_room();
        loop {
            let number = match input.next(stream, number_of) {
                Ok(number) if number > PROBE - ROOMS => {
                    self.probed.fetch_or(1 << (PROBE - number), Ordering::Relaxed);
                    self.probes.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Ok(number) => number,
                Err(error) => return self.fail(error.to_string()),
            };
            let next = &mut next_by_room[(number % expected.rooms) as usize];
            if number != *next {
                return self.fail(format!("event {number} arrived in place of {next}"));
            }
            *next = number + expected.step;
            let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
            if count >= self.wake_at.load(Ordering::SeqCst) {
                self.wake_at.store(u64::MAX, Ordering::SeqCst);
                self.waiting.unpark();
            }
        }
    }

    fn fail(&self, problem: String) {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
        self.waiting.unpark();
    }
}

/// Returns the number of an event `msg`.
fn number_of(packet: &[u8]) -> Option<u64> {
    let digits = packet.strip_prefix(EVENT)?.get(..DIGITS)?;
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| 10 * number + u64::from(digit - b'0')))
}

/// Received bytes.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    /// Start of the bytes that are not handled.
    at: usize,
}

impl Input {
    /// Returns the first packet that `find` accepts.
    fn next<T>(&mut self, stream: &mut TcpStream, find: impl Fn(&[u8]) -> Option<T>) -> Result<T, Error> {
        loop {
            let rest = &self.bytes[self.at..];
            let header = FrameHeader::parse(rest).map_err(|error| Error::Server(error.to_string()))?;
            let Some(header) = header.filter(|header| header.frame_len() <= rest.len()) else {
                match self.read(stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => read.doing(|| "read from the server".into())?,
                }
                continue;
            };
            self.at += header.frame_len();
            if header.opcode == Opcode::Text
                && let Some(found) = find(&rest[header.header_len..header.frame_len()])
            {
                return Ok(found);
            }
        }
    }

    fn read(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.bytes.drain(..std::mem::take(&mut self.at));
        let filled = self.bytes.len();
        self.bytes.resize(filled + READ_SIZE, 0);
        let read = stream.read(&mut self.bytes[filled..]);
        self.bytes.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read.map(drop),
        }
    }
}

/// Number of events that are sent until they arrive, and not counted; lower ones for further rooms.
pub(super) const PROBE: u64 = 9_999_999_999;
const DIGITS: usize = 10;
const EVENT: &[u8] = b"42[\"msg\",\"";
const REQUEST: &[u8] =
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const READ_SIZE: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_expected_by_room() {
        let numbers = |first, rooms| Numbers { first, step: rooms, rooms }.next_by_room();
        assert_eq!(numbers(7, 1), [7]);
        assert_eq!(numbers(0, 4), [0, 1, 2, 3]);
        assert_eq!(numbers(10, 4), [12, 13, 10, 11]);
    }

    #[test]
    fn reads_numbers_of_events() {
        assert_eq!(number_of(b"42[\"msg\",\"0000000071xxx\"]"), Some(71));
        assert_eq!(number_of(b"42[\"msg\",\"9999999999\"]"), Some(PROBE));
        for other in [&b"2"[..], b"42[\"msg\",\"00000x0071\"]", b"42[\"msg\",\"71\"]", b"42[\"other\",1]"] {
            assert_eq!(number_of(other), None);
        }
    }
}
