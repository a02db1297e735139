//! Chat with a custom transport over server-sent events and POST, alongside long-polling and WebSocket.
//!
//! Run it with `cargo run --example sse`. `transport.rs` implements the transport with the public traits only; this
//! file adds it to the builder. It carries Socket.IO: a browser opens an `EventSource` on
//! `/socket.io/?EIO=4&transport=sse`, receives `0{"sid":…}`, and POSTs `40` to the same address with `&sid=…`.

use clap::Parser;
use roomcast::transport::{Polling, WebSocket};
use roomcast::{Ack, Bytes, Io, Server, Socket};

mod transport;

use transport::Sse;

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1 (0 selects a free port)
    #[arg(long, default_value_t = 3000)]
    port: u16,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let io =
        Io::builder().transport(Polling::new()).transport(WebSocket::new()).transport(Sse::new()).build();
    io.on("join", async |socket: Socket, room: String, ack: Ack| {
        socket.join(&room);
        ack.send(socket.id().as_str()).map(drop)
    });
    io.on("say", async |socket: Socket, room: String, text: String| {
        socket.within(&room).emit("said", (socket.id().as_str(), text)).map(drop)
    });
    io.on("draw", async |socket: Socket, room: String, picture: Bytes| {
        socket.within(&room).emit("drawn", (socket.id().as_str(), picture)).map(drop)
    });
    let bound = Server::new(io).bind(("127.0.0.1", Options::parse().port))?;
    println!("listening on http://{}", bound.address());
    bound.serve().await?;
    Ok(())
}
