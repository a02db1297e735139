//! Opening a WebSocket: when the response leaves.

use std::future::pending;

use roomcast_server::transport::Endpoint;
use roomcast_server::{Io, Server};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{Rig, UPGRADE, WEBSOCKET, WebSocket, get};

fn rig() -> Rig {
    let io = Io::builder().endpoint(Endpoint::plain("/ws")).endpoint(Endpoint::socket_io()).build();
    Rig::start(&io, Server::new(io.clone()))
}

#[tokio::test]
async fn response_leaves_with_open_packet() {
    let rig = rig();
    let mut client = TcpStream::connect(rig.address).await.expect("a connection");
    tokio::io::AsyncWriteExt::write_all(&mut client, get(WEBSOCKET, UPGRADE).as_bytes()).await.expect("sent");
    let mut buffer = vec![0; 4096];
    let read = client.read(&mut buffer).await.expect("an open connection");
    let text = String::from_utf8_lossy(&buffer[..read]);
    assert!(text.starts_with("HTTP/1.1 101 ") && text.contains("0{\"sid\":"), "{text}");
}

#[tokio::test]
async fn response_does_not_wait_for_handlers() {
    let rig = rig();
    rig.io.middleware(async || {
        pending::<()>().await;
        Ok::<_, std::convert::Infallible>(())
    });
    // Nothing follows the response before the middleware ends.
    WebSocket::plain(rig.address).await;
}
