//! Benchmark server in a cluster: `cluster_fanout PORT [--adapter none|native|classic] [--redis URL]`.
//!
//! Serves Socket.IO. Prints `listening` once it accepts connections. Clients send the events
//!
//! - `join` (room), and
//! - `burst` (room, first, count, bytes): the server emits `count` events `msg` to the room, each with a text of
//!   `bytes` bytes that begins with its number in ten digits.
//!
//! `compare/peers/node/cluster.js` is the same server on Node.

use std::fmt::Write as _;

use clap::{Parser, ValueEnum};
use roomcast::{Io, Server, Socket, cluster};

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1
    port: u16,
    /// Connection to the other servers
    #[arg(long, default_value = "none")]
    adapter: Adapter,
    /// URL of the Redis server
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    redis: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Adapter {
    /// A single server
    None,
    /// Cluster of Roomcast servers
    Native,
    /// Cluster of Node servers
    Classic,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    // Outside of a runtime the connection gets a thread, as with `roomcast serve`.
    let builder = Io::builder();
    let builder = match options.adapter {
        Adapter::None => builder,
        Adapter::Native => builder.cluster(cluster::redis(&options.redis)?),
        Adapter::Classic => builder.cluster(cluster::redis_classic(&options.redis)?),
    };
    let io = builder.build();
    io.on("join", |socket: &Socket, room: String| {
        socket.join(room);
    });
    io.on("burst", burst);
    let bound = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on {}", bound.address());
    match bound.run(1)? {}
}

fn burst(socket: &Socket, room: String, first: u64, count: u64, bytes: usize) {
    let filler = "x".repeat(bytes.saturating_sub(DIGITS));
    let target = socket.namespace().to(room);
    let mut text = String::with_capacity(bytes);
    for number in first..first + count {
        text.clear();
        // Formatting to a string cannot fail.
        let _ = write!(text, "{number:0DIGITS$}{filler}");
        let _ = target.emit("msg", &text);
    }
}

const DIGITS: usize = 10;
