//! Servers with a single transport.

use roomcast_core::{Capabilities, Connection, Exchange, RejectedExchange};
use roomcast_server::transport::{Polling, Transport, TransportName, WebSocket};
use roomcast_server::{Ack, Io, Socket};
use serde_json::{Value, json};

use crate::support::client::{Client, Heard, Kind};
use crate::support::engine::Engine;
use crate::support::http::Http;
use crate::support::serve::{Running, serve};
use crate::support::ws::Ws;

fn only(transport: impl Transport) -> (Io, Running) {
    let io = Io::builder().transport(transport).build();
    io.on("echo", async |ack: Ack, text: String| ack.send(text).map(drop));
    let server = serve(&io);
    (io, server)
}

fn works(kind: Kind, server: &Running) {
    let mut client = Client::connect(kind, &server.dial);
    assert_eq!(client.ask("echo", json!(["x"])), json!(["x"]));
}

const HANDSHAKE: &str = "/socket.io/?EIO=4&transport=";

#[test]
fn enables_both_transports_by_default() {
    let io = Io::new();
    let server = serve(&io);
    assert_eq!(Engine::polling(&server.dial, "/socket.io/").opened["upgrades"], json!(["websocket"]));
    assert_eq!(Engine::websocket(&server.dial, "/socket.io/").opened["upgrades"], json!([]));
}

#[test]
fn websocket_only_rejects_polling() {
    let (io, server) = only(WebSocket::new());
    let answer = Http::open(&server.dial).get(&format!("{HANDSHAKE}polling"));
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!((answer.status, body), (400, json!({ "code": 0, "message": "Transport unknown" })));
    assert_eq!(Engine::websocket(&server.dial, "/socket.io/").opened["upgrades"], json!([]));
    [Kind::WebSocket, Kind::Json].iter().for_each(|kind| works(*kind, &server));
    let _plain = Client::connect(Kind::Plain, &server.dial);
    assert_eq!(io.metrics().requests_refused(), 1);
}

#[test]
fn polling_only_offers_no_websocket() {
    let (_io, server) = only(Polling::new());
    let engine = Engine::polling(&server.dial, "/socket.io/");
    assert_eq!(engine.opened["upgrades"], json!([]));
    works(Kind::Polling, &server);
    assert_eq!(Ws::try_open(&server.dial, &format!("{HANDSHAKE}websocket"), None).err(), Some(400));
    let probe = format!("{HANDSHAKE}websocket&sid={}", engine.sid());
    assert_eq!(Ws::try_open(&server.dial, &probe, None).err(), Some(400));
    assert_eq!(Ws::try_open(&server.dial, "/ws", None).err(), Some(404));
    assert_eq!(Http::open(&server.dial).get("/ws").status, 404);
}

/// Long-polling without upgrades.
#[derive(Debug)]
struct Staying(Polling);

impl Transport for Staying {
    fn name(&self) -> TransportName {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { upgrades_from: false, ..self.0.capabilities() }
    }

    fn open(&self, exchange: Exchange) -> Result<Box<dyn Connection>, RejectedExchange> {
        self.0.open(exchange)
    }
}

#[test]
fn polled_transport_works_without_upgrade() {
    let io = Io::builder().transport(Staying(Polling::new())).transport(WebSocket::new()).build();
    io.on("echo", async |ack: Ack, text: String| ack.send(text).map(drop));
    io.on("leave", async |socket: Socket| {
        assert!(socket.emit("farewell", ()).is_ok());
        socket.disconnect_client();
    });
    let server = serve(&io);
    let engine = Engine::polling(&server.dial, "/socket.io/");
    assert_eq!(engine.opened["upgrades"], json!([]));
    let probe = format!("{HANDSHAKE}websocket&sid={}", engine.sid());
    let mut probe = Ws::try_open(&server.dial, &probe, None).expect("accepted, as on Node");
    assert!(probe.receive().is_err(), "closed without a packet");
    [Kind::Polling, Kind::WebSocket].iter().for_each(|kind| works(*kind, &server));
    // The client receives a close packet, as every polling client does.
    let mut client = Client::connect(Kind::Polling, &server.dial);
    client.emit("leave", json!([]));
    client.expect("farewell", json!([]));
    assert_eq!(client.hear(), Heard::Left { namespace: "/".into() });
    client.end();
}
