//! The server that conformance suites run against: `conformance_server --port N`
//!
//! Engine.IO echo at `/engine.io/`; the application of the Socket.IO protocol suite at `/socket.io/`, in the
//! namespaces `/` and `/custom`; plain WebSocket echo at `/echo`. The event `slow` keeps its handler for a second.
//! Timings and limits are flags.

use std::time::Duration;

use clap::Parser;
use roomcast::http::{Cookie, Cors};
use roomcast::transport::{Compression, Endpoint};
use roomcast::{Ack, Args, Auth, Config, Io, Server, Socket};
use serde_json::Value;

#[derive(Parser)]
struct Options {
    /// The port to listen on, on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Milliseconds from one sign of life to the next ping
    #[arg(long, default_value_t = 300)]
    ping_interval: u64,
    /// Milliseconds a client has to answer a ping
    #[arg(long, default_value_t = 200)]
    ping_timeout: u64,
    /// Milliseconds a client has to prove a better transport
    #[arg(long, default_value_t = 10_000)]
    upgrade_timeout: u64,
    /// Milliseconds a client has to join a namespace
    #[arg(long, default_value_t = 1000)]
    connect_timeout: u64,
    /// Milliseconds a client has to send attachments that it announced
    #[arg(long, default_value_t = 60_000)]
    attachment_timeout: u64,
    /// Bytes of one message, or of one POST
    #[arg(long, default_value_t = 1_000_000)]
    max_payload: usize,
    /// Frames of one WebSocket message
    #[arg(long, default_value_t = 16_384)]
    max_fragments: u32,
    /// Bytes that may wait for one client
    #[arg(long, default_value_t = 64 * 1024 * 1024)]
    outbox: usize,
    /// Compress WebSocket messages of any size, with context takeover where the client supports it
    #[arg(long)]
    compression: bool,
    /// Origin whose pages may use long-polling, or `*`
    #[arg(long)]
    cors: Option<String>,
    /// Name of the cookie with the session's id; none if not given
    #[arg(long)]
    cookie: Option<String>,
    /// How many threads serve
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let cors = match options.cors.as_deref() {
        None => Cors::new(),
        Some("*") => Cors::any(),
        Some(origin) => Cors::origins([origin]),
    };
    let mut config = Config::new()
        .timeouts(|timeouts| {
            timeouts
                .ping_interval(Duration::from_millis(options.ping_interval))
                .ping_timeout(Duration::from_millis(options.ping_timeout))
                .upgrade_timeout(Duration::from_millis(options.upgrade_timeout))
                .connect_timeout(Duration::from_millis(options.connect_timeout))
                .attachment_timeout(Duration::from_millis(options.attachment_timeout))
        })
        .limits(|limits| {
            limits
                .max_payload(options.max_payload)
                .max_fragments(options.max_fragments)
                .outbox_limit(options.outbox)
        })
        .http(|http| http.cors(cors));
    if options.compression {
        let compression = Compression::new().threshold(0).context_takeover(true);
        config = config.websocket(|websocket| websocket.compression(compression));
    }
    if let Some(name) = options.cookie {
        config = config.http(|http| http.cookie(Cookie::new(name)));
    }
    let io = Io::builder()
        .config(config)
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::engine_io("/engine"))
        .endpoint(Endpoint::plain("/echo").in_namespace("/echo"))
        .build();
    for raw in ["/engine", "/echo"] {
        io.of(raw).on("message", async |socket: Socket, args: Args| {
            let _ = socket.emit("message", args);
        });
    }
    for namespace in ["/", "/custom"] {
        io.of(namespace).on_connect(async |socket: Socket, Auth(auth): Auth<Value>| {
            let _ = socket.emit("auth", auth);
        });
    }
    io.on("message", async |socket: Socket, args: Args| {
        let _ = socket.emit("message-back", args);
    });
    io.on("message-with-ack", async |ack: Ack, args: Args| ack.send(args).map(drop));
    io.on("slow", async |ack: Ack| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ack.send(()).map(drop)
    });
    io.on("emit-with-ack", async |socket: Socket, args: Args| {
        if let Ok(answer) = socket.emit_with_ack("emit-with-ack", args).await {
            let _ = socket.emit("emit-with-ack", answer);
        }
    });
    let bound = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on http://{}", bound.address());
    match bound.run(options.threads)? {}
}
