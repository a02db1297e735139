//! Server for the test suites of `socket.io-client` and `engine.io-client`: `client_suite_server --port N`.
//!
//! Serves Socket.IO at `/socket.io/` with the events of the first suite, and Engine.IO at `/engine.io/` with the echo
//! of the second. Both are mounted in axum because the second suite requests the headers of its POST.
//! `e2e/clients/suites.test.js` covers each check of the suites with a case of this project.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::http::header::{COOKIE, HeaderValue, SET_COOKIE};
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn};
use axum::{Router, response::Response};
use clap::Parser;
use jiff::Timestamp;
use roomcast::http::Handshake;
use roomcast::transport::Endpoint;
use roomcast::{Ack, Args, Bytes, Config, ConnectError, EmitError, Io, Socket};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Parser)]
struct Options {
    /// Port to listen on, on 127.0.0.1 (0 selects a free port)
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Interval between the last client activity and the next ping, in milliseconds (the suites use 2000 and 500)
    #[arg(long, default_value_t = 2000)]
    ping_interval: u64,
    /// Maximum size of a message or POST body, in bytes (the suite of `engine.io-client` uses 100)
    #[arg(long, default_value_t = 1_000_000)]
    max_payload: usize,
    /// Delay of each handshake, in milliseconds, for tests of client timeouts
    #[arg(long, default_value_t = 10)]
    delay: u64,
}

/// Cookies of the last POST; the suite connects one client at a time.
type LastCookies = Arc<Mutex<Option<String>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let delay = Duration::from_millis(options.delay);
    let config = Config::new()
        .timeouts(|timeouts| timeouts.ping_interval(Duration::from_millis(options.ping_interval)))
        .limits(|limits| limits.max_payload(options.max_payload))
        .recovery(|recovery| recovery);
    let io = Io::builder()
        .config(config)
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::engine_io("/engine"))
        .allow_request(move |request: Handshake| async move {
            tokio::time::sleep(delay).await;
            if request.query_value("deny").is_some() { Err("") } else { Ok(()) }
        })
        .initial_headers(|headers, request| {
            if request.uri.path().starts_with("/engine.io/") {
                set_cookies(headers);
            }
        })
        .build();
    let cookies = LastCookies::default();
    namespaces(&io);
    main_namespace(&io);
    engine(&io, cookies.clone());
    let remember = move |request: Request, next: Next| remember_cookies(cookies.clone(), request, next);
    let app = Router::new().layer(io.layer()).layer(from_fn(remember));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", options.port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}

/// Registers namespaces that accept clients, reject them, or return the handshake.
fn namespaces(io: &Io) {
    io.middleware(async |socket: Socket| match socket.handshake().query_value("fail") {
        Some(fail) if !fail.is_empty() => Err(ConnectError::new("Auth failed (main namespace)")),
        _ => Ok(()),
    });
    io.of("/no").middleware(async || Err::<(), _>(ConnectError::new("Auth failed (custom namespace)")));
    for name in ["/timeout_socket", "/valid", "/asd"] {
        io.of(name);
    }
    io.of("/foo").on("getId", async |socket: Socket, ack: Ack| ack.send(socket.id().as_str()).map(drop));
    io.of("/abc").on_connect(async |socket: Socket| socket.emit("handshake", handshake(&socket)).map(drop));
}

/// Argument that contains binary data.
#[derive(Deserialize)]
struct Mixed {
    hello: String,
    message: Bytes,
    goodbye: String,
}

impl Mixed {
    fn is_as_expected(&self) -> bool {
        self.hello == "lol" && !self.message.is_empty() && self.goodbye == "gotcha"
    }
}

/// Number of events received so far of a series that must arrive in order.
#[derive(Clone, Copy, Default)]
struct Seen(u32);

fn main_namespace(io: &Io) {
    io.on("hi", async |socket: Socket| socket.emit("hi", ()).map(drop));
    io.on("echo", async |ack: Ack, value: Value| ack.send(&value).map(drop));
    io.on("ack", async |socket: Socket| {
        if let Ok(answer) = socket.emit_with_ack("ack", ()).await {
            let (number, marked) = answer.parse::<(Value, Value)>()?;
            if number == 5 && marked["test"] == true {
                socket.emit("got it", ())?;
            }
        }
        Ok::<(), EmitError>(())
    });
    io.on("getAckDate", async |ack: Ack| ack.send(now()).map(drop));
    io.on("getDate", async |socket: Socket| socket.emit("takeDate", now()).map(drop));
    io.on("getDateObj", async |socket: Socket| {
        socket.emit("takeDateObj", json!({ "date": now() })).map(drop)
    });
    io.on("getUtf8", async |socket: Socket| {
        for text in ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"]
        {
            socket.emit("takeUtf8", text)?;
        }
        Ok::<(), EmitError>(())
    });
    io.on("false", async |socket: Socket| socket.emit("false", false).map(drop));
    for (asked, told) in [("doge", "doge"), ("getbin", "takebin")] {
        io.on(asked, move |socket: Socket| async move {
            socket.emit(told, Bytes::from_static(b"asdfasdf")).map(drop)
        });
    }
    for (given, told) in [("buffa", "buffack"), ("blob", "back")] {
        io.on(given, move |socket: Socket, _: Bytes| async move { socket.emit(told, ()).map(drop) });
    }
    for (given, told) in [("jsonbuff", "jsonbuff-ack"), ("jsonblob", "jsonblob-ack")] {
        io.on(given, move |socket: Socket, mixed: Mixed| async move {
            if mixed.is_as_expected() { socket.emit(told, ()).map(drop) } else { Ok(()) }
        });
    }
    in_order(io, &[("abuff1", true), ("abuff2", false)], "abuff2-ack");
    in_order(io, &[("blob1", true), ("blob2", false), ("blob3", true)], "blob3-ack");
    io.on("getHandshake", async |socket: Socket, ack: Ack| ack.send(handshake(&socket)).map(drop));
    io.on("getId", async |socket: Socket, ack: Ack| ack.send(socket.id().as_str()).map(drop));
}

/// Emits an event once a client has sent these events in order, each with or without binary data as listed.
fn in_order(io: &Io, events: &[(&str, bool)], told: &'static str) {
    for (place, (event, binary)) in (0..).zip(events) {
        let (last, attachments) = (place as usize + 1 == events.len(), usize::from(*binary));
        io.on(event, move |socket: Socket, args: Args| async move {
            let Seen(seen) = socket.extension().unwrap_or_default();
            let fits = seen == place && args.attachments().len() == attachments;
            socket.set_extension(Seen(if fits && !last { seen + 1 } else { 0 }));
            if fits && last { socket.emit(told, ()).map(drop) } else { Ok(()) }
        });
    }
}

fn engine(io: &Io, cookies: LastCookies) {
    let engine = io.of("/engine");
    engine.on_connect(async |socket: Socket| socket.send("hi").map(drop));
    engine.on("message", move |socket: Socket, args: Args| {
        let cookies = cookies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        async move {
            match args.get::<String>(0).ok().as_deref() {
                Some("give binary") => socket.send(Bytes::from_static(&[0, 1, 2, 3, 4])),
                Some("give utf8") => socket.send("пойду спать всем спокойной ночи"),
                Some("sendHeaders") => {
                    let named: BTreeMap<_, _> =
                        cookies.into_iter().map(|cookies| ("cookie", cookies)).collect();
                    socket.send(json!(named).to_string())
                }
                _ => socket.send(args),
            }
            .map(drop)
        }
    });
}

/// Stores the cookies of a POST for the client that requests them in its body.
async fn remember_cookies(cookies: LastCookies, request: Request, next: Next) -> Response {
    if request.method() == Method::POST {
        let cookie = request.headers().get(COOKIE).and_then(|cookie| cookie.to_str().ok()).map(str::to_owned);
        *cookies.lock().unwrap_or_else(PoisonError::into_inner) = cookie;
    }
    next.run(request).await
}

/// Sets a persistent cookie, a session cookie, and two cookies that expire immediately.
fn set_cookies(headers: &mut HeaderMap) {
    for cookie in [
        "1=1; Max-Age=86400",
        "2=2; Path=/; HttpOnly; Secure; SameSite=Strict",
        "3=3; Max-Age=0",
        "4=4; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    ] {
        headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
    }
}

/// Returns the handshake of a client in the form the suites expect.
fn handshake(socket: &Socket) -> Value {
    let handshake = socket.handshake();
    let query: BTreeMap<_, _> = handshake.query().collect();
    json!({
        "query": query,
        "auth": socket.auth::<Value>().unwrap_or_default(),
        "url": handshake.uri(),
        "time": handshake.time(),
        "secure": handshake.is_secure(),
        "xdomain": handshake.is_xdomain(),
    })
}

/// Returns the current time in JavaScript's JSON format.
#[expect(clippy::disallowed_methods, reason = "the suites expect the current time")]
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp::UNIX_EPOCH.saturating_add(since).unwrap_or(Timestamp::MAX);
    at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
