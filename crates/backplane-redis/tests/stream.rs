//! The stream on real servers, with their faults.
//!
//! ```sh
//! cargo test --package roomcast-backplane-redis --test stream -- --ignored
//! ```

#![allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]

#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use roomcast_backplane_redis::{RedisConfig, RedisStream};
use roomcast_node_adapter::{
    AppendResult, Entries, EntryId, LogCommand, LogEvent, StreamEntry, StreamLog, StreamReader, push_number,
};
use server::Redis;
use tokio::time::timeout;

fn config(server: &Redis) -> RedisConfig {
    RedisConfig::from_url(&server.url()).expect("a URL").ping_interval(Duration::from_millis(250))
}

/// Engine with the reader of a driver.
struct Node {
    engine: RedisStream,
    reader: StreamReader,
    gaps: u64,
    appended: Vec<(u64, AppendResult)>,
    entries: Vec<StreamEntry>,
    others: Vec<LogEvent>,
}

impl Node {
    fn new(config: RedisConfig) -> Self {
        Self {
            engine: RedisStream::new(config, "s"),
            reader: StreamReader::new(),
            gaps: 0,
            appended: Vec::new(),
            entries: Vec::new(),
            others: Vec::new(),
        }
    }

    /// Works until a condition holds.
    async fn until(&mut self, mut holds: impl FnMut(&mut Self) -> bool) {
        let work = poll_fn(|cx| {
            loop {
                if holds(self) {
                    return Poll::Ready(());
                }
                match self.engine.poll_event(cx) {
                    Poll::Ready(event) => self.handle(event),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        timeout(LIMIT, work).await.expect("in time");
    }

    fn handle(&mut self, event: LogEvent) {
        let mut reads = false;
        match event {
            LogEvent::ReaderConnected => reads = true,
            LogEvent::ReaderDisconnected => self.reader.handle_reconnect(),
            LogEvent::Located { last } => {
                self.gaps += u64::from(self.reader.handle_last(last));
                reads = true;
            }
            LogEvent::Checked { exists } => {
                self.reader.handle_check(exists);
                reads = true;
            }
            LogEvent::Read { has_anchor, entries, is_end } => {
                self.gaps += u64::from(self.reader.handle_read(has_anchor, entries.last)) + entries.oversized;
                self.entries.extend(entries.entries);
                reads = is_end;
            }
            LogEvent::Appended { token, result } => self.appended.push((token, result)),
            other => self.others.push(other),
        }
        if reads {
            self.engine.read(self.reader.next_request());
        }
    }

    /// Waits until the reader has its position, and the engine takes commands.
    async fn ready(&mut self) {
        self.until(|node| node.reader.is_located()).await;
        self.can_send().await;
    }

    async fn can_send(&mut self) {
        let work = poll_fn(|cx| {
            while let Poll::Ready(event) = self.engine.poll_event(cx) {
                self.handle(event);
            }
            self.engine.poll_ready(cx)
        });
        timeout(LIMIT, work).await.expect("a connection");
    }

    fn append(&mut self, token: u64, data: &str) {
        let mut fields = vec![
            ("uid", "u".into()),
            ("nsp", "/".into()),
            ("type", "3".into()),
            ("data", data.to_owned().into()),
        ];
        push_number(&mut fields, token);
        self.engine.send(LogCommand::Append { fields, max_len: 10_000, token });
    }

    fn read(&self) -> Vec<u64> {
        self.entries.iter().filter_map(|entry| entry.number).collect()
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn entries_keep_order_and_content() {
    let server = Redis::start("");
    let (mut one, mut other) = (Node::new(config(&server)), Node::new(config(&server)));
    one.ready().await;
    other.ready().await;
    let data = |number: u64| "é\r\n".repeat(number as usize * 37 % 9000);
    let write = async {
        for number in 0..3000 {
            one.can_send().await;
            one.append(number, &data(number));
        }
        one.until(|node| node.appended.len() == 3000 && node.entries.len() == 3000).await;
    };
    tokio::join!(write, other.until(|node| node.entries.len() == 3000));
    assert_eq!(other.entries, one.entries);
    for (number, (entry, (token, result))) in (0..3000).zip(other.entries.iter().zip(&one.appended)) {
        assert_eq!((entry.number, *token), (Some(number), number));
        assert_eq!(*result, AppendResult::Stored(entry.id));
        assert!(entry.data == data(number), "{number}");
    }
    assert_eq!((other.gaps, other.engine.metrics().read, one.engine.metrics().stored), (0, 3000, 3000));
    // A range of the middle, in parts.
    let from = other.entries[1000].id;
    one.engine.send(LogCommand::Range { from, count: 500, token: 7 });
    one.engine.send(LogCommand::Inspect { token: 8 });
    one.until(|node| matches!(node.others.last(), Some(LogEvent::Inspected { .. }))).await;
    let mut range = Entries::default();
    for event in &one.others {
        if let LogEvent::Range { token: 7, entries, is_end } = event {
            range.entries.extend(entries.entries.iter().cloned());
            assert_eq!(*is_end, range.entries.len() == 500);
        }
    }
    assert_eq!(range.entries, other.entries[1000..1500]);
    let expected = LogEvent::Inspected {
        token: 8,
        first: Some(other.entries[0].id),
        last: Some(other.entries[2999].id),
        len: 3000,
    };
    assert_eq!(one.others.last(), Some(&expected));
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn idle_reader_stays_connected() {
    let server = Redis::start("");
    let mut node = Node::new(config(&server));
    node.ready().await;
    let _: Result<(), _> = timeout(Duration::from_secs(2), node.until(|_| false)).await;
    let metrics = node.engine.metrics();
    assert_eq!((metrics.disconnects, metrics.connects, metrics.connected), (0, 2, true));
    node.append(1, "x");
    node.until(|node| node.entries.len() == 1).await;
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn entry_over_limit_is_skipped() {
    let server = Redis::start("");
    let mut node = Node::new(config(&server).max_message(100_000));
    node.ready().await;
    node.append(1, "x");
    node.append(2, &"y".repeat(1_000_000));
    node.append(3, "z");
    node.until(|node| node.entries.len() == 2).await;
    assert_eq!((node.read(), node.gaps, node.engine.metrics().oversized), (vec![1, 3], 1, 1));
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn cut_connections_continue_where_they_were() {
    let server = Redis::start("");
    let mut node = Node::new(config(&server));
    node.ready().await;
    node.append(1, "x");
    node.until(|node| node.entries.len() == 1).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    node.until(|node| node.others.contains(&LogEvent::Disconnected)).await;
    let other = Redis::command;
    other(&server, &["XADD", "s", "*", "uid", "v", "nsp", "/", "type", "3", "data", "{}", "roomcast", "7"]);
    node.can_send().await;
    node.append(2, "x");
    node.until(|node| node.entries.len() == 3).await;
    assert_eq!((node.read(), node.gaps), (vec![1, 7, 2], 0));
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn frozen_server_loses_no_unknown_entry() {
    let server = Redis::start("");
    let mut node = Node::new(config(&server));
    node.ready().await;
    server.freeze();
    let frozen = Instant::now();
    (1..=3).for_each(|number| node.append(number, "x"));
    node.until(|node| node.others.contains(&LogEvent::Disconnected)).await;
    assert!(frozen.elapsed() < Duration::from_secs(3), "{:?}", frozen.elapsed());
    let lost = AppendResult::Lost { was_sent: true };
    assert_eq!(node.appended, [(1, lost.clone()), (2, lost.clone()), (3, lost)]);
    assert_eq!(node.engine.metrics().unconfirmed, 3);
    server.thaw();
    node.others.clear();
    node.until(|node| node.others.contains(&LogEvent::Connected) && node.reader.is_located()).await;
    // The server ends the old connection before the new one is used, so this is the end of its entries.
    node.engine.send(LogCommand::Inspect { token: 1 });
    node.until(|node| matches!(node.others.last(), Some(LogEvent::Inspected { .. }))).await;
    let Some(LogEvent::Inspected { last, len, .. }) = node.others.last().cloned() else {
        panic!("inspected")
    };
    node.until(|node| node.reader.position() >= last.or(Some(EntryId::ZERO))).await;
    assert_eq!(node.read().len() as u64, len);
    let _: Result<(), _> = timeout(Duration::from_millis(500), node.until(|_| false)).await;
    assert_eq!(node.read().len() as u64, len, "none is stored later");
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn restart_without_persistence_is_gap() {
    let mut server = Redis::start("");
    let mut node = Node::new(config(&server));
    node.ready().await;
    node.append(1, "x");
    node.until(|node| node.entries.len() == 1).await;
    server.kill();
    node.until(|node| node.others.contains(&LogEvent::Disconnected)).await;
    server.restart();
    server.command(&["XADD", "s", "1-1", "uid", "v", "nsp", "/", "type", "3", "data", "{}", "roomcast", "7"]);
    node.until(|node| node.entries.len() == 2).await;
    assert_eq!((node.read(), node.gaps), (vec![1, 7], 1));
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn trimmed_entries_are_gap() {
    let server = Redis::start("");
    let mut node = Node::new(config(&server));
    node.ready().await;
    node.append(1, "x");
    node.until(|node| node.entries.len() == 1).await;
    server.freeze();
    node.until(|node| node.others.contains(&LogEvent::Disconnected)).await;
    server.thaw();
    for number in ["5", "6"] {
        let entry = ["uid", "v", "nsp", "/", "type", "3", "data", "{}", "roomcast", number];
        server.command(&[&["XADD", "s", "MAXLEN", "1", "*"][..], &entry].concat());
    }
    node.until(|node| node.read().contains(&6)).await;
    assert!(node.gaps <= 1);
    assert!(node.gaps == 1 || node.read().contains(&5), "a loss is reported");
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn refusals_are_reported_and_retried() {
    let server = Redis::start("");
    server.command(&["SET", "s", "text"]);
    let mut node = Node::new(config(&server));
    node.can_send().await;
    node.append(1, "x");
    node.until(|node| !node.appended.is_empty()).await;
    assert!(
        matches!(&node.appended[0], (1, AppendResult::Refused(reason)) if reason.starts_with("WRONGTYPE"))
    );
    node.engine.send(LogCommand::Range { from: EntryId::ZERO, count: 1, token: 2 });
    node.engine.send(LogCommand::Inspect { token: 3 });
    node.until(|node| node.others.len() == 3).await;
    let failed = [2, 3].map(|token| LogEvent::Failed { token });
    assert_eq!(node.others[1..], failed, "after the connection");
    server.command(&["DEL", "s"]);
    node.ready().await;
    node.append(4, "x");
    node.until(|node| node.entries.len() == 1).await;
    assert_eq!((node.engine.metrics().refused, node.engine.metrics().disconnects), (1, 0));
    // Without memory, entries are refused, and reading goes on.
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    node.append(5, "x");
    node.until(|node| node.appended.len() == 3).await;
    assert!(matches!(&node.appended[2], (5, AppendResult::Refused(reason)) if reason.starts_with("OOM")));
    let _: Result<(), _> = timeout(Duration::from_millis(600), node.until(|_| false)).await;
    assert_eq!(node.engine.metrics().disconnects, 0);
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn rights_of_documentation_suffice() {
    let server = Redis::start("");
    let rights = "on >PASSWORD resetkeys ~s resetchannels &socket.io* -@all +publish +subscribe +unsubscribe \
        +pubsub|numsub +xadd +xrange +xrevrange +xread +xlen +ping +client|id +client|kill +role";
    let user = ["ACL", "SETUSER", "roomcast"].into_iter().chain(rights.split_whitespace());
    assert_eq!(server.command(&user.collect::<Vec<_>>()), "+OK\r\n");
    let mut node = Node::new(config(&server).credentials("roomcast", "PASSWORD"));
    node.ready().await;
    node.append(1, "x");
    node.engine.send(LogCommand::Inspect { token: 3 });
    node.until(|node| node.entries.len() == 1 && node.others.len() == 2).await;
    assert!(matches!(node.others[1], LogEvent::Inspected { len: 1, .. }), "{:?}", node.others);
}

const LIMIT: Duration = Duration::from_secs(20);
