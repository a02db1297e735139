//! Graceful shutdown: sessions end cleanly and reconnects are spread out.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use roomcast_server::metrics::Limit;
use roomcast_server::server::{Drain, Drained};
use roomcast_server::{Config, Io, Server};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_service::Service;

use crate::support::{Client, Frame, POLLING, WebSocket, get, until};

struct Draining {
    address: std::net::SocketAddr,
    io: Io,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Drained>,
}

fn start(drain: Drain) -> Draining {
    let io = Io::new();
    let bound = Server::new(io.clone()).drain(drain).bind("127.0.0.1:0").expect("a free port");
    let address = bound.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        let shutdown = async { stopped.await.expect("stop signal") };
        bound.serve_with_shutdown(shutdown).await.expect("no server error")
    });
    Draining { address, io, stop, task }
}

#[tokio::test]
async fn closes_in_batches_after_flushing() {
    const INTERVAL: Duration = Duration::from_millis(1500);
    let Draining { address, io, stop, task } = start(Drain::default().batches(4, INTERVAL));
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(WebSocket::socket_io(address).await);
    }
    io.emit("last", "words").expect("emitted");
    stop.send(()).expect("a running server");
    let began = Instant::now();
    let ends = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            assert_eq!(client.next().await, Frame::Text("42[\"last\",\"words\"]".into()));
            assert_eq!(client.next().await, Frame::Close(1001, "server shutting down".into()));
            began.elapsed()
        })
    });
    let mut times = Vec::new();
    for end in ends.collect::<Vec<_>>() {
        times.push(end.await.expect("closed cleanly"));
    }
    times.sort();
    // At least three batches: the second begins after one interval, the third after two.
    assert!(times[4] >= INTERVAL * 9 / 10 && times[8] >= INTERVAL * 19 / 10, "{times:?}");
    let drained = task.await.expect("an end in time");
    assert_eq!((drained.closed, drained.left), (12, 0));
}

#[tokio::test]
async fn waits_interval_between_batches() {
    let ages = Drain::default().timeout(Duration::MAX).batches(4, Duration::from_secs(3600));
    let Draining { address, io, stop, task } = start(ages);
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(WebSocket::socket_io(address).await);
    }
    stop.send(()).expect("a running server");
    until(|| io.client_count() == 2).await;
    assert!(!task.is_finished());
    task.abort();
}

#[tokio::test]
async fn serves_during_drain_delay() {
    let Draining { address, io, stop, task } = start(Drain::default().delay(Duration::MAX));
    assert!(io.is_ready());
    stop.send(()).expect("a running server");
    until(|| !io.is_ready()).await;
    let mut late = WebSocket::socket_io(address).await;
    io.emit("still", "here").expect("emitted");
    assert_eq!(late.next().await, Frame::Text("42[\"still\",\"here\"]".into()));
    assert!(!task.is_finished());
    task.abort();
}

#[tokio::test]
async fn rejects_clients_after_drain_delay() {
    const DELAY: Duration = Duration::from_millis(100);
    let Draining { address, io, stop, task } = start(Drain::default().delay(DELAY));
    let mut kept = Client::connect(address).await;
    kept.send(&get("/nothing", "")).await;
    assert_eq!(kept.answer().await.status, 404);
    let mut late = WebSocket::socket_io(address).await;
    stop.send(()).expect("a running server");
    let began = Instant::now();
    // The client does not close, so the session remains while the test connects again.
    let closed = late.next().await;
    assert_eq!(closed, Frame::Close(1001, "server shutting down".into()));
    assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
    kept.send(&get(POLLING, "")).await;
    let refused = kept.answer().await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert!(refused.body.contains("going away"), "{}", refused.body);
    assert_eq!(io.metrics().limits_exceeded(Limit::Draining), 1);
    drop(late);
    assert_eq!(task.await.expect("an end in time").left, 0);
}

#[tokio::test]
async fn answers_polls_and_closes_idle_connections() {
    let Draining { address, stop, task, .. } = start(Drain::default());
    let mut idle = Client::connect(address).await;
    idle.send(&get("/nothing", "")).await;
    assert_eq!(idle.answer().await.status, 404);
    let mut poll = Client::connect(address).await;
    poll.send(&get(POLLING, "")).await;
    let sid = poll.answer().await.sid();
    poll.send(&get(&format!("{POLLING}&sid={sid}"), "")).await;
    assert!(poll.is_quiet_for(Duration::from_millis(100)).await);
    stop.send(()).expect("a running server");
    assert_eq!(poll.answer().await.body, "1");
    assert_eq!(idle.end().await, "");
    assert_eq!(poll.end().await, "");
    assert_eq!(task.await.expect("an end in time").closed, 1);
}

#[tokio::test]
async fn cuts_off_clients_at_deadline() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let Draining { address, stop, task, .. } = start(Drain::default().timeout(TIMEOUT));
    // Neither reads nor answers the close.
    let deaf = WebSocket::socket_io(address).await;
    stop.send(()).expect("a running server");
    let began = Instant::now();
    let drained = task.await.expect("an end in time");
    assert_eq!((drained.closed, drained.left), (1, 1));
    assert!(began.elapsed() >= TIMEOUT && began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_all_server_threads() {
    let io = Io::new();
    let bound = Server::new(io.clone()).bind("127.0.0.1:0").expect("a free port");
    let address = bound.address();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let shutdown = async { stopped.await.expect("stop signal") };
        bound.run_with_shutdown(3, shutdown).expect("no server error")
    });
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(WebSocket::socket_io(address).await);
    }
    io.emit("last", "words").expect("emitted");
    stop.send(()).expect("a running server");
    for mut client in clients {
        assert_eq!(client.next().await, Frame::Text("42[\"last\",\"words\"]".into()));
        assert_eq!(client.next().await, Frame::Close(1001, "server shutting down".into()));
    }
    let drained =
        tokio::task::spawn_blocking(|| thread.join().expect("no panic")).await.expect("an end in time");
    assert_eq!((drained.closed, drained.left), (20, 0));
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
}

#[tokio::test]
async fn drains_mounted_server() {
    let io = Io::new();
    let open = async || {
        let request = http::Request::get(POLLING).body(Empty::<Bytes>::new()).expect("a request");
        io.service().call(request).await.expect("an answer").status().as_u16()
    };
    assert_eq!(open().await, 200);
    assert_eq!(io.client_count(), 1);
    let drained = io.drain(Drain::default()).await;
    assert_eq!((drained.closed, drained.left, io.client_count()), (1, 0, 0));
    assert_eq!(open().await, 503);
    assert!(!io.is_ready());
}

#[tokio::test]
async fn uses_configured_drain_close_code() {
    let io =
        Io::builder().config(Config::new().websocket(|websocket| websocket.drain_close_code(1012))).build();
    let bound = Server::new(io.clone()).bind("127.0.0.1:0").expect("a free port");
    let address = bound.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(bound.serve_with_shutdown(async { _ = stopped.await }));
    let mut clients = [WebSocket::socket_io(address).await, WebSocket::plain(address).await];
    drop(stop);
    for client in &mut clients {
        assert_eq!(client.next().await, Frame::Close(1012, "server shutting down".into()));
    }
    drop(clients);
    task.await.expect("an end in time").expect("no server error");
}

#[tokio::test]
async fn waits_for_handlers_outliving_sessions() {
    let Draining { address, io, stop, task } = start(Drain::default());
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let passes = gate.clone();
    io.on("work", move || {
        let passes = passes.clone();
        async move { passes.notified().await }
    });
    let mut client = WebSocket::socket_io(address).await;
    client.text("42[\"work\"]").await;
    // The handler is running once the client has answered this.
    client.text("420[\"nothing\"]").await;
    client.text("41").await;
    until(|| io.sockets().is_empty()).await;
    drop(client);
    until(|| io.client_count() == 0).await;
    stop.send(()).expect("a running server");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!task.is_finished(), "a handler is still running");
    gate.notify_one();
    let drained = task.await.expect("an end in time");
    assert_eq!((drained.closed, drained.left), (0, 0));
}
