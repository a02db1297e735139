//! Benchmark server: `fanout_server PORT MODE [--threads N] [--mounted] [--compression] [--recovery]
//! [--msgpack] [--ping-interval SECONDS] [--tls CERTIFICATE KEY]`.
//!
//! Serves plain WebSocket on any path and Socket.IO at `/socket.io/`. Prints `listening` once it accepts connections.
//! MODE is one of:
//!
//! - `broadcast`: sends each plain text frame to all plain clients, and each Socket.IO event `msg` to all Socket.IO
//!   clients;
//! - `echo`: returns each frame and each event `echo` to its sender;
//! - `room`: `J<room>` in plain text joins a room, and `R<room> <payload>` sends the payload to the room. The Socket.IO
//!   events are `join` (room) and `room` (room, payload); members receive `msg`.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use roomcast::namespace::NamespaceHandle;
use roomcast::transport::{Compression, Endpoint};
use roomcast::{Args, Config, Io, Server, Socket};
use roomcast_socketio_msgpack::MsgpackCodec;

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1
    port: u16,
    /// Handling of received messages
    mode: Mode,
    /// Number of worker threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Serve as a layer in an axum server
    #[arg(long)]
    mounted: bool,
    /// Compress for clients that offer permessage-deflate, once per broadcast
    #[arg(long)]
    compression: bool,
    /// Enable connection state recovery for Socket.IO clients
    #[arg(long)]
    recovery: bool,
    /// Serve Socket.IO in MessagePack at `/msgpack/`
    #[arg(long)]
    msgpack: bool,
    /// Seconds between two heartbeats
    #[arg(long, default_value_t = 25.0)]
    ping_interval: f64,
    /// PEM certificate chain and private key; serves TLS
    #[cfg(feature = "tls")]
    #[arg(long, num_args = 2, value_names = ["CERTIFICATE", "KEY"], conflicts_with = "mounted")]
    tls: Vec<std::path::PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Broadcast,
    Echo,
    Room,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    // Separate namespaces: a broadcast reaches one kind of client only.
    let ping_interval = Duration::try_from_secs_f64(options.ping_interval)?;
    let mut config = Config::new().timeouts(|timeouts| timeouts.ping_interval(ping_interval));
    if options.compression {
        config = config.websocket(|websocket| websocket.compression(Compression::new()));
    }
    if options.recovery {
        config = config.recovery(|recovery| recovery);
    }
    let mut builder = Io::builder().config(config).endpoint(Endpoint::socket_io());
    if options.msgpack {
        builder = builder.endpoint(Endpoint::socket_io().at("/msgpack/").parser(MsgpackCodec::shared()));
    }
    let io = builder.endpoint(Endpoint::plain("*").in_namespace("/plain")).build();
    match options.mode {
        Mode::Broadcast => broadcast(&io),
        Mode::Echo => echo(&io),
        Mode::Room => room(&io),
    }
    if options.mounted {
        return Ok(mounted(&io, &options)?);
    }
    let server = Server::new(io);
    #[cfg(feature = "tls")]
    let server = match &options.tls[..] {
        [certificate, key] => server.tls(roomcast::server::Tls::from_files(certificate, key)?),
        _ => server,
    };
    let bound = server.bind(("127.0.0.1", options.port))?;
    println!("listening on {}", bound.address());
    match bound.run(options.threads)? {}
}

/// Serves in axum on a work-stealing runtime with one worker per thread.
fn mounted(io: &Io, options: &Options) -> std::io::Result<()> {
    let mut runtime = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(options.threads.max(1)).enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", options.port)).await?;
        println!("listening on {}", listener.local_addr()?);
        axum::serve(listener, axum::Router::new().layer(io.layer())).await
    })
}

fn broadcast(io: &Io) {
    io.on("msg", |socket: &Socket, args: Args| to_all(&socket.namespace(), "msg", &args));
    io.of("/plain")
        .on("message", |socket: &Socket, args: Args| to_all(&socket.namespace(), "message", &args));
}

fn to_all(namespace: &NamespaceHandle, event: &str, args: &Args) {
    // Received arguments are always valid to emit.
    let _ = namespace.emit(event, args);
}

fn echo(io: &Io) {
    io.on("echo", |socket: &Socket, args: Args| {
        let _ = socket.emit("echo", args);
    });
    io.of("/plain").on("message", |socket: &Socket, args: Args| {
        let _ = socket.emit("message", args);
    });
}

fn room(io: &Io) {
    io.on("join", |socket: &Socket, room: String| {
        socket.join(room);
    });
    io.on("room", |socket: &Socket, room: String, payload: Args| {
        let _ = socket.within(&room).emit("msg", payload);
    });
    io.of("/plain").on("message", |socket: &Socket, text: String| {
        if let Some(room) = text.strip_prefix('J') {
            socket.join(room);
        } else if let Some((room, payload)) = text.strip_prefix('R').and_then(|rest| rest.split_once(' ')) {
            let _ = socket.within(room).emit("message", payload);
        }
    });
}
