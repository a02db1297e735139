//! Log of an outage. The only test of its process, since a log for one thread misses events that other threads met
//! first.

#[allow(dead_code, reason = "each test file uses a part")]
#[allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]
mod server;

use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use roomcast_backplane_redis::{RedisBackplane, RedisConfig};
use roomcast_cluster::Backplane;
use server::Redis;
use tokio::time::timeout;

/// Writer of a log that the test reads.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn outages_are_logged_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut server = Redis::start("requirepass hunter2");
    let mut engine =
        RedisBackplane::new(RedisConfig::from_url(&server.url()).expect("a URL").password("hunter2"));
    ready(&mut engine).await;
    server.kill();
    work(&mut engine, Duration::from_secs(1)).await;
    let failures = engine.metrics().connect_failures;
    assert!(failures > 4);
    // The cause of an outage may change: a server that refuses the password is logged as well.
    server.configure("requirepass other");
    server.restart();
    work(&mut engine, Duration::from_secs(2)).await;
    assert!(engine.metrics().connect_failures > failures + 4);
    server.kill();
    server.configure("requirepass hunter2");
    server.restart();
    ready(&mut engine).await;
    let text = String::from_utf8(log.0.lock().expect("the log").clone()).expect("text");
    // One for each connection.
    assert_eq!(text.matches("redis connection lost").count(), 2, "{text}");
    assert_eq!(text.matches("redis refuses the connection").count(), 2, "{text}");
    assert_eq!(text.matches("redis connection restored").count(), 2, "{text}");
    assert!(!text.contains("hunter2") && !format!("{engine:?}").contains("hunter2"), "{text}");
}

async fn work(engine: &mut RedisBackplane, time: Duration) {
    let work = poll_fn(|cx| {
        while engine.poll_event(cx).is_ready() {}
        Poll::<()>::Pending
    });
    let _: Result<(), _> = timeout(time, work).await;
}

async fn ready(engine: &mut RedisBackplane) {
    let work = poll_fn(|cx| {
        while engine.poll_event(cx).is_ready() {}
        engine.poll_ready(cx)
    });
    timeout(Duration::from_secs(15), work).await.expect("a connection");
}
