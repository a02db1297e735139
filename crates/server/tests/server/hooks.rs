//! Application hooks for HTTP requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roomcast_server::config::IoBuilder;
use roomcast_server::http::{Cors, Handshake};
use roomcast_server::http::{HeaderValue, Request, Response};
use roomcast_server::namespace::Namespace;
use roomcast_server::{Config, Io, Server, Socket};
use roomcast_testkit::wire::UPGRADE;
use serde_json::{Value, json};

use crate::support::client::{ALL, Client, Heard, Kind};
use crate::support::engine::Engine;
use crate::support::http::{Answer, Http};
use crate::support::logs;
use crate::support::recorder::{Gate, Teller, ear};
use crate::support::serve::{On, serve, serve_server, until};
use crate::support::ws::Ws;

const POLL: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

fn body(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).expect("JSON")
}

/// Rejects requests without a valid key.
fn locked() -> IoBuilder {
    Io::builder().allow_request(async |request: Handshake| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        match request.query_value("key").as_deref() {
            Some("right") => Ok(()),
            Some("") => Err(String::new()),
            other => Err(format!("\"{}\" is no key", other.unwrap_or_default())),
        }
    })
}

#[test]
fn allow_request_rejects_handshakes() {
    let server = serve(&locked().build());
    let mut http = Http::open(&server.dial);
    let refused = http.get(&format!("{POLL}&key=wrong"));
    assert_eq!(refused.status, 403);
    assert_eq!(body(&refused), json!({ "code": 4, "message": "\"wrong\" is no key" }));
    assert_eq!(body(&http.get(&format!("{POLL}&key"))), json!({ "code": 4, "message": "Forbidden" }));
    let refused = http.request("GET", WEBSOCKET, UPGRADE);
    assert_eq!((refused.status, refused.body.as_str()), (400, "\"\" is no key"));
    assert_eq!(refused.header("content-type"), Some("text/html"));

    let mut http = Http::open(&server.dial);
    let refused = http.request("GET", "/ws?key=wrong", UPGRADE);
    assert_eq!((refused.status, refused.body.as_str()), (403, "\"wrong\" is no key"));
    assert_eq!(http.get(&format!("{POLL}&key=right")).status, 200);
    assert!(Ws::try_open(&server.dial, "/ws?key=right", None).is_ok());
    let mut ws = Ws::try_open(&server.dial, &format!("{WEBSOCKET}&key=right"), None).expect("a valid key");
    assert!(ws.receive().is_ok());
    // The hook runs before the protocol revision is checked, as on Node.
    assert_eq!(http.get("/socket.io/?transport=polling").status, 403);
    assert_eq!(body(&http.get("/socket.io/?transport=polling&key=right"))["code"], 5);
}

#[test]
fn allow_request_runs_once_per_session() {
    let (told, ear) = ear();
    let io = Io::builder()
        .allow_request(move |request: Handshake| {
            let _ = told.send(request.uri().to_owned());
            async { Ok::<(), String>(()) }
        })
        .build();
    let server = serve(&io);
    let mut engine = Engine::polling(&server.dial, "/socket.io/");
    engine.send("0".into());
    assert!(engine.receive().is_ok());
    let ws = engine.probe();
    engine.move_to(ws);
    engine.sync();
    assert_eq!(ear.all().len(), 1);
}

#[test]
fn releases_session_of_abandoned_handshake() {
    let gate = Gate::closed();
    let (told, ear) = ear();
    let door = gate.clone();
    let io = Io::builder()
        .config(Config::new().limits(|limits| limits.max_sessions(1)))
        .allow_request(move |_: Handshake| {
            let (door, asking) = (door.clone(), Asking(told.clone()));
            async move {
                let _ = asking.0.send("asked");
                door.pass().await;
                Ok::<(), String>(())
            }
        })
        .build();
    let server = serve(&io);
    let mut http = Http::open(&server.dial);
    http.send("GET", POLL, b"");
    assert_eq!(ear.next(), "asked");
    // A pending handshake counts as a session.
    assert_eq!(Http::open(&server.dial).get(POLL).status, 503);
    drop(http);
    assert_eq!(ear.next(), "gone");
    gate.open();
    until(|| Http::open(&server.dial).get(POLL).status == 200);
}

/// Reports its drop.
struct Asking(Teller<&'static str>);

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.0.send("gone");
    }
}

#[test]
fn generates_custom_session_ids() {
    let next = AtomicUsize::new(0);
    let io = Io::builder()
        .generate_id(move |request: Handshake| {
            let id = match request.query_value("id") {
                Some(id) if id == "none" => Err("out of ids"),
                Some(id) => Ok(id),
                None => Ok(format!("secret-{}", next.fetch_add(1, Ordering::Relaxed))),
            };
            async move { id }
        })
        .build();
    let server = serve(&io);
    let mut http = Http::open(&server.dial);
    let answer = http.get(POLL);
    assert!(answer.body.starts_with(r#"0{"sid":"secret-0","#), "{}", answer.body);
    assert_eq!(http.post(&format!("{POLL}&sid=secret-0"), b"40").status, 200);
    for bad in ["none", "", "a%20b", "a%2Fb", "a%22", "%0A", "secret-0", &"x".repeat(257)] {
        let refused = http.get(&format!("{POLL}&id={bad}"));
        let told = json!({ "code": 3, "message": "Bad request" });
        assert_eq!((refused.status, body(&refused)), (400, told), "{bad}");
    }
    assert_eq!(http.get(&format!("{POLL}&id={}", "x".repeat(256))).status, 200);
    // The id still belongs to the first session; a rejected duplicate does not affect it.
    assert!(http.get(&format!("{POLL}&sid=secret-0")).body.starts_with("40{"));
    until(|| io.client_count() == 2);
}

#[test]
fn generates_custom_socket_ids() {
    let next = AtomicUsize::new(0);
    let io = Io::builder()
        .generate_socket_id(move |handshake: &Handshake, namespace: &Namespace| {
            assert!(handshake.uri().starts_with('/'));
            format!("{namespace}{}", next.fetch_add(1, Ordering::Relaxed))
        })
        .build();
    let (told, ear) = ear();
    io.on_connect(move |socket: Socket| {
        let _ = told.send((socket.id().to_string(), socket.rooms()[0].to_string()));
        async move { socket.io().to(socket.id().as_str()).emit("message", "to you").map(drop) }
    });
    let server = serve(&io);
    for (number, kind) in ALL.into_iter().enumerate() {
        let mut client = Client::connect(kind, &server.dial);
        let id = format!("/{number}");
        assert_eq!(ear.next(), (id.clone(), id));
        client.expect("message", json!(["to you"]));
    }
}

#[test]
fn socket_id_panic_rejects_namespace_only() {
    let config = Config::new().cleanup_empty_child_namespaces(true);
    let io = Io::builder()
        .config(config)
        .generate_socket_id(|_: &Handshake, namespace: &Namespace| {
            if !namespace.is_main() {
                std::panic::resume_unwind(Box::new("boom"));
            }
            "fine"
        })
        .build();
    let children = io.of_matching(|name| name.as_str() == "/child");
    let server = serve(&io);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let refused = client.join("/child", json!(null));
    let error = json!({ "message": "internal error" });
    assert_eq!(refused, Heard::Refused { namespace: "/child".into(), error });
    // The client receives the error before its child namespace is removed.
    until(|| children.children().is_empty());
    client.sync();
    assert_eq!(io.count("fine"), 1);
}

#[test]
fn adds_initial_and_common_headers() {
    let io = Io::builder()
        .initial_headers(|headers, request| {
            assert!(request.uri.query().is_none_or(|query| !query.contains("sid=")));
            headers.insert("x-first", HeaderValue::from_static("1"));
            headers.insert("x-order", HeaderValue::from_static("first"));
        })
        .headers(|headers, request| {
            headers.insert("x-each", HeaderValue::from_str(request.method.as_str()).expect("a method"));
            headers.insert("x-order", HeaderValue::from_static("each"));
        })
        .build();
    let server = serve(&io);
    let seen =
        |answer: &Answer| ["x-first", "x-each", "x-order"].map(|name| answer.header(name).map(str::to_owned));
    let some = |value: &str| Some(value.to_owned());
    let mut http = Http::open(&server.dial);
    let first = http.get(POLL);
    assert_eq!(seen(&first), [some("1"), some("GET"), some("each")]);
    let open: Value = serde_json::from_str(&first.body[1..]).expect("JSON");
    let poll = format!("{POLL}&sid={}", open["sid"].as_str().expect("an id"));
    assert_eq!(seen(&http.post(&poll, b"40")), [None, some("POST"), some("each")]);
    assert_eq!(seen(&http.get(&poll)), [None, some("GET"), some("each")]);
    for target in [WEBSOCKET, "/ws"] {
        let answer = Http::open(&server.dial).request("GET", target, UPGRADE);
        assert_eq!((answer.status, seen(&answer)), (101, [some("1"), some("GET"), some("each")]), "{target}");
    }
    // Rejections get no extra headers, as on Node.
    assert_eq!(seen(&http.get("/socket.io/?EIO=4")), [None, None, None]);
}

#[test]
fn hook_panic_fails_only_its_request() {
    fn boom() {
        std::panic::resume_unwind(Box::new("boom"));
    }
    let over = |request: &Handshake, what: &str| request.query_value("panic").as_deref() == Some(what);
    let cors = Cors::matching(|origin| {
        if origin.contains("panic") {
            boom();
        }
        true
    });
    logs::listen();
    let io = Io::builder()
        .config(Config::new().http(|http| http.cors(cors)).limits(|limits| limits.max_sessions(3)))
        .allow_request(move |request: Handshake| {
            if over(&request, "allow") {
                boom();
            }
            async move {
                tokio::task::yield_now().await;
                if over(&request, "allow later") {
                    boom();
                }
                Ok::<(), String>(())
            }
        })
        .generate_id(move |request: Handshake| async move {
            if over(&request, "id") {
                boom();
            }
            Ok::<_, String>(format!("id-{}", request.query_value("id").unwrap_or_default()))
        })
        .headers(|_, request| {
            if request.uri.query().is_some_and(|query| query.contains("panic=headers")) {
                boom();
            }
        })
        .build();
    let fallback = |request: Request<()>| {
        if request.uri().path() == "/panic" {
            boom();
        }
        Response::new("as it should".into())
    };
    let server = serve_server(&io, On::Workers(2), Server::new(io.clone()).fallback(fallback));
    let mut bystander = Client::connect(Kind::Json, &server.dial);
    // All of them use the same keep-alive connection.
    let mut http = Http::open(&server.dial);
    let mut failures = 0;
    let mut fails = |answer: Answer| {
        failures += 1;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (500, "The server failed to answer this request.\n")
        );
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(io.metrics().handlers_panicked(), failures);
        assert_eq!(io.metrics().requests_refused(), failures);
        assert!(logs::saying("hook panicked on a request") > 0, "the first is logged immediately");
    };
    for _ in 0..5 {
        for what in ["allow", "allow%20later", "id"] {
            fails(http.get(&format!("{POLL}&panic={what}")));
        }
        for target in [&format!("{WEBSOCKET}&panic=allow"), "/ws?panic=allow%20later"] {
            let answer = Http::open(&server.dial).request("GET", target, UPGRADE);
            assert_eq!(answer.header("connection"), Some("close"));
            fails(answer);
        }
        for method in ["GET", "OPTIONS"] {
            fails(http.request(method, "/socket.io/?EIO=4&transport=x", "Origin: https://panic.example\r\n"));
        }
        fails(http.get("/panic"));
        assert_eq!(http.get("/").body, "as it should");
    }
    // Failed requests leave no session behind.
    assert_eq!(io.client_count(), 1);
    assert_eq!(http.get(&format!("{POLL}&id=polling")).status, 200);
    assert_eq!(http.post(&format!("{POLL}&sid=id-polling"), b"40").status, 200);
    fails(http.get(&format!("{POLL}&sid=id-polling&panic=headers")));
    let mut upgrading = Http::open(&server.dial);
    fails(upgrading.request("GET", "/ws?panic=headers", UPGRADE));
    // The opened session ends with its connection, without waiting for its heartbeat.
    drop(upgrading);
    until(|| io.client_count() == 2);
    io.emit("still", "here").expect("a valid name");
    bystander.expect("still", json!(["here"]));
}

#[test]
fn reports_each_rejection_to_hook() {
    let (told, ear) = ear();
    let io = locked()
        .generate_id(async |request: Handshake| match request.query_value("id") {
            Some(id) => Ok(id),
            None => Err("no id today"),
        })
        .connection_error(move |refused| {
            let method = refused.request.method.to_string();
            let _ = told.send((method, refused.code, refused.message.to_owned(), refused.context.clone()));
        })
        .build();
    let server = serve(&io);
    let heard = || {
        let (method, code, message, context) = ear.next();
        (method.clone(), code, message.clone(), context)
    };
    let expect = |method: &str, code: u8, message: &str, context: Value| {
        assert_eq!(heard(), (method.to_owned(), code, message.to_owned(), context));
    };
    let mut http = Http::open(&server.dial);
    http.get("/socket.io/?EIO=4&transport=pigeon");
    expect("GET", 0, "Transport unknown", json!({ "transport": "pigeon" }));
    http.get("/socket.io/?EIO=4");
    expect("GET", 0, "Transport unknown", json!({ "transport": null }));
    http.get(&format!("{POLL}&sid=nobody"));
    expect("GET", 1, "Session ID unknown", json!({ "sid": "nobody" }));
    http.post(POLL, b"40");
    expect("POST", 2, "Bad handshake method", json!({ "method": "POST" }));
    http.get(WEBSOCKET);
    expect("GET", 3, "Bad request", json!({ "name": "TRANSPORT_HANDSHAKE_ERROR" }));
    http.get(&format!("{POLL}&key=wrong"));
    expect("GET", 4, "\"wrong\" is no key", json!({ "message": "\"wrong\" is no key" }));
    http.get("/socket.io/?EIO=3&transport=polling&key=right");
    expect("GET", 5, "Unsupported protocol version", json!({ "protocol": "3" }));
    http.get(&format!("{POLL}&key=right"));
    expect("GET", 3, "Bad request", json!({ "name": "ID_GENERATION_ERROR", "error": "no id today" }));

    let open = http.get(&format!("{POLL}&key=right&id=abc"));
    assert_eq!(open.status, 200);
    http.get(&format!("{WEBSOCKET}&sid=abc"));
    let context = json!({
        "name": "TRANSPORT_MISMATCH", "transport": "websocket", "previousTransport": "polling"
    });
    expect("GET", 3, "Bad request", context);
    http.get("/socket.io/?EIO=3&transport=polling&sid=abc");
    let context = json!({ "name": "PROTOCOL_MISMATCH", "protocol": "3", "previousProtocol": 4 });
    expect("GET", 3, "Bad request", context);
    assert!(ear.all().is_empty());
}

#[test]
fn reports_late_poll_after_upgrade() {
    let (told, ear) = ear();
    let io = Io::builder()
        .connection_error(move |refused| {
            let _ = told.send(refused.context.clone());
            panic!("this is caught");
        })
        .build();
    let server = serve(&io);
    let mut engine = Engine::polling(&server.dial, "/socket.io/");
    let sid = engine.opened["sid"].as_str().expect("an id").to_owned();
    let ws = engine.probe();
    engine.move_to(ws);
    engine.sync();
    assert_eq!(Http::open(&server.dial).get(&format!("{POLL}&sid={sid}")).status, 400);
    let context = json!({
        "name": "TRANSPORT_MISMATCH", "transport": "polling", "previousTransport": "websocket"
    });
    assert_eq!(ear.next(), context);
    // The session continues.
    engine.send("0".into());
    assert!(engine.receive().is_ok());
    Client::connect(Kind::WebSocket, &server.dial).close();
}
