//! First clients of a namespace whose cluster does not respond.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent};
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_server::{Config, Io, Socket};
use serde_json::json;

use crate::support::client::{ALL, Client, Heard, Kind};
use crate::support::serve::{Running, serve};

/// Limit of the clients, shorter than the wait for the cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Wait for the cluster.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Message engine that accepts nothing.
#[derive(Debug)]
struct Silent;

impl Backplane for Silent {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn send(&mut self, _: BackplaneCommand) {
        panic!("it is not ready");
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn poll_event(&mut self, _: &mut Context<'_>) -> Poll<BackplaneEvent> {
        Poll::Pending
    }
}

fn serve_alone(middleware: impl Fn() -> Duration + Send + Sync + 'static) -> Running {
    let connection = ConnectionConfig::new().node(|node| node.join_timeout = JOIN_TIMEOUT);
    let cluster = ClusterConnection::start_thread(connection, Silent).expect("a thread");
    let config = Config::new().timeouts(|timeouts| timeouts.connect_timeout(CONNECT_TIMEOUT));
    let io = Io::builder().config(config).cluster(cluster).build();
    io.middleware(move || {
        let time = middleware();
        async move {
            tokio::time::sleep(time).await;
            Ok::<_, String>(())
        }
    });
    io.on("message", async |socket: Socket, _: String| socket.emit("message", "welcome").map(drop));
    serve(&io)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures the wait")]
fn silent_cluster_refuses_no_first_client() {
    for kind in ALL {
        // The middleware has its whole time after the wait.
        let server = serve_alone(|| CONNECT_TIMEOUT / 10);
        let begun = Instant::now();
        let mut first = Client::connect(kind, &server.dial);
        // A plain client gets no message when it is accepted.
        assert!(begun.elapsed() >= JOIN_TIMEOUT || kind == Kind::Plain, "{kind:?}: {:?}", begun.elapsed());
        let begun = Instant::now();
        let _second = Client::connect(kind, &server.dial);
        assert!(begun.elapsed() < JOIN_TIMEOUT, "{kind:?} waited again: {:?}", begun.elapsed());
        first.emit("message", json!(["hello"]));
        first.expect("message", json!(["welcome"]));
    }
}

#[test]
fn connect_timeout_follows_wait_for_cluster() {
    let server = serve_alone(|| Duration::from_secs(600));
    let mut client = Client::open(Kind::Json, &server.dial);
    let refused =
        Heard::Refused { namespace: "/".to_owned(), error: json!({ "message": "Connect timeout" }) };
    assert_eq!(client.hear(), refused);
}
