//! Mounting in other servers: axum, plain hyper, and streams other than TCP sockets.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use roomcast_server::emit::Receipt;
use roomcast_server::{Ack, Args, Config, Io, Socket};
use roomcast_testkit::wire::{CLOSE, Reader, TEXT, client_frame, upgrade};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::support::client::{ACK_KINDS, ALL, Client, Kind};
use crate::support::dial::Dial;
use crate::support::http::Http;
use crate::support::logs;
use crate::support::recorder::{Gate, ear};
use crate::support::serve::until;

fn chat() -> Io {
    let io = Io::new();
    io.on("echo", async |ack: Ack, args: Args| ack.send(args).map(drop));
    io.on("message", async |socket: Socket, text: String| socket.io().emit("said", text).map(drop));
    io
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Connects clients of every kind, exchanges messages, and disconnects.
fn everybody_meets(io: &Io, dial: &Dial) {
    let mut clients: Vec<_> = ALL.iter().map(|kind| Client::connect(*kind, dial)).collect();
    for at in 0..clients.len() {
        let kind = clients[at].kind;
        // Takes more than one read or write.
        let text = format!("{at}{}", "x".repeat(100_000));
        if ACK_KINDS.contains(&kind) {
            assert_eq!(clients[at].ask("echo", json!([text, at])), json!([text, at]), "{kind:?}");
        }
        clients[at].emit("message", json!([text]));
        clients.iter_mut().for_each(|client| client.expect("said", json!([text])));
    }
    clients.into_iter().for_each(Client::close);
    until(|| io.client_count() == 0);
    assert_eq!(io.emit("anybody", ()).expect("a valid name"), Receipt::default());
}

/// Checks that other routes are unchanged, or missing.
fn others_are_answered(dial: &Dial, hello: Option<&str>) {
    let mut http = Http::open(dial);
    let answer = http.get("/hello");
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (if hello.is_some() { 200 } else { 404 }, hello.unwrap_or(""))
    );
    assert_eq!(http.get("/elsewhere").status, 404);
    assert_eq!(http.post("/hello", b"body").status, if hello.is_some() { 405 } else { 404 });
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[test]
fn serves_in_axum_beside_routes() {
    let runtime = runtime();
    let io = chat();
    let (listener, address) = runtime.block_on(listen());
    let accepted: Arc<Mutex<Vec<std::net::TcpStream>>> = Arc::default();
    let streams = accepted.clone();
    let listener = listener.tap_io(move |tcp| {
        let fd = tcp.as_fd().try_clone_to_owned().expect("a descriptor");
        streams.lock().expect("not poisoned").push(fd.into());
    });
    let routes = Router::new().route("/hello", get(async || "hello")).layer(io.layer());
    runtime.spawn(axum::serve(listener, routes).into_future());
    let dial = Dial::Tcp(address);
    others_are_answered(&dial, Some("hello"));
    everybody_meets(&io, &dial);

    // The socket is found through all wrappers: axum sets no option on it, a WebSocket of the server does.
    accepted.lock().expect("not poisoned").clear();
    let _client = Client::connect(Kind::WebSocket, &dial);
    let streams = std::mem::take(&mut *accepted.lock().expect("not poisoned"));
    let nodelay: Vec<_> = streams.iter().map(|tcp| tcp.nodelay().expect("a socket")).collect();
    assert_eq!(nodelay, [true]);
}

/// Serves routes in axum, with or without client addresses.
fn axum_at(runtime: &Runtime, routes: Router, with_addresses: bool) -> Dial {
    let (listener, address) = runtime.block_on(listen());
    if with_addresses {
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(axum::serve(listener, service).into_future());
    } else {
        runtime.spawn(axum::serve(listener, routes).into_future());
    }
    Dial::Tcp(address)
}

#[test]
fn mounts_under_a_prefix() {
    let runtime = runtime();
    let users = || Router::new().route("/users", get(async || "nobody"));
    let layered = |io: &Io, prefix: &str| Router::new().nest("/api", users()).layer(io.layer().under(prefix));
    let nested = |io: &Io| Router::new().nest("/api", users()).nest_service("/api/rt", io.service());
    let io = chat();
    for (routes, base) in [
        (layered(&io, "/api"), "/api"),
        (layered(&io, "api/"), "/api"),
        (layered(&io, "/"), ""),
        (nested(&io), "/api/rt"),
    ] {
        let mut http = Http::open(&axum_at(&runtime, routes, true));
        assert_eq!(http.get("/api/users").body, "nobody");
        let query = "EIO=4&transport=polling";
        let opened = http.get(&format!("{base}/socket.io/?{query}"));
        assert_eq!(opened.status, 200, "{base}: {}", opened.body);
        let sid = opened.body.split('"').nth(3).expect("an id").to_owned();
        assert_eq!(http.post(&format!("{base}/socket.io/?{query}&sid={sid}"), b"40").body, "ok");
        // Not served elsewhere: neither without the prefix nor under a path that only starts like it.
        for elsewhere in ["/apisocket.io", "/apix/socket.io", "/other/socket.io"] {
            assert_eq!(http.get(&format!("{elsewhere}/?{query}")).status, 404, "{base} {elsewhere}");
        }
    }
}

#[test]
fn limits_client_addresses_from_axum() {
    logs::listen();
    let runtime = runtime();
    let limited =
        || Io::builder().config(Config::new().limits(|limits| limits.max_connections_per_address(2))).build();
    let statuses = |io: &Io, with_addresses| {
        let dial = axum_at(&runtime, Router::new().layer(io.layer()), with_addresses);
        let mut http = Http::open(&dial);
        [(); 3].map(|()| http.get("/socket.io/?EIO=4&transport=polling").status)
    };
    const WARNING: &str = "client addresses are unknown";
    assert_eq!(statuses(&limited(), true), [200, 200, 503]);
    assert_eq!(logs::saying(WARNING), 0);
    assert_eq!(statuses(&limited(), false), [200; 3]);
    assert_eq!(logs::saying(WARNING), 1, "one warning in total");
}

#[test]
fn serves_as_hyper_service() {
    let runtime = runtime();
    let io = chat();
    let (listener, address) = runtime.block_on(listen());
    let service = io.service();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let service = TowerToHyperService::new(service.clone());
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    let dial = Dial::Tcp(address);
    others_are_answered(&dial, None);
    everybody_meets(&io, &dial);
}

#[cfg(unix)]
#[test]
fn serves_over_unix_sockets() {
    let path = std::env::temp_dir().join(format!("roomcast-{}.sock", std::process::id()));
    let runtime = runtime();
    let io = chat();
    let listener = {
        let _within = runtime.enter();
        tokio::net::UnixListener::bind(&path).expect("a free path")
    };
    let routes = Router::new().route("/hello", get(async || "hello")).layer(io.layer());
    runtime.spawn(async move {
        let builder = auto::Builder::new(TokioExecutor::new());
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let (builder, service) = (builder.clone(), TowerToHyperService::new(routes.clone()));
            tokio::spawn(async move {
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    let dial = Dial::Unix(path.clone());
    others_are_answered(&dial, Some("hello"));
    everybody_meets(&io, &dial);
    std::fs::remove_file(path).expect("an existing file");
}

/// Opens an in-memory WebSocket through hyper; everything runs on the calling thread.
async fn in_memory(io: &Io) -> Reader<DuplexStream> {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let service = TowerToHyperService::new(io.service());
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(connection.with_upgrades());
    let mut client = Reader::new(client);
    client.stream.write_all(upgrade("/ws").as_bytes()).await.expect("hyper reads");
    assert_eq!(client.answer().await.expect("hyper answers").status, 101);
    client
}

#[test]
fn serves_over_memory_stream() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let io = chat();
        let mut client = in_memory(&io).await;
        for number in 0..10 {
            let text = format!("hello {number}");
            client.stream.write_all(&client_frame(TEXT, text.as_bytes())).await.expect("the server reads");
            let expected = format!(r#"["said","{text}"]"#);
            let (_, answer) = client.frame().await.expect("the server answers");
            assert_eq!(answer, expected);
        }
        drop(client);
        while io.client_count() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

/// The client disconnects at the moment its connect would complete.
#[test]
fn rejects_connect_after_session_end() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let gate = Gate::closed();
        let (told, ear) = ear();
        let io = chat();
        let (door, asked) = (gate.clone(), told.clone());
        io.main().middleware(move || {
            let (door, told) = (door.clone(), asked.clone());
            async move {
                let _ = told.send("asked");
                door.pass().await;
            }
        });
        io.on_connect(move || {
            let _ = told.send("in");
            async {}
        });
        let mut client = in_memory(&io).await;
        while ear.all().is_empty() {
            tokio::task::yield_now().await;
        }
        // Nothing runs in between, so the server finds both at once.
        client.stream.write_all(&client_frame(CLOSE, b"")).await.expect("below the limit");
        gate.let_one_pass();
        while io.client_count() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(io.emit("anybody", ()).expect("a valid name"), Receipt::default());
        assert_eq!(ear.all(), [""; 0]);
    });
}
