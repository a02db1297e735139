//! Sentinels and their masters with TLS, and the log of connections that are refused. The only test of its process, as
//! in `log.rs`.

#[allow(dead_code, reason = "each test file uses a part")]
#[allow(clippy::disallowed_methods, reason = "real servers have the time of the machine")]
mod server;

use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use roomcast_backplane_redis::{RedisBackplane, RedisConfig};
use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};
use server::{Redis, free_port, until};
use tokio::time::timeout;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../server/tests/certificates");
const SECRETS: [&str; 2] = ["master-hunter2", "sentinel-hunter2"];

/// Writer of a log that the test reads.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Returns the text since the last call.
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().expect("the log"))).expect("text")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the settings of a server whose connections of each kind use TLS, by the name of its certificate.
fn tls(port: u16, name: &str) -> String {
    format!(
        "tls-port {port}\ntls-cert-file {FOLDER}/{name}.crt\ntls-key-file {FOLDER}/{name}.key\n\
         tls-ca-cert-file {FOLDER}/{name}.crt\ntls-auth-clients no\ntls-replication yes\n"
    )
}

/// Returns the settings of a sentinel of a master, and of the passwords of both.
fn monitor(port: u16) -> String {
    let [master, sentinel] = SECRETS;
    format!(
        "requirepass {sentinel}\nsentinel monitor main 127.0.0.1 {port} 1\nsentinel auth-pass main {master}\n\
         sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    )
}

/// Creates an engine that trusts one certificate.
fn engine(sentinel: u16, certificate: &str) -> RedisBackplane {
    let config = RedisConfig::sentinel("main", [format!("127.0.0.1:{sentinel}")]).expect("an address");
    let config = config.password(SECRETS[0]).sentinel_credentials(None, SECRETS[1]);
    RedisBackplane::new(config.ca_file(format!("{FOLDER}/{certificate}.crt")).expect("a certificate"))
}

#[tokio::test]
#[ignore = "needs redis-server; run by the step redis of cargo xtask test"]
async fn tls_holds_for_sentinels_and_master() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let ports: [u16; 5] = std::array::from_fn(|_| free_port());
    let [master_port, replica_port, sentinel_port, stranger_port, other_port] = ports;
    let passwords = format!("requirepass {0}\nmasterauth {0}\n", SECRETS[0]);
    let mut master = Redis::start(&format!("{passwords}{}", tls(master_port, "one")));
    let replica =
        Redis::start(&format!("{passwords}{}replicaof 127.0.0.1 {master_port}", tls(replica_port, "one")));
    let sentinel = Redis::sentinel(&format!("{}{}", tls(sentinel_port, "one"), monitor(master_port)));

    let mut trusting = engine(sentinel_port, "one");
    exchange(&mut trusting).await;
    let address = format!("127.0.0.1:{master_port}");
    assert!(!log.take().contains("lost"), "the first attempt succeeds");

    // The certificate of the sentinel is unknown.
    let text = refused(&mut engine(sentinel_port, "two"), &log).await;
    let reason = "invalid peer certificate: UnknownIssuer";
    assert!(text.contains(&format!("connecting to 127.0.0.1:{sentinel_port}: {reason}")), "{text}");

    // That of the sentinel is known, and that of its master is not.
    let _stranger = Redis::start(&format!("{passwords}{}", tls(stranger_port, "two")));
    let _other = Redis::sentinel(&format!("{}{}", tls(other_port, "one"), monitor(stranger_port)));
    let text = refused(&mut engine(other_port, "one"), &log).await;
    assert!(text.contains(&format!("connecting to 127.0.0.1:{stranger_port}: {reason}")), "{text}");

    // A port without TLS does not get a password.
    let text = refused(&mut engine(sentinel.port, "one"), &log).await;
    assert!(text.contains(&format!("127.0.0.1:{} did not answer in time", sentinel.port)), "{text}");

    // A new master is found and connected to with TLS as well.
    let knows = || {
        sentinel.command_as(SECRETS[1], &["SENTINEL", "replicas", "main"]).contains(&replica_port.to_string())
    };
    assert!(until(Duration::from_secs(12), knows), "the sentinel does not know the replica");
    let synced = || replica.command_as(SECRETS[0], &["ROLE"]).contains("connected");
    assert!(until(Duration::from_secs(10), synced), "no replication");
    master.kill();
    // The connections are lost first.
    timeout(LIMIT, poll_fn(|cx| trusting.poll_event(cx).map(drop))).await.expect("the loss");
    exchange(&mut trusting).await;
    assert!(replica.command_as(SECRETS[0], &["ROLE"]).contains("master"));
    let text = log.take();
    assert!(
        text.contains(&format!("server=\"{address}\"")) && text.contains("redis connection lost"),
        "{text}"
    );
    assert!(text.contains(&format!("server=127.0.0.1:{replica_port}")), "{text}");
    for secret in SECRETS {
        assert!(!text.contains(secret) && !format!("{trusting:?}").contains(secret), "{text}");
    }
}

/// Subscribes, publishes and receives.
async fn exchange(engine: &mut RedisBackplane) {
    ready(engine).await;
    engine.send(BackplaneCommand::Subscribe { channels: vec![Channel::Nodes], token: 1 });
    engine.send(BackplaneCommand::Publish { channel: Channel::Nodes, payload: Bytes::from_static(b"text") });
    loop {
        let event = timeout(LIMIT, poll_fn(|cx| engine.poll_event(cx))).await.expect("a message");
        if let BackplaneEvent::Message { payload, .. } = event {
            assert_eq!(payload, "text");
            return;
        }
    }
}

/// Checks that an engine does not connect; returns the log, which has no password.
async fn refused(engine: &mut RedisBackplane, log: &Log) -> String {
    let work = poll_fn(|cx| {
        while engine.poll_event(cx).is_ready() {}
        Poll::<()>::Pending
    });
    let _: Result<(), _> = timeout(Duration::from_millis(1500), work).await;
    let metrics = engine.metrics();
    assert!(metrics.connects == 0 && metrics.connect_failures > 0, "{metrics:?}");
    let text = log.take();
    assert!(SECRETS.iter().all(|secret| !text.contains(secret)), "{text}");
    text
}

async fn ready(engine: &mut RedisBackplane) {
    let work = poll_fn(|cx| {
        while engine.poll_event(cx).is_ready() {}
        engine.poll_ready(cx)
    });
    timeout(LIMIT, work).await.expect("a connection");
}

/// Bound of each wait.
const LIMIT: Duration = Duration::from_secs(15);
