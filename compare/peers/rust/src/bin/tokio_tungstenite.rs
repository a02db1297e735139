//! tokio-tungstenite, after its example `server`: a map of unbounded channels, each forwarded to its socket.

use std::sync::Arc;

use futures_channel::mpsc::unbounded;
use futures_util::{StreamExt as _, TryStreamExt as _, future, pin_mut};
use roomcast_peers::{Hub, Options};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    roomcast_peers::run(options, async {
        let listener = TcpListener::bind(options.address()).await?;
        let hub = Arc::new(Hub::default());
        for id in 0_usize.. {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream, id, options, Arc::clone(&hub)));
        }
        Ok(())
    })
}

async fn serve(stream: TcpStream, id: usize, options: Options, hub: Arc<Hub<usize, Message>>) {
    let _ = stream.set_nodelay(true);
    let config = WebSocketConfig::default();
    let config = if options.tuned { config.read_buffer_size(4096) } else { config };
    let Ok(socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else { return };
    let (sender, receiver) = unbounded();
    hub.enter(id, sender);
    let (outgoing, incoming) = socket.split();
    let hearing = incoming.try_for_each(|message| {
        if let Message::Text(text) = &message {
            hub.hear(options.mode, id, text, message.clone(), |part| Message::text(part));
        }
        future::ok(())
    });
    let speaking = receiver.map(Ok).forward(outgoing);
    pin_mut!(hearing, speaking);
    future::select(hearing, speaking).await;
    hub.leave(id);
}
