//! tokio-websockets: one task per socket, which feeds all queued messages and then flushes.

use std::sync::Arc;

use futures_channel::mpsc::unbounded;
use futures_util::{SinkExt as _, StreamExt as _};
use roomcast_peers::{Hub, Options};
use tokio::net::{TcpListener, TcpStream};
use tokio_websockets::{Message, ServerBuilder};

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    roomcast_peers::run(options, async {
        let listener = TcpListener::bind(options.address()).await?;
        let hub = Arc::new(Hub::default());
        for id in 0_usize.. {
            let (stream, _) = listener.accept().await?;
            let hub = Arc::clone(&hub);
            tokio::spawn(async move {
                // A client may disconnect at any time.
                let _ = serve(stream, id, options, &hub).await;
                hub.leave(id);
            });
        }
        Ok(())
    })
}

async fn serve(
    stream: TcpStream,
    id: usize,
    options: Options,
    hub: &Hub<usize, Message>,
) -> Result<(), tokio_websockets::Error> {
    stream.set_nodelay(true)?;
    let (_, mut socket) = ServerBuilder::new().accept(stream).await?;
    let (sender, mut receiver) = unbounded();
    hub.enter(id, sender);
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(message) = message.transpose()? else { return Ok(()) };
                if let Some(text) = message.as_text() {
                    hub.hear(options.mode, id, text, message.clone(), |part| Message::text(part.to_owned()));
                }
            }
            message = receiver.next() => {
                let Some(message) = message else { return Ok(()) };
                socket.feed(message).await?;
                while let Ok(message) = receiver.try_recv() {
                    socket.feed(message).await?;
                }
                socket.flush().await?;
            }
        }
    }
}
