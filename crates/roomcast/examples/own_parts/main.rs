//! Server with a custom transport and a custom router.
//!
//! Run it with `cargo run --example own_parts`. The transport (`transport.rs`) carries one message per line, so a
//! terminal can be a client:
//!
//! ```text
//! $ (printf 'GET /socket.io/?EIO=4&transport=lines HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade:
//! lines\r\n\r\n'; cat) |
//!   nc 127.0.0.1 3000
//! "40"
//! "42[\"join\",\"red\"]"
//! "42[\"set\",\"red\",{\"light\":\"on\"}]"
//! ```
//!
//! The router (`router.rs`) retains the last `state` event of each room and sends it to sockets that join later, on any
//! transport. Both use only the public traits.

use clap::Parser;
use roomcast::transport::{Polling, WebSocket};
use roomcast::{Io, Server, Socket, Value};

mod router;
mod transport;

pub(crate) use router::Retained;
pub(crate) use transport::Lines;

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1 (0 selects a free port)
    #[arg(long, default_value_t = 3000)]
    port: u16,
}

/// Builds a server whose rooms have a state.
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
