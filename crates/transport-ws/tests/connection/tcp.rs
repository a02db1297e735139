//! Real sockets, which buffer, reset, and discard unread bytes unlike in-memory streams.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use roomcast_core::{CloseReason, Message};
use roomcast_testkit::ExchangeBuilder;
use roomcast_testkit::transport::{End, Rig};
use roomcast_transport_ws::WebSocket;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{CLOSE, TEXT, client_close, client_frame, server_close, server_frame};

/// Returns a connection driven by a task, and its client.
fn open(early: &[u8]) -> (Rig, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    SockRef::from(&server).set_send_buffer_size(1 << 16).unwrap();
    let to_tokio = |stream: std::net::TcpStream| {
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    };
    let (exchange, _) = ExchangeBuilder::websocket("/").upgrade(to_tokio(server), early.to_vec()).build();
    let rig = Rig::open(&WebSocket::new(), |_| exchange, 1 << 24, true);
    (rig, to_tokio(client))
}

async fn ended(rig: &Rig) -> End {
    timeout(Duration::from_secs(30), rig.ended()).await.expect("ends in time").expect("an open connection")
}

async fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.expect("not a reset");
    bytes
}

#[tokio::test]
async fn reads_buffered_bytes_before_socket() {
    let frame = client_frame(TEXT, b"cut in two");
    let (rig, mut client) = open(&frame[..7]);
    client.write_all(&frame[7..]).await.unwrap();
    assert_eq!(rig.recv().await, Some("cut in two".into()));
}

#[tokio::test]
async fn resumes_writing_to_full_socket() {
    let (rig, mut client) = open(b"");
    let large = Message::from("x".repeat(1 << 20));
    for _ in 0..8 {
        rig.push(large.clone());
    }
    // Until the kernel accepts no more.
    let mut waiting = usize::MAX;
    while waiting != rig.outbox.waiting().frames {
        waiting = rig.outbox.waiting().frames;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(waiting > 0, "8 MiB exceed the socket buffers");
    rig.push("the end");
    let mut bytes = vec![0; 8 * (large.len() + 10) + 9];
    client.read_exact(&mut bytes).await.unwrap();
    assert!(bytes.ends_with(&server_frame(TEXT, b"the end")));
    assert_eq!(bytes.iter().filter(|byte| **byte == b'x').count(), 8 << 20);
    rig.push("more");
    client.read_exact(&mut bytes[..6]).await.unwrap();
    assert_eq!(bytes[..6], server_frame(TEXT, b"more"));
}

#[tokio::test]
async fn closes_after_client_closes() {
    let (rig, mut client) = open(b"");
    client.write_all(&client_close(4_000)).await.unwrap();
    // The server hangs up first, per section 7.1.1.
    assert_eq!(read_to_end(&mut client).await, server_close(4_000, ""));
    drop(client);
    assert!(matches!(ended(&rig).await, End::Closed));
}

#[tokio::test]
async fn closes_when_server_closes_first() {
    let (rig, mut client) = open(b"");
    rig.push("last words");
    rig.close(CloseReason::ServerShutdown);
    let expected = [server_frame(TEXT, b"last words"), server_close(1001, "server shutting down")];
    assert_eq!(read_to_end(&mut client).await, expected.concat());
    client.write_all(&client_close(1001)).await.unwrap();
    drop(client);
    assert!(matches!(ended(&rig).await, End::ByServer));
}

/// Closing a socket with unread bytes resets it, and a reset may overtake the close frame.
#[tokio::test]
async fn sending_client_receives_close_reason() {
    let (rig, mut client) = open(b"");
    let mut bytes = client_frame(TEXT, b"\xff");
    bytes.resize(4 << 20, 0);
    let (mut reader, mut writer) = client.split();
    let mut heard = Vec::new();
    let (sent, read) = tokio::join!(writer.write_all(&bytes), reader.read_to_end(&mut heard));
    assert!(sent.is_ok() && read.is_ok(), "{sent:?}, {read:?}");
    assert_eq!(heard, server_close(1007, "text must be UTF-8"));
    drop(client);
    assert!(matches!(ended(&rig).await, End::Broken(_)));
}

#[tokio::test]
async fn detects_client_disconnect() {
    for half in [0, 5] {
        let (rig, mut client) = open(b"");
        client.write_all(&client_frame(TEXT, b"half")[..half]).await.unwrap();
        drop(client);
        assert!(matches!(ended(&rig).await, End::Closed));
    }
}

#[tokio::test]
async fn flushes_queue_to_half_closed_client() {
    let (rig, mut client) = open(b"");
    rig.push("waiting");
    client.shutdown().await.unwrap();
    let bytes = read_to_end(&mut client).await;
    assert!(bytes.starts_with(&server_frame(TEXT, b"waiting")), "{bytes:?}");
    assert_eq!(bytes[9], CLOSE);
    assert!(matches!(ended(&rig).await, End::Closed));
}

#[tokio::test]
async fn reader_detects_reset() {
    let (rig, client) = open(b"");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let end = ended(&rig).await;
    let End::Broken(error) = end else { panic!("{end:?}") };
    assert_eq!(error.reason(), CloseReason::TransportClose);
}

#[tokio::test]
async fn detects_reset_while_socket_is_full() {
    let (rig, client) = open(b"");
    for _ in 0..8 {
        rig.push("x".repeat(1 << 20));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let reason = match ended(&rig).await {
        End::Broken(error) => error.reason(),
        End::Outbox(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason, CloseReason::TransportClose);
    assert!(rig.outbox.closed().is_some());
}
