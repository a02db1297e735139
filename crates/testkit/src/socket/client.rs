//! Clients of every protocol with a common interface.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::dial::Dial;
use super::engine::Engine;
use super::json_mode;
pub use super::message::{ClientMessage, Heard, as_bytes, bytes};
use super::socketio;
use super::ws::{Ended, Message, Ws};

/// Kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Socket.IO over long-polling.
    Polling,
    /// Socket.IO over WebSocket.
    WebSocket,
    /// Socket.IO upgraded from polling to WebSocket.
    Upgraded,
    /// WebSocket with `roomcast.json`.
    Json,
    /// WebSocket without a subprotocol.
    Plain,
}

/// Kinds that support acknowledgements.
pub const ACK_KINDS: [Kind; 4] = [Kind::Polling, Kind::WebSocket, Kind::Upgraded, Kind::Json];
/// Kinds that use Socket.IO.
pub const SOCKET_IO: [Kind; 3] = [Kind::Polling, Kind::WebSocket, Kind::Upgraded];
/// All kinds.
pub const ALL: [Kind; 5] = [Kind::Polling, Kind::WebSocket, Kind::Upgraded, Kind::Json, Kind::Plain];

/// Blocking client of any kind.
#[derive(Debug)]
pub struct Client {
    /// Kind of this client.
    pub kind: Kind,
    /// Public id in the main namespace, once known; plain clients do not receive it.
    pub id: String,
    link: Link,
    /// Packet whose attachments are missing.
    partial: VecDeque<Message>,
    next_ack: u64,
}

#[derive(Debug)]
enum Link {
    Engine(Engine),
    Json(Ws),
    Plain(Ws),
}

impl Client {
    /// Connects and joins the main namespace.
    pub fn connect(kind: Kind, dial: &Dial) -> Self {
        let mut client = Self::open(kind, dial);
        client.send_connect(json!(null));
        client.expect_connected();
        client
    }

    /// Connects, and upgrades if its kind does; joins no namespace.
    pub fn open(kind: Kind, dial: &Dial) -> Self {
        let link = match kind {
            Kind::Polling => Link::Engine(Engine::polling(dial, SOCKET_IO_PATH)),
            Kind::WebSocket => Link::Engine(Engine::websocket(dial, SOCKET_IO_PATH)),
            Kind::Upgraded => {
                let mut engine = Engine::polling(dial, SOCKET_IO_PATH);
                let ws = engine.probe();
                engine.move_to(ws);
                Link::Engine(engine)
            }
            Kind::Json => Link::Json(Ws::open(dial, PLAIN_PATH, Some(json_mode::SUBPROTOCOL))),
            Kind::Plain => Link::Plain(Ws::open(dial, PLAIN_PATH, None)),
        };
        Self { kind, id: String::new(), link, partial: VecDeque::new(), next_ack: 0 }
    }

    /// Requests to join the main namespace, if the protocol has such a request.
    pub fn send_connect(&mut self, auth: Value) {
        self.send_connect_to("/", auth);
    }

    /// Requests to join a namespace, if the protocol has such a request.
    pub fn send_connect_to(&mut self, namespace: &str, auth: Value) {
        if let Link::Engine(engine) = &mut self.link {
            engine.send(socketio::connect(namespace, &auth));
        }
    }

    /// Waits until the client has joined; a plain client waits until the server has handled its connect.
    pub fn expect_connected(&mut self) {
        if self.kind == Kind::Plain {
            return self.sync();
        }
        match self.hear() {
            Heard::Joined { id, .. } => self.id = id,
            other => panic!("expected connect confirmation, received {other:?}"),
        }
    }

    /// Joins a namespace and returns the result.
    pub fn join(&mut self, namespace: &str, auth: Value) -> Heard {
        self.send_connect_to(namespace, auth);
        self.hear()
    }

    /// Emits an event in the main namespace.
    pub fn emit(&mut self, name: &str, args: Value) {
        self.say(ClientMessage { namespace: "/", ack: None, name, args });
    }

    /// Emits an event.
    pub fn say(&mut self, said: ClientMessage<'_>) {
        self.emit_all(vec![said]);
    }

    /// Sends several packets in one write.
    pub fn emit_all(&mut self, said: Vec<ClientMessage<'_>>) {
        match &mut self.link {
            Link::Engine(engine) => engine.send_all(said.iter().flat_map(socketio::event).collect()),
            Link::Json(ws) => {
                said.iter().flat_map(json_mode::event).for_each(|message| ws.queue(message));
                ws.flush();
            }
            Link::Plain(ws) => {
                for ClientMessage { name, mut args, .. } in said {
                    assert_eq!(name, "message", "plain clients support only the event `message`");
                    let only = args[0].take();
                    ws.queue(as_bytes(&only).map_or_else(|| as_text(&only), Message::Binary));
                }
                ws.flush();
            }
        }
    }

    /// Emits and waits for the acknowledgement, which must be the next message.
    pub fn ask(&mut self, name: &str, args: Value) -> Value {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.say(ClientMessage { namespace: "/", ack: Some(ack), name, args });
        match self.hear() {
            Heard::Answer { ack: answered, args, .. } if answered == ack => args,
            other => panic!("expected acknowledgement, received {other:?}"),
        }
    }

    /// Answers an event of the main namespace.
    pub fn answer(&mut self, ack: u64, args: Value) {
        match &mut self.link {
            Link::Engine(engine) => engine.send_all(socketio::answer("/", ack, args)),
            Link::Json(ws) => json_mode::answer(ack, args).into_iter().for_each(|message| ws.send(message)),
            Link::Plain(_) => panic!("plain clients support no acknowledgements"),
        }
    }

    /// Leaves a namespace.
    pub fn leave(&mut self, namespace: &str) {
        self.engine().send(socketio::disconnect(namespace));
    }

    /// Returns when the server has handled everything sent so far.
    pub fn sync(&mut self) {
        match &mut self.link {
            Link::Engine(engine) => engine.sync(),
            Link::Json(ws) | Link::Plain(ws) => ws.sync(),
        }
    }

    /// Returns the next message.
    pub fn hear(&mut self) -> Heard {
        loop {
            let received = match &mut self.link {
                Link::Engine(engine) => engine.receive(),
                Link::Json(ws) | Link::Plain(ws) => ws.receive(),
            };
            let message = match received {
                Ok(message) => message,
                Err(ended) => return Heard::Ended(ended),
            };
            self.partial.push_back(message);
            let heard = match &self.link {
                Link::Engine(_) => socketio::parse(&mut self.partial),
                Link::Json(_) => json_mode::parse(&mut self.partial),
                Link::Plain(_) => self.partial.pop_front().map(plain),
            };
            if let Some(heard) = heard {
                return heard;
            }
        }
    }

    /// Returns the next message, which must be an event.
    pub fn event(&mut self) -> (String, Value) {
        match self.hear() {
            Heard::Event { name, args, .. } => (name, args),
            other => panic!("expected event, received {other:?}"),
        }
    }

    /// Expects this event next.
    #[track_caller]
    pub fn expect(&mut self, name: &str, args: Value) {
        assert_eq!(self.event(), (name.to_owned(), args), "{:?}", self.kind);
    }

    /// Expects this event with an ack request next; returns the ack number.
    pub fn question(&mut self, expected: &str) -> u64 {
        match self.hear() {
            Heard::Event { name, ack: Some(ack), .. } if name == expected => ack,
            other => panic!("expected event with ack request, received {other:?}"),
        }
    }

    /// Expects the end of the connection next.
    pub fn end(&mut self) -> Ended {
        match self.hear() {
            Heard::Ended(ended) => ended,
            other => panic!("expected disconnect, received {other:?}"),
        }
    }

    /// Disconnects cleanly.
    pub fn close(self) {
        match self.link {
            Link::Engine(engine) => engine.close(),
            Link::Json(ws) | Link::Plain(ws) => ws.close(),
        }
    }

    /// Returns the Engine.IO client.
    ///
    /// # Panics
    ///
    /// Panics if the kind does not use Engine.IO.
    pub fn engine(&mut self) -> &mut Engine {
        match &mut self.link {
            Link::Engine(engine) => engine,
            _ => panic!("client does not use Engine.IO"),
        }
    }
}

/// Path of Socket.IO.
pub const SOCKET_IO_PATH: &str = "/socket.io/";
/// Path of plain WebSocket.
pub const PLAIN_PATH: &str = "/ws";

fn as_text(value: &Value) -> Message {
    value.as_str().expect("plain clients send text or bytes").into()
}

fn plain(message: Message) -> Heard {
    let (name, args) = match message {
        Message::Binary(binary) => ("message".to_owned(), json!([bytes(&binary)])),
        Message::Text(text) => match serde_json::from_str::<Vec<Value>>(&text) {
            Ok(mut list) if list.first().is_some_and(Value::is_string) => {
                let name = list.remove(0).as_str().map(str::to_owned);
                (name.unwrap_or_default(), list.into())
            }
            _ => ("message".to_owned(), json!([text])),
        },
    };
    Heard::Event { namespace: "/".into(), name, args, ack: None }
}
