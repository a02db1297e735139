//! Servers of a cluster whose events a log in memory orders, with a store of sessions in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use roomcast_core::{
    Args, ByteString, Cluster, ClusterHost, ClusterNamespace, ClusterStatus, Confirming, Event, EventLog,
    Heard, Membership, Namespace, Published, QueryError, RemoteAnswers, Room, SocketInfo, Target,
    Unconfirmed,
};
use roomcast_runtime::store_sessions;
use roomcast_server::recovery::{NodeId, SessionQueue, StoreConfig, StoredSessions};
use roomcast_server::socket::CloseReason;
use roomcast_server::{Config, Io, Socket};
use roomcast_testkit::recovery::{LogReader, MemoryEventLog, MemorySessionStore};

use super::recorder::{Recorder, arrivals, ear};
use super::serve::{Running, serve};

/// What the servers share.
#[derive(Debug)]
pub struct Shared {
    pub log: Arc<MemoryEventLog>,
    pub store: Arc<MemorySessionStore>,
    started: AtomicUsize,
}

/// Server of the cluster.
pub struct Node {
    pub io: Io,
    pub server: Running,
    pub sockets: Recorder<Socket>,
    pub reasons: Recorder<CloseReason>,
    pub id: NodeId,
}

#[derive(Debug)]
struct Connection(Arc<LogReader>, Arc<MemoryEventLog>);

#[derive(Debug)]
struct Open(Arc<LogReader>, Arc<MemoryEventLog>);

impl Shared {
    pub fn new() -> Self {
        Self { log: MemoryEventLog::new(), store: Arc::default(), started: AtomicUsize::new(0) }
    }

    pub fn start(&self) -> Node {
        let name = format!("n{}", self.started.fetch_add(1, Ordering::Relaxed));
        let id = NodeId(name.as_str().into());
        let settings = StoreConfig::new().interval(Duration::from_millis(5));
        let queue = Arc::new(SessionQueue::new(id.clone(), self.store.clone(), settings));
        let stored = queue.clone();
        let config = Config::new()
            .recovery(|recovery| recovery)
            .recovery_factory(move |name, inner| StoredSessions::new(name.clone(), inner, stored.clone()));
        let connection = Connection(self.log.reader(&name), self.log.clone());
        let io = Io::builder().config(config).cluster(connection).build();
        let sockets = arrivals(&io);
        let (told, reasons) = ear();
        io.on_disconnect(move |reason: CloseReason| {
            let _ = told.send(reason);
            async {}
        });
        let server = serve(&io);
        drop(server.spawn(store_sessions(queue)));
        Node { io, server, sockets, reasons, id }
    }
}

#[async_trait]
impl Cluster for Connection {
    #[expect(
        clippy::disallowed_methods,
        reason = "the reader has its own thread, which ends with the server"
    )]
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace> {
        assert_eq!(*namespace, Namespace::main());
        let reader = self.0.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.expect("a runtime").block_on(async {
                loop {
                    // Ends with the server.
                    let _ = tokio::time::timeout(Duration::from_millis(100), reader.wait()).await;
                    let Some(host) = host.upgrade() else { return };
                    while reader.deliver(|target, event| _ = host.deliver(target, event)) {}
                }
            });
        });
        Box::new(Open(self.0.clone(), self.1.clone()))
    }

    fn status(&self) -> ClusterStatus {
        ClusterStatus::Connected
    }

    async fn leave(&self) {}
}

/// Confirms all publications, which are stored at once.
#[derive(Debug)]
struct Stored;

#[async_trait]
impl Confirming for Stored {
    async fn confirm(self: Box<Self>, _: Duration) -> Result<(), Unconfirmed> {
        Ok(())
    }
}

#[async_trait]
impl ClusterNamespace for Open {
    fn is_alone(&self) -> bool {
        false
    }

    fn orders_events(&self) -> bool {
        true
    }

    fn event_log(&self) -> Option<Arc<dyn EventLog>> {
        Some(self.0.clone())
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Published {
        if target.delivery == roomcast_core::Delivery::Reliable {
            self.1.append(target, event);
        }
        Published::Accepted
    }

    fn update(&self, _: &Target, _: &Membership) -> Published {
        Published::NotNeeded
    }

    fn disconnect(&self, _: &Target, _: bool) -> Published {
        Published::NotNeeded
    }

    fn server_side_emit(&self, _: &ByteString, _: &Args) -> Published {
        Published::NotNeeded
    }

    fn confirming(&self) -> Box<dyn Confirming> {
        Box::new(Stored)
    }

    async fn heard(&self, _: Option<&Room>) -> Heard {
        Heard::Confirmed
    }

    fn room_created(&self, _: &Room) {}

    fn room_deleted(&self, _: &Room) {}

    async fn fetch(&self, _: &Target, _: Duration) -> Result<Vec<SocketInfo>, QueryError<SocketInfo>> {
        Ok(Vec::new())
    }

    async fn count(&self, _: &Target, _: Duration) -> Result<Vec<usize>, QueryError<usize>> {
        Ok(Vec::new())
    }

    async fn server_side_emit_with_ack(
        &self,
        _: &ByteString,
        _: &Args,
        _: Duration,
    ) -> Result<Vec<Args>, QueryError<Args>> {
        Ok(Vec::new())
    }

    async fn broadcast_with_ack(
        &self,
        _: &Target,
        _: &Event,
        _: Duration,
        _: &dyn RemoteAnswers,
    ) -> Result<(), QueryError<()>> {
        Ok(())
    }

    fn close(&self) {}
}
