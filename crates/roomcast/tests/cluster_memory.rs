//! Memory of connected clients, with and without a cluster.

use std::time::Duration;

use allocation_counter::measure;
use roomcast::Io;
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_testkit::cluster::{Harness as _, MemoryEngine};
use roomcast_testkit::{TestClient, TestKind};
use tokio::runtime::Builder;

/// Clients whose memory is measured.
const CLIENTS: usize = 1000;
/// Bytes that a cluster may cost for each client: 2 % of the 2 KiB that an idle connection of a server takes. The
/// measured figures are larger, since they include the client's side.
const LIMIT: f64 = 40.0;

/// Returns the bytes that are allocated for each client, on one thread and a paused clock.
fn bytes_per_client(kind: TestKind, in_cluster: bool) -> f64 {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let io = runtime.block_on(async {
        let builder = Io::builder();
        if !in_cluster {
            return builder.build();
        }
        let mut engine = MemoryEngine::new(1);
        let connection = ClusterConnection::start(ConnectionConfig::new(), engine.connect(0));
        tokio::spawn(async move { engine.run().await });
        // The node knows that it is alone after this time.
        tokio::time::sleep(Duration::from_secs(3)).await;
        builder.cluster(connection).build()
    });
    let connect = |clients: &mut Vec<TestClient>| {
        runtime.block_on(async {
            for _ in 0..CLIENTS {
                clients.push(TestClient::builder(&io).kind(kind).connect().await);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
    };
    let mut clients = Vec::with_capacity(2 * CLIENTS);
    // Tables and buffers grow with the first ones.
    connect(&mut clients);
    let allocated = measure(|| connect(&mut clients));
    allocated.bytes_current as f64 / CLIENTS as f64
}

#[test]
fn lone_node_costs_no_memory_per_client() {
    for kind in [TestKind::SocketIo, TestKind::Json, TestKind::Plain] {
        let (without, with) = (bytes_per_client(kind, false), bytes_per_client(kind, true));
        assert!(without > 1000.0, "{without} bytes for a client of kind {kind:?} are too few");
        println!("{kind:?}: {without} bytes without a cluster, {with} in one");
        assert!(with - without < LIMIT, "{kind:?}: {without} bytes without a cluster, {with} in one");
    }
}
