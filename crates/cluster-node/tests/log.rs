//! Log of an outage. The only test of its process, since a log for one thread misses events that other threads met
//! first.

#![allow(clippy::disallowed_methods, reason = "the rig measures paused time")]

#[path = "cluster/broker.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod broker;
#[path = "../../cluster-runtime/tests/cluster/host.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod host;
#[path = "cluster/rig.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod rig;
#[path = "cluster/stream_log.rs"]
#[allow(dead_code, reason = "the rig uses a part")]
mod stream_log;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use broker::Broker;
use host::Host;
use rig::{SOON, Server, event, settle, to};
use roomcast_cluster_node::NodeClusterConfig;

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

#[tokio::test(start_paused = true)]
async fn outages_and_unreadable_messages_are_logged_once() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let broker = Broker::default();
    let config = NodeClusterConfig::new().queue_bytes(10_000);
    let server = Server::start_with(&broker, Host::with_sockets(&[]), config);
    server.join().await;
    for _ in 0..3 {
        broker.publish("socket.io#/#", "nonsense");
    }
    settle().await;
    broker.stop();
    for number in 0..500 {
        server.namespace.broadcast(&to(""), &event(number));
        tokio::time::sleep(SOON / 100).await;
    }
    broker.start();
    tokio::time::sleep(SOON).await;
    let text = String::from_utf8(log.0.lock().expect("the log").clone()).expect("text");
    let count = |part: &str| text.matches(part).count();
    assert_eq!(count("message engine of the cluster does not respond"), 1, "{text}");
    // After the start and after the outage; the latter with the exact number.
    assert_eq!(count("connection to the cluster changed"), 2, "{text}");
    assert!(text.contains(&format!("refused={}", server.metric("cluster_refused"))), "{text}");
    assert_eq!(count("is not readable"), 1, "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}
