//! The program of the tutorial, `docs/tutorial.md`, which shows this file piece by piece.

use roomcast::http::{HeaderValue, Response, ResponseBody, header};
use roomcast::{Auth, ConnectError, EmitError, Io, Server, Socket};
use serde::Deserialize;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let bound = Server::new(chat()).fallback(|_| page()).bind("127.0.0.1:3000")?;
    println!("listening on http://{}", bound.address());
    match bound.serve().await? {}
}

fn chat() -> Io {
    let io = Io::new();
    io.middleware(login);
    io.on("join", join).on("say", say).on_disconnecting(leave);
    io
}

async fn say(
    socket: Socket,
    room: String,
    text: String,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if !socket.is_in(&room) {
        return Err("join the room first".into());
    }
    socket.within(&room).emit("said", (name(&socket), text))?;
    Ok(())
}

#[derive(Deserialize)]
struct Login {
    name: String,
}

async fn login(socket: Socket, Auth(login): Auth<Login>) -> Result<(), ConnectError> {
    if login.name.is_empty() || login.name.len() > 20 {
        return Err(ConnectError::new("choose a name of 1 to 20 bytes"));
    }
    socket.set_data(&login.name).map_err(|error| ConnectError::new(error.to_string()))
}

fn name(socket: &Socket) -> String {
    socket.data().ok().flatten().unwrap_or_default()
}

async fn join(socket: Socket, room: String) -> Result<usize, EmitError> {
    socket.join(&room);
    socket.to(&room).emit("joined", name(&socket))?;
    Ok(socket.io().count(&room)) // the acknowledgement
}

async fn leave(socket: Socket) -> Result<(), EmitError> {
    for room in socket.rooms() {
        socket.to(room).emit("left", name(&socket))?;
    }
    Ok(())
}

fn page() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(include_str!("tutorial.html")));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

#[cfg(test)]
mod tests {
    use roomcast::json;
    use roomcast_testkit::{NotConnected, TestClient, TestKind};

    use super::*;

    async fn client(io: &Io, name: &str) -> TestClient {
        TestClient::builder(io).auth(json!({ "name": name })).connect().await
    }

    #[tokio::test]
    async fn delivers_messages_within_room() {
        let io = chat();
        let (mut ada, mut ben) = (client(&io, "Ada").await, client(&io, "Ben").await);
        assert_eq!(ada.emit_with_ack::<usize>("join", "lobby").await, 1);
        assert_eq!(ben.emit_with_ack::<usize>("join", "lobby").await, 2);
        assert_eq!(ada.expect::<String>("joined").await, "Ben");

        ben.emit("say", ("lobby", "hello")).await;
        for client in [&mut ada, &mut ben] {
            assert_eq!(client.expect::<(String, String)>("said").await, ("Ben".into(), "hello".into()));
        }

        drop(ben); // a broken connection
        assert_eq!(ada.expect::<String>("left").await, "Ben");
    }

    #[tokio::test]
    async fn shares_rooms_with_plain_clients() {
        let io = chat();
        let mut ada = client(&io, "Ada").await;
        let mut ben = TestClient::builder(&io).kind(TestKind::Json).query("name", "Ben").connect().await;
        ada.emit_with_ack::<usize>("join", "lobby").await;
        ben.emit_with_ack::<usize>("join", "lobby").await;
        ada.emit("say", ("lobby", "hello")).await;
        assert_eq!(ben.expect::<(String, String)>("said").await, ("Ada".into(), "hello".into()));
    }

    #[tokio::test]
    async fn rejects_client_without_name() {
        let refused = TestClient::builder(&chat()).auth(json!({ "name": "" })).try_connect().await;
        let message = json!({ "message": "choose a name of 1 to 20 bytes" });
        assert_eq!(refused.expect_err("no name"), NotConnected::Refused(message));
    }
}
