//! Polls that repeat the previous request of their connection, which the HTTP library does not see.

use std::time::Duration;

use roomcast_server::http::{Cors, HttpCompression};
use roomcast_server::{Config, Io, Server};

use crate::support::{Answer, Client, Frame, POLLING, Rig, get, until};

const BROWSER: &str = "Origin: https://chat.example\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\n";

fn config() -> Config {
    Config::new()
        .timeouts(|timeouts| {
            timeouts.ping_interval(Duration::from_secs(600)).ping_timeout(Duration::from_secs(600))
        })
        .http(|http| http.cors(Cors::mirrored().credentials(true)).compression(HttpCompression::default()))
}

/// Connection of a polling client in the main namespace.
struct Polling {
    client: Client,
    target: String,
    polls: u32,
}

impl Polling {
    async fn open(rig: &Rig) -> Self {
        let mut client = rig.connect().await;
        client.send(&get(POLLING, BROWSER)).await;
        let target = format!("{POLLING}&sid={}", client.answer().await.sid());
        client.send(&format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n40")).await;
        assert_eq!(client.answer().await.body, "ok");
        let mut polling = Self { client, target, polls: 0 };
        assert!(polling.poll().await.body.starts_with("40{"));
        polling
    }

    /// Returns the next poll; as in the official client, each has another `t`.
    fn request(&mut self) -> String {
        self.polls += 1;
        get(&format!("{}&t=p{}x", self.target, self.polls), BROWSER)
    }

    async fn send(&mut self) {
        let request = self.request();
        self.client.send(&request).await;
    }

    async fn poll(&mut self) -> Answer {
        self.send().await;
        self.client.answer().await
    }
}

/// Returns the lines of a head, except the date and the length.
fn lasting(answer: &Answer) -> Vec<String> {
    let lines = answer.head.lines().map(str::to_ascii_lowercase);
    lines.filter(|line| !line.starts_with("date:") && !line.starts_with("content-length:")).collect()
}

#[tokio::test]
async fn repetitions_get_the_same_head() {
    let rig = Rig::with_config(config());
    let mut polling = Polling::open(&rig).await;
    // With another header, the HTTP library answers.
    rig.io.emit("news", 0).expect("emitted");
    let request = polling.request().replace("a=b", "c=d");
    polling.client.send(&request).await;
    let first = polling.client.answer().await;
    assert_eq!((first.status, first.body.as_str()), (200, "42[\"news\",0]"));
    for number in 1..20 {
        rig.io.emit("news", number).expect("emitted");
        let answer = polling.poll().await;
        assert_eq!(answer.body, format!("42[\"news\",{number}]"));
        assert_eq!(lasting(&answer), lasting(&first));
        assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")), "{}", answer.head);
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    }
    assert_eq!(first.header("access-control-allow-origin"), Some("https://chat.example"));
}

#[tokio::test]
async fn long_and_compressed_answers_arrive_whole() {
    let rig = Rig::with_config(config());
    let mut polling = Polling::open(&rig).await;
    let text = "r".repeat(300_000);
    for round in 0..3 {
        // Not compressed: the client of this test does not inflate.
        rig.io.compress(false).emit("long", (round, &text)).expect("emitted");
        let answer = polling.poll().await;
        assert_eq!(answer.body, format!("42[\"long\",{round},\"{text}\"]"));
        rig.io.emit("long", (round, &text)).expect("emitted");
        polling.send().await;
        let mut received = 0;
        // The deflated text is short.
        while received < 300 {
            received += polling.client.take(64 * 1024).await;
        }
        assert!(received < 10_000, "{received}");
    }
}

#[tokio::test]
async fn refuses_repetition_after_end_of_session() {
    let rig = Rig::with_config(config());
    let mut polling = Polling::open(&rig).await;
    rig.io.emit("news", 1).expect("emitted");
    assert_eq!(polling.poll().await.status, 200);
    rig.io.disconnect_client();
    while polling.poll().await.body != "1" {}
    until(|| rig.io.client_count() == 0).await;
    let repeated = polling.poll().await;
    let anew = rig.get(&polling.target, BROWSER).await;
    assert_eq!((repeated.status, &repeated.body), (400, &anew.body));
    assert_eq!(lasting(&repeated), lasting(&anew));
    assert!(rig.io.metrics().requests_refused() >= 2);
}

#[tokio::test]
async fn overlapping_repetitions_end_session() {
    let rig = Rig::with_config(config());
    let (mut polling, mut other) = (Polling::open(&rig).await, rig.connect().await);
    for number in 0..3 {
        rig.io.emit("news", number).expect("emitted");
        assert_eq!(polling.poll().await.status, 200);
    }
    // The other connection repeats a poll too.
    for number in 0..3 {
        rig.io.emit("news", number).expect("emitted");
        let request = polling.request();
        other.send(&request).await;
        assert_eq!(other.answer().await.status, 200);
    }
    polling.send().await;
    assert!(polling.client.is_quiet_for(Duration::from_millis(50)).await);
    let request = polling.request();
    other.send(&request).await;
    assert_eq!(other.answer().await.status, 400);
    let answer = polling.client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "1"));
    until(|| rig.io.client_count() == 0).await;
}

#[tokio::test]
async fn upgrade_answers_waiting_repetition() {
    let rig = Rig::with_config(config());
    let mut polling = Polling::open(&rig).await;
    for number in 0..3 {
        rig.io.emit("news", number).expect("emitted");
        assert_eq!(polling.poll().await.status, 200);
    }
    polling.send().await;
    assert!(polling.client.is_quiet_for(Duration::from_millis(50)).await);
    let target = polling.target.replace("transport=polling", "transport=websocket");
    let mut websocket = rig.connect().await.upgrade(&target).await;
    websocket.text("2probe").await;
    assert!(matches!(websocket.next().await, Frame::Text(text) if text == "3probe"));
    assert_eq!(polling.client.answer().await.body, "6");
    websocket.text("5").await;
    rig.io.emit("news", 3).expect("emitted");
    assert!(matches!(websocket.next().await, Frame::Text(text) if text == "42[\"news\",3]"));
    // The session left this transport.
    assert_eq!(polling.poll().await.status, 400);
}

#[tokio::test]
async fn hang_up_during_repetition_ends_session() {
    let rig = Rig::with_config(config());
    let mut polling = Polling::open(&rig).await;
    rig.io.emit("news", 1).expect("emitted");
    polling.poll().await;
    polling.send().await;
    assert!(polling.client.is_quiet_for(Duration::from_millis(100)).await);
    assert_eq!(rig.io.client_count(), 1);
    drop(polling);
    until(|| rig.io.client_count() == 0).await;
}

#[tokio::test]
async fn drain_answers_waiting_repetition() {
    let io = Io::builder().config(config()).build();
    let server = Server::new(io.clone()).bind("127.0.0.1:0").expect("a free port");
    let address = server.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(server.serve_with_shutdown(async { stopped.await.expect("stop signal") }));
    let mut polling = {
        let rig = Rig::of_running(address, &io);
        Polling::open(&rig).await
    };
    io.emit("news", 1).expect("emitted");
    polling.poll().await;
    polling.send().await;
    assert!(polling.client.is_quiet_for(Duration::from_millis(100)).await);
    stop.send(()).expect("a running server");
    let last = polling.client.answer().await;
    assert!(last.status == 200 && last.body.ends_with('1'), "{last:?}");
    assert_eq!(polling.client.end().await, "");
    task.await.expect("an end in time").expect("no server error");
}

#[tokio::test]
async fn answers_pipelined_repetitions_in_order() {
    let rig = Rig::with_config(config());
    let mut polling = Polling::open(&rig).await;
    rig.io.emit("news", 0).expect("emitted");
    polling.poll().await;
    let requests: String = (0..20).map(|_| polling.request()).collect();
    polling.client.send(&requests).await;
    for number in 1..=20 {
        rig.io.emit("news", number).expect("emitted");
        assert_eq!(polling.client.answer().await.body, format!("42[\"news\",{number}]"));
    }
}

#[tokio::test]
async fn request_behind_repetition_is_answered() {
    let rig = Rig::with_config(config());
    let mut polling = Polling::open(&rig).await;
    rig.io.emit("news", 0).expect("emitted");
    polling.poll().await;
    let poll = polling.request();
    let post = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n3", polling.target);
    // The POST cannot be read before the poll is answered: HTTP answers in order.
    polling.client.send(&(poll + &post)).await;
    assert!(polling.client.is_quiet_for(Duration::from_millis(50)).await);
    rig.io.emit("news", 1).expect("emitted");
    assert_eq!(polling.client.answer().await.body, "42[\"news\",1]");
    assert_eq!(polling.client.answer().await.body, "ok");
    // A head in two parts takes the usual path.
    let request = polling.request();
    let (start, rest) = request.split_at(40);
    polling.client.send(start).await;
    assert!(polling.client.is_quiet_for(Duration::from_millis(20)).await);
    polling.client.send(rest).await;
    rig.io.emit("news", 2).expect("emitted");
    assert_eq!(polling.client.answer().await.body, "42[\"news\",2]");
}
