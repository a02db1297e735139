//! Bare servers inside a test process, for the tests of the load generator.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use roomcast_loadgen::websocket::FrameHeader;

use super::connection::{Connections, Gone};
use super::frames::{self, Frames};
use super::polling::Polling;
use super::server::{self, Server};
use super::{Pattern, QUIET_US, Send};

/// Bare server on a dedicated thread, stopped on drop.
#[derive(Debug)]
pub struct Running {
    /// Address the server listens on.
    pub address: SocketAddrV4,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a correct server.
    pub fn new(send: Send, pattern: Pattern) -> Self {
        match pattern {
            Pattern::Poll => Self::serve(Polling::new(send)),
            pattern => Self::serve(Frames::new(send, pattern)),
        }
    }

    /// Starts a long-polling server that pings each client right after its connect.
    pub fn pinging() -> Self {
        Self::serve(Polling::pinging())
    }

    /// Starts an echo server with one fault, in the first read of several frames.
    pub fn faulty(fault: Fault) -> Self {
        Self::serve(Faulty { echo: Frames::new(Send::Write, Pattern::Echo), fault: Some(fault) })
    }

    #[expect(clippy::disallowed_methods, reason = "the server under test runs on a dedicated thread")]
    fn serve<S: server::Service + std::marker::Send + 'static>(service: S) -> Self {
        let (tell_address, address) = mpsc::sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut server = Server::bind(
                SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
                service,
                Duration::from_micros(QUIET_US),
            )
            .unwrap();
            tell_address.send(server.address()).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                server.turn(Some(Duration::from_millis(5))).unwrap();
            }
        });
        Self { address: address.recv().unwrap(), stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread does not panic");
        }
    }
}

/// Fault of a [faulty](Running::faulty) server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Loses the first frame.
    Lose,
    /// Sends the first frame twice.
    Double,
    /// Sends the second frame before the first.
    Swap,
    /// Sends the first frame to another client.
    Misdeliver,
    /// Changes the last byte of the first frame.
    Damage,
}

struct Faulty {
    echo: Frames,
    fault: Option<Fault>,
}

impl server::Service for Faulty {
    type State = frames::State;

    fn receive(
        &mut self,
        connections: &mut Connections<Self::State>,
        index: usize,
        input: &[u8],
    ) -> Result<usize, Gone> {
        let Some(fault) = self.fault.take_if(|_| !input.starts_with(b"GET")) else {
            return self.echo.receive(connections, index, input);
        };
        // All payloads, and so all frames, have the same length.
        let length = FrameHeader::parse(input).unwrap().unwrap().frame_len();
        let mut frames: Vec<Vec<u8>> = input.chunks(length).map(<[u8]>::to_vec).collect();
        if frames.len() < 2 || frames.last().unwrap().len() < length {
            self.fault = Some(fault);
            return self.echo.receive(connections, index, input);
        }
        match fault {
            Fault::Lose => _ = frames.remove(0),
            Fault::Double => frames.insert(0, frames[0].clone()),
            Fault::Swap => frames.swap(0, 1),
            Fault::Damage => *frames[0].last_mut().unwrap() ^= 1,
            Fault::Misdeliver => {
                let stray = frames.remove(0);
                self.echo.receive(connections, usize::from(index == 0), &stray)?;
            }
        }
        for frame in frames {
            self.echo.receive(connections, index, &frame)?;
        }
        Ok(input.len())
    }

    fn is_collecting(&self) -> bool {
        self.echo.is_collecting()
    }

    fn end_turn(&mut self, connections: &mut Connections<Self::State>) {
        self.echo.end_turn(connections);
    }

    fn left(&mut self, index: usize, state: Self::State) {
        self.echo.left(index, state);
    }
}
