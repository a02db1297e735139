//! Effects of a paused process.

use std::sync::mpsc;
use std::time::Duration;

use roomcast_core::Capabilities;
use roomcast_server::{Config, Io};
use roomcast_testkit::transport::MemoryTransport;

use crate::client::Client;

/// A driver that spins stops the virtual clock, so the run has a wall-clock timeout.
#[test]
fn driver_rests_after_late_pong() {
    let (done, is_done) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(pong_comes_late());
        let _ = done.send(());
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("the driver idles and the client stays connected");
}

async fn pong_comes_late() {
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
    let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
    let io = Io::builder()
        .config(Config::new().timeouts(|timeouts| timeouts.ping_interval(interval).ping_timeout(timeout)))
        .transport(MemoryTransport::new("memory").capabilities(websocket))
        .build();
    let mut client = Client::connect(&io, 0, false);
    client.send(&["40".into()]);
    client.holds_pongs = true;
    tokio::time::sleep(interval + timeout / 2).await;
    client.pump();
    // The process is paused; the timer fires before the pong is read.
    tokio::time::advance(interval).await;
    client.release_pongs();
    for _ in 0..20 {
        tokio::time::sleep(timeout / 4).await;
        client.pump();
    }
    assert!(!client.ended && io.client_count() == 1, "the client answered");
}
