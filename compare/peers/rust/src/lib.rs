//! Shared server code: command line and room membership.
//!
//! Each program is `NAME PORT MODE [--tuned] [--threads N] [--ping-interval SECONDS]` and behaves like Roomcast's example `fanout_server` in the
//! modes `broadcast`, `echo` and `room`. All run on one thread by default, like that server.

#![warn(missing_docs)]

use std::collections::HashMap;
use std::env;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use futures_channel::mpsc::UnboundedSender;

/// Command line of the program.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Handling of a message.
    pub mode: Mode,
    /// Whether to use the one setting known to help.
    pub tuned: bool,
    /// Number of worker threads.
    pub threads: usize,
    /// Seconds between two heartbeats, for libraries that send them.
    pub ping_interval: Option<u32>,
}

impl Options {
    /// Parses the command line; exits with usage information if it is invalid.
    pub fn parse() -> Self {
        let words: Vec<String> = env::args().skip(1).collect();
        Self::of(&words).unwrap_or_else(|| {
            eprintln!("usage: PORT broadcast|echo|room [--tuned] [--threads N] [--ping-interval SECONDS]");
            std::process::exit(2);
        })
    }

    fn of(words: &[String]) -> Option<Self> {
        let [port, mode, rest @ ..] = words else { return None };
        let (port, mode) = (port.parse().ok()?, Mode::of(mode)?);
        let mut options = Self { port, mode, tuned: false, threads: 1, ping_interval: None };
        let mut rest = rest.iter().map(String::as_str);
        while let Some(word) = rest.next() {
            match word {
                "--tuned" => options.tuned = true,
                "--threads" => options.threads = rest.next()?.parse().ok().filter(|&threads| threads > 0)?,
                "--ping-interval" => options.ping_interval = Some(rest.next()?.parse().ok()?),
                _ => return None,
            }
        }
        Some(options)
    }

    /// Returns the listen address.
    pub fn address(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.port)
    }
}

/// Handling of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Broadcast to all clients, the sender included.
    Broadcast,
    /// Return to the sender.
    Echo,
    /// `J<room>` joins a room, `R<room> <text>` sends to the members of a room.
    Room,
}

impl Mode {
    fn of(name: &str) -> Option<Self> {
        match name {
            "broadcast" => Some(Self::Broadcast),
            "echo" => Some(Self::Echo),
            "room" => Some(Self::Room),
            _ => None,
        }
    }
}

/// Command of a plain client in the mode `room`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Join a room.
    Join(&'a str),
    /// Send text to a room.
    Say {
        /// Name of the room.
        room: &'a str,
        /// Text to send.
        text: &'a str,
    },
}

impl<'a> Command<'a> {
    /// Parses a command; returns `None` for other text.
    pub fn of(text: &'a str) -> Option<Self> {
        if let Some(room) = text.strip_prefix('J') {
            return Some(Self::Join(room));
        }
        let (room, text) = text.strip_prefix('R')?.split_once(' ')?;
        Some(Self::Say { room, text })
    }
}

/// Channels of all clients, and of the members of each room.
///
/// A map of peers behind a mutex, as in tokio-tungstenite's chat example, with rooms added.
#[derive(Debug)]
pub struct Hub<Id, Message> {
    peers: Mutex<HashMap<Id, UnboundedSender<Message>>>,
    rooms: Mutex<HashMap<String, Members<Id, Message>>>,
}

type Members<Id, Message> = HashMap<Id, UnboundedSender<Message>>;

impl<Id, Message> Default for Hub<Id, Message> {
    fn default() -> Self {
        Self { peers: Mutex::default(), rooms: Mutex::default() }
    }
}

impl<Id: Copy + Eq + Hash, Message: Clone> Hub<Id, Message> {
    /// Adds a client.
    pub fn enter(&self, id: Id, sender: UnboundedSender<Message>) {
        self.peers.lock().unwrap().insert(id, sender);
    }

    /// Removes a client.
    pub fn leave(&self, id: Id) {
        self.peers.lock().unwrap().remove(&id);
        for room in self.rooms.lock().unwrap().values_mut() {
            room.remove(&id);
        }
    }

    /// Handles a message of a client; `whole` is the message, and `part` creates a message from a part of its text.
    pub fn hear(&self, mode: Mode, id: Id, text: &str, whole: Message, part: impl FnOnce(&str) -> Message) {
        match mode {
            // Sending to a client that has disconnected fails; ignore it.
            Mode::Broadcast => {
                for peer in self.peers.lock().unwrap().values() {
                    let _ = peer.unbounded_send(whole.clone());
                }
            }
            Mode::Echo => {
                if let Some(peer) = self.peers.lock().unwrap().get(&id) {
                    let _ = peer.unbounded_send(whole);
                }
            }
            Mode::Room => match Command::of(text) {
                Some(Command::Join(room)) => {
                    if let Some(peer) = self.peers.lock().unwrap().get(&id).cloned() {
                        self.rooms.lock().unwrap().entry(room.to_owned()).or_default().insert(id, peer);
                    }
                }
                Some(Command::Say { room, text }) => {
                    if let Some(members) = self.rooms.lock().unwrap().get(room) {
                        let message = part(text);
                        for member in members.values() {
                            let _ = member.unbounded_send(message.clone());
                        }
                    }
                }
                None => {}
            },
        }
    }
}

/// Runs a server: on this thread, or with several threads on tokio's work-stealing runtime.
pub fn run<F: Future<Output = std::io::Result<()>>>(options: Options, server: F) -> std::io::Result<()> {
    let mut runtime = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(options.threads).enable_all().build()?.block_on(server)
}
