//! Clients that hang up during a request, and requests they leave incomplete.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Response;
use roomcast_server::config::EventRate;
use roomcast_server::server::Drain;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Bytes, Config, Io, Server, Socket};

use crate::support::{Client, POLLING, Rig, get, until};

/// Disables pings for the duration of a test.
fn patient() -> Config {
    Config::new().timeouts(|timeouts| {
        timeouts.ping_interval(Duration::from_secs(600)).ping_timeout(Duration::from_secs(600))
    })
}

/// Polling session in the main namespace.
struct Session {
    sid: String,
    target: String,
}

impl Session {
    async fn open(rig: &Rig) -> Self {
        let sid = rig.get(POLLING, "").await.sid();
        let session = Self { target: format!("{POLLING}&sid={sid}"), sid };
        assert_eq!(session.post(rig, "40").await, 200);
        let joined = rig.get(&session.target, "").await.body;
        assert!(joined.starts_with("40{"), "{joined}");
        session
    }

    fn request(&self, body: &str) -> String {
        let len = body.len();
        format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{body}", self.target)
    }

    async fn post(&self, rig: &Rig, body: &str) -> u16 {
        let mut client = rig.connect().await;
        client.send(&self.request(body)).await;
        client.answer().await.status
    }

    /// Starts a poll and checks that it waits.
    async fn poll(&self, rig: &Rig, behind: &str) -> Client {
        let mut client = rig.connect().await;
        client.send(&(get(&self.target, "") + behind)).await;
        assert!(client.is_quiet_for(Duration::from_millis(50)).await, "the poll of {} waits", self.sid);
        client
    }
}

fn counting(io: &Io) -> Arc<AtomicUsize> {
    let heard = Arc::<AtomicUsize>::default();
    let counter = heard.clone();
    io.on("said", move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async {}
    });
    heard
}

#[tokio::test]
async fn reads_complete_posts_of_leaving_clients() {
    let rig = Rig::with_config(patient());
    let heard = counting(&rig.io);
    let session = Session::open(&rig).await;
    for said in 1..=100 {
        let mut client = rig.connect().await;
        client.send(&session.request("42[\"said\"]")).await;
        drop(client);
        until(|| heard.load(Ordering::Relaxed) == said).await;
    }
    assert_eq!(rig.io.client_count(), 1, "the session stays open");
}

#[tokio::test]
async fn answers_half_closed_clients() {
    let rig = Rig::with_config(patient());
    let session = Session::open(&rig).await;
    rig.io.emit("news", 1).expect("emitted");
    let requests = [get(POLLING, ""), session.request("42[\"said\"]"), get(&session.target, "")];
    for (request, expected) in requests.iter().zip(["0{", "ok", "42[\"news\",1]"]) {
        for _ in 0..if expected == "0{" { 20 } else { 1 } {
            let mut client = rig.connect().await;
            client.send(request).await;
            client.finish().await;
            let answer = client.answer().await;
            assert!(answer.status == 200 && answer.body.starts_with(expected), "{answer:?}");
            assert_eq!(client.end().await, "");
        }
    }
}

#[tokio::test]
async fn broken_poll_ends_session_soon() {
    let rig = Rig::with_config(patient());
    // Bytes behind the poll, sent with it or later.
    for (with, later) in [("", ""), ("x", ""), ("", "x"), ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "")] {
        let session = Session::open(&rig).await;
        let mut poll = session.poll(&rig, with).await;
        poll.send(later).await;
        assert!(poll.is_quiet_for(Duration::from_millis(100)).await);
        assert_eq!(rig.io.client_count(), 1);
        drop(poll);
        until(|| rig.io.client_count() == 0).await;
    }
}

#[tokio::test]
async fn reads_last_post_after_broken_poll() {
    let io = Io::builder().config(patient()).build();
    let heard = counting(&io);
    let reasons = Arc::<std::sync::Mutex<Vec<_>>>::default();
    let told = reasons.clone();
    io.on_disconnect(move |_: Socket, reason: CloseReason| {
        told.lock().expect("not poisoned").push(reason);
        async {}
    });
    let rig = Rig::start(&io, Server::new(io.clone()));
    let mut in_time = 0;
    for ended in 1..=20 {
        let session = Session::open(&rig).await;
        let poll = session.poll(&rig, "").await;
        let mut post = rig.connect().await;
        let mut next = rig.connect().await;
        let torn = Instant::now();
        drop(poll);
        tokio::time::sleep(Duration::from_millis(3)).await;
        post.send(&session.request("42[\"said\"]")).await;
        let status = post.answer().await.status;
        // On a busy machine the time limit may have passed.
        if status == 200 && torn.elapsed() < Duration::from_millis(40) {
            in_time += 1;
            next.send(&get(&session.target, "")).await;
            assert_eq!(next.answer().await.status, 400, "a new poll is rejected");
        }
        until(|| reasons.lock().expect("not poisoned").len() == ended).await;
    }
    assert!(in_time > 0 && heard.load(Ordering::Relaxed) >= in_time, "{heard:?} of {in_time}");
    let reasons = reasons.lock().expect("not poisoned");
    assert!(reasons.iter().all(|reason| *reason == CloseReason::TransportError), "{reasons:?}");
}

#[tokio::test]
async fn times_out_partial_header_behind_poll() {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let io = Io::builder().config(patient()).build();
    let rig = Rig::start(&io, Server::new(io.clone()).header_timeout(TIMEOUT));
    let session = Session::open(&rig).await;
    // A complete request may wait as long as the poll does.
    let mut patient = session.poll(&rig, &get("/", "")).await;
    assert!(patient.is_quiet_for(4 * TIMEOUT).await);
    io.emit("news", 1).expect("emitted");
    assert_eq!(patient.answer().await.body, "42[\"news\",1]");
    assert_eq!(patient.answer().await.status, 404);

    let header = "GET / HTTP/1.1\r\nHost:";
    for (with, later) in [("", header), (header, ""), ("GET", " / HTTP/1.1\r\n")] {
        let session = Session::open(&rig).await;
        let mut half = session.poll(&rig, with).await;
        half.send(later).await;
        assert_eq!(half.end().await, "", "{with} {later}");
    }
    until(|| io.metrics().limits_exceeded(roomcast_server::metrics::Limit::HeaderTime) == 3).await;
}

#[tokio::test]
async fn header_timeout_spares_long_answers() {
    const LEN: usize = 20_000_000;
    const TIMEOUT: Duration = Duration::from_millis(300);
    let io = Io::new();
    let body = Bytes::from(vec![b'x'; LEN]);
    let server =
        Server::new(io.clone()).header_timeout(TIMEOUT).fallback(move |_| Response::new(body.clone().into()));
    let rig = Rig::start(&io, server);
    for behind in [String::new(), "GET /".to_owned(), get("/", "")] {
        let mut client = rig.connect().await;
        client.send(&(get("/", "") + &behind)).await;
        let mut read = 0;
        for _ in 0..20 {
            read += client.take(1 << 16).await;
            tokio::time::sleep(TIMEOUT / 5).await;
        }
        while read < LEN {
            read += client.take(1 << 20).await;
        }
    }
}

#[tokio::test]
async fn answers_pipelined_requests_in_order() {
    let rig = Rig::with_config(patient());
    let heard = counting(&rig.io);
    let session = Session::open(&rig).await;
    let posts: String = (0..20).map(|_| session.request("42[\"said\"]")).collect();
    let mut client = rig.connect().await;
    client.send(&("\r\n".to_owned() + &posts + &get("/", ""))).await;
    for _ in 0..20 {
        assert_eq!(client.answer().await.body, "ok");
    }
    assert_eq!(client.answer().await.status, 404);
    until(|| heard.load(Ordering::Relaxed) == 20).await;
}

#[tokio::test]
async fn drops_pending_request_of_gone_client() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let asking = Arc::<AtomicUsize>::default();
    let count = asking.clone();
    let io = Io::builder()
        .allow_request(move |_| {
            let count = count.clone();
            count.fetch_add(1, Ordering::Relaxed);
            let left = scopeguard(move || _ = count.fetch_sub(1, Ordering::Relaxed));
            async move {
                std::future::pending::<()>().await;
                drop(left);
                Ok::<(), String>(())
            }
        })
        .build();
    let rig = Rig::start(&io, Server::new(io.clone()).header_timeout(TIMEOUT));
    let mut client = rig.connect().await;
    client.send(&get(POLLING, "")).await;
    until(|| asking.load(Ordering::Relaxed) == 1).await;
    drop(client);
    until(|| asking.load(Ordering::Relaxed) == 0).await;
}

/// Calls a function on drop.
fn scopeguard(then: impl FnMut() + Send + 'static) -> impl Send {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(then)
}

#[tokio::test]
async fn sends_close_packet_in_own_poll() {
    let drain = Drain::default().batches(1000, Duration::ZERO);
    for waits in [true, false] {
        for kind in ["client", "sockets", "io", "drain", "broken packet", "event rate", "outbox"] {
            let rate = EventRate::per_second(NonZeroU32::MIN).burst(NonZeroU32::new(50).expect("not zero"));
            let config =
                patient().limits(|limits| limits.event_rate(rate).outbox_limit(1000).outbox_max(1000));
            let io = Io::builder().config(config).build();
            let rig = Rig::start(&io, Server::new(io.clone()));
            io.on("close me", {
                let io = io.clone();
                move |socket: Socket, kind: String| {
                    socket.emit("last", "words").expect("it is there");
                    match kind.as_str() {
                        "client" => socket.disconnect_client(),
                        "sockets" => _ = io.disconnect_client(),
                        "io" => io.close(),
                        "outbox" => _ = socket.emit("too much", "x".repeat(1000)),
                        _ => {}
                    }
                    async {}
                }
            });
            let session = Session::open(&rig).await;
            // Uses one connection, as browsers do; a draining server accepts no other.
            let mut client = if waits { session.poll(&rig, "").await } else { rig.connect().await };
            let mut is_asked = waits;
            let asked = format!("42[\"close me\",\"{kind}\"]");
            let packets = match kind {
                "broken packet" => format!("{asked}\x1e42{{}}"),
                "event rate" => format!("{asked}{}", "\x1e42[\"said\"]".repeat(60)),
                _ => asked,
            };
            assert_eq!(session.post(&rig, &packets).await, 200, "{kind}");
            if kind == "drain" {
                let io = io.clone();
                tokio::spawn(async move { io.drain(drain).await });
            }
            let mut heard = String::new();
            let last = loop {
                if !std::mem::take(&mut is_asked) {
                    client.send(&get(&session.target, "")).await;
                }
                let answer = client.answer().await;
                assert_eq!(answer.status, 200, "{kind}, waits: {waits}, after {heard:?}: {answer:?}");
                if answer.body.split('\x1e').any(|packet| packet == "1") {
                    break answer.body;
                }
                heard += &answer.body;
            };
            assert_eq!(last, "1", "{kind}, waits: {waits}, after {heard:?}");
            if kind != "outbox" {
                assert!(heard.contains("42[\"last\",\"words\"]"), "{kind}, waits: {waits}: {heard:?}");
            }
        }
    }
}

#[tokio::test]
async fn answers_waiting_poll_on_every_end() {
    let rig = Rig::with_config(patient());
    for what in ["overlapping poll", "torn post", "binary post", "bad packet"] {
        let session = Session::open(&rig).await;
        let mut poll = session.poll(&rig, "").await;
        let mut other = rig.connect().await;
        let began = Instant::now();
        match what {
            "overlapping poll" => other.send(&get(&session.target, "")).await,
            "torn post" => {
                other.send(&session.request("42[\"said\"]").replace("Length: 10", "Length: 100")).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                other.finish().await;
            }
            "binary post" => {
                let binary = "Content-Type: application/octet-stream\r\nHost";
                other.send(&session.request("4").replacen("Host", binary, 1)).await;
            }
            _ => other.send(&session.request("x")).await,
        }
        let answer = poll.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "1"), "{what}");
        // Well below the close timeout.
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        until(|| rig.io.client_count() == 0).await;
    }
}

#[tokio::test]
async fn counts_rejected_requests_once() {
    let rig = Rig::with_config(patient());
    let session = Session::open(&rig).await;
    let mut poll = session.poll(&rig, "").await;
    // Requests rejected by the connection, by the session, and for lack of a session.
    let websocket = format!("{}&sid={}", POLLING.replace("polling", "websocket"), session.sid);
    for (refused, target) in [(1, &websocket), (2, &session.target), (3, &session.target)] {
        assert_eq!(rig.get(target, "").await.status, 400);
        assert_eq!(rig.io.metrics().requests_refused(), refused);
    }
    assert_eq!(poll.answer().await.body, "1");
}
