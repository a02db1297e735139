//! The tests of `docs/testing.md`, which shows this file piece by piece.

use roomcast::emit::AckError;
use roomcast::handler::EventError;
use roomcast::socket::CloseReason;
use roomcast::{Auth, Io, Socket, Value, json};
use roomcast_testkit::{NotConnected, TestClient, TestKind};

fn application() -> Io {
    let io = Io::new();
    io.middleware(
        async |Auth(auth): Auth<Value>| if auth["banned"] == true { Err("banned") } else { Ok(()) },
    );
    io.on("add", async |a: i32, b: i32| a + b);
    io.on("say", async |socket: Socket, text: String| socket.io().emit("said", text));
    io.on("vote", async |socket: Socket| -> Result<String, AckError> {
        let (choice,): (String,) = socket.emit_with_ack("choose", "red or blue?").await?.parse()?;
        Ok(choice)
    });
    io
}

#[tokio::test]
async fn answers_and_broadcasts() {
    let io = application();
    let (mut ada, mut ben) = (TestClient::connect(&io).await, TestClient::connect(&io).await);
    assert_eq!(ada.emit_with_ack::<i32>("add", (2, 3)).await, 5);

    ada.emit("say", "hello").await;
    assert_eq!(ben.expect::<String>("said").await, "hello");
    assert_eq!(ada.expect::<String>("said").await, "hello");
    ben.expect_nothing().await;
}

#[tokio::test]
async fn serves_every_kind_of_client() {
    let io = application();
    for kind in [TestKind::SocketIo, TestKind::Json] {
        let mut client = TestClient::builder(&io).kind(kind).connect().await;
        assert_eq!(client.emit_with_ack::<i32>("add", (2, 3)).await, 5);
    }
    // Plain mode has no acknowledgements, and sends `message` events only.
    let mut plain = TestClient::builder(&io).kind(TestKind::Plain).connect().await;
    io.emit("said", "to all").expect("emitted");
    assert_eq!(plain.expect::<String>("said").await, "to all");
}

#[tokio::test]
async fn asks_the_client() {
    let io = application();
    let mut ada = TestClient::connect(&io).await;
    ada.emit("vote", ()).await;
    let question = ada.expect_event("choose").await;
    ada.answer(&question, "red").await;
    ada.expect_nothing().await;
}

#[tokio::test]
async fn rejects_banned_client() {
    let refused = TestClient::builder(&application()).auth(json!({ "banned": true })).try_connect().await;
    assert_eq!(refused.expect_err("banned"), NotConnected::Refused(json!({ "message": "banned" })));
}

#[tokio::test(start_paused = true)]
async fn vote_times_out() {
    let io = application();
    let (errors, mut failed) = tokio::sync::mpsc::channel(1);
    io.on_error(move |error: EventError| errors.try_send(error.to_string()).expect("the test waits"));
    let mut ada = TestClient::connect(&io).await;
    ada.emit("vote", ()).await;
    ada.expect_event("choose").await; // and no answer
    let error = failed.recv().await.expect("an error");
    assert!(error.contains("operation has timed out"), "{error}");
}

#[tokio::test]
async fn notices_disconnects() {
    let io = application();
    let (reasons, mut left) = tokio::sync::mpsc::channel(2);
    io.on_disconnect(move |reason: CloseReason| reasons.try_send(reason).expect("the test waits"));

    TestClient::connect(&io).await.disconnect().await;
    assert_eq!(left.recv().await, Some(CloseReason::ClientNamespaceDisconnect));

    drop(TestClient::connect(&io).await); // a broken connection
    assert_eq!(left.recv().await.map(CloseReason::as_str), Some("transport close"));

    let mut ada = TestClient::connect(&io).await;
    io.disconnect_client();
    let end = ada.expect_disconnect().await;
    assert_eq!(end.reason, "io server disconnect");
}

#[tokio::test]
async fn connects_through_router() {
    let io = application();
    let routes = axum::Router::new().layer(io.layer());
    let mut client = TestClient::through(routes).header("x-user", "ada").connect().await;
    assert_eq!(client.emit_with_ack::<i32>("add", (2, 3)).await, 5);
}
