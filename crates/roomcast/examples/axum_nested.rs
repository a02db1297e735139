//! Chat nested under a path of an axum application: Socket.IO at `/api/socket.io/`, plain WebSocket at `/api/ws`.
//!
//! Run it with `cargo run --example axum_nested`, then connect with
//! `io("http://127.0.0.1:3000", { path: "/api/socket.io/" })`.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use roomcast::{EmitError, Io, Socket};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().init();
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    // Per-address limits and the handshake need the client addresses.
    let service = application(&chat()).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await
}

fn chat() -> Io {
    let io = Io::new();
    io.on("message", say);
    io
}

async fn say(socket: Socket, text: String) -> Result<(), EmitError> {
    socket.io().emit("message", text).map(drop)
}

/// Builds the router of the application.
///
/// The layer belongs on the outermost router: layers of a nested router run only for the routes of that router.
fn application(io: &Io) -> Router {
    let api = Router::new().route("/users", get(async || "nobody yet"));
    Router::new().route("/", get(async || "home")).nest("/api", api).layer(io.layer().under("/api"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn status(address: SocketAddr, target: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("write request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read response");
        answer.split(' ').nth(1).expect("status code").to_owned()
    }

    #[tokio::test]
    async fn serves_clients_beside_nested_routes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("local address");
        let service = application(&chat()).into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(axum::serve(listener, service).into_future());
        for (target, expected) in [
            ("/", "200"),
            ("/api/users", "200"),
            ("/api/socket.io/?EIO=4&transport=polling", "200"),
            ("/socket.io/?EIO=4&transport=polling", "404"),
            // The request has no WebSocket upgrade.
            ("/api/ws", "426"),
        ] {
            assert_eq!(status(address, target).await, expected, "{target}");
        }
        task.abort();
    }
}
