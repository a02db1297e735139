//! A WebSocket server composed of Roomcast's parts, without `roomcast-server`.
//!
//! `cargo run --example composed_server`, then in two browser consoles:
//!
//! ```js
//! ws = new WebSocket("ws://127.0.0.1:3000/?room=red");
//! ws.onmessage = (message) => console.log(message.data);
//! ws.send("hello"); // to the others in the room
//! ```
//!
//! The server is in `server.rs`: an accept loop, HTTP by hyper, rooms, and one task for each client.

mod server;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(3000), |port| port.parse());
    let port: u16 = port.map_err(std::io::Error::other)?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    tokio::select! {
        ended = server::Server::new().serve(listener) => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
