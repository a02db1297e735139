//! Connection by Redis as applications start it, without a Redis.
#![cfg(feature = "redis")]
#![allow(clippy::disallowed_methods, reason = "the connection has the time of the machine")]

use std::time::{Duration, Instant};

use roomcast::cluster::{self, ClusterStatus, ConnectionConfig, RedisConfig, RedisError};
use roomcast::{Io, Server};

/// URL of a port that is closed.
const ABSENT: &str = "redis://me:hunter2@127.0.0.1:1";

fn connect() -> Io {
    let redis = RedisConfig::from_url(ABSENT).expect("a URL");
    let connection = ConnectionConfig::new().node(|node| node.join_timeout = Duration::from_millis(50));
    let io = Io::builder().cluster(cluster::redis_with(redis, connection).expect("a task or thread")).build();
    assert_eq!(io.cluster_status(), Some(ClusterStatus::Joining));
    io
}

#[test]
fn starts_without_runtime() {
    let io = connect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while io.cluster_status() != Some(ClusterStatus::Degraded) {
        assert!(Instant::now() < deadline, "{:?}", io.cluster_status());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(io.is_ready());
    // The threads of the server start later, and the connection ends with the server.
    let bound = Server::new(io.clone()).bind("127.0.0.1:0").expect("a free port");
    let drained = bound.run_with_shutdown(1, async {}).expect("no server error");
    assert_eq!((drained.closed, drained.left), (0, 0));
}

#[tokio::test]
async fn runs_on_current_runtime() {
    let io = connect();
    // A separate thread would change the status while this one is blocked.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(io.cluster_status(), Some(ClusterStatus::Joining));
    let degraded = async {
        while io.cluster_status() != Some(ClusterStatus::Degraded) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), degraded).await.expect("a status");
    assert!(io.openmetrics().await.contains("\nroomcast_redis_connected 0.0\n"));
}

#[test]
fn invalid_url_is_explained_without_its_text() {
    for url in ["http://me:hunter2@host", "redis://me:hunter2@host:port"] {
        let error = cluster::redis(url).expect_err("an invalid URL");
        assert!(matches!(error, RedisError::Config(_)));
        let text = format!("{error} {error:?}");
        assert!(text.contains("expected redis:// or rediss://") && !text.contains("hunter2"), "{text}");
    }
}
