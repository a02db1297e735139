//! Shared server code: command line and room membership.
//!
//! Each program is `NAME PORT MODE [--tuned]` and does what the product's example `fanout_server` does in the modes
//! `broadcast`, `echo` and `room`. All run on one thread, as the server they are compared with does.

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
    /// The port on 127.0.0.1.
    pub port: u16,
    /// Handling of a message.
    pub mode: Mode,
    /// Whether the one setting known to help is used.
    pub tuned: bool,
}

impl Options {
    /// Reads the command line, and ends the program if it makes no sense.
    pub fn parse() -> Self {
        let words: Vec<String> = env::args().skip(1).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let parsed = match words[..] {
            [port, mode] => port.parse().ok().zip(Mode::of(mode)).map(|it| (it, false)),
            [port, mode, "--tuned"] => port.parse().ok().zip(Mode::of(mode)).map(|it| (it, true)),
            _ => None,
        };
        let Some(((port, mode), tuned)) = parsed else {
            eprintln!("usage: PORT broadcast|echo|room [--tuned]");
            std::process::exit(2);
        };
        Self { port, mode, tuned }
    }

    /// Where to listen.
    pub fn address(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.port)
    }
}

/// Handling of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Broadcast to all clients, the sender included.
    Broadcast,
    /// It goes back to its sender.
    Echo,
    /// `J<room>` joins, `R<room> <text>` goes to the members of the room.
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
    /// To be in this room.
    Join(&'a str),
    /// To say this in that room.
    Say {
        /// Where.
        room: &'a str,
        /// Action.
        text: &'a str,
    },
}

impl<'a> Command<'a> {
    /// Reads a command; none of anything else.
    pub fn of(text: &'a str) -> Option<Self> {
        if let Some(room) = text.strip_prefix('J') {
            return Some(Self::Join(room));
        }
        let (room, text) = text.strip_prefix('R')?.split_once(' ')?;
        Some(Self::Say { room, text })
    }
}

/// Channels of all clients, and those of the members of each room.
///
/// The map of peers behind a mutex that tokio-tungstenite's own chat example has, with rooms beside it.
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
    /// A client came.
    pub fn enter(&self, id: Id, sender: UnboundedSender<Message>) {
        self.peers.lock().unwrap().insert(id, sender);
    }

    /// A client left.
    pub fn leave(&self, id: Id) {
        self.peers.lock().unwrap().remove(&id);
        for room in self.rooms.lock().unwrap().values_mut() {
            room.remove(&id);
        }
    }

    /// A client said something; `whole` is it as a message, and `part` makes a message of a part of it.
    pub fn hear(&self, mode: Mode, id: Id, text: &str, whole: Message, part: impl FnOnce(&str) -> Message) {
        match mode {
            // A client that has left has no receiver, which is not an error.
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

/// Runs a server on this thread, which runs all of its tasks.
pub fn run<F: Future<Output = std::io::Result<()>>>(server: F) -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(server)
}
