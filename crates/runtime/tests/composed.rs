//! Tests the example `composed_server` with real clients.

#[path = "../examples/composed_server/server.rs"]
mod server;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tungstenite::client::IntoClientRequest;
use tungstenite::{HandshakeError, Message, WebSocket};

/// Serves on a free port until the runtime ends.
async fn serve() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::Server::new().serve(listener));
    address
}

fn connect(address: SocketAddr, path: &str, subprotocol: Option<&str>) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if let Some(subprotocol) = subprotocol {
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
    }
    match tungstenite::client(request, stream) {
        Ok((client, _)) => client,
        Err(HandshakeError::Failure(error)) => panic!("{error}"),
        Err(HandshakeError::Interrupted(_)) => panic!("handshake interrupted"),
    }
}

/// Returns the next text message.
fn read(client: &mut WebSocket<TcpStream>) -> String {
    loop {
        match client.read().expect("no message") {
            Message::Text(text) => return text.to_string(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("no text: {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_reach_others_in_room() {
    let address = serve().await;
    let clients = tokio::task::spawn_blocking(move || {
        let mut json: Vec<_> =
            (0..3).map(|_| connect(address, "/?room=red", Some("roomcast.json"))).collect();
        let mut plain = connect(address, "/?room=red", None);
        let mut elsewhere = connect(address, "/?room=blue", Some("roomcast.json"));
        for client in json.iter_mut().chain([&mut elsewhere]) {
            assert!(read(client).contains("client-"), "welcome contains the id");
        }
        json[0].send(Message::text(r#"[{"ack":1},"say","hello"]"#)).unwrap();
        let mut told = read(&mut json[0]);
        while told != r#"[{"re":1},3]"# {
            // The plain client may join a moment later than its handshake ends.
            assert_eq!(told, r#"[{"re":1},2]"#);
            json[0].send(Message::text(r#"[{"ack":1},"say","hello"]"#)).unwrap();
            told = read(&mut json[0]);
        }
        assert_eq!(read(&mut json[1]), r#"["say","hello"]"#);
        assert_eq!(read(&mut plain), r#"["say","hello"]"#);
        plain.send(Message::text("from plain")).unwrap();
        loop {
            match read(&mut json[2]).as_str() {
                r#"["say","hello"]"# => {}
                other => break assert_eq!(other, r#"["message","from plain"]"#),
            }
        }
        elsewhere.send(Message::text(r#"[{"ack":2},"say","alone"]"#)).unwrap();
        assert_eq!(read(&mut elsewhere), r#"[{"re":2},0]"#, "no event of the other room");
        json[1].close(None).unwrap();
        while let Ok(message) = json[1].read() {
            if let Message::Close(frame) = message {
                assert_eq!(frame.map(|frame| u16::from(frame.code)), None, "close is echoed without a code");
            }
        }
    });
    clients.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_plain_http_with_reason() {
    let address = serve().await;
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(answer.to_lowercase().contains("upgrade"), "{answer}");
}
