//! Bare epoll servers: what nobody can beat on this kernel, and so the yardstick of all others
//!
//! One thread, no runtime, no general protocol stack: a handshake on any path, one frame encoded for all recipients,
//! one send for each socket. What remains is the kernel's work. [`Send::Write`] sends every message at once;
//! [`Send::Batch`] first takes all that a loop turn brings and then writes once to each socket.

mod connection;
mod frames;
mod polling;
mod rooms;
mod server;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::Error;
use crate::error::Doing as _;
use crate::process::raise_open_files;
use frames::Frames;
use polling::Polling;
use server::Server;

/// The least a server can do: bare epoll, one thread, frames encoded once
///
/// Speaks plain WebSocket on any path (text frames), or with `--pattern poll` Socket.IO by long-polling. It knows
/// just enough of both to be measured; it is not a server to use. Runs until it is killed.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "limit")]
pub struct Options {
    /// Port on 127.0.0.1; 0 takes a free one, and the first line of output tells which
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// When messages go out
    #[arg(long, value_enum, default_value_t = Send::Batch)]
    pub send: Send,
    /// What becomes of a message
    #[arg(long, value_enum, default_value_t = Pattern::Broadcast)]
    pub pattern: Pattern,
}

/// When messages go out
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Send {
    /// One send() for each socket and message
    Write,
    /// One send() for each socket and loop turn, with all that the turn brought
    Batch,
}

/// What becomes of a message
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pattern {
    /// It goes to every client, the sender among them
    Broadcast,
    /// It goes back to its sender
    Echo,
    /// `J<room>` joins a room; `R<room> <text>` sends the text to all members of a room
    Room,
    /// Socket.IO by long-polling: an event goes to every client, the sender among them
    Poll,
}

/// Serves until the process is killed
///
/// # Errors
///
/// If the port is taken or the system refuses epoll. What a client does ends at most its own connection.
pub fn run(options: &Options) -> Result<std::convert::Infallible, Error> {
    raise_open_files().doing(|| "raise the limit of open files".into())?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, options.port);
    match options.pattern {
        Pattern::Poll => serve(address, Polling::new(options.send)),
        pattern => serve(address, Frames::new(options.send, pattern)),
    }
}

fn serve<S: server::Service>(address: SocketAddrV4, service: S) -> Result<std::convert::Infallible, Error> {
    let mut server = Server::bind(address, service).doing(|| format!("listen on {address}"))?;
    // Whoever started this may have closed the pipe after the first line, or never opened it.
    _ = writeln!(std::io::stdout(), "listening on {}", server.address());
    loop {
        server.turn(None).doing(|| "wait for events".into())?;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread::JoinHandle;
    use std::time::Duration;

    use super::connection::{Connections, Gone};
    use super::*;
    use crate::websocket::FrameHeader;

    /// A limit server on a thread of its own, until it is dropped
    pub(crate) struct Running {
        pub(crate) address: SocketAddrV4,
        stop: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    }

    impl Running {
        pub(crate) fn new(send: Send, pattern: Pattern) -> Self {
            match pattern {
                Pattern::Poll => Self::serve(Polling::new(send)),
                pattern => Self::serve(Frames::new(send, pattern)),
            }
        }

        /// Speaks to clients that poll, and at once asks each for a sign of life
        pub(crate) fn pinging() -> Self {
            Self::serve(Polling::pinging())
        }

        /// Echoes, but does this once to a read that brings several frames
        pub(crate) fn faulty(fault: Fault) -> Self {
            Self::serve(Faulty { echo: Frames::new(Send::Write, Pattern::Echo), fault: Some(fault) })
        }

        #[expect(clippy::disallowed_methods, reason = "the server under test has a thread of its own")]
        fn serve<S: server::Service + std::marker::Send + 'static>(service: S) -> Self {
            let (tell_address, address) = mpsc::sync_channel(1);
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = Arc::clone(&stop);
            let thread = std::thread::spawn(move || {
                let mut server = Server::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), service).unwrap();
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
            self.thread.take().unwrap().join().unwrap();
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Fault {
        Lose,
        Double,
        Swap,
        Misdeliver,
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
            // All frames are equally long, as all payloads are.
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

        fn end_turn(&mut self, connections: &mut Connections<Self::State>) {
            self.echo.end_turn(connections);
        }

        fn left(&mut self, index: usize, state: Self::State) {
            self.echo.left(index, state);
        }
    }
}
