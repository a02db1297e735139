//! Server in a cluster, for tests: `cluster_server --redis URL --name NAME --port N`; with `--mode native` one of
//! Roomcast servers, otherwise one of Node servers.
//!
//! Clients send the event `do` with a command, and the server performs it. The server of Node with the same commands is
//! `e2e/reference/cluster.js`.

use std::future::ready;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use roomcast::cluster::{
    ConnectionConfig, NodeClusterConfig, RedisConfig, SubscriptionMode, redis_classic_with,
    redis_sharded_with, redis_streams_with, redis_with,
};
use roomcast::emit::Emit;
use roomcast::namespace::NamespaceHandle;
use roomcast::rooms::RemoteSocket;
use roomcast::socket::SocketId;
use roomcast::{Ack, Args, EmitError, Io, Server, Socket, Value, json};
use serde::Deserialize;

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1 (0 selects a free port)
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// URL of the Redis server
    #[arg(long)]
    redis: String,
    /// Name of this server
    #[arg(long)]
    name: String,
    /// Format of the cluster
    #[arg(long, value_enum, default_value = "classic")]
    mode: Mode,
    /// First part of the channels' names
    #[arg(long, default_value = "socket.io")]
    prefix: String,
    /// Bytes that may wait for Redis
    #[arg(long, default_value_t = 16 << 20)]
    queue: usize,
    /// Milliseconds after which a silent connection to Redis is tested
    #[arg(long, default_value_t = 250)]
    ping_interval: u64,
    /// Whether answers are published on the channels of the asking nodes
    #[arg(long)]
    own_response_channels: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Native,
    Classic,
    Streams,
    StreamsSharded,
    ShardedStatic,
    ShardedDynamic,
    ShardedDynamicPrivate,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let redis = RedisConfig::from_url(&options.redis)?;
    let redis = redis.prefix(&options.prefix).ping_interval(Duration::from_millis(options.ping_interval));
    let config = NodeClusterConfig::new()
        .prefix(&options.prefix)
        .queue_bytes(options.queue)
        .classic(|classic| classic.own_response_channels = options.own_response_channels);
    let sharded = |mode| {
        let config = config.clone().sharded(|sharded| sharded.mode = mode);
        redis_sharded_with(redis.clone(), config)
    };
    let builder = Io::builder();
    let builder = match options.mode {
        Mode::Native => {
            let connection = ConnectionConfig::new().node(|node| node.queue_bytes = options.queue);
            builder.cluster(redis_with(redis, connection)?)
        }
        Mode::Classic => builder.cluster(redis_classic_with(redis, config)?),
        Mode::ShardedStatic => builder.cluster(sharded(SubscriptionMode::Static)?),
        Mode::ShardedDynamic => builder.cluster(sharded(SubscriptionMode::Dynamic)?),
        Mode::ShardedDynamicPrivate => builder.cluster(sharded(SubscriptionMode::DynamicPrivate)?),
        Mode::StreamsSharded => {
            let config = config.streams(|streams| streams.sharded_requests = true);
            builder.cluster(redis_streams_with(redis, config)?)
        }
        Mode::Streams => builder.cluster(redis_streams_with(redis, config)?),
    };
    let io = builder.build();
    let name = options.name;
    for namespace in ["/", "/chat", "/a*?c"] {
        application(&io.of(namespace), name.clone());
    }
    io.of_pattern(r"^/dynamic-\d+$")?;
    io.on_new_namespace(move |namespace: NamespaceHandle| {
        if namespace.name().as_str().starts_with("/dynamic-") {
            application(&namespace, name.clone());
        }
    });
    let bound = Server::new(io).admin(([127, 0, 0, 1], 0).into()).bind(("127.0.0.1", options.port))?;
    println!("listening on http://{}", bound.address());
    if let Some(admin) = bound.admin_address() {
        println!("metrics on http://{admin}/metrics");
    }
    match bound.serve().await? {}
}

fn application(namespace: &NamespaceHandle, name: String) {
    let handle = namespace.clone();
    let server = name.clone();
    namespace
        .on_connect(move |socket: Socket| {
            for room in ["all", "7", "a#b", "xxxxxxxxxxxxxxxxxxxx"] {
                socket.join(room);
            }
            let _ = socket.set_data(&json!({ "server": name }));
            async {}
        })
        .on("do", perform)
        .on_server_side("note", move |args: Args| ready(handle.local().emit("noted", args).map(drop)))
        .on_server_side("load", move |args: Args| {
            ready(json!({ "server": server, "args": args.parse::<Vec<Value>>().unwrap_or_default() }))
        });
}

#[derive(Deserialize)]
#[serde(default)]
struct Command {
    verb: String,
    to: Vec<String>,
    except: Vec<String>,
    /// Whether to emit from the socket, so that it is excluded.
    own: bool,
    volatile: bool,
    compress: bool,
    close: bool,
    rooms: Vec<String>,
    /// Socket for commands to one socket of any server.
    id: String,
    timeout: u64,
}

impl Default for Command {
    fn default() -> Self {
        Self {
            verb: String::new(),
            to: Vec::new(),
            except: Vec::new(),
            own: false,
            volatile: false,
            compress: true,
            close: false,
            rooms: Vec::new(),
            id: String::new(),
            timeout: 5000,
        }
    }
}

/// Performs a command, and acknowledges it with the result. Answers of clients and servers are events before that.
async fn perform(
    socket: Socket,
    ack: Ack,
    command: Command,
    event: Option<String>,
    args: Args,
) -> Result<(), EmitError> {
    let event = event.unwrap_or_default();
    let target = target(&socket, &command);
    let Command { verb, rooms, close, .. } = &command;
    let outcome = match verb.as_str() {
        "emit" => json!(target.emit(&event, args)?.published),
        "confirm" => match target.emit_confirmed(&event, args).await {
            Ok(_) => json!("confirmed"),
            Err(error) => json!(error.to_string()),
        },
        "ask" => {
            let answers = target.emit_with_ack(&event, args).await?;
            for answer in answers.answers.iter().map(|(_, args)| args).chain(&answers.anonymous) {
                socket.emit("answer", answer.clone())?;
            }
            json!(answers.is_complete())
        }
        "join" => json!(target.sockets_join(rooms.clone())),
        "leave" => json!(target.sockets_leave(rooms.clone())),
        "disconnect" if *close => json!(target.disconnect_client()),
        "disconnect" => json!(target.disconnect()),
        "fetch" => match target.fetch_sockets().await {
            Ok(found) => found.iter().map(described).collect(),
            Err(error) => json!(error.to_string()),
        },
        // The sockets that were found by the timeout, and the number of missing servers.
        "find" => match target.fetch_sockets().await {
            Ok(found) => json!([found.len(), 0]),
            Err(error) => json!([error.partial.len(), error.missing]),
        },
        "count" => {
            target.count_all().await.map_or_else(|error| json!(error.to_string()), |count| json!(count))
        }
        "rooms" => {
            let mut rooms: Vec<_> = socket.rooms().iter().map(ToString::to_string).collect();
            rooms.sort();
            json!(rooms)
        }
        "serverEmit" => {
            socket.namespace().server_side_emit(&event, args)?;
            Value::Null
        }
        "serverAsk" => match socket.namespace().server_side_emit_with_ack(&event, args).await {
            Ok(answers) => answers.iter().map(|answer| answer.get::<Value>(0).unwrap_or_default()).collect(),
            Err(error) => json!(error.to_string()),
        },
        "status" => json!(socket.io().cluster_status().map(|status| status.as_str())),
        _ => remote(&socket, &command, &event, args).await?,
    };
    ack.send(&outcome).map(drop)
}

/// Performs a command on one socket of any server.
async fn remote(socket: &Socket, command: &Command, event: &str, args: Args) -> Result<Value, EmitError> {
    let found = socket.namespace().to(command.id.clone()).fetch_sockets().await.unwrap_or_default();
    let wanted = SocketId::new(command.id.clone());
    let Some(remote) = found.iter().find(|found| *found.id() == wanted) else { return Ok(json!("unknown")) };
    match command.verb.as_str() {
        "remoteEmit" => drop(remote.emit(event, args)?),
        "remoteAsk" => match remote.emit_with_ack(event, args).await {
            Ok(answer) => drop(socket.emit("answer", answer)?),
            Err(error) => return Ok(json!(error.to_string())),
        },
        "remoteJoin" => remote.join(command.rooms.clone()),
        "remoteLeave" => remote.leave(command.rooms.clone()),
        "remoteDisconnect" if command.close => remote.disconnect_client(),
        "remoteDisconnect" => remote.disconnect(),
        verb => return Ok(json!(format!("unknown command {verb}"))),
    }
    Ok(Value::Null)
}

fn target(socket: &Socket, command: &Command) -> Emit {
    let mut target = if command.own { socket.broadcast() } else { socket.namespace().target() };
    target = target.timeout(Duration::from_millis(command.timeout)).compress(command.compress);
    if !command.to.is_empty() {
        target = target.to(command.to.clone());
    }
    if !command.except.is_empty() {
        target = target.except(command.except.clone());
    }
    if command.volatile { target.volatile() } else { target }
}

fn described(socket: &RemoteSocket) -> Value {
    let mut rooms: Vec<_> = socket.rooms().iter().map(ToString::to_string).collect();
    rooms.sort();
    let data = socket.data::<Value>().ok().flatten();
    let address = socket.handshake().map(|handshake| handshake.address).unwrap_or_default();
    json!({ "id": socket.id(), "rooms": rooms, "data": data, "address": address })
}
