//! Idle `rust_socketio` clients, in a separate process: polling clients continue for a while after their server
//! has stopped, and delay others.

use std::time::Duration;

use roomcast_e2e_rust::{Server, Socket, transports};
use serde_json::json;

#[test]
fn stays_connected_over_many_heartbeats() {
    let server = Server::conformance(&["--ping-interval", "300", "--ping-timeout", "3000"]);
    let mut clients = transports().map(|transport| Socket::connect(&server, transport, "/"));
    // Longer than the lifetime of a client that does not answer the first ping.
    std::thread::sleep(Duration::from_secs(5));
    for client in &mut clients {
        client.next("auth");
        client.emit("message", vec![json!("still here")]);
        assert_eq!(client.next("message-back"), [json!("still here")]);
    }
}
