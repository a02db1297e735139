//! Benchmark server in a cluster: `cluster_fanout PORT [--adapter ADAPTER] [--redis URL]...`.
//!
//! Serves Socket.IO. Prints `listening` once it accepts connections. Clients send the events
//!
//! - `join` (room),
//! - `change` (number): the server sets the data of the socket, which is a part of its session,
//! - `burst` (room, first, count, bytes): the server emits `count` events `msg` to the room, each with a text of
//!   `bytes` bytes that begins with its number in ten digits, and
//! - `spread` (rooms, first, count, bytes): the same, each to the room `room-N` with its number modulo `rooms`.
//!
//! `compare/peers/node/cluster.js` is the same server on Node.

use std::fmt::Write as _;

use clap::{Parser, ValueEnum};
use roomcast::cluster::{
    self, ConnectionConfig, NodeClusterConfig, RedisConfig, RedisSessionStore, StoreConfig,
};
use roomcast::{Config, Io, Server, Socket};

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1
    port: u16,
    /// Connection to the other servers
    #[arg(long, default_value = "none")]
    adapter: Adapter,
    /// URL of the Redis server, or of one of several (native)
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    redis: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Adapter {
    /// A single server
    None,
    /// Cluster of Roomcast servers
    Native,
    /// Cluster of Node servers
    Classic,
    /// Cluster of Node servers with the sharded adapter
    Sharded,
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
    let redis = &options.redis[0];
    let builder = match options.adapter {
        Adapter::None => builder,
        Adapter::Native if options.redis.len() > 1 => {
            let servers = options.redis.iter().map(|url| RedisConfig::from_url(url));
            let (connection, _) =
                cluster::redis_servers(servers.collect::<Result<_, _>>()?, ConnectionConfig::new())?;
            builder.cluster(connection)
        }
        Adapter::Native => builder.cluster(cluster::redis(redis)?),
        Adapter::Classic => builder.cluster(cluster::redis_classic(redis)?),
        Adapter::Sharded => builder.cluster(cluster::redis_sharded(redis)?),
        Adapter::Streams | Adapter::StreamsRecovery | Adapter::StreamsSessions => {
            let redis = RedisConfig::from_url(redis)?;
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
    io.on("spread", spread);
    let bound = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on {}", bound.address());
    match bound.run(1)? {}
}

fn burst(socket: &Socket, room: String, first: u64, count: u64, bytes: usize) {
    let target = socket.namespace().to(room);
    for_each_text(first, count, bytes, |_, text| {
        let _ = target.emit("msg", text);
    });
}

fn spread(socket: &Socket, rooms: u64, first: u64, count: u64, bytes: usize) {
    let namespace = socket.namespace();
    let targets: Vec<_> = (0..rooms).map(|room| namespace.to(format!("room-{room}"))).collect();
    for_each_text(first, count, bytes, |number, text| {
        let _ = targets[(number % rooms) as usize].emit("msg", text);
    });
}

fn for_each_text(first: u64, count: u64, bytes: usize, mut emit: impl FnMut(u64, &String)) {
    let filler = "x".repeat(bytes.saturating_sub(DIGITS));
    let mut text = String::with_capacity(bytes);
    for number in first..first + count {
        text.clear();
        // Formatting to a string cannot fail.
        let _ = write!(text, "{number:0DIGITS$}{filler}");
        emit(number, &text);
    }
}

const DIGITS: usize = 10;
/// Entries in the stream, as on Node.
const MAX_LEN: u64 = 10_000;
