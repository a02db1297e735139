//! A server with a custom transport and router.
//!
//! `cargo run --example own_parts`. The transport (`transport.rs`) carries one message in a line, so a terminal is a client:
//!
//! ```text
//! $ (printf 'GET /socket.io/?EIO=4&transport=lines HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\n'; cat) |
//!   nc 127.0.0.1 3000
//! "40"
//! "42[\"join\",\"red\"]"
//! "42[\"set\",\"red\",{\"light\":\"on\"}]"
//! ```
//!
//! The router (`router.rs`) keeps the last `state` of each room and sends it to each socket that joins later, on whichever
//! transport. Both need nothing but the public traits.

use clap::Parser;
use roomcast::transport::{Polling, WebSocket};
use roomcast::{Io, Server, Socket, Value};

mod router;
mod transport;

pub(crate) use router::Retained;
pub(crate) use transport::Lines;

#[derive(Parser)]
struct Options {
    /// The port to listen on, on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
}

/// Makes a server whose rooms have a state.
pub(crate) fn server() -> Io {
    let io = Io::builder()
        .transport(Polling::new())
        .transport(WebSocket::new())
        .transport(Lines::new())
        .router(|_| Retained::new("state"))
        .build();
    io.on("join", async |socket: Socket, room: String| socket.join(room));
    io.on("set", async |socket: Socket, room: String, state: Value| {
        socket.within(room).emit("state", state).map(drop)
    });
    io
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bound = Server::new(server()).bind(("127.0.0.1", Options::parse().port))?;
    println!("listening on http://{}", bound.address());
    bound.serve().await?;
    Ok(())
}
