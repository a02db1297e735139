//! Bare epoll servers: lower bound of the cost on this kernel, and baseline of all others.
//!
//! One thread, no async runtime, no general protocol stack: a handshake on any path, one frame encoded for all
//! recipients, one send per socket. The remaining cost is the kernel's. [`Send::Write`] sends every message
//! immediately; [`Send::Batch`] collects messages until none has arrived for a millisecond, and then writes once per
//! socket. An echo is written once per read.

mod connection;
mod frames;
mod polling;
mod rooms;
mod server;
pub mod testing;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use roomcast_loadgen::process::raise_open_files;
use roomcast_loadgen::{Error, ErrorContext as _};

use frames::Frames;
use polling::Polling;
use server::Server;

/// Minimal server as a lower bound: bare epoll, one thread, frames encoded once
///
/// Speaks plain WebSocket on any path (text frames), or with `--pattern poll` Socket.IO over long-polling. It
/// implements just enough of both to be measured; do not use it as a server. Runs until it is killed.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "limit")]
pub struct Options {
    /// Port on 127.0.0.1; 0 picks a free port, printed in the first line of output
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// When to send messages
    #[arg(long, value_enum, default_value_t = Send::Batch)]
    pub send: Send,
    /// Delivery pattern
    #[arg(long, value_enum, default_value_t = Pattern::Broadcast)]
    pub pattern: Pattern,
    /// Microseconds without an event after which collected messages are sent, with `--send batch`
    #[arg(long, value_name = "MICROSECONDS", default_value_t = QUIET_US)]
    pub quiet: u64,
}

/// Default of `--quiet`, the cheapest: 7 % below `limit-other` in `saturated`, where 100 µs are 3 % above it.
pub(crate) const QUIET_US: u64 = 1000;

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Send {
    /// One send() per socket and message
    Write,
    /// One send() per socket for all messages that arrive within `--quiet` of each other
    Batch,
}

/// Delivery pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pattern {
    /// Each message goes to all clients, the sender included
    Broadcast,
    /// Each message returns to its sender
    Echo,
    /// `J<room>` joins a room; `R<room> <text>` sends the text to all members of a room
    Room,
    /// Socket.IO over long-polling: each event goes to all clients, the sender included
    Poll,
}

/// Serves until the process is killed.
///
/// # Errors
///
/// Fails if the port is in use or epoll fails. Errors of a client only close its connection.
pub fn run(options: &Options) -> Result<std::convert::Infallible, Error> {
    raise_open_files().doing(|| "raise the limit of open files".into())?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, options.port);
    let quiet = Duration::from_micros(options.quiet);
    match options.pattern {
        Pattern::Poll => serve(address, quiet, Polling::new(options.send)),
        pattern => serve(address, quiet, Frames::new(options.send, pattern)),
    }
}

fn serve<S: server::Service>(
    address: SocketAddrV4,
    quiet: Duration,
    service: S,
) -> Result<std::convert::Infallible, Error> {
    let mut server = Server::bind(address, service, quiet).doing(|| format!("listen on {address}"))?;
    // The parent process may have closed the pipe after the first line, or never opened it.
    _ = writeln!(std::io::stdout(), "listening on {}", server.address());
    loop {
        server.turn(None).doing(|| "wait for events".into())?;
    }
}
