//! Each limit has its outcome, and other clients lose no message.

use std::fmt::Debug;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full};
use roomcast_server::config::EventRate;
use roomcast_server::metrics::Limit;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Config, Io, Server, Socket};
use roomcast_testkit::wire::{PONG, TEXT};
use tower_service::Service;

use crate::support::{Client, Frame, POLLING, Rig, UPGRADE, WEBSOCKET, WebSocket, client_frame, get, until};

#[tokio::test]
async fn limits_tcp_connections() {
    let io = Io::new();
    let rig = Rig::start(&io, Server::new(io.clone()).max_connections(2));
    let mut chat = WebSocket::socket_io(rig.address).await;
    let mut idle = rig.connect().await;
    idle.send(&get("/nothing", "")).await;
    assert_eq!(idle.answer().await.status, 404);

    let refused = rig.get(POLLING, "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(refused.body.contains("no room"), "{}", refused.body);
    assert_eq!(io.metrics().limits_exceeded(Limit::Connections), 1);

    io.emit("news", 1).expect("emitted");
    assert_eq!(chat.next().await, Frame::Text("42[\"news\",1]".into()));
    // A WebSocket holds its slot until it closes, then frees it.
    drop(chat);
    rig.until_status("/nothing", 404).await;
    drop(idle);
}

#[tokio::test]
async fn poll_with_upgrade_frees_connection_slot() {
    let io = Io::new();
    let rig = Rig::start(&io, Server::new(io.clone()).max_connections(3));
    for _ in 0..10 {
        let mut client = rig.connect().await;
        client.send(&get(POLLING, "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n")).await;
        assert_eq!(client.answer().await.status, 200);
        drop(client);
        // The session outlives the connection it began on, whose slot is free.
        rig.until_status("/nothing", 404).await;
    }
    assert_eq!(io.client_count(), 10);
}

#[tokio::test]
async fn limits_sessions_on_every_transport() {
    let rig = Rig::with_config(Config::new().limits(|limits| limits.max_sessions(2)));
    let mut chat = WebSocket::socket_io(rig.address).await;
    let polling = rig.get(POLLING, "").await;
    assert_eq!(polling.status, 200);
    for (target, headers) in [(POLLING, ""), (WEBSOCKET, UPGRADE), ("/ws", UPGRADE)] {
        let refused = rig.get(target, headers).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{target}");
        assert!(refused.body.contains("no room"), "{}", refused.body);
    }
    assert_eq!(rig.io.metrics().limits_exceeded(Limit::Sessions), 3);
    assert_eq!(rig.io.client_count(), 2);
    chat.text("42[\"unheard\"]").await;
    drop(chat);
    until(|| rig.io.client_count() == 1).await;
    assert_eq!(rig.get(POLLING, "").await.status, 200);
}

#[tokio::test]
async fn failed_handshake_frees_session_slot() {
    let rig = Rig::with_config(
        Config::new().limits(|limits| limits.max_sessions(1).max_connections_per_address(1)),
    );
    for _ in 0..3 {
        let broken = UPGRADE.replace("13", "12");
        assert_eq!(rig.get("/ws", &broken).await.status, 426);
    }
    assert_eq!(rig.get(POLLING, "").await.status, 200);
}

#[tokio::test]
async fn limits_sessions_when_mounted() {
    let io = Io::builder().config(Config::new().limits(|limits| limits.max_sessions(1))).build();
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let request = http::Request::get(POLLING).body(Empty::<Bytes>::new()).expect("a request");
        let response = io.service().call(request).await.expect("an answer");
        statuses.push((response.status().as_u16(), response.headers().contains_key("retry-after")));
    }
    assert_eq!(statuses, [(200, false), (503, true)]);
}

#[tokio::test]
async fn limits_concurrent_requests_per_session() {
    let io = Io::builder().config(Config::new().limits(|limits| limits.max_requests(2))).build();
    let request = |method, target: &str, body: &'static str| {
        let body = Full::new(Bytes::from_static(body.as_bytes()));
        let request = http::Request::builder().method(method).uri(target).body(body).expect("a request");
        Box::pin(io.service().call(request))
    };
    let opened = text(request("GET", POLLING, "").await.expect("an answer")).await;
    let sid = opened.split('"').nth(3).expect("a sid");
    let target = format!("{POLLING}&sid={sid}");
    // Sends all requests before the session runs.
    let bodies = [("GET", ""), ("POST", "40"), ("POST", "2"), ("GET", "")];
    let mut requests = bodies.map(|(method, body)| request(method, &target, body));
    let answers =
        poll_fn(|cx| Poll::Ready(requests.each_mut().map(|request| request.as_mut().poll(cx)))).await;
    let [get, post, third, fourth] = answers;
    assert!(get.is_pending() && post.is_pending());
    for refused in [third, fourth] {
        let Poll::Ready(Ok(refused)) = refused else { panic!("it waits") };
        assert_eq!(refused.status(), 400);
        assert_eq!(text(refused).await, r#"{"code":3,"message":"Bad request"}"#);
    }
    assert_eq!(io.metrics().limits_exceeded(Limit::Requests), 2);
    let [get, post, ..] = requests;
    assert_eq!(text(post.await.expect("an answer")).await, "ok");
    assert!(text(get.await.expect("an answer")).await.starts_with("40{"));
}

#[tokio::test]
async fn closes_unjoined_session_after_timeout() {
    let rig = Rig::with_config(
        Config::new().timeouts(|timeouts| timeouts.connect_timeout(Duration::from_millis(1500))),
    );
    let mut joined = WebSocket::socket_io(rig.address).await;
    let opened = rig.get(POLLING, "").await;
    assert_eq!(opened.status, 200);
    until(|| rig.io.metrics().limits_exceeded(Limit::ConnectTime) == 1).await;
    rig.io.emit("news", 1).expect("emitted");
    assert_eq!(joined.next().await, Frame::Text("42[\"news\",1]".into()));
}

async fn text<B: Body<Error: Debug>>(response: http::Response<B>) -> String {
    let body = response.into_body().collect().await.expect("a whole body");
    String::from_utf8(body.to_bytes().into()).expect("text")
}

#[tokio::test]
async fn limits_connections_per_address() {
    let rig = Rig::with_config(Config::new().limits(|limits| limits.max_connections_per_address(2)));
    let chat = WebSocket::socket_io(rig.address).await;
    let mut idle = rig.connect().await;
    idle.send(&get("/nothing", "")).await;
    assert_eq!(idle.answer().await.status, 404);

    let refused = rig.get(POLLING, "").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let mut other = Client::connect_from("127.0.0.2", rig.address).await;
    other.send(&get(POLLING, "")).await;
    assert_eq!(other.answer().await.status, 200);
    assert_eq!(rig.io.metrics().limits_exceeded(Limit::Address), 1);

    drop(chat);
    rig.until_status(POLLING, 200).await;
}

#[tokio::test]
async fn limits_sessions_per_address() {
    let rig = Rig::with_config(Config::new().limits(|limits| limits.max_connections_per_address(2)));
    let mut statuses = Vec::new();
    let mut client = rig.connect().await;
    for _ in 0..3 {
        client.send(&get(POLLING, "")).await;
        statuses.push(client.answer().await.status);
    }
    assert_eq!(statuses, [200, 200, 503]);
}

#[tokio::test]
async fn limits_header_size_and_count() {
    let rig = Rig::with_config(Config::new());
    let fits = format!("X-Long: {}\r\n", "x".repeat(15 * 1024));
    assert_eq!(rig.get("/", &fits).await.status, 404);
    let too_long = format!("X-Long: {}\r\n", "x".repeat(17 * 1024));
    let many = |headers: usize| (0..headers).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    assert_eq!(rig.get("/", &many(99)).await.status, 404);
    for headers in [too_long, many(100)] {
        let mut client = rig.connect().await;
        client.send(&get("/", &headers)).await;
        assert_eq!(client.answer().await.status, 431);
        client.end().await;
    }
    assert_eq!(rig.io.metrics().limits_exceeded(Limit::HeaderSize), 2);

    let io = Io::new();
    let strict = Rig::start(&io, Server::new(io.clone()).max_headers(3).max_header_bytes(2048));
    assert_eq!(strict.get("/", &many(2)).await.status, 404);
    assert_eq!(strict.get("/", &many(3)).await.status, 431);
    assert_eq!(strict.get("/", &format!("x: {}\r\n", "x".repeat(3000))).await.status, 431);
}

/// Below the default timeout, and longer than any step here on a busy machine.
const UNTOLD: Duration = Duration::from_millis(9500);

#[tokio::test]
async fn times_out_incomplete_headers() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let io = Io::new();
    let rig = Rig::start(&io, Server::new(io.clone()).header_timeout(TIMEOUT));
    let started = Instant::now();
    let mut silent = rig.connect().await;
    let mut half = rig.connect().await;
    half.send("GET / HTTP/1.1\r\nHost:").await;
    let mut dribbling = rig.connect().await;
    dribbling.send("GET / HTTP/1.1\r\nX: ").await;
    let dribble = async {
        while dribbling.try_send(b"x").await && started.elapsed() < UNTOLD {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        started.elapsed()
    };
    let ends = async {
        silent.end().await;
        half.end().await;
        started.elapsed()
    };
    let (dribbled, ended) = tokio::join!(dribble, ends);
    assert!(ended >= TIMEOUT && ended < UNTOLD, "{ended:?}");
    assert!(dribbled >= TIMEOUT && dribbled < UNTOLD, "{dribbled:?}");
    assert_eq!(io.metrics().limits_exceeded(Limit::HeaderTime), 3);
}

#[tokio::test]
async fn header_timeout_applies_to_later_requests() {
    const TIMEOUT: Duration = Duration::from_millis(1200);
    let io = Io::new();
    let rig = Rig::start(&io, Server::new(io.clone()).header_timeout(TIMEOUT));
    let mut client = rig.connect().await;
    for _ in 0..2 {
        client.send(&get("/", "")).await;
        assert_eq!(client.answer().await.status, 404);
        assert!(client.is_quiet_for(TIMEOUT * 2).await, "the keep-alive timeout is longer");
    }
    client.send("GET / HTTP/1.1\r\nHost:").await;
    let began = Instant::now();
    client.end().await;
    assert!(began.elapsed() < UNTOLD, "{:?}", began.elapsed());
    assert_eq!(io.metrics().limits_exceeded(Limit::HeaderTime), 1);
}

#[tokio::test]
async fn closes_idle_connections_not_waiting_polls() {
    const TIMEOUT: Duration = Duration::from_millis(1500);
    let io = Io::new();
    let server = Server::new(io.clone()).keep_alive_timeout(TIMEOUT);
    let rig = Rig::start(&io, server);
    // A request in time is answered and restarts the timeout; on a busy machine that may take several tries.
    let mut idle = loop {
        let began = Instant::now();
        let mut idle = rig.connect().await;
        idle.send(&get("/", "")).await;
        assert_eq!(idle.answer().await.status, 404);
        if idle.is_quiet_for(TIMEOUT / 2).await
            && idle.try_send(get("/", "").as_bytes()).await
            && idle.answer_or_end().await.is_some_and(|answer| answer.status == 404)
        {
            break idle;
        }
        assert!(began.elapsed() >= TIMEOUT, "closed before the timeout");
    };
    let answered = Instant::now();

    let mut poll = rig.connect().await;
    poll.send(&get(POLLING, "")).await;
    let sid = poll.answer().await.sid();
    poll.send(&get(&format!("{POLLING}&sid={sid}"), "")).await;
    idle.end().await;
    let closed = answered.elapsed();
    assert!(closed >= TIMEOUT && closed < Duration::from_secs(60), "{closed:?}");
    assert!(poll.is_quiet_for(Duration::from_millis(1500)).await, "a waiting poll was closed");
    assert_eq!(io.metrics().limits_exceeded(Limit::HeaderTime), 0);
}

#[tokio::test]
async fn closes_client_over_event_rate() {
    let rate = EventRate::per_second(NonZeroU32::MIN).burst(NonZeroU32::new(5).expect("five"));
    let io = Io::builder().config(Config::new().limits(|limits| limits.event_rate(rate))).build();
    let reasons: Arc<Mutex<Vec<CloseReason>>> = Arc::default();
    let seen = reasons.clone();
    io.on_disconnect(move |reason: CloseReason| {
        let seen = seen.clone();
        async move { seen.lock().expect("not poisoned").push(reason) }
    });
    io.on("say", async |socket: Socket, number: u32| {
        let _ = socket.broadcast().emit("said", number);
    });
    let rig = Rig::start(&io, Server::new(io.clone()));
    let mut listener = WebSocket::socket_io(rig.address).await;
    let mut flooder = WebSocket::socket_io(rig.address).await;
    // The join used one token of five.
    let flood: Vec<u8> =
        (0..50).flat_map(|number| client_frame(TEXT, format!("42[\"say\",{number}]").as_bytes())).collect();
    flooder.0.send_bytes(&flood).await;
    assert_eq!(flooder.next().await, Frame::Close(1008, "rate limited".into()));
    for number in 0..4 {
        assert_eq!(listener.next().await, Frame::Text(format!("42[\"said\",{number}]")));
    }
    until(|| *reasons.lock().expect("not poisoned") == [CloseReason::RateLimited]).await;
    assert_eq!(io.metrics().limits_exceeded(Limit::EventRate), 1);
    io.emit("said", "on").expect("emitted");
    assert_eq!(listener.next().await, Frame::Text("42[\"said\",\"on\"]".into()));
}

#[tokio::test]
async fn event_rate_ignores_acks() {
    let rate = EventRate::per_second(NonZeroU32::MIN).burst(NonZeroU32::new(3).expect("three"));
    let rig = Rig::with_config(Config::new().limits(|limits| limits.event_rate(rate)));
    let mut client = WebSocket::socket_io(rig.address).await;
    for _ in 0..20 {
        client.text("430[1]").await;
        client.text("3").await;
    }
    client.text("42[\"last\"]").await;
    rig.io.emit("still", "here").expect("emitted");
    assert_eq!(client.next().await, Frame::Text("42[\"still\",\"here\"]".into()));
    until(|| rig.io.metrics().events_unhandled() == 1).await;
}

#[tokio::test]
async fn slowly_read_answer_is_not_idle() {
    const TIMEOUT: Duration = Duration::from_millis(1500);
    const LEN: usize = 12 << 20;
    let io = Io::new();
    let server = Server::new(io.clone())
        .keep_alive_timeout(TIMEOUT)
        .fallback(|_| http::Response::new(Bytes::from(vec![b'x'; LEN]).into()));
    let rig = Rig::start(&io, server);
    let mut client = rig.connect().await;
    client.send(&get("/large", "")).await;
    let began = Instant::now();
    let mut read = 0;
    while read < LEN {
        read += client.take(LEN / 16).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(began.elapsed() > TIMEOUT * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn limits_sessions_per_connection() {
    let io = Io::new();
    let rig = Rig::start(&io, Server::new(io.clone()).max_sessions_per_connection(3));
    let mut greedy = rig.connect().await;
    let mut sids = Vec::new();
    for _ in 0..3 {
        greedy.send(&get(POLLING, "")).await;
        sids.push(greedy.answer().await.sid());
    }
    // A closed session frees its slot.
    let over = format!("POST {POLLING}&sid={} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1", sids[0]);
    greedy.send(&over).await;
    assert_eq!(greedy.answer().await.status, 200);
    until(|| io.client_count() == 2).await;
    greedy.send(&get(POLLING, "")).await;
    assert_eq!(greedy.answer().await.status, 200);
    greedy.send(&get(POLLING, "")).await;
    let refused = greedy.answer().await;
    let headers = ["retry-after", "connection"].map(|name| refused.header(name));
    assert_eq!((refused.status, headers), (503, [Some("5"), Some("close")]));
    let mut greedy = rig.connect().await;
    for expected in [200, 200, 200, 503] {
        greedy.send(&get(POLLING, "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n")).await;
        assert_eq!(greedy.answer().await.status, expected, "with or without upgrade headers");
    }
    assert_eq!(io.metrics().limits_exceeded(Limit::ConnectionSessions), 2);
    assert_eq!(rig.get(POLLING, "").await.status, 200, "the limit is per connection");
}

#[tokio::test]
async fn evicts_oldest_unjoined_session() {
    let rig = Rig::with_config(Config::new().limits(|limits| limits.max_unjoined_sessions(2)));
    let mut chat = WebSocket::socket_io(rig.address).await;
    let mut sids = Vec::new();
    for _ in 0..200 {
        sids.push(rig.get(POLLING, "").await.sid());
    }
    until(|| rig.io.client_count() == 3).await;
    assert_eq!(rig.io.metrics().limits_exceeded(Limit::Unjoined), 198);
    for (number, sid) in sids.iter().enumerate().skip(190) {
        let body = "40";
        let post = format!(
            "POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut client = rig.connect().await;
        client.send(&post).await;
        let expected = if number < 198 { 400 } else { 200 };
        assert_eq!(client.answer().await.status, expected, "{number}");
    }
    // The two sessions have joined and so free their slots.
    assert_eq!(rig.get(POLLING, "").await.status, 200);
    rig.io.emit("news", 1).expect("emitted");
    assert_eq!(chat.next().await, Frame::Text("42[\"news\",1]".into()));
    assert_eq!(rig.io.client_count(), 4);
}

#[tokio::test]
async fn limits_handshake_bytes() {
    let rig = Rig::with_config(
        Config::new().limits(|limits| limits.max_handshake_bytes(1000).max_handshakes_bytes(2900)),
    );
    let headers = |len: usize| format!("Cookie: {}\r\n", "c".repeat(len));
    let refused = rig.get(POLLING, &headers(1000)).await;
    assert_eq!((refused.status, rig.io.metrics().limits_exceeded(Limit::HandshakeSize)), (431, 1));
    let mut sids = Vec::new();
    for _ in 0..3 {
        sids.push(rig.get(POLLING, &headers(850)).await.sid());
    }
    let refused = rig.get(POLLING, &headers(850)).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert_eq!(rig.io.metrics().limits_exceeded(Limit::HandshakesSize), 1);
    let mut client = rig.connect().await;
    let over = format!("POST {POLLING}&sid={} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1", sids[0]);
    client.send(&over).await;
    assert_eq!(client.answer().await.status, 200);
    until(|| rig.io.client_count() == 2).await;
    assert_eq!(rig.get(POLLING, &headers(850)).await.status, 200, "a closed session frees its bytes");
}

#[tokio::test]
async fn rejects_slow_body_with_408() {
    let rig = Rig::with_config(
        Config::new().timeouts(|timeouts| timeouts.body_timeout(Duration::from_millis(300))),
    );
    for pace in [None, Some(Duration::from_millis(50))] {
        let sid = rig.get(POLLING, "").await.sid();
        let mut slow = rig.connect().await;
        let head = format!("POST {POLLING}&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4");
        slow.send(&head).await;
        if let Some(pace) = pace {
            for _ in 0..20 {
                tokio::time::sleep(pace).await;
                slow.try_send(b"0").await;
            }
        }
        assert_eq!(slow.answer().await.status, 408);
        until(|| rig.io.client_count() == 0).await;
    }
    assert_eq!(rig.io.metrics().limits_exceeded(Limit::BodyTime), 2);
}

#[tokio::test]
async fn unfinished_message_closes_its_connection() {
    let config = Config::new().timeouts(|timeouts| timeouts.ping_interval(Duration::from_millis(200)));
    let rig = Rig::with_config(config);
    let mut reader = WebSocket::plain(rig.address).await;
    let mut slow = WebSocket::plain(rig.address).await;
    until(|| rig.io.client_count() == 2).await;
    // First frame of a fragmented message; pings may be answered in between.
    let mut part = client_frame(TEXT, b"never");
    // Clears FIN to start a fragmented message.
    part[0] = TEXT;
    slow.0.send_bytes(&part).await;
    let begun = Instant::now();
    let end = loop {
        slow.0.try_send(&client_frame(PONG, b"")).await;
        if !slow.0.is_quiet_for(Duration::from_millis(20)).await && rig.io.client_count() == 1 {
            break slow.next().await;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "closed in time");
    };
    assert_eq!(end, Frame::Close(1008, "a message was not whole within two pings".into()));
    assert!(begun.elapsed() >= Duration::from_millis(200), "after at least one ping");
    rig.io.emit("message", "on").expect("emitted");
    assert_eq!(reader.next().await, Frame::Text("on".into()));
}
