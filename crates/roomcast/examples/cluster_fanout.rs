//! Benchmark server in a cluster: `cluster_fanout PORT [--adapter none|native|classic|streams...] [--redis URL]`.
//!
//! Serves Socket.IO. Prints `listening` once it accepts connections. Clients send the events
//!
//! - `join` (room),
//! - `change` (number): the server sets the data of the socket, which is a part of its session, and
//! - `burst` (room, first, count, bytes): the server emits `count` events `msg` to the room, each with a text of
//!   `bytes` bytes that begins with its number in ten digits.
//!
//! `compare/peers/node/cluster.js` is the same server on Node.

use std::fmt::Write as _;

use clap::{Parser, ValueEnum};
use roomcast::cluster::{self, NodeClusterConfig, RedisConfig, RedisSessionStore, StoreConfig};
use roomcast::{Config, Io, Server, Socket};

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
    /// Cluster of Node servers with a stream
    Streams,
    /// The same, with recovery
    StreamsRecovery,
    /// The same, with stored sessions
    StreamsSessions,
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
        Adapter::Streams | Adapter::StreamsRecovery | Adapter::StreamsSessions => {
            let redis = RedisConfig::from_url(&options.redis)?;
            let stream = NodeClusterConfig::new().streams(|streams| streams.max_len = MAX_LEN);
            let builder = builder.cluster(cluster::redis_streams_with(redis.clone(), stream)?);
            let recovery = || Config::new().recovery(|recovery| recovery);
            match options.adapter {
                Adapter::StreamsSessions => {
                    let store = RedisSessionStore::new(redis);
                    builder.config(cluster::redis_sessions(recovery(), store, StoreConfig::new())?)
                }
                Adapter::StreamsRecovery => builder.config(recovery()),
                _ => builder,
            }
        }
    };
    let io = builder.build();
    io.on("join", |socket: &Socket, room: String| {
        socket.join(room);
    });
    io.on("change", |socket: &Socket, number: u64| {
        // It fails for a number that cannot be encoded, and there is none.
        let _ = socket.set_data(&number);
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
/// Entries in the stream, as on Node.
const MAX_LEN: u64 = 10_000;
