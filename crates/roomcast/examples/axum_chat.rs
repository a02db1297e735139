//! A chat room inside an axum application, beside its other routes and with its state
//!
//! `cargo run --example axum_chat`, then `curl http://127.0.0.1:3000/online`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use roomcast::{Ack, EmitError, Io, Socket};

#[derive(Clone)]
struct Chat {
    io: Io,
    said: Arc<AtomicUsize>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let chat = Chat { io: Io::new(), said: Arc::default() };
    chat.io.on_connect(async |socket: Socket| {
        socket.join("lobby");
    });
    let said = chat.said.clone();
    chat.io.on("say", move |socket: Socket, text: String, ack: Ack| {
        let number = said.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            let receipt = socket.to("lobby").emit("said", (socket.id().as_str(), text))?;
            ack.send((number, receipt.queued))?;
            Ok::<(), EmitError>(())
        }
    });

    let app = Router::new()
        .route("/online", get(online))
        .route("/announce", post(announce))
        .with_state(chat.clone())
        .layer(chat.io.layer());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}

async fn online(State(chat): State<Chat>) -> String {
    format!("{} online, {} messages\n", chat.io.count("lobby"), chat.said.load(Ordering::Relaxed))
}

/// The rest of the application emits, too
async fn announce(State(chat): State<Chat>, text: String) -> Result<String, String> {
    let receipt = chat.io.to("lobby").emit("announcement", text).map_err(|error| error.to_string())?;
    Ok(format!("told {}\n", receipt.queued))
}
