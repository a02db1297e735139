//! Measured hot paths.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use roomcast::transport::Endpoint;
use roomcast::{Args, Io, Server, Socket};
use roomcast_core::{
    ByteString, Codec, Command, ConnectionError, ConnectionRole, Event, FlushList, Flusher, Frame, FrameSink,
    Inbound, MemberKey, Message, Namespace, Readiness, Room, Router, Session, Sid, SocketId, Target,
    TransportName, Wire as _,
};
use roomcast_engine::{OpenPacket, Version};
use roomcast_plain::{Mode, PlainSession};
use roomcast_rooms::Rooms;
use roomcast_socketio::{DefaultCodec, SocketIoSession};
use roomcast_transport_ws::WsWire;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::common::{event, member, text};
use crate::nodes::{self, BROADCASTS};

/// Work done per message, or per recipient of a message.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// Unit that the cost is divided by.
    pub(crate) unit: &'static str,
    /// Units per turn of the work.
    pub(crate) units: usize,
    pub(crate) prepare: fn() -> Box<dyn FnMut()>,
}

pub(crate) const PATHS: &[Path] = &[
    Path {
        name: "fan-out, plain",
        unit: "a recipient of 1,000",
        units: 1_000,
        prepare: || fan_out(Mode::Plain.codec(), 1_000),
    },
    Path {
        name: "fan-out, Socket.IO",
        unit: "a recipient of 1,000",
        units: 1_000,
        prepare: || fan_out(DefaultCodec::shared(), 1_000),
    },
    Path {
        name: "fan-out beside 1,000 that never read, plain",
        unit: "a recipient of 1,000",
        units: 1_000,
        prepare: || fan_out_beside(Mode::Plain.codec(), 1_000),
    },
    Path {
        name: "saturated fan-out, both kinds",
        unit: "a recipient of 100, of 32 events",
        units: 100 * BURST,
        prepare: || saturated(&[Mode::Plain.codec(), DefaultCodec::shared()], 100),
    },
    Path {
        name: "emit to one, plain",
        unit: "an event",
        units: 1,
        prepare: || fan_out(Mode::Plain.codec(), 1),
    },
    Path {
        name: "emit to one, Socket.IO",
        unit: "an event",
        units: 1,
        prepare: || fan_out(DefaultCodec::shared(), 1),
    },
    Path {
        name: "an event comes in, plain",
        unit: "an event",
        units: 1,
        prepare: || comes_in(plain(), text(64).to_string()),
    },
    Path {
        name: "an event comes in, Socket.IO",
        unit: "an event",
        units: 1,
        prepare: || comes_in(socket_io(), format!(r#"42["message","{}"]"#, text(64))),
    },
    Path {
        name: "echo, plain",
        unit: "an event, handler and all",
        units: ECHOES,
        prepare: || echo(&plain_echo()),
    },
    Path {
        name: "echo, Socket.IO",
        unit: "an event, handler and all",
        units: ECHOES,
        prepare: || echo(&socket_io_echo()),
    },
    Path {
        name: "broadcast to nobody, no cluster",
        unit: "a broadcast of 16",
        units: BROADCASTS,
        prepare: nodes::without,
    },
    Path {
        name: "broadcast to nobody, cluster of one node",
        unit: "a broadcast of 16",
        units: BROADCASTS,
        prepare: || nodes::among(1),
    },
    Path {
        name: "broadcast to nobody, cluster of two nodes",
        unit: "a broadcast of 16, with the task of the connection",
        units: BROADCASTS,
        prepare: || nodes::among(2),
    },
    Path {
        name: ROOMS[0],
        unit: "a join, a broadcast to ten and a leave",
        units: 1,
        prepare: || town(1_000),
    },
    Path {
        name: ROOMS[1],
        unit: "a join, a broadcast to ten and a leave",
        units: 1,
        prepare: || town(100_000),
    },
    Path {
        name: ROOMS[2],
        unit: "a join, a broadcast to ten and a leave",
        units: 1,
        prepare: || town(1_000_000),
    },
];

/// The same work with a growing number of memberships.
pub(crate) const ROOMS: [&str; 3] =
    ["rooms, 1,000 memberships", "rooms, 100,000 memberships", "rooms, 1,000,000 memberships"];

/// Broadcasts an event: encodes it, queues it for each member, and writes it.
fn fan_out(codec: Arc<dyn Codec>, members: usize) -> Box<dyn FnMut()> {
    let (rooms, flush) = (Rooms::default(), FlushList::new());
    for number in 0..members {
        rooms.attach(member(number, &codec, &flush));
    }
    let (target, event) = (Target::default(), event(64));
    let mut flusher = Flusher::new(flush);
    Box::new(move || {
        assert_eq!(rooms.broadcast(&target, &event).flush_backlog().queued, members);
        flusher.write_all();
    })
}

/// Broadcasts several events to members of these codecs in turn, and then writes them.
fn saturated(codecs: &[Arc<dyn Codec>], members: usize) -> Box<dyn FnMut()> {
    let (rooms, flush) = (Rooms::default(), FlushList::new());
    for (number, codec) in (0..members).zip(codecs.iter().cycle()) {
        rooms.attach(member(number, codec, &flush));
    }
    let (target, event) = (Target::default(), event(64));
    let mut flusher = Flusher::new(flush);
    Box::new(move || {
        for _ in 0..BURST {
            assert_eq!(rooms.broadcast(&target, &event).flush_backlog().queued, members);
        }
        flusher.write_all();
    })
}

/// Events that are written together.
const BURST: usize = 32;

/// Like [`fan_out`], with as many stalled members.
fn fan_out_beside(codec: Arc<dyn Codec>, members: usize) -> Box<dyn FnMut()> {
    let (rooms, flush) = (Rooms::default(), FlushList::new());
    for number in 0..members {
        rooms.attach(member(number, &codec, &flush));
        let stalled = member(members + number, &codec, &flush);
        stalled.outbox.set_sink(Box::new(FullSink));
        rooms.attach(stalled);
    }
    let (target, event) = (Target::default(), event(64));
    let mut flusher = Flusher::new(flush);
    Box::new(move || {
        assert_eq!(rooms.broadcast(&target, &event).flush_backlog().queued, 2 * members);
        flusher.write_all();
    })
}

/// Write half of a client that does not read.
#[derive(Debug)]
struct FullSink;

impl FrameSink for FullSink {
    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        _: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        Ok(Readiness::Blocked)
    }
}

fn plain() -> Box<dyn Session> {
    Box::new(PlainSession::new(Mode::Plain, Arc::default(), Namespace::main()))
}

fn socket_io() -> Box<dyn Session> {
    let handshake = OpenPacket { sid: Sid::new("s3cret"), version: Version::V4 };
    Box::new(SocketIoSession::new(Arc::default(), handshake))
}

/// Turns a received message into an event for the application.
#[expect(clippy::disallowed_methods, reason = "a starting time is needed")]
fn comes_in(mut session: Box<dyn Session>, message: String) -> Box<dyn FnMut()> {
    let now = Instant::now();
    session.handle_connection_opened(ConnectionRole::Primary, TransportName("websocket"), now);
    if message.starts_with("42[") {
        session.handle_message(ConnectionRole::Primary, "40".into(), now);
    }
    let (namespace, socket) = (Namespace::main(), SocketId::new("socket"));
    session.handle_command(Command::Accept { namespace, socket, recovery: None }, now);
    while session.poll_action().is_some() {}
    let message = Message::from(message);
    // As in the driver: one place for the events of a read.
    let (namespace, name) = (Namespace::main(), ByteString::new());
    let mut event = Inbound { namespace, name, args: Args::empty(), ack: None };
    Box::new(move || {
        let is_event = session.handle_message_into(ConnectionRole::Primary, message.clone(), now, &mut event);
        assert!(is_event && session.poll_action().is_none());
    })
}

/// Handshake messages, and the message that is echoed.
struct Talk {
    target: &'static str,
    /// Messages to send, with the number of responses to each.
    opening: &'static [(&'static str, usize)],
    message: String,
}

fn plain_echo() -> Talk {
    Talk { target: "/plain", opening: &[], message: text(64).to_string() }
}

fn socket_io_echo() -> Talk {
    Talk {
        target: "/socket.io/?EIO=4&transport=websocket",
        opening: &[("", 1), ("40", 1)],
        message: format!(r#"42["message","{}"]"#, text(64)),
    }
}

/// Echoes events through the whole server, with the client on the same thread; all events of a turn are in one write.
fn echo(talk: &Talk) -> Box<dyn FnMut()> {
    let io = Io::builder().endpoint(Endpoint::socket_io()).endpoint(Endpoint::plain("/plain")).build();
    io.on("message", async |socket: Socket, args: Args| {
        assert!(socket.emit("message", &args).is_ok());
    });
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bound = Server::new(io).bind("127.0.0.1:0").expect("there is a port");
    let address = bound.address();
    runtime.spawn(async move { bound.serve().await.map(drop) });
    let mut stream = runtime.block_on(async {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let upgrade = format!(
            "GET {} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            talk.target
        );
        stream.write_all(upgrade.as_bytes()).await.expect("the server reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the server answers"));
        }
        for &(said, answers) in talk.opening {
            if !said.is_empty() {
                stream.write_all(&masked(said)).await.expect("the server reads");
            }
            for _ in 0..answers {
                let _ = stream.read_u8().await;
                let length = stream.read_u8().await.expect("the server answers");
                let length = if length == 126 {
                    usize::from(stream.read_u16().await.expect("a length"))
                } else {
                    length.into()
                };
                stream.read_exact(&mut vec![0; length]).await.expect("a message");
            }
        }
        stream
    });
    let (out, back) =
        (masked(&talk.message).repeat(ECHOES), WsWire.render(&[Message::from(talk.message.clone())]));
    let expected = back.repeat(ECHOES);
    let mut answer = vec![0; expected.len()];
    Box::new(move || {
        round(&runtime, &mut stream, &out, &mut answer);
        assert!(answer == expected, "unexpected response");
    })
}

fn round(runtime: &Runtime, stream: &mut TcpStream, out: &[u8], answer: &mut [u8]) {
    runtime.block_on(async {
        stream.write_all(out).await.expect("the server reads");
        stream.read_exact(answer).await.expect("the server answers");
    });
}

/// Creates a client's frame with a zero masking key.
fn masked(text: &str) -> Vec<u8> {
    let mut frame = WsWire.render(&[Message::from(text.to_owned())]).to_vec();
    frame[1] |= 0x80;
    let header = if text.len() > 125 { 4 } else { 2 };
    frame.splice(header..header, [0; 4]);
    frame
}

/// Joins a member to one of many rooms, broadcasts to a room, and leaves.
fn town(memberships: usize) -> Box<dyn FnMut()> {
    let (codec, flush, rooms) = (Mode::Plain.codec(), FlushList::new(), Rooms::default());
    let names: Vec<Room> = (0..memberships / TEN).map(|number| Room::new(format!("room-{number}"))).collect();
    // Each member is in ten rooms, and each room has ten members.
    let keys: Vec<MemberKey> =
        (0..names.len()).map(|number| rooms.attach(member(number, &codec, &flush))).collect();
    for (at, key) in keys.iter().enumerate() {
        for room in names.iter().cycle().skip(at).take(TEN) {
            rooms.join(*key, room);
        }
    }
    let targets: Vec<Target> =
        names.iter().map(|room| Target { rooms: vec![room.clone()], ..Target::default() }).collect();
    let event: Event = event(64);
    let mut at = 0;
    let mut flusher = Flusher::new(flush);
    Box::new(move || {
        at = (at + STEP) % keys.len();
        // The next room after the member's rooms, which are consecutive.
        let other = (at + TEN) % names.len();
        rooms.join(keys[at], &names[other]);
        assert_eq!(rooms.broadcast(&targets[at], &event).flush_backlog().queued, TEN);
        flusher.write_all();
        rooms.leave(keys[at], &names[other]);
    })
}

const ECHOES: usize = 16;
const TEN: usize = 10;
/// Step that is coprime to the numbers of members and rooms.
const STEP: usize = 7_919;
