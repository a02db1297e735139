//! Upgrades from polling to WebSocket while messages flow both ways.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use roomcast_server::socket::SocketId;
use roomcast_server::transport::TransportName;
use roomcast_server::{Ack, Io, Socket};
use serde_json::json;

use crate::support::client::{Client, ClientMessage, Kind};
use crate::support::http::Http;
use crate::support::recorder::arrivals;
use crate::support::serve::{On, serve_on, until};
use crate::support::ws::Ws;

const ROUNDS: u64 = 100;
/// Messages from the server in each round.
const DOWN: u64 = 60;

fn up(number: u64) -> ClientMessage<'static> {
    ClientMessage { namespace: "/", ack: None, name: "up", args: json!([number]) }
}

/// Sends the next `count` numbers.
fn say(client: &mut Client, said: &mut u64, count: u64) {
    if count > 0 {
        client.emit_all((*said..*said + count).map(up).collect());
        *said += count;
    }
}

fn nothing_is_lost_or_out_of_order(on: On) {
    let arrived: Arc<Mutex<HashMap<SocketId, Vec<u64>>>> = Arc::default();
    let io = Io::new();
    let sockets = arrivals(&io);
    let noted = arrived.clone();
    io.on("up", move |socket: Socket, number: u64| {
        noted.lock().expect("not poisoned").entry(socket.id().clone()).or_default().push(number);
        async {}
    });
    io.on("done", async |ack: Ack, socket: Socket| ack.send(socket.transport().0).map(drop));
    let server = serve_on(&io, on);
    for round in 0..ROUNDS {
        let mut client = Client::connect(Kind::Polling, &server.dial);
        let socket = sockets.next();
        assert_eq!(socket.transport(), TransportName("polling"));
        let talking = {
            let socket = socket.clone();
            server.spawn(async move {
                for number in 0..DOWN {
                    socket.emit("down", number).expect("a valid name");
                    for _ in 0..round % 7 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        };
        let mut said = 0;
        let mut heard = 0..;
        let mut hear = |client: &mut Client| client.expect("down", json!([heard.next()]));
        say(&mut client, &mut said, round % 4);
        (0..round % 5).for_each(|_| hear(&mut client));
        let ws = client.engine().probe();
        say(&mut client, &mut said, round % 3);
        client.engine().move_to(ws);
        say(&mut client, &mut said, 1 + round % 6);
        (round % 5..DOWN).for_each(|_| hear(&mut client));
        talking.join();
        say(&mut client, &mut said, 1);
        assert_eq!(client.ask("done", json!([])), json!(["websocket"]));
        let arrived = arrived.lock().expect("not poisoned").remove(socket.id());
        assert_eq!(arrived, Some((0..said).collect()), "{on:?}, round {round}");
        client.close();
    }
    assert_eq!(io.metrics().upgrades(), ROUNDS);
}

#[test]
fn upgrade_keeps_order_on_workers() {
    nothing_is_lost_or_out_of_order(On::Workers(2));
}

#[test]
fn upgrade_keeps_order_on_one_thread() {
    nothing_is_lost_or_out_of_order(On::CurrentThread);
}

#[test]
fn upgrade_keeps_order_across_threads() {
    nothing_is_lost_or_out_of_order(On::Threads(2));
}

#[test]
fn closes_websocket_that_cannot_upgrade() {
    let io = Io::new();
    io.on("echo", async |ack: Ack, text: String| ack.send(text).map(drop));
    let server = serve_on(&io, On::Workers(2));
    let target = |client: &mut Client| {
        let sid = client.engine().sid().to_owned();
        format!("/socket.io/?EIO=4&transport=websocket&sid={sid}")
    };
    let turned_away = |client: &mut Client| {
        let mut second = Ws::open(&server.dial, &target(client), None);
        assert_eq!(second.receive().expect_err("it carries no session").code, None);
    };
    let mut client = Client::connect(Kind::Polling, &server.dial);
    let ws = client.engine().probe();
    turned_away(&mut client);
    client.engine().move_to(ws);
    turned_away(&mut client);
    assert_eq!(client.ask("echo", json!(["upgraded"])), json!(["upgraded"]));
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    turned_away(&mut client);
    assert_eq!(client.ask("echo", json!(["undisturbed"])), json!(["undisturbed"]));
    // Requests that are no WebSocket handshake are rejected as usual.
    let mut http = Http::open(&server.dial);
    const UNKNOWN_VERSION: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 7\r\n";
    let answer = http.request("GET", &target(&mut client), UNKNOWN_VERSION);
    assert_eq!(answer.status, 426);
    assert_eq!((io.metrics().upgrades(), io.metrics().protocol_errors()), (1, 0));
}

#[test]
fn lost_probe_allows_another_upgrade() {
    let io = Io::new();
    io.on("echo", async |ack: Ack, text: String| ack.send(text).map(drop));
    let server = serve_on(&io, On::Workers(2));
    let mut client = Client::connect(Kind::Polling, &server.dial);
    // The previous probe may still be open; the new one is then closed, and the client may retry.
    let probe = |client: &mut Client| {
        let mut probed = Err(0);
        until(|| {
            probed = client.engine().try_probe();
            probed.as_ref().err() != Some(&1005)
        });
        probed.expect("refused for no other reason")
    };
    for number in 0..3 {
        probe(&mut client).close();
        let text = number.to_string();
        assert_eq!(client.ask("echo", json!([text])), json!([text]));
    }
    let ws = probe(&mut client);
    client.engine().move_to(ws);
    assert_eq!(client.ask("echo", json!(["over"])), json!(["over"]));
    io.emit("end", ()).expect("a valid name");
    client.expect("end", json!([]));
    assert_eq!(io.metrics().upgrades(), 1);
}
