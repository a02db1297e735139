//! Settings of Node's engine: transports, upgrades, CORS, and client files.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use roomcast_server::http::header::{AUTHORIZATION, HeaderName};
use roomcast_server::http::{Cookie, Cors};
use roomcast_server::http::{Method, StatusCode};
use roomcast_server::transport::{Endpoint, Polling, WebSocket};
use roomcast_server::{Config, Io, Socket};
use serde_json::{Value, json};

use crate::support::client::{Client, Kind};
use crate::support::engine::Engine;
use crate::support::http::{Answer, Http};
use crate::support::serve::serve;
use crate::support::ws::Ws;

const POLL: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

fn with(config: Config) -> Io {
    Io::builder().config(config).build()
}

fn opened(answer: &Answer) -> Value {
    serde_json::from_str(answer.body.strip_prefix('0').expect("an open packet")).expect("JSON")
}

#[test]
fn serves_only_listed_transports() {
    let server = serve(&with(Config::new().transports([Polling::NAME])));
    let mut http = Http::open(&server.dial);
    let answer = http.get(POLL);
    assert_eq!((answer.status, opened(&answer)["upgrades"].clone()), (200, json!([])));
    assert_eq!(Ws::try_open(&server.dial, WEBSOCKET, None).expect_err("it is off"), 400);
    assert_eq!(Ws::try_open(&server.dial, "/ws", None).expect_err("so is plain"), 404);

    let server = serve(&with(Config::new().transports([WebSocket::NAME])));
    let answer = Http::open(&server.dial).get(POLL);
    assert_eq!((answer.status, answer.body.as_str()), (400, r#"{"code":0,"message":"Transport unknown"}"#));
    Client::connect(Kind::WebSocket, &server.dial).close();
    Client::connect(Kind::Plain, &server.dial).close();
}

#[test]
fn rejects_upgrade_when_disabled() {
    let server = serve(&with(Config::new().allow_upgrades(false)));
    let polling = Engine::polling(&server.dial, "/socket.io/");
    assert_eq!(polling.opened["upgrades"], json!([]));
    let sid = polling.opened["sid"].as_str().expect("an id");
    let mut refused = Ws::open(&server.dial, &format!("{WEBSOCKET}&sid={sid}"), None);
    assert!(refused.receive().is_err(), "upgrades are disabled");
    // A session may still begin on any transport.
    Client::connect(Kind::WebSocket, &server.dial).close();
    drop(polling);
    assert!(
        Engine::polling(&serve(&Io::new()).dial, "/socket.io/").opened["upgrades"] == json!(["websocket"])
    );
}

#[test]
fn sets_cookie_on_first_answer_only() {
    let cookie =
        Cookie::new("io").path("/chat").max_age(Duration::from_secs(60)).secure(true).partitioned(true);
    let server = serve(&with(Config::new().http(|http| http.cookie(cookie))));
    let mut http = Http::open(&server.dial);
    let answer = http.get(POLL);
    let sid = opened(&answer)["sid"].as_str().expect("an id").to_owned();
    let expected = format!("io={sid}; Path=/chat; Max-Age=60; HttpOnly; Secure; Partitioned; SameSite=Lax");
    assert_eq!(answer.header("set-cookie"), Some(expected.as_str()));
    let answer = http.post(&format!("{POLL}&sid={sid}"), b"40");
    assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
}

#[test]
fn sends_initial_packet_with_handshake() {
    let server = serve(&with(Config::new().initial_packet("2[\"hello\"]")));
    let answer = Http::open(&server.dial).get(POLL);
    let (open, packet) = answer.body.split_once('\u{1e}').expect("two packets");
    assert!(open.starts_with("0{"));
    assert_eq!(packet, "42[\"hello\"]");
    let mut ws = Ws::open(&server.dial, WEBSOCKET, None);
    assert!(ws.receive().is_ok());
    assert_eq!(ws.receive(), Ok("42[\"hello\"]".into()));
}

fn names(header: Option<&str>) -> HashSet<String> {
    header.into_iter().flat_map(|list| list.split(',')).map(|name| name.trim().to_lowercase()).collect()
}

#[test]
fn applies_all_cors_options() {
    let rules = Cors::matching(|origin| origin.ends_with(".example.org"))
        .credentials(true)
        .methods([Method::GET, Method::POST])
        .allowed_headers([AUTHORIZATION, HeaderName::from_static("x-room")])
        .exposed_headers([HeaderName::from_static("x-node")])
        .max_age(Duration::from_secs(600));
    let server = serve(&with(Config::new().http(|http| http.cors(rules))));
    let mut http = Http::open(&server.dial);

    let preflight = http.request("OPTIONS", POLL, "Origin: https://a.example.org\r\n");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://a.example.org"));
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET,POST"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,x-room"));
    assert_eq!(preflight.header("access-control-max-age"), Some("600"));
    assert_eq!(names(preflight.header("vary")), HashSet::from(["origin".to_owned()]));

    let answer = http.request("GET", POLL, "Origin: https://a.example.org\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example.org"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-node"));

    // Other origins get no CORS headers; whether the request is served is a separate matter.
    for method in ["OPTIONS", "GET"] {
        let answer = http.request(method, POLL, "Origin: https://example.com\r\n");
        assert_eq!(answer.status, if method == "GET" { 200 } else { 204 });
        for header in
            ["allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers"]
        {
            assert_eq!(answer.header(&format!("access-control-{header}")), None, "{method} {header}");
        }
    }
}

#[test]
fn matches_cors_origins_by_rule() {
    let asked = "Origin: https://b.example\r\nAccess-Control-Request-Headers: x-a, x-b\r\n";
    for (cors, named, varies) in [
        (Cors::any(), Some("*"), false),
        (Cors::mirrored(), Some("https://b.example"), true),
        (Cors::origins(["https://only.example"]), Some("https://only.example"), true),
        (Cors::origins(["https://a.example", "https://b.example"]), Some("https://b.example"), true),
        (Cors::origins(["https://a.example", "https://c.example"]), None, true),
        (Cors::new(), None, false),
    ] {
        let server = serve(&with(Config::new().http(|http| http.cors(cors.clone()))));
        let mut http = Http::open(&server.dial);
        let answer = http.request("GET", POLL, asked);
        assert_eq!(answer.header("access-control-allow-origin"), named, "{cors:?}");
        assert_eq!(names(answer.header("vary")).contains("origin"), varies, "{cors:?}");
        let preflight = http.request("OPTIONS", POLL, asked);
        assert_eq!(preflight.status, if cors == Cors::new() { 400 } else { 204 }, "{cors:?}");
        // Echoes the requested headers unless they are fixed.
        let echoed = named.map(|_| "x-a, x-b");
        assert_eq!(preflight.header("access-control-allow-headers"), echoed, "{cors:?}");
    }
}

#[test]
fn sets_custom_preflight_status() {
    let rules = Cors::any().preflight_status(StatusCode::OK);
    let server = serve(&with(Config::new().http(|http| http.cors(rules))));
    let answer = Http::open(&server.dial).request("OPTIONS", POLL, "Origin: https://a.example\r\n");
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("0")));
}

/// Temporary folder with a client file.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("roomcast-client-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a writable folder");
        fs::write(path.join("socket.io.js"), SCRIPT.repeat(100)).expect("a writable file");
        fs::write(path.join("socket.io.js.map"), "{}").expect("a writable file");
        fs::write(path.join("secret.txt"), "secret").expect("a writable file");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SCRIPT: &str = "let io = () => 1;\n";

#[test]
fn serves_official_client_files() {
    let folder = Folder::new();
    let io = Io::builder().config(Config::new().http(|http| http.cors(Cors::any()))).serve_client(&folder.0);
    let server = serve(&io.expect("a client file").build());
    let mut http = Http::open(&server.dial);

    let script = http.get("/socket.io/socket.io.js");
    assert_eq!((script.status, script.body.clone()), (200, SCRIPT.repeat(100)));
    assert_eq!(script.header("content-type"), Some("application/javascript; charset=utf-8"));
    assert_eq!(script.header("cache-control"), Some("public, max-age=0"));
    assert_eq!(script.header("access-control-allow-origin"), Some("*"));
    let etag = script.header("etag").expect("a tag").to_owned();
    let map = http.get("/socket.io/socket.io.js.map?v=1");
    assert_eq!((map.status, map.body.as_str()), (200, "{}"));
    assert_eq!(map.header("content-type"), Some("application/json; charset=utf-8"));
    assert_ne!(map.header("etag"), Some(etag.as_str()));

    let known = http.request("GET", "/socket.io/socket.io.js", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((known.status, known.header("etag")), (304, Some(etag.as_str())));
    for (coding, first) in [("gzip", 0x1f), ("deflate", 0x78)] {
        for _ in 0..2 {
            let accept = format!("Accept-Encoding: {coding}\r\n");
            let small = http.request("GET", "/socket.io/socket.io.js", &accept);
            assert_eq!((small.status, small.header("content-encoding")), (200, Some(coding)));
            assert!(small.bytes.len() < 200 && small.bytes[0] == first, "{:?}", small.bytes);
        }
    }

    // No other file from the folder, no missing file, and no other spelling of the path.
    for path in ["secret.txt", "socket.io.min.js", "../socket.io.js", "%73ocket.io.js", "socket.io.js/"] {
        assert_eq!(http.get(&format!("/socket.io/{path}")).status, 400, "{path}");
    }
    assert_eq!(http.post("/socket.io/socket.io.js", b"").status, 400);
    assert_eq!(http.get(POLL).status, 200);
}

#[test]
fn serves_client_under_endpoint_path() {
    let folder = Folder::new();
    let io = Io::builder().serve_client(&folder.0).expect("a client file");
    let server = serve(&io.endpoint(Endpoint::socket_io().at("/chat/")).build());
    let mut http = Http::open(&server.dial);
    assert_eq!(http.get("/chat/socket.io.js").status, 200);
    assert_eq!(http.get("/socket.io/socket.io.js").status, 404);
}

#[test]
fn explains_missing_client_files() {
    let server = serve(&Io::builder().config(Config::new().http(|http| http.cors(Cors::any()))).build());
    let mut http = Http::open(&server.dial);
    for name in ["socket.io.js", "socket.io.min.js?v=1", "socket.io.esm.min.js"] {
        let answer = http.get(&format!("/socket.io/{name}"));
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (404, Some("*")));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        for way in ["npm install socket.io-client", "--serve-client", "serve_client"] {
            assert!(answer.body.contains(way), "{}", answer.body);
        }
    }
    assert_eq!(http.get("/socket.io/other.js").status, 400);
    assert_eq!(http.get(POLL).status, 200);
}

#[test]
fn rejects_session_of_another_endpoint() {
    let endpoints = Io::builder()
        .endpoint(Endpoint::socket_io())
        .endpoint(Endpoint::socket_io().at("/other/"))
        .endpoint(Endpoint::engine_io("/engine"));
    let server = serve(&endpoints.build());
    let mut http = Http::open(&server.dial);
    let begun = http.get(POLL);
    let sid = opened(&begun)["sid"].as_str().expect("an id").to_owned();
    for path in ["/other/", "/engine.io/"] {
        for method in ["GET", "POST"] {
            let target = format!("{path}?EIO=4&transport=polling&sid={sid}");
            let answer = if method == "GET" { http.get(&target) } else { http.post(&target, b"40") };
            assert_eq!(answer.body, r#"{"code":1,"message":"Session ID unknown"}"#, "{method} {path}");
        }
        let upgrade = format!("{path}?EIO=4&transport=websocket&sid={sid}");
        assert_eq!(Ws::try_open(&server.dial, &upgrade, None).expect_err("a foreign session"), 400, "{path}");
    }
    assert_eq!(http.post(&format!("{POLL}&sid={sid}"), b"40").body, "ok");
}

#[test]
fn plain_endpoint_passes_path_rest() {
    let io = Io::builder()
        .endpoint(Endpoint::plain("/rooms/lobby"))
        .endpoint(Endpoint::plain("/rooms/*"))
        .endpoint(Endpoint::plain("/json").json().at("/json/*"))
        .build();
    io.on_connect(async |socket: Socket| {
        socket.emit("message", format!("<{}>", socket.handshake().path_rest())).map(drop)
    });
    let server = serve(&io);
    let rest = |path: &str| Ws::open(&server.dial, path, None).receive().expect("a string");
    assert_eq!(rest("/rooms/red?token=x"), "<red>".into());
    assert_eq!(rest("/rooms/red%20sea/1"), "<red sea/1>".into());
    assert_eq!(rest("/rooms/"), "<>".into());
    assert_eq!(rest("/rooms/lobby"), "<>".into(), "the first match");
    let mut json = Ws::open(&server.dial, "/json/a", None);
    let _sid = json.receive();
    assert_eq!(json.receive(), Ok("[\"message\",\"<a>\"]".into()));
    for path in ["/rooms", "/roomsred", "/json"] {
        assert_eq!(Ws::try_open(&server.dial, path, None).expect_err("no such path"), 404, "{path}");
    }
}
