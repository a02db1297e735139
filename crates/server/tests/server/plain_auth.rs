//! Authentication of plain WebSocket clients, and their rejection.

use roomcast_server::extract::ArgsError;
use roomcast_server::transport::Endpoint;
use roomcast_server::{Auth, ConnectError, Io, Socket, Value, json};
use serde::Deserialize;

use crate::support::recorder::ear;
use crate::support::serve::serve;
use crate::support::ws::{Ended, Ws};

#[derive(Debug, Deserialize)]
struct Ticket {
    token: String,
}

#[test]
fn reads_auth_from_query_and_subprotocol() {
    let (told, shown) = ear();
    let io = Io::new();
    io.on_connect(move |Auth(auth): Auth<Value>, socket: Socket| {
        let _ = told.send((auth, socket.auth::<Value>().expect("a value")));
    });
    let server = serve(&io);
    for (target, offered, auth, chosen) in [
        ("/ws", None, json!({}), None),
        ("/ws?token=a%20b&room=red", None, json!({ "token": "a b", "room": "red" }), None),
        ("/ws?x=1&x=2&flag", None, json!({ "x": ["1", "2"], "flag": "" }), None),
        ("/ws", Some("bearer, abc.def-_~"), json!({ "token": "abc.def-_~" }), Some("bearer")),
        ("/ws?token=old&a=1", Some("bearer, new"), json!({ "token": "new", "a": "1" }), Some("bearer")),
        ("/ws?token=t", Some("roomcast.json"), json!({ "token": "t" }), Some("roomcast.json")),
        ("/ws", Some("roomcast.json, bearer, abc"), json!({ "token": "abc" }), Some("roomcast.json")),
        ("/ws", Some("bearer, abc, roomcast.json"), json!({ "token": "abc" }), Some("roomcast.json")),
        ("/ws", Some("bearer"), json!({}), Some("bearer")),
        ("/ws", Some("bearer, roomcast.json"), json!({}), Some("roomcast.json")),
    ] {
        let offered = offered.unwrap_or_default();
        let ws = Ws::open(&server.dial, target, (!offered.is_empty()).then_some(offered));
        assert_eq!(ws.protocol.as_deref(), chosen, "{target} {offered}");
        assert_eq!(shown.next(), (auth.clone(), auth), "{target} {offered}");
    }
}

#[test]
fn negotiates_application_subprotocols() {
    let io =
        Io::builder().endpoint(Endpoint::plain("/ws").subprotocol("chat.v2").subprotocol("chat.v1")).build();
    io.on("message", async |socket: Socket, text: String| socket.send(text));
    let server = serve(&io);
    for (offered, chosen) in [
        ("chat.v1, chat.v2", Some("chat.v1")),
        ("chat.v3, chat.v2", Some("chat.v2")),
        ("chat.v1, roomcast.json", Some("roomcast.json")),
    ] {
        let ws = Ws::open(&server.dial, "/ws", Some(offered));
        assert_eq!(ws.protocol.as_deref(), chosen, "{offered}");
    }
    for wrong in ["", "a b", "a,b", "ä"] {
        let error = Io::builder().endpoint(Endpoint::plain("*").subprotocol(wrong)).try_build().unwrap_err();
        assert!(error.to_string().contains("not an HTTP token"), "{error}");
    }
}

#[test]
fn sends_rejection_message_as_close_reason() {
    let io = Io::new();
    io.middleware(async |ticket: Result<Auth<Ticket>, ArgsError>| match ticket {
        Ok(Auth(ticket)) if ticket.token == "sesame" => Ok(()),
        Ok(Auth(ticket)) => {
            tokio::task::yield_now().await;
            Err(ConnectError::new(format!("not {}", ticket.token)).with_data(&7))
        }
        Err(_) => Err(ConnectError::new("show a \"ticket\"")),
    });
    let server = serve(&io);
    let long = "é".repeat(100);
    for offered in [None, Some("roomcast.json")] {
        for (target, reason) in [
            ("/ws".to_owned(), "show a \"ticket\"".to_owned()),
            ("/ws?token=x".to_owned(), "not x".to_owned()),
            (format!("/ws?token={}", "%C3%A9".repeat(100)), format!("not {long}")[..122].to_owned()),
        ] {
            let mut ws = Ws::open(&server.dial, &target, offered);
            let end = loop {
                if let Err(end) = ws.receive() {
                    break end;
                }
            };
            assert_eq!(end, Ended { code: Some(4403), reason }, "{target}");
        }
    }
    let mut ws = Ws::open(&server.dial, "/ws?token=sesame", None);
    ws.sync();
    assert_eq!(io.client_count(), 1);
}

#[test]
fn hides_types_of_mismatched_auth() {
    let io = Io::new();
    io.middleware(async |_: Auth<Ticket>| {});
    let server = serve(&io);
    let end = Ws::open(&server.dial, "/ws?name=x", None).receive().expect_err("a rejection");
    assert_eq!(end, Ended { code: Some(4403), reason: "invalid auth".into() });
}

#[test]
fn passes_auth_to_endpoint_namespace() {
    let io = Io::builder().endpoint(Endpoint::plain("/rooms/*").in_namespace("/rooms")).build();
    let (told, shown) = ear();
    io.of("/rooms").on_connect(move |socket: &Socket| {
        let _ = told.send((socket.handshake().path_rest(), socket.auth::<Value>().expect("a value")));
    });
    let server = serve(&io);
    let _ws = Ws::open(&server.dial, "/rooms/red?token=t", None);
    assert_eq!(shown.next(), ("red".to_owned(), json!({ "token": "t" })));
}
