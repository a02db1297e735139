//! Applications tested with in-memory clients.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use roomcast_server::extract::Extension;
use roomcast_server::http::Handshake;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Ack, Args, Auth, Config, ConnectError, Io, Socket, json};
use roomcast_testkit::{Disconnected, NotConnected, TestClient, TestKind};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::advance;

fn chat() -> Io {
    let io = Io::new();
    io.on("join", async |socket: Socket, room: String, ack: Ack| {
        socket.join(room.as_str());
        ack.send(socket.io().count(room)).map(drop)
    });
    io.on("say", async |socket: Socket, room: String, said: Args| {
        socket.within(room).emit("said", said).map(drop)
    });
    io.on("message", async |socket: Socket, args: Args| socket.emit("message", args).map(drop));
    io.on("ask-me", async |socket: Socket| {
        let answer = socket.emit_with_ack("question", ("what?", Bytes::from_static(b"\x01"))).await;
        match answer {
            Ok(answer) => socket.emit("thanks", answer).map(drop),
            Err(error) => socket.emit("no-answer", error.to_string()).map(drop),
        }
    });
    io
}

#[tokio::test]
async fn all_kinds_share_a_room() {
    let io = chat();
    let mut anna = TestClient::connect(&io).await;
    let mut ben = TestClient::builder(&io).kind(TestKind::Json).connect().await;
    let mut cleo = TestClient::builder(&io).kind(TestKind::Plain).connect().await;
    assert_eq!(io.client_count(), 3);
    assert!(!anna.id().is_empty() && !ben.id().is_empty() && cleo.id().is_empty());
    assert_eq!(anna.emit_with_ack::<usize>("join", "red").await, 1);
    assert_eq!(ben.emit_with_ack::<usize>("join", "red").await, 2);

    let image = Bytes::from(vec![7; 100_000]);
    anna.emit("say", ("red", "look", &image)).await;
    for client in [&mut anna, &mut ben] {
        let (text, same): (String, Bytes) = client.expect("said").await;
        assert_eq!((text.as_str(), &same), ("look", &image));
    }
    ben.emit("say", ("red",)).await;
    let () = anna.expect("said").await;
    let () = ben.expect("said").await;

    cleo.emit("message", "text").await;
    assert_eq!(cleo.expect::<String>("message").await, "text");
    cleo.emit("message", Bytes::from_static(b"\x00\x01")).await;
    assert_eq!(cleo.expect::<Bytes>("message").await, &b"\x00\x01"[..]);
    for client in [&mut anna, &mut ben, &mut cleo] {
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn arguments_survive_a_round_trip() {
    let io = chat();
    for kind in [TestKind::SocketIo, TestKind::Json] {
        let mut client = TestClient::builder(&io).kind(kind).connect().await;
        client.emit("message", vec![1, 2]).await;
        assert_eq!(client.expect::<Vec<i32>>("message").await, [1, 2]);
        client.emit("message", (1, 2)).await;
        assert_eq!(client.expect::<(i32, i32)>("message").await, (1, 2));
        client.emit("message", json!({ "a": [1] })).await;
        assert_eq!(client.expect::<Value>("message").await, json!({ "a": [1] }));
        client.emit("message", ("one",)).await;
        assert_eq!(client.expect::<(String,)>("message").await, ("one".to_owned(),));
        client.emit("message", ()).await;
        assert_eq!(client.expect_event("message").await.args().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_server_acks_in_paused_time() {
    let io = chat();
    for kind in [TestKind::SocketIo, TestKind::Json] {
        let mut client = TestClient::builder(&io).kind(kind).connect().await;
        client.emit("ask-me", ()).await;
        let question = client.expect_event("question").await;
        assert!(question.asks());
        assert_eq!(
            question.read::<(String, Bytes)>().expect("both"),
            ("what?".into(), Bytes::from_static(b"\x01"))
        );
        client.answer(&question, ("that", 1)).await;
        assert_eq!(client.expect::<(String, i32)>("thanks").await, ("that".to_owned(), 1));

        // No handler acknowledges this one.
        client.emit("ask-me", ()).await;
        client.expect_event("question").await;
        advance(Duration::from_secs(4)).await;
        assert!(client.expect::<String>("no-answer").await.contains("time"));
        // The client answers heartbeats itself for any duration.
        for _ in 0..100 {
            advance(Duration::from_secs(20)).await;
            client.sync().await;
        }
        client.expect_nothing().await;
    }
}

#[tokio::test]
async fn passes_handshake_data_to_middlewares() {
    let io = Io::builder()
        .allow_request(async |request: Handshake| match request.header("x-key") {
            Some("wrong") => Err("no such key"),
            _ => Ok(()),
        })
        .build();
    io.of("/staff").middleware(async |Auth(auth): Auth<Value>| match auth["user"].as_str() {
        Some(_) => Ok(()),
        None => Err(ConnectError::new("who are you?").with_data(&json!({ "code": 7 }))),
    });
    io.of("/staff").on_connect(async |socket: Socket, Extension(tenant): Extension<u32>| {
        let address = socket.handshake().address().map(|address| address.to_string());
        let room = socket.handshake().query_value("room");
        socket.emit("hello", (tenant, room, address)).map(drop)
    });
    let staff = || TestClient::builder(&io).namespace("/staff").extension(5_u32);
    let client = staff().auth(json!({ "user": "anna" })).query("room", "red");
    let mut client = client.address("10.0.0.1:80".parse().expect("valid address")).connect().await;
    let hello: (u32, Option<String>, Option<String>) = client.expect("hello").await;
    assert_eq!(hello, (5, Some("red".into()), Some("10.0.0.1:80".into())));

    let refused = staff().try_connect().await.expect_err("missing auth");
    assert_eq!(refused, NotConnected::Refused(json!({ "message": "who are you?", "data": { "code": 7 } })));
    let refused = staff().header("x-key", "wrong").try_connect().await.expect_err("wrong key");
    assert_eq!(refused, NotConnected::Http { status: 400, body: "no such key".into() });
    let elsewhere = TestClient::builder(&io).path("/elsewhere/").try_connect().await;
    assert!(matches!(elsewhere, Err(NotConnected::Http { status: 404, .. })));
}

#[tokio::test]
async fn connects_through_axum_layers() {
    let io = Io::new();
    io.on_connect(async |socket: Socket, Extension(user): Extension<String>| {
        socket.emit("hello", user).map(drop)
    });
    let routes = Router::new()
        .route("/", get(async || "a page"))
        .layer(io.layer())
        .layer(axum::Extension("anna".to_owned()));
    for kind in [TestKind::SocketIo, TestKind::Json, TestKind::Plain] {
        let mut client = TestClient::through(routes.clone()).kind(kind).connect().await;
        assert_eq!(client.expect::<String>("hello").await, "anna");
    }
    let page = TestClient::through(routes).path("/").try_connect().await;
    assert_eq!(page.expect_err("no endpoint"), NotConnected::Http { status: 200, body: "a page".into() });
}

#[tokio::test]
async fn both_sides_see_the_disconnect() {
    let io = chat();
    let (told, mut ear) = mpsc::channel(16);
    io.on_disconnect(move |reason: CloseReason| {
        let told = told.clone();
        async move { told.send(reason).await.expect("the receiver is alive") }
    });
    TestClient::connect(&io).await.disconnect().await;
    assert_eq!(ear.recv().await, Some(CloseReason::ClientNamespaceDisconnect));
    TestClient::builder(&io).kind(TestKind::Json).connect().await.disconnect().await;
    assert_eq!(ear.recv().await, Some(CloseReason::TransportClose));
    drop(TestClient::connect(&io).await);
    assert!(matches!(ear.recv().await, Some(CloseReason::TransportClose | CloseReason::TransportError)));

    let mut client = TestClient::connect(&io).await;
    io.close();
    let end = client.expect_disconnect().await;
    assert_eq!(end, Disconnected { code: Some(1001), reason: "server shutting down".into() });
    assert_eq!(ear.recv().await, Some(CloseReason::ServerShutdown));
    let io = chat();
    io.on_connect(async |socket: Socket| socket.disconnect());
    let mut client = TestClient::connect(&io).await;
    assert_eq!(client.expect_disconnect().await.reason, "io server disconnect");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "timed out after 5s waiting for event `never`")]
async fn missing_event_panics_at_once() {
    let mut client = TestClient::connect(&chat()).await;
    client.expect::<String>("never").await;
}

#[tokio::test]
#[should_panic(expected = "expected event `said`, received `message(\"x\")`")]
async fn unexpected_event_name_panics() {
    let mut client = TestClient::connect(&chat()).await;
    client.emit("message", "x").await;
    client.expect::<String>("said").await;
}

#[tokio::test]
#[should_panic(expected = "expected nothing, received `message(\"x\")`")]
async fn expect_nothing_panics_on_message() {
    let mut client = TestClient::connect(&chat()).await;
    client.emit("message", "x").await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn applies_server_settings() {
    let io = Io::builder().config(Config::new().limits(|limits| limits.max_payload(100))).build();
    let mut client = TestClient::connect(&io).await;
    client.emit("large", "x".repeat(200)).await;
    assert_eq!(client.expect_disconnect().await.code, Some(1009));
}

/// Returns the location and the message of the panic that a test ends in.
async fn failure(test: impl Future<Output = ()> + Send + 'static) -> (String, u32, String) {
    use std::sync::Mutex;

    static PLACES: Mutex<Vec<(std::thread::ThreadId, String, u32)>> = Mutex::new(Vec::new());
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let at = panic.location().expect("panic has a location");
            let entry = (std::thread::current().id(), at.file().to_owned(), at.line());
            PLACES.lock().expect("lock is not poisoned").push(entry);
            before(panic);
        }));
    });
    // Matches this thread, which separates the location from the locations of other tests.
    let panic = tokio::spawn(test).await.expect_err("the test panics").into_panic();
    let here = std::thread::current().id();
    let places = PLACES.lock().expect("lock is not poisoned");
    let (_, file, line) =
        places.iter().rev().find(|(thread, ..)| *thread == here).expect("recorded location");
    (file.clone(), *line, *panic.downcast::<String>().expect("panic message is a string"))
}

#[tokio::test(start_paused = true)]
async fn panics_report_the_waiting_line() {
    let io = chat();
    macro_rules! fails {
        ($client:ident => $step:expr, $($text:expr),+) => {
            let io = io.clone();
            let line = line!();
            let (file, at, text) = failure(async move {
                let mut $client = TestClient::connect(&io).await;
                let _ = $step.await;
            })
            .await;
            // Code generated by a macro has the location of the macro call, which begins on this line.
            assert!(file.ends_with("client.rs") && (line..line + 4).contains(&at), "{file}:{at}, not {line}: {text}");
            $(assert!(text.contains($text), "{text}");)+
            assert!(text.contains("client.rs:"), "{text}");
        };
    }
    fails!(client => client.expect::<String>("said"), "timed out after 5s", "waiting for event `said`");
    fails!(client => client.wait_for::<String>("said"), "skipped nothing");
    fails!(client => client.emit_with_ack::<u32>("nobody", ()), "acknowledgement of `nobody`");
    fails!(client => client.expect_disconnect(), "waiting for disconnect");
    fails!(client => client.next_event(), "waiting for any event");
    let line = line!() + 4;
    let (file, at, text) = failure(async move {
        let mut client = TestClient::connect(&chat()).await;
        client.emit("message", ("red", Bytes::from_static(b"abc"), 1)).await;
        client.expect::<String>("said").await;
    })
    .await;
    assert!(file.ends_with("client.rs") && at == line, "{file}:{at}, not {line}");
    assert!(text.contains("`said`, received `message(\"red\", <3 bytes>, 1)`"), "{text}");
    let (file, at, text) = failure(async {
        let io = Io::new();
        io.middleware(async || Err::<(), _>("full"));
        TestClient::connect(&io).await;
    })
    .await;
    assert!(file.ends_with("client.rs") && at == line + 8, "{file}:{at}, not {line}");
    assert!(text.contains("refused: {\"message\":\"full\"}"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn wait_for_skips_other_events() {
    let io = chat();
    let mut client = TestClient::connect(&io).await;
    for word in ["one", "two", "three"] {
        client.emit("message", word).await;
    }
    io.emit("news", (1, "a")).expect("valid event name");
    io.emit("more", ()).expect("valid event name");
    let (number, text): (u32, String) = client.wait_for("news").await;
    assert_eq!((number, text.as_str()), (1, "a"));
    let () = client.wait_for("more").await;
    // Skipped events are discarded or arrived later.
    for word in ["one", "two", "three"] {
        client.emit("message", word).await;
    }
    client.sync().await;
    let (file, _, text) = failure(async move {
        client.emit("message", "last").await;
        client.wait_for_event("other").await;
    })
    .await;
    assert!(file.ends_with("client.rs"), "{file}");
    assert!(text.contains("`message(\"one\")`, ") && text.contains("`message(\"last\")`)"), "{text}");
}

#[tokio::test]
async fn plain_client_sends_token_in_handshake() {
    let io = Io::new();
    io.middleware(
        async |Auth(shown): Auth<Value>| {
            if shown["token"] == "sesame" { Ok(()) } else { Err(ConnectError::new("not you")) }
        },
    );
    for kind in [TestKind::Plain, TestKind::Json] {
        let client = TestClient::builder(&io).kind(kind);
        client.subprotocol("bearer").subprotocol("sesame").connect().await.expect_nothing().await;
        TestClient::builder(&io).kind(kind).query("token", "sesame").connect().await.expect_nothing().await;
    }
    let refused = TestClient::builder(&io).kind(TestKind::Plain).try_connect().await;
    let end = Disconnected { code: Some(4403), reason: "not you".into() };
    assert_eq!(refused.expect_err("connect is refused"), NotConnected::Closed(end));
}
