//! socketioxide as a layer of axum, with its default settings.

use std::time::Duration;

use roomcast_peers::{Mode, Options};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, SocketRef};

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    roomcast_peers::run(options, async {
        let mut builder = SocketIo::builder();
        if let Some(seconds) = options.ping_interval {
            builder = builder.ping_interval(Duration::from_secs(seconds.into()));
        }
        let (layer, io) = builder.build_layer();
        io.ns("/", async move |socket: SocketRef| match options.mode {
            Mode::Broadcast => socket.on("msg", async |io: SocketIo, Data::<String>(text)| {
                let _ = io.emit("msg", &text).await;
            }),
            Mode::Echo => socket.on("echo", async |socket: SocketRef, Data::<String>(text)| {
                let _ = socket.emit("echo", &text);
            }),
            Mode::Room => {
                socket.on("join", async |socket: SocketRef, Data::<String>(room)| socket.join(room));
                socket.on("room", async |io: SocketIo, Data::<(String, String)>((room, text))| {
                    let _ = io.to(room).emit("msg", &text).await;
                });
            }
        });
        let listener = tokio::net::TcpListener::bind(options.address()).await?;
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, axum::Router::new().layer(layer)).await
    })
}
