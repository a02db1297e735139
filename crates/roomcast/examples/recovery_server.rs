//! Server with connection state recovery and MessagePack clients: `recovery_server --port N [--redis URL]`.
//!
//! Serves Socket.IO at `/socket.io/`, Socket.IO in MessagePack at `/msgpack/` and plain WebSocket at `/ws`, all in the
//! same rooms. Clients emit to all clients, to a room or to themselves; disconnected clients receive these events when
//! they recover. With `--redis`, events are in a stream and sessions are stored, so that they recover on any server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use roomcast::cluster::{self, NodeClusterConfig, RedisConfig, RedisSessionStore, StoreConfig};
use roomcast::extract::EventName;
use roomcast::handler::deduplicated;
use roomcast::transport::Endpoint;
use roomcast::{Ack, Args, Auth, Config, ConnectError, EmitError, Io, Server, Socket, State, Value, json};
use roomcast_socketio_msgpack::MsgpackCodec;

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1 (0 selects a free port)
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Number of worker threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Maximum time from disconnection to recovery, in milliseconds
    #[arg(long, default_value_t = 120_000)]
    away: u64,
    /// Maximum number of events in the recovery log
    #[arg(long, default_value_t = 10_000)]
    log_events: usize,
    /// Run the connect middleware again for recovered clients
    #[arg(long)]
    ask_again: bool,
    /// Time between two pings, in milliseconds
    #[arg(long, default_value_t = 25_000)]
    ping_interval: u64,
    /// Maximum time to an answer to a ping, in milliseconds
    #[arg(long, default_value_t = 20_000)]
    ping_timeout: u64,
    /// Bytes that a client may have queued
    #[arg(long)]
    outbox_max: Option<usize>,
    /// URL of the Redis server that all servers share
    #[arg(long)]
    redis: Option<String>,
    /// Print a line for each event, and for each disconnect that handlers see
    #[arg(long)]
    record: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let config = Config::new()
        .timeouts(|timeouts| {
            timeouts
                .ping_interval(Duration::from_millis(options.ping_interval))
                .ping_timeout(Duration::from_millis(options.ping_timeout))
        })
        .recovery(|recovery| {
            recovery
                .max_disconnection(Duration::from_millis(options.away))
                .max_log_events(options.log_events)
                .skip_middlewares(!options.ask_again)
        });
    let config = match options.outbox_max {
        Some(bytes) => config.limits(|limits| limits.outbox_max(bytes)),
        None => config,
    };
    let mut builder = Io::builder();
    let config = match &options.redis {
        None => config,
        Some(url) => {
            let redis = RedisConfig::from_url(url)?.ping_interval(Duration::from_millis(250));
            let streams = NodeClusterConfig::new().streams(|streams| streams.max_len = 1_000_000);
            builder = builder.cluster(cluster::redis_streams_with(redis.clone(), streams)?);
            cluster::redis_sessions(config, RedisSessionStore::new(redis), StoreConfig::new())?
        }
    };
    let io = builder
        .config(config)
        .state(Orders::default())
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::socket_io().at("/msgpack/").parser(MsgpackCodec::shared()))
        .endpoint(Endpoint::plain("/ws"))
        .build();
    io.main().middleware(admit);
    io.on("join", join)
        .on("state", state)
        .on("present", async |io: Io, id: String, ack: Ack| ack.send(io.count(id) > 0).map(drop))
        .on("say", say)
        .on("publish", publish)
        .on("burst", burst)
        .on("order", deduplicated(order))
        .on("volatile", async |io: Io, args: Args| {
            io.main().target().volatile().emit("heard", args).map(drop)
        })
        .on("echo", async |ack: Ack, args: Args| ack.send(args).map(drop))
        .on("ask", ask)
        .on("deliver", deliver)
        .on(
            "out",
            async |socket: Socket, close: bool| {
                if close { socket.disconnect_client() } else { socket.disconnect() }
            },
        );
    if options.record {
        io.on_any(async |socket: Socket, EventName(name): EventName| {
            println!("event {name} of {}", socket.id());
        });
        io.on_disconnect(async |socket: Socket| println!("disconnect of {}", socket.id()));
    }
    let bound = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on http://{}", bound.address());
    match bound.run(options.threads)? {}
}

/// Number of orders so far.
#[derive(Clone, Default)]
struct Orders(Arc<AtomicUsize>);

/// Takes an order, which needs some time, in milliseconds; answers with its number.
async fn order(State(Orders(last)): State<Orders>, _id: String, time: u64) -> usize {
    tokio::time::sleep(Duration::from_millis(time)).await;
    last.fetch_add(1, Ordering::Relaxed) + 1
}

/// Accepts every client that does not request a rejection.
async fn admit(Auth(auth): Auth<Value>) -> Result<(), ConnectError> {
    if auth["refuse"] == true {
        return Err(ConnectError::new("refused").with_data(&json!({ "asked": true })));
    }
    Ok(())
}

async fn join(socket: Socket, room: String, ack: Ack) {
    socket.join(room);
    let _ = ack.send(true);
}

async fn state(socket: Socket, ack: Ack) {
    let own = socket.id().as_str();
    let mut rooms: Vec<_> = socket.rooms().iter().map(|room| room.as_str().to_owned()).collect();
    rooms.retain(|room| room != own);
    rooms.sort();
    let _ = ack.send(json!({ "recovered": socket.recovered(), "rooms": rooms }));
}

/// Emits to a room, or to all clients.
async fn say(io: Io, room: Option<String>, args: Args) -> Result<(), EmitError> {
    let target = io.main().target();
    let target = if let Some(room) = room { target.to(room) } else { target };
    target.emit("heard", args).map(drop)
}

/// Emits to a room, and answers once the event is confirmed.
async fn publish(io: Io, room: String, args: Args, ack: Ack) -> Result<(), EmitError> {
    let outcome = io.main().to(room).emit_confirmed("told", args).await;
    ack.send(json!({ "error": outcome.err().map(|error| error.to_string()) })).map(drop)
}

/// Emits numbered events to a room without a pause, and answers with the numbers of those that were refused.
async fn burst(io: Io, room: String, sender: String, count: u64, ack: Ack) -> Result<(), EmitError> {
    let target = io.main().to(room);
    let mut refused = Vec::new();
    for number in 1..=count {
        let receipt = target.emit("told", (&sender, number))?;
        if receipt.published.refusal().is_some() {
            refused.push(number);
        }
    }
    ack.send(refused).map(drop)
}

/// Emits `question` to the caller and answers with its acknowledgement.
async fn ask(socket: Socket, args: Args, ack: Ack) {
    if let Ok(answer) = socket.emit_with_ack("question", args).await {
        let _ = ack.send(answer);
    }
}

/// Emits `mail` to the caller until it is acknowledged, here or on another server, and prints the answer.
async fn deliver(socket: Socket, args: Args) {
    let mail = socket.timeout(Duration::from_secs(1)).retries(60);
    if let Ok(answer) = mail.emit_with_ack("mail", args).await {
        println!("answer of {}: {}", socket.id(), answer.json());
    }
}
