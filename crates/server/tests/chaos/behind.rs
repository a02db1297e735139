//! Clients that lag behind in reading, or have nothing to read, and reconnect.

use std::time::Duration;

use roomcast_core::Capabilities;
use roomcast_server::transport::Polling;
use roomcast_server::{Config, Io, Socket};
use roomcast_testkit::transport::MemoryTransport;

use crate::client::Client;

const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const AWAY: Duration = Duration::from_secs(10);
/// Seconds; longer than any event is retained.
const LONG: u32 = 60;

fn play(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(test());
}

fn open() -> Io {
    let config = Config::new()
        .timeouts(|timeouts| timeouts.ping_interval(INTERVAL).ping_timeout(TIMEOUT))
        .recovery(|recovery| recovery.max_disconnection(AWAY));
    let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
    let io = Io::builder()
        .config(config)
        .transport(Polling::new())
        .transport(MemoryTransport::new("memory").capabilities(websocket))
        .build();
    io.on_connect(async |socket: Socket| _ = socket.join("quiet"));
    io
}

/// Returns the events missed, the id and the recovery token sent at connect.
async fn enter(client: &mut Client, auth: &str) -> (Vec<String>, String, String) {
    client.send(&[format!("40{auth}")]);
    let mut missed = Vec::new();
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.pump();
        while let Some(packet) = client.heard.pop_front() {
            let Some(welcome) = packet.strip_prefix('0') else {
                missed.push(packet);
                continue;
            };
            let welcome: serde_json::Value = serde_json::from_str(welcome).expect("JSON");
            let field = |name: &str| welcome[name].as_str().expect("a string").to_owned();
            return (missed, field("sid"), field("pid"));
        }
    }
    panic!("no welcome received");
}

#[test]
fn recovers_quiet_client() {
    for polls in [false, true] {
        play(async || {
            let io = open();
            let mut client = Client::connect(&io, 0, polls);
            let (_, id, pid) = enter(&mut client, "").await;
            for second in 0..LONG {
                // None of the forgotten events was for this client, which has never received one.
                assert!(io.to("busy").emit("busy", second).expect("a valid name").queued == 0);
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    client.pump();
                }
            }
            assert!(!client.ended && client.heard.is_empty());
            client.reset();
            tokio::time::sleep(AWAY / 2).await;
            assert_eq!(io.to("quiet").emit("missed", 1).expect("a valid name").queued, 0);
            let mut client = Client::connect(&io, 1, polls);
            let (missed, again, _) = enter(&mut client, &format!(r#"{{"pid":"{pid}"}}"#)).await;
            assert_eq!((again, missed.len()), (id, 1), "{missed:?}");
        });
    }
}

#[test]
fn does_not_recover_unreading_client() {
    play(async || {
        let io = open();
        let mut client = Client::connect(&io, 0, false);
        let (_, id, pid) = enter(&mut client, "").await;
        // Its traffic keeps the session alive; its events stay in the outbox until the connection breaks.
        for second in 0..LONG {
            assert_eq!(io.to("quiet").emit("stuck", second).expect("a valid name").queued, 1);
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                client.send(&[r#"42["alive"]"#.to_owned()]);
            }
        }
        assert_eq!(io.client_count(), 1);
        client.reset();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut client = Client::connect(&io, 1, false);
        let (missed, again, _) = enter(&mut client, &format!(r#"{{"pid":"{pid}"}}"#)).await;
        assert_ne!(again, id, "its first missed event is no longer retained");
        assert!(missed.is_empty(), "{missed:?}");
    });
}
