//! Broadcasts of a server in a cluster, without recipients.

use std::time::Duration;

use roomcast::Io;
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_core::{Cluster as _, ClusterValue};
use roomcast_testkit::cluster::{Harness as _, MemoryEngine};
use tokio::runtime::{Builder, Runtime};

use crate::common::text;

/// Broadcasts per turn of the work; in a cluster, they share a message.
pub(crate) const BROADCASTS: usize = 16;

/// Broadcasts without a cluster.
pub(crate) fn without() -> Box<dyn FnMut()> {
    broadcasts(runtime(), Io::new())
}

/// Broadcasts in a cluster of this many nodes; includes the task of the connection, but no engine.
pub(crate) fn among(nodes: usize) -> Box<dyn FnMut()> {
    let runtime = runtime();
    let io = runtime.block_on(async {
        let mut engine = MemoryEngine::new(1);
        let mut connections = (0..nodes)
            .map(|node| ClusterConnection::start(ConnectionConfig::new(), engine.connect(node)))
            .collect::<Vec<_>>();
        tokio::spawn(async move { engine.run().await });
        // The clock is paused, so no heartbeat is due in the measured time.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let nodes = |connection: &ClusterConnection| {
            let metrics = connection.metrics();
            metrics.into_iter().find(|metric| metric.name == "cluster_nodes").map(|metric| metric.value)
        };
        let others = ClusterValue::Gauge((connections.len() - 1) as f64);
        assert!(connections.iter().all(|connection| nodes(connection).as_ref() == Some(&others)));
        let connection = connections.remove(0);
        // The others stay for as long as the process.
        connections.into_iter().for_each(std::mem::forget);
        Io::builder().cluster(connection).build()
    });
    let is_alone = nodes == 1;
    assert_eq!(io.emit("check", ()).is_ok_and(|receipt| receipt.published.is_not_needed()), is_alone);
    broadcasts(runtime, io)
}

/// Emits to a room that has no members on any node.
fn broadcasts(runtime: Runtime, io: Io) -> Box<dyn FnMut()> {
    let text = text(64);
    Box::new(move || {
        for _ in 0..BROADCASTS {
            assert!(io.to("elsewhere").emit("message", &*text).is_ok());
        }
        runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
    })
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}
