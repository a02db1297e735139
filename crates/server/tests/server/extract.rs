//! Application state and request extensions in handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use roomcast_server::extract::Extension;
use roomcast_server::{Ack, EmitError, Io, Socket, State};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::support::client::{ACK_KINDS, ALL, Client, Kind};
use crate::support::dial::Dial;
use crate::support::logs;
use crate::support::recorder::ear;
use crate::support::serve::serve;

#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

#[derive(Clone, Debug, PartialEq)]
struct User(String);

#[test]
fn handlers_share_application_state() {
    let counter = Counter::default();
    let io = Io::builder().state(counter.clone()).state("a text").build();
    io.on("count", async |State(counter): State<Counter>, State(text): State<&'static str>, ack: Ack| {
        ack.send((counter.0.fetch_add(1, Ordering::Relaxed), text))?;
        Ok::<(), EmitError>(())
    });
    let server = serve(&io);
    for (number, kind) in ACK_KINDS.into_iter().enumerate() {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("count", json!([])), json!([number, "a text"]));
    }
    assert_eq!(counter.0.load(Ordering::Relaxed), ACK_KINDS.len());
    assert!(io.state::<Counter>().is_some() && io.state::<String>().is_none());
}

#[test]
fn logs_missing_state_and_extension() {
    logs::listen();
    let io = Io::new();
    io.on("no-state", async |_: State<Counter>| {});
    io.on("no-extension", async |_: Extension<User>| {});
    io.on("ask", async |ack: Ack| ack.send("well").map(drop));
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.emit("no-state", json!([]));
    client.emit("no-extension", json!([]));
    assert_eq!(client.ask("ask", json!([])), json!(["well"]));
    for event in ["no-state", "no-extension"] {
        let lines = logs::about(event);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].level, "ERROR");
    }
}

#[test]
fn handlers_see_request_extensions_from_layers() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let io = Io::new();
    let (told, ear) = ear();
    io.on_connect(move |socket: Socket, Extension(user): Extension<User>| {
        assert_eq!(socket.handshake().extensions().get::<User>(), Some(&user));
        let _ = told.send(user);
        async {}
    });
    io.main().middleware(
        async |Extension(user): Extension<User>| {
            if user.0.is_empty() { Err("who are you?") } else { Ok(()) }
        },
    );
    // The application's layer runs before ours, so its extensions are in place.
    let routes = Router::new().route("/hello", get(async || "hello")).layer(io.layer()).layer(from_fn(
        async |mut request: axum::extract::Request, next: Next| {
            let path = request.uri().path().trim_matches('/').to_owned();
            request.extensions_mut().insert(User(path));
            next.run(request).await
        },
    ));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let dial = Dial::Tcp(listener.local_addr().expect("an address"));
    runtime.spawn(axum::serve(listener, routes).into_future());
    for kind in ALL {
        let client = Client::connect(kind, &dial);
        let path = if [Kind::Plain, Kind::Json].contains(&kind) { "ws" } else { "socket.io" };
        assert_eq!(ear.next(), User(path.to_owned()));
        client.close();
    }
}
