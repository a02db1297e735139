//! Server with connection state recovery and MessagePack clients: `recovery_server --port N`
//!
//! Socket.IO at `/socket.io/`, in MessagePack at `/msgpack/`, plain WebSocket at `/ws`, all in the same rooms. Recovery is
//! on. What clients emit, for others or for themselves, comes back while they are away too.

use std::time::Duration;

use clap::Parser;
use roomcast::transport::Endpoint;
use roomcast::{Ack, Args, Auth, Config, ConnectError, EmitError, Io, Server, Socket, Value, json};
use roomcast_socketio_msgpack::MsgpackCodec;

#[derive(Parser)]
struct Options {
    /// The port to listen on, on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many threads serve
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Milliseconds in which a client may come back
    #[arg(long, default_value_t = 120_000)]
    away: u64,
    /// Events that are kept
    #[arg(long, default_value_t = 10_000)]
    log_events: usize,
    /// Whether the middlewares are asked again about clients that come back
    #[arg(long)]
    ask_again: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let config = Config::new().recovery(|recovery| {
        recovery
            .max_disconnection(Duration::from_millis(options.away))
            .max_log_events(options.log_events)
            .skip_middlewares(!options.ask_again)
    });
    let io = Io::builder()
        .config(config)
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::socket_io().at("/msgpack/").parser(MsgpackCodec::shared()))
        .endpoint(Endpoint::plain("/ws"))
        .build();
    io.main().middleware(admit);
    io.on("join", join)
        .on("state", state)
        .on("present", async |io: Io, id: String, ack: Ack| ack.send(io.count(id) > 0).map(drop))
        .on("say", say)
        .on("volatile", async |io: Io, args: Args| {
            io.main().target().volatile().emit("heard", args).map(drop)
        })
        .on("echo", async |ack: Ack, args: Args| ack.send(args).map(drop))
        .on("ask", ask)
        .on(
            "out",
            async |socket: Socket, close: bool| {
                if close { socket.disconnect_client() } else { socket.disconnect() }
            },
        );
    let bound = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on http://{}", bound.address());
    match bound.run(options.threads)? {}
}

/// Accepts every client except those that request a refusal.
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

/// Requests an acknowledgement from the caller.
async fn ask(socket: Socket, args: Args, ack: Ack) {
    if let Ok(answer) = socket.emit_with_ack("question", args).await {
        let _ = ack.send(answer);
    }
}
