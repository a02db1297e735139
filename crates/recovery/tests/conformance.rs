//! Conformance suites, run against the recoveries of this crate.
#![allow(clippy::disallowed_methods, reason = "the clock is the runtime's, which is paused")]

mod support;

use std::sync::Arc;

use roomcast_recovery::{NodeId, RecoveryConfig, Sequencer, SessionQueue, StoreConfig, StoredSessions};
use roomcast_rooms::Rooms;
use roomcast_testkit::recovery::MemorySessionStore;
use support::{Clock, EPOCH, sequencer};

/// Creates a sequencer on the clock of tokio.
fn in_memory(config: RecoveryConfig) -> Arc<Sequencer> {
    let clock = || tokio::time::Instant::now().into_std();
    Arc::new(Sequencer::new(Arc::new(Rooms::default()), config, EPOCH, clock))
}

mod router {
    use super::*;

    roomcast_testkit::router_conformance!(|| {
        let sequencer = sequencer(&Clock::new(), RecoveryConfig::default());
        Arc::into_inner(sequencer).expect("sole owner")
    });
}

mod recovery {
    use super::*;

    roomcast_testkit::recovery_conformance!(in_memory);
}

mod stored {
    use super::*;

    roomcast_testkit::recovery_conformance!(|config| {
        let store = Arc::new(MemorySessionStore::new());
        let queue = Arc::new(SessionQueue::new(NodeId("a".into()), store, StoreConfig::new()));
        // As the task of `roomcast-runtime`, which this crate does not depend on.
        let writer = queue.clone();
        tokio::spawn(async move {
            loop {
                std::future::poll_fn(|cx| writer.poll_changed(cx)).await;
                while let Some(batch) = writer.take() {
                    let store = writer.store();
                    let refused = store.write(writer.node(), &batch.writes).await.expect("it works");
                    store.remove(writer.node(), &batch.removals).await.expect("it works");
                    writer.written(batch, &refused);
                }
            }
        });
        StoredSessions::new("/".into(), in_memory(config), queue)
    });
}
