//! Admin listener: health checks and metrics.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use roomcast_server::metrics::Limit;
use roomcast_server::server::Drain;
use roomcast_server::{Config, Io, Server, Socket};
use tokio::sync::oneshot;

use crate::support::{Answer, Client, Frame, POLLING, WebSocket, get, until};

async fn ask(address: SocketAddr, target: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(&format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n")).await;
    client.answer().await
}

/// Returns the value of a metrics line by name and labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let line =
        metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn reports_ready_until_drain() {
    let io = Io::new();
    let drain = Drain::default().delay(Duration::from_secs(5));
    let server = Server::new(io.clone()).drain(drain).admin("127.0.0.1:0".parse().expect("an address"));
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let admin = bound.admin_address().expect("an admin address");
    assert_ne!(admin, bound.address());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(bound.serve_with_shutdown(async { stopped.await.expect("stop signal") }));
    for (target, status, body) in [
        ("/live", 200, "live\n"),
        ("/ready", 200, "ready\n"),
        ("/", 404, "There are /live, /ready and /metrics.\n"),
    ] {
        let answer = ask(admin, target).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{target}");
    }
    let mut client = Client::connect(admin).await;
    client.send("POST /ready HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
    stop.send(()).expect("a running server");
    until(|| !io.is_ready()).await;
    assert_eq!(ask(admin, "/ready").await.status, 503);
    assert_eq!(ask(admin, "/live").await.status, 200);
    let metrics = ask(admin, "/metrics").await;
    assert_eq!(value(&metrics.body, "roomcast_ready"), Some(0.0));
    task.await.expect("an end in time").expect("no server error");
    assert!(tokio::net::TcpStream::connect(admin).await.is_err(), "still listening");
}

#[tokio::test]
async fn metrics_count_current_and_past() {
    let io = Io::new();
    io.on("join", async |socket: Socket, room: String| {
        socket.join(room.as_str());
    });
    io.of("/news");
    let server = Server::new(io.clone()).admin("127.0.0.1:0".parse().expect("an address"));
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let (address, admin) = (bound.address(), bound.admin_address().expect("an admin address"));
    let task = tokio::spawn(bound.serve());
    let mut chat = WebSocket::socket_io(address).await;
    let mut plain = WebSocket::plain(address).await;
    let mut poll = Client::connect(address).await;
    poll.send(&get(POLLING, "")).await;
    poll.answer().await;
    chat.text("42[\"join\",\"red\"]").await;
    chat.text("42[\"join\",\"blue\"]").await;
    until(|| io.count("blue") == 1).await;
    io.emit("message", "hello").expect("emitted");
    assert_eq!(chat.next().await, Frame::Text("42[\"message\",\"hello\"]".into()));
    assert_eq!(plain.next().await, Frame::Text("hello".into()));
    let foreign = "Cookie: a=b\r\nOrigin: https://evil.example\r\n";
    poll.send(&get(POLLING, foreign)).await;
    assert_eq!(poll.answer().await.status, 403);

    let answer = ask(admin, "/metrics").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
    let metrics = answer.body;
    assert!(metrics.ends_with("# EOF\n"));
    let manual = include_str!("../../../../docs/operations.md");
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a kind");
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(manual.contains(&name), "{name} is missing in the manual");
    }
    for (name, expected) in [
        ("roomcast_ready", 1.0),
        ("roomcast_connections", 3.0),
        ("roomcast_sessions{kind=\"socket.io\",transport=\"websocket\"}", 1.0),
        ("roomcast_sessions{kind=\"socket.io\",transport=\"polling\"}", 1.0),
        ("roomcast_sessions{kind=\"plain\",transport=\"websocket\"}", 1.0),
        ("roomcast_sockets{namespace=\"/\"}", 2.0),
        ("roomcast_sockets{namespace=\"/news\"}", 0.0),
        ("roomcast_rooms{namespace=\"/\"}", 2.0),
        ("roomcast_waiting_frames", 0.0),
        ("roomcast_waiting_bytes", 0.0),
        // Two room joins and one namespace join.
        ("roomcast_messages_received_total", 3.0),
        ("roomcast_bytes_received_total", 2.0 + 16.0 + 17.0),
        // Socket.IO: open, connected, the event; plain: the event; polling: the open packet, taken by its GET.
        ("roomcast_frames_sent_total", 5.0),
        ("roomcast_connections_opened_total", 3.0),
        ("roomcast_sessions_opened_total", 3.0),
        ("roomcast_sessions_closed_total", 0.0),
        ("roomcast_requests_refused_total", 1.0),
        ("roomcast_refused_total{limit=\"origin\"}", 1.0),
        ("roomcast_refused_total{limit=\"sessions\"}", 0.0),
    ] {
        assert_eq!(value(&metrics, name), Some(expected), "{name} in\n{metrics}");
    }
    assert!(value(&metrics, "roomcast_bytes_sent_total").is_some_and(|bytes| bytes > 100.0));
    // A probe frame is sent through each flusher once a second.
    let delivered = async || value(&ask(admin, "/metrics").await.body, "roomcast_delivery_seconds_count");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while delivered().await == Some(0.0) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(delivered().await.is_some_and(|count| count >= 1.0));
    // Probe frames are not counted as sent.
    assert_eq!(value(&ask(admin, "/metrics").await.body, "roomcast_frames_sent_total"), Some(5.0));
    task.abort();
}

#[tokio::test]
async fn admin_listens_only_when_configured() {
    let bound = Server::new(Io::new()).bind("127.0.0.1:0").expect("a free port");
    assert_eq!(bound.admin_address(), None);
    let taken = Server::new(Io::new()).admin(bound.address()).bind("127.0.0.1:0");
    let error = taken.expect_err("it is taken").to_string();
    assert!(error.contains(&bound.address().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_works_with_own_threads() {
    let io = Io::new();
    let server = Server::new(io.clone()).admin("127.0.0.1:0".parse().expect("an address"));
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let (address, admin) = (bound.address(), bound.admin_address().expect("an admin address"));
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        bound.run_with_shutdown(2, async { stopped.await.expect("stop signal") }).expect("no server error")
    });
    let _clients = (WebSocket::socket_io(address).await, WebSocket::socket_io(address).await);
    let metrics = ask(admin, "/metrics").await.body;
    assert_eq!(value(&metrics, "roomcast_sockets{namespace=\"/\"}"), Some(2.0));
    assert_eq!(ask(admin, "/ready").await.status, 200);
    drop(_clients);
    stop.send(()).expect("a running server");
    tokio::task::spawn_blocking(|| thread.join().expect("no panic")).await.expect("an end in time");
}

#[test]
fn manual_names_test_for_each_limit() {
    let manual = include_str!("../../../../docs/operations.md");
    let (_, limits) = manual.split_once("| Limit | Setting |").expect("a table of limits");
    let (table, _) = limits.split_once("\n\n").expect("an end of the table");
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for row in table.lines().skip(2) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().expect("a last column");
        let mut named = tests.split('`').skip(1).step_by(2);
        while let Some(file) = named.next() {
            let name = named.next().unwrap_or_else(|| panic!("no test in {row}"));
            let code = std::fs::read_to_string(crates.join(file)).expect("the file is there");
            assert!(code.contains(&format!("fn {name}()")), "{file} has no {name}");
        }
        assert!(tests.contains("rs` `"), "no test in {row}");
    }
    for breach in Limit::ALL.into_iter().filter(|breach| *breach != Limit::Draining) {
        assert!(table.contains(&format!("| `{breach}` |")), "{breach} is not in the table");
    }
}

#[tokio::test]
async fn metrics_cover_build_process_and_handlers() {
    let io = Io::builder().build_info("commit", "abc").build_info("commit", "def").build();
    io.on("quick", || {});
    io.on("slow", async || tokio::time::sleep(Duration::from_millis(50)).await);
    let server = Server::new(io.clone()).admin("127.0.0.1:0".parse().expect("an address"));
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let (address, admin) = (bound.address(), bound.admin_address().expect("an admin address"));
    let task = tokio::spawn(bound.serve());
    let mut chat = WebSocket::socket_io(address).await;
    // Each thread times every sixteenth handler, starting at any of them.
    for _ in 0..64 {
        chat.text("42[\"slow\"]").await;
    }
    let timed = async || {
        let metrics = ask(admin, "/metrics").await.body;
        (
            value(&metrics, "roomcast_handler_seconds_count"),
            value(&metrics, "roomcast_handler_seconds_sum"),
            metrics,
        )
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while timed().await.0 < Some(1.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("a handler is timed");
    let (count, sum, metrics) = timed().await;
    assert_eq!(count, Some(1.0), "{metrics}");
    assert!(sum >= Some(0.05), "timed to completion, not to the first await: {sum:?}");
    for _ in 0..64 {
        chat.text("42[\"quick\"]").await;
    }
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while timed().await.0 < Some(2.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("a handler that completes at once is timed as well");
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("roomcast_build_info{{version=\"{version}\",commit=\"def\"}} 1\n");
    assert!(metrics.contains(&build), "{metrics}");
    assert_eq!(value(&metrics, "roomcast_accept_failures_total"), Some(0.0));
    #[cfg(target_os = "linux")]
    for (name, least) in [
        ("process_cpu_seconds_total", 0.0),
        ("process_open_fds", 4.0),
        ("process_max_fds", 64.0),
        ("process_resident_memory_bytes", 100_000.0),
        ("process_virtual_memory_bytes", 100_000.0),
        ("process_start_time_seconds", 1.7e9),
        ("process_threads", 1.0),
    ] {
        assert!(value(&metrics, name).is_some_and(|value| value >= least), "{name} in\n{metrics}");
    }
    task.abort();
}

#[tokio::test]
async fn silent_connections_do_not_block_admin() {
    let io = Io::new();
    let server = Server::new(io.clone()).admin("127.0.0.1:0".parse().expect("an address"));
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let admin = bound.admin_address().expect("an admin address");
    let task = tokio::spawn(bound.serve());
    let mut silent = Vec::new();
    for number in 0..64 {
        let mut client = Client::connect(admin).await;
        if number % 2 == 0 {
            client.send("GET /live HTTP/1.1\r\n").await;
        }
        silent.push(client);
    }
    let answer = tokio::time::timeout(Duration::from_secs(5), ask(admin, "/live")).await;
    assert_eq!(answer.expect("an immediate answer").status, 200);
    // The oldest silent connection was closed for it.
    assert_eq!(silent[0].end().await, "");
    let mut client = Client::connect(admin).await;
    client.send(&get("/metrics", "")).await;
    assert_eq!(client.answer().await.status, 403, "foreign host name");
    task.abort();
}

#[tokio::test]
async fn unread_answers_do_not_block_admin() {
    let config = Config::new().recovery(|recovery| recovery);
    let io = Io::builder().config(config).build();
    for number in 0..100 {
        io.of(format!("/{}{number}", "x".repeat(20_000)));
    }
    let server = Server::new(io.clone()).admin("127.0.0.1:0".parse().expect("an address"));
    let bound = server.bind("127.0.0.1:0").expect("a free port");
    let admin = bound.admin_address().expect("an admin address");
    let task = tokio::spawn(bound.serve());
    let text = ask(admin, "/metrics").await.body;
    assert!(text.len() > 5_000_000, "more than an unread connection buffers: {}", text.len());
    let mut deaf = Vec::new();
    for _ in 0..40 {
        let mut client = Client::connect(admin).await;
        client.send(&format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n")).await;
        deaf.push(client);
    }
    let answer = tokio::time::timeout(Duration::from_secs(20), ask(admin, "/live")).await;
    assert_eq!(answer.expect("an immediate answer").status, 200);
    // Unread answers do not occupy the slot of the next request.
    assert_eq!(ask(admin, "/ready").await.status, 200);
    task.abort();
}
