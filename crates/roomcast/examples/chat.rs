//! Chat with rooms: the quick-start program of the README.
//!
//! Run it with `cargo run --example chat`, then connect any Socket.IO client, or `new
//! WebSocket("ws://127.0.0.1:3000/ws", "roomcast.json")`.

use roomcast::emit::Receipt;
use roomcast::socket::CloseReason;
use roomcast::{EmitError, Io, ServeError, Server, Socket};

#[tokio::main]
async fn main() -> Result<(), ServeError> {
    tracing_subscriber::fmt().init(); // handler errors are logged
    let io = Io::new(); // Socket.IO at /socket.io/, plain WebSocket at /ws
    io.on("join", join).on("say", say).on_disconnect(bye);
    let server = Server::new(io).bind("127.0.0.1:3000")?;
    println!("listening on http://{}", server.address());
    server.serve().await?;
    Ok(())
}

async fn join(socket: Socket, room: String) -> Result<Receipt, EmitError> {
    socket.join(&room);
    socket.emit("welcome", &room)?;
    socket.to(&room).emit("joined", socket.id().as_str())
}

async fn say(socket: Socket, room: String, text: String) -> Result<Receipt, EmitError> {
    socket.within(&room).emit("said", (socket.id().as_str(), text))
}

async fn bye(socket: Socket, reason: CloseReason) {
    println!("{} left: {reason}", socket.id());
}
