//! A chat room inside an axum application, beside its other routes, with its state, and behind its own layers.
//!
//! `cargo run --example axum_chat`, then `curl http://127.0.0.1:3000/online`. Who connects says a name in the header
//! `x-user`, as an authenticating proxy would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use roomcast::extract::Extension;
use roomcast::{Ack, EmitError, Io, Socket, State};

/// State shared by routes and handlers.
#[derive(Clone, Default)]
struct Said(Arc<AtomicUsize>);

/// User identity, set by a layer.
#[derive(Clone)]
struct User(String);

#[derive(Clone)]
struct App {
    io: Io,
    said: Said,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    tracing_subscriber::fmt().init();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, application()).await
}

fn application() -> Router {
    let said = Said::default();
    let io = Io::builder().state(said.clone()).build();
    io.on_connect(connect).on("say", say);
    Router::new()
        .route("/online", get(online))
        .route("/announce", post(announce))
        .with_state(App { io: io.clone(), said })
        .layer(io.layer())
        // Layers added later are further out: this one sees client requests first.
        .layer(from_fn(identify))
}

async fn identify(mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let name = request.headers().get("x-user").and_then(|name| name.to_str().ok());
    let user = User(name.unwrap_or("somebody").to_owned());
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

async fn connect(socket: Socket, Extension(User(name)): Extension<User>) -> Result<(), EmitError> {
    socket.join("lobby");
    socket.emit("welcome", name).map(drop)
}

async fn say(
    socket: Socket,
    State(said): State<Said>,
    Extension(User(name)): Extension<User>,
    text: String,
    ack: Ack,
) -> Result<(), EmitError> {
    let number = said.0.fetch_add(1, Ordering::Relaxed) + 1;
    let receipt = socket.to("lobby").emit("said", (name, text))?;
    ack.send((number, receipt.queued)).map(drop)
}

async fn online(axum::extract::State(app): axum::extract::State<App>) -> String {
    format!("{} online, {} messages\n", app.io.count("lobby"), app.said.0.load(Ordering::Relaxed))
}

/// The rest of the application emits, too.
async fn announce(
    axum::extract::State(app): axum::extract::State<App>,
    text: String,
) -> Result<String, String> {
    let receipt = app.io.to("lobby").emit("announcement", text).map_err(|error| error.to_string())?;
    Ok(format!("told {}\n", receipt.queued))
}

#[cfg(test)]
mod tests {
    use roomcast_testkit::TestClient;

    use super::*;

    #[tokio::test]
    async fn uses_names_set_by_layer() {
        let routes = application();
        let mut anna = TestClient::through(routes.clone()).header("x-user", "Anna").connect().await;
        assert_eq!(anna.expect::<String>("welcome").await, "Anna");
        let mut other = TestClient::through(routes).connect().await;
        assert_eq!(other.expect::<String>("welcome").await, "somebody");
        assert_eq!(anna.emit_with_ack::<(usize, usize)>("say", "hello").await, (1, 1));
        let said: (String, String) = other.expect("said").await;
        assert_eq!(said, ("Anna".to_owned(), "hello".to_owned()));
    }
}
