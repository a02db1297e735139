//! Bare epoll servers: lower bound of the cost on this kernel, and baseline of all others.
//!
//! One thread, no runtime, no general protocol stack: a handshake on any path, one frame encoded for all recipients,
//! one send for each socket. What remains is the kernel's work. [`Send::Write`] sends every message at once;
//! [`Send::Batch`] first takes all that a loop turn brings and then writes once to each socket.

mod connection;
mod frames;
mod polling;
mod rooms;
mod server;
pub mod testing;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use roomcast_loadgen::process::raise_open_files;
use roomcast_loadgen::{Doing as _, Error};

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
/// If the port is taken or the system refuses epoll. A client can at most end its own connection.
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
    // The parent process may have closed the pipe after the first line, or never opened it.
    _ = writeln!(std::io::stdout(), "listening on {}", server.address());
    loop {
        server.turn(None).doing(|| "wait for events".into())?;
    }
}
