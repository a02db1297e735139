//! Chat on several servers that share a Redis: rooms, questions to all clients, and the list of clients.
//!
//! Start `redis-server`, then one server on each of two ports, and connect Socket.IO clients to either:
//!
//! ```sh
//! cargo run --features redis --example cluster_chat -- --port 3001
//! cargo run --features redis --example cluster_chat -- --port 3002
//! ```

use std::time::Duration;

use clap::Parser;
use roomcast::emit::Receipt;
use roomcast::{EmitError, Io, Server, Socket, Value, cluster, json};

/// Chat on several servers
#[derive(Parser)]
struct Options {
    /// Port to listen on, or 0 for a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Redis that the servers share
    #[arg(long, env = "REDIS_URL", default_value = "redis://127.0.0.1:6379", hide_env_values = true)]
    redis: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let options = Options::parse();
    // The only line that differs from a single server.
    let io = Io::builder().cluster(cluster::redis(&options.redis)?).build();
    io.on("join", join).on("say", say).on("ask", ask).on("list", list).on("kick", kick);
    let server = Server::new(io).bind(("127.0.0.1", options.port))?;
    println!("listening on http://{}", server.address());
    server.serve_with_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
    Ok(())
}

async fn join(socket: Socket, room: String) -> bool {
    // Without the wait, a message that another server sends at this moment may be missed.
    socket.join_confirmed(&room).await
}

async fn say(socket: Socket, room: String, text: String) -> Result<Receipt, EmitError> {
    socket.within(&room).emit("said", (socket.id().as_str(), text))
}

/// Asks all other members of a room, on all servers; acknowledged with their answers.
async fn ask(socket: Socket, room: String, question: String) -> Result<Value, EmitError> {
    let answers = socket.to(&room).timeout(PATIENCE).emit_with_ack("question", question).await?;
    let told: Vec<Value> = answers.answers.iter().filter_map(|(_, answer)| answer.get(0).ok()).collect();
    Ok(json!({ "answers": told, "complete": answers.is_complete(), "missingNodes": answers.missing_nodes }))
}

/// Lists the clients of a room on all servers that answer.
async fn list(socket: Socket, room: String) -> Vec<String> {
    let found = socket.io().within(&room).timeout(PATIENCE).fetch_sockets().await;
    let found = found.unwrap_or_else(|error| error.partial);
    found.iter().map(|socket| socket.id().to_string()).collect()
}

/// Disconnects a client on any server.
async fn kick(socket: Socket, id: String) {
    let _ = socket.io().within(&id).disconnect();
}

/// Time to wait for other servers and their clients.
const PATIENCE: Duration = Duration::from_secs(2);
