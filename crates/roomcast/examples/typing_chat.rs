//! Chat with typing indicators, ported from the introductory Socket.IO example on Node
//!
//! `cargo run --example typing_chat -- --port 3000`, then open the page that it names. What it was on Node is
//! `e2e/reference/typing_chat.js`; both pass the same tests, by clients of Node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use roomcast::http::ResponseBody;
use roomcast::http::{HeaderValue, Response, header};
use roomcast::socket::SocketId;
use roomcast::{EmitError, Io, Server, Socket, State, json};

#[derive(Parser)]
struct Options {
    /// The port to listen on, on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let bound = Server::new(application())
        .fallback(|_| {
            let mut response = Response::new(ResponseBody::from(include_str!("typing_chat.html")));
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            response
        })
        .bind(("127.0.0.1", Options::parse().port))?;
    println!("http://{}", bound.address());
    match bound.serve().await? {}
}

fn application() -> Io {
    let io = Io::builder().state(Users::default()).build();
    io.on("add user", add_user)
        .on("new message", new_message)
        .on("typing", typing)
        .on("stop typing", stop_typing)
        .on_disconnect(disconnect);
    io
}

type Outcome = Result<(), EmitError>;

async fn add_user(socket: Socket, State(users): State<Users>, username: String) -> Outcome {
    // A named client keeps its name.
    let Some(number) = users.enter(socket.id(), &username) else { return Ok(()) };
    socket.emit("login", json!({ "numUsers": number }))?;
    let joined = json!({ "username": username, "numUsers": number });
    socket.broadcast().emit("user joined", joined).map(drop)
}

async fn new_message(socket: Socket, State(users): State<Users>, message: String) -> Outcome {
    let said = json!({ "username": users.name(socket.id()), "message": message });
    socket.broadcast().emit("new message", said).map(drop)
}

async fn typing(socket: Socket, State(users): State<Users>) -> Outcome {
    let who = json!({ "username": users.name(socket.id()) });
    // The next one replaces it, so a slow client may miss this one.
    socket.broadcast().volatile().emit("typing", who).map(drop)
}

async fn stop_typing(socket: Socket, State(users): State<Users>) -> Outcome {
    let who = json!({ "username": users.name(socket.id()) });
    socket.broadcast().emit("stop typing", who).map(drop)
}

async fn disconnect(socket: Socket, State(users): State<Users>) -> Outcome {
    let Some((username, number)) = users.leave(socket.id()) else { return Ok(()) };
    let left = json!({ "username": username, "numUsers": number });
    socket.broadcast().emit("user left", left).map(drop)
}

/// Connected clients and their names.
#[derive(Clone, Default)]
struct Users(Arc<Mutex<HashMap<SocketId, String>>>);

impl Users {
    /// How many there are with this one; `None` if it is here already
    fn enter(&self, id: &SocketId, name: &str) -> Option<usize> {
        self.with(|users| {
            let fresh = !users.contains_key(id);
            fresh.then(|| {
                users.insert(id.clone(), name.to_owned());
                users.len()
            })
        })
    }

    /// Its name, and how many are left; `None` if it never had one
    fn leave(&self, id: &SocketId) -> Option<(String, usize)> {
        self.with(|users| users.remove(id).map(|name| (name, users.len())))
    }

    fn name(&self, id: &SocketId) -> Option<String> {
        self.with(|users| users.get(id).cloned())
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<SocketId, String>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use roomcast::Value;
    use roomcast_testkit::{TestClient, TestKind};

    use super::*;

    /// Comes in under a name
    async fn enter(io: &Io, kind: TestKind, name: &str, number: usize) -> TestClient {
        let mut client = TestClient::builder(io).kind(kind).connect().await;
        client.emit("add user", name).await;
        assert_eq!(client.expect::<Value>("login").await, json!({ "numUsers": number }));
        client
    }

    #[tokio::test]
    async fn announces_users_typing_and_messages() {
        let io = application();
        let mut anna = enter(&io, TestKind::SocketIo, "Anna", 1).await;
        let mut ben = enter(&io, TestKind::Json, "Ben", 2).await;
        let joined: Value = anna.expect("user joined").await;
        assert_eq!(joined, json!({ "username": "Ben", "numUsers": 2 }));

        ben.emit("typing", ()).await;
        assert_eq!(anna.expect::<Value>("typing").await, json!({ "username": "Ben" }));
        ben.emit("stop typing", ()).await;
        assert_eq!(anna.expect::<Value>("stop typing").await, json!({ "username": "Ben" }));
        ben.emit("new message", "hello").await;
        let said: Value = anna.expect("new message").await;
        assert_eq!(said, json!({ "username": "Ben", "message": "hello" }));

        ben.expect_nothing().await;
        ben.disconnect().await;
        let left: Value = anna.expect("user left").await;
        assert_eq!(left, json!({ "username": "Ben", "numUsers": 1 }));
    }

    #[tokio::test]
    async fn keeps_first_user_name() {
        let io = application();
        let mut anna = enter(&io, TestKind::SocketIo, "Anna", 1).await;
        anna.emit("add user", "Berta").await;
        anna.expect_nothing().await;
        TestClient::connect(&io).await.disconnect().await;
        anna.expect_nothing().await;
        let mut ben = enter(&io, TestKind::SocketIo, "Ben", 2).await;
        anna.emit("new message", "still Anna").await;
        let said: Value = ben.expect("new message").await;
        assert_eq!(said, json!({ "username": "Anna", "message": "still Anna" }));
    }
}
