//! axum, after its chat example: a tokio broadcast channel, and two tasks per socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::routing::any;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use roomcast_peers::{Command, Mode, Options};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::task::JoinHandle;

struct State {
    mode: Mode,
    all: Sender<Utf8Bytes>,
    rooms: Mutex<HashMap<String, Sender<Utf8Bytes>>>,
}

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    roomcast_peers::run(options, async {
        let state = Arc::new(State { mode: options.mode, all: channel(), rooms: Mutex::default() });
        let upgrade = async move |upgrade: WebSocketUpgrade| {
            let upgrade = if options.tuned { upgrade.read_buffer_size(4096) } else { upgrade };
            upgrade.on_upgrade(|socket| serve(socket, state))
        };
        let listener = tokio::net::TcpListener::bind(options.address()).await?;
        // TCP_NODELAY, as axum's documentation recommends for small messages.
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, Router::new().route("/", any(upgrade))).await
    })
}

async fn serve(socket: WebSocket, state: Arc<State>) {
    let (mut sender, mut receiver) = socket.split();
    if state.mode == Mode::Echo {
        while let Some(Ok(message)) = receiver.next().await {
            if matches!(message, Message::Text(_)) && sender.send(message).await.is_err() {
                break;
            }
        }
        return;
    }
    let mut sender = Some(sender);
    let mut writer = (state.mode == Mode::Broadcast)
        .then(|| sender.take().map(|sender| forward(sender, state.all.subscribe())))
        .flatten();
    while let Some(Ok(Message::Text(text))) = receiver.next().await {
        match (state.mode, Command::of(&text)) {
            (Mode::Room, Some(Command::Join(room))) => {
                let room =
                    state.rooms.lock().unwrap().entry(room.to_owned()).or_insert_with(channel).subscribe();
                // Every client joins one room in this load.
                if let Some(sender) = sender.take() {
                    writer = Some(forward(sender, room));
                }
            }
            (Mode::Room, Some(Command::Say { room, text })) => {
                if let Some(room) = state.rooms.lock().unwrap().get(room) {
                    let _ = room.send(text.into());
                }
            }
            (Mode::Room, None) => {}
            _ => _ = state.all.send(text),
        }
    }
    if let Some(writer) = writer {
        writer.abort();
    }
}

fn forward(mut sender: SplitSink<WebSocket, Message>, mut messages: Receiver<Utf8Bytes>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            match messages.recv().await {
                Ok(text) => {
                    if sender.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
                // The load generator detects lost messages.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    })
}

fn channel() -> Sender<Utf8Bytes> {
    broadcast::channel(1024).0
}
