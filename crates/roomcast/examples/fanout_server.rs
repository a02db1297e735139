//! The server that benchmarks measure: `fanout_server PORT MODE [--threads N] [--mounted] [--compression] [--recovery]`
//!
//! Plain WebSocket on any path, Socket.IO at `/socket.io/`. Prints `listening` once it accepts. MODE is
//!
//! - `broadcast`: each plain text frame goes to every plain client, each Socket.IO event `msg` to every Socket.IO
//!   client;
//! - `echo`: a frame comes back, and so does the event `echo`;
//! - `room`: plain text `J<room>` joins and `R<room> <payload>` sends the payload to the room; so do the events
//!   `join` (room) and `room` (room, payload), which arrives as `msg`.

use clap::{Parser, ValueEnum};
use roomcast::namespace::NamespaceHandle;
use roomcast::transport::{Compression, Endpoint};
use roomcast::{Args, Config, Io, Server, Socket};

#[derive(Parser)]
struct Options {
    /// The port to listen on, on 127.0.0.1
    port: u16,
    /// Action on incoming messages
    mode: Mode,
    /// How many threads serve
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Serve as a layer of axum, in axum's own server
    #[arg(long)]
    mounted: bool,
    /// Compress for clients that offer permessage-deflate, a broadcast once for all
    #[arg(long)]
    compression: bool,
    /// Let Socket.IO clients that were cut off come back to what they missed
    #[arg(long)]
    recovery: bool,
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
    // Two namespaces, so that each kind of client receives only its own events.
    let mut config = Config::new();
    if options.compression {
        config = config.websocket(|websocket| websocket.compression(Compression::new()));
    }
    if options.recovery {
        config = config.recovery(|recovery| recovery);
    }
    let io = Io::builder()
        .config(config)
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::plain("*").in_namespace("/plain"))
        .build();
    match options.mode {
        Mode::Broadcast => broadcast(&io),
        Mode::Echo => echo(&io),
        Mode::Room => room(&io),
    }
    if options.mounted {
        return Ok(mounted(&io, &options)?);
    }
    let bound = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on {}", bound.address());
    match bound.run(options.threads)? {}
}

/// On as many workers as there are to be threads, which share their work
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
    // Nothing can go wrong with arguments that came over the wire.
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
