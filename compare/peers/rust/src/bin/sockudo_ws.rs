//! sockudo-ws: one task per socket, with the library's own publish/subscribe and default settings.

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use roomcast_peers::{Command, Mode, Options};
use sockudo_ws::error::Result;
use sockudo_ws::pubsub::{PubSub, SubscriberId};
use sockudo_ws::server::WebSocketServer;
use sockudo_ws::{Config, Http1, Message};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    roomcast_peers::run(options, async {
        let listener = TcpListener::bind(options.address()).await?;
        let topics = Arc::new(PubSub::new());
        loop {
            let (stream, _) = listener.accept().await?;
            let topics = Arc::clone(&topics);
            tokio::spawn(async move {
                let (sender, receiver) = unbounded_channel();
                let id = topics.create_subscriber(sender);
                // A client may disconnect at any time.
                let _ = serve(stream, options, &topics, id, receiver).await;
                topics.remove_subscriber(id);
            });
        }
    })
}

async fn serve(
    stream: TcpStream,
    options: Options,
    topics: &PubSub,
    id: SubscriberId,
    mut receiver: UnboundedReceiver<Message>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let Options { mode, ping_interval, .. } = options;
    let mut config = Config::default();
    config.ping_interval = ping_interval.unwrap_or(config.ping_interval);
    let (mut socket, _) = WebSocketServer::<Http1>::new(config).accept_raw(stream).await?;
    if mode == Mode::Broadcast {
        topics.subscribe(id, "all");
    }
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(message) = message.transpose()? else { return Ok(()) };
                let Some(text) = message.as_text() else { continue };
                match (mode, Command::of(text)) {
                    (Mode::Broadcast, _) => _ = topics.publish("all", message),
                    (Mode::Echo, _) => socket.send(message).await?,
                    (Mode::Room, Some(Command::Join(room))) => _ = topics.subscribe(id, room),
                    (Mode::Room, Some(Command::Say { room, text })) => {
                        topics.publish(room, Message::text(text));
                    }
                    (Mode::Room, None) => {}
                }
            }
            Some(message) = receiver.recv() => {
                socket.feed(message).await?;
                while let Ok(message) = receiver.try_recv() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
        }
    }
}
