//! Meeting rooms: sign-in, typed events, rooms with presence, answers, and a REST route beside them, with tests.
//!
//! `cargo run --example meeting_rooms`, then connect Socket.IO clients with `auth: { token: "ada" }`, or
//! `new WebSocket("ws://127.0.0.1:3000/ws?token=ada", "roomcast.json")`; `curl http://127.0.0.1:3000/rooms/red`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use roomcast::emit::Receipt;
use roomcast::extract::ArgsError;
use roomcast::handler::{EventError, EventErrorCause};
use roomcast::rooms::Presence;
use roomcast::typed::{Event, NoAnswer};
use roomcast::{Auth, ConnectError, EmitError, Io, Socket, State, Value, json};
use serde::{Deserialize, Serialize};

/// Authentication payload.
#[derive(Deserialize)]
struct Ticket {
    token: String,
}

/// User identity, stored with the socket and visible to others in the room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
}

/// Enters a room; answered with how many are in it.
#[derive(Serialize, Deserialize)]
struct Enter(String);

impl Event for Enter {
    const NAME: &'static str = "enter";
    type Answer = usize;
}

/// Says something in a room that one is in; answered with the number of the message.
#[derive(Serialize, Deserialize)]
struct Say {
    room: String,
    text: String,
}

impl Event for Say {
    const NAME: &'static str = "say";
    type Answer = usize;
}

/// Chat message.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Said {
    room: String,
    by: String,
    text: String,
}

impl Event for Said {
    const NAME: &'static str = "said";
    type Answer = NoAnswer;
}

/// How much was said in each room.
#[derive(Clone, Default)]
struct Minutes(Arc<Mutex<HashMap<String, usize>>>);

impl Minutes {
    fn add(&self, room: &str) -> usize {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = rooms.entry(room.to_owned()).or_default();
        *said += 1;
        *said
    }

    fn of(&self, room: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(room).copied().unwrap_or_default()
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().init();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, application()).await
}

fn application() -> Router {
    let minutes = Minutes::default();
    let io = Io::builder().state(minutes.clone()).build();
    io.middleware(sign_in);
    io.presence(Presence::in_rooms(|room| room.as_str().starts_with("room:")).with_data());
    io.on_event(enter).on_event(say).on("leave", leave).on("rename", rename).on_error(explain);
    Router::new().route("/rooms/{room}", get(room)).with_state((io.clone(), minutes)).layer(io.layer())
}

async fn sign_in(socket: Socket, ticket: Result<Auth<Ticket>, ArgsError>) -> Result<(), ConnectError> {
    let Ok(Auth(Ticket { token })) = ticket else { return Err(ConnectError::new("show a token")) };
    // A real one would look the token up.
    if token.len() > 20 {
        return Err(ConnectError::new("unknown token"));
    }
    socket.set_data(&User { name: token }).map_err(|error| ConnectError::new(error.to_string()))
}

fn name_of(room: &str) -> String {
    format!("room:{room}")
}

async fn enter(socket: Socket, Enter(room): Enter) -> usize {
    let name = name_of(&room);
    socket.join(&name);
    socket.io().count(name)
}

async fn say(
    socket: Socket,
    Say { room, text }: Say,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    if !socket.is_in(name_of(&room)) {
        return Err("enter the room first".into());
    }
    let by = socket.data::<User>()?.map(|user| user.name).unwrap_or_default();
    let minutes = socket.io().state::<Minutes>().ok_or("no minutes are kept")?;
    let number = minutes.add(&room);
    socket.to(name_of(&room)).emit_event(&Said { room, by, text })?;
    Ok(number)
}

#[roomcast::debug_handler]
async fn leave(socket: Socket, room: String) -> Result<Receipt, EmitError> {
    socket.leave(name_of(&room));
    socket.to(name_of(&room)).emit("left", socket.id())
}

#[roomcast::debug_handler]
async fn rename(socket: Socket, State(_): State<Minutes>, user: Result<User, ArgsError>) -> Value {
    match user {
        Ok(user) if socket.set_data(&user).is_ok() => json!({ "ok": user }),
        Ok(_) => json!({ "error": "not kept" }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Callers receive errors, except internal ones.
async fn explain(error: EventError) -> Value {
    match error.cause {
        EventErrorCause::Mismatch(error) => json!({ "error": error.to_string() }),
        EventErrorCause::Failed(error) => json!({ "error": error.message }),
        _ => json!({ "error": "internal error" }),
    }
}

type App = (Io, Minutes);

async fn room(
    axum::extract::State((io, minutes)): axum::extract::State<App>,
    Path(room): Path<String>,
) -> Json<Value> {
    Json(json!({ "present": io.count(name_of(&room)), "said": minutes.of(&room) }))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use roomcast_testkit::{NotConnected, TestClient, TestKind};
    use tower_service::Service;

    use super::*;

    async fn signed_in(routes: &Router, token: &str) -> TestClient {
        TestClient::through(routes.clone()).auth(json!({ "token": token })).connect().await
    }

    #[tokio::test]
    async fn people_meet_in_a_room() {
        let mut routes = application();
        let mut ada = signed_in(&routes, "ada").await;
        let mut ben =
            TestClient::through(routes.clone()).kind(TestKind::Json).query("token", "ben").connect().await;
        assert_eq!(ada.emit_with_ack::<usize>("enter", "red").await, 1);
        assert_eq!(ben.emit_with_ack::<usize>("enter", "red").await, 2);
        let number: usize = ben.emit_with_ack("say", json!({ "room": "red", "text": "hello" })).await;
        assert_eq!(number, 1);
        let (room, joined): (String, Value) = ada.wait_for("presence:join").await;
        assert_eq!((room.as_str(), &joined["data"]["name"]), ("room:red", &json!("ben")));
        let said: Said = ada.expect("said").await;
        assert_eq!(said, Said { room: "red".into(), by: "ben".into(), text: "hello".into() });

        let request = http::Request::get("/rooms/red").body(axum::body::Body::empty()).expect("a request");
        let answer =
            routes.call(request).await.expect("an answer").into_body().collect().await.expect("a body");
        assert_eq!(&answer.to_bytes()[..], br#"{"present":2,"said":1}"#);
    }

    #[tokio::test]
    async fn reports_error_for_invalid_request() {
        let routes = application();
        let mut ada = signed_in(&routes, "ada").await;
        let refused: Value = ada.emit_with_ack("say", json!({ "room": "red", "text": "hello" })).await;
        assert_eq!(refused, json!({ "error": "enter the room first" }));
        let wrong: Value = ada.emit_with_ack("say", 7).await;
        assert!(wrong["error"].is_string(), "{wrong}");
        let renamed: Value = ada.emit_with_ack("rename", json!({ "name": "Ada" })).await;
        assert_eq!(renamed, json!({ "ok": { "name": "Ada" } }));
        let wrong: Value = ada.emit_with_ack("rename", "Ada").await;
        assert!(wrong["error"].is_string(), "{wrong}");
    }

    #[tokio::test]
    async fn rejects_client_without_credentials() {
        let routes = application();
        let refused = TestClient::through(routes.clone()).try_connect().await.expect_err("nothing was shown");
        assert_eq!(refused, NotConnected::Refused(json!({ "message": "show a token" })));
        let plain = TestClient::through(routes.clone()).kind(TestKind::Plain);
        let NotConnected::Closed(end) = plain.try_connect().await.expect_err("nothing was shown") else {
            panic!("it is closed")
        };
        assert_eq!((end.code, end.reason.as_str()), (Some(4403), "show a token"));
        let mut plain = TestClient::through(routes)
            .kind(TestKind::Plain)
            .subprotocol("bearer")
            .subprotocol("x")
            .connect()
            .await;
        plain.expect_nothing().await;
    }
}
