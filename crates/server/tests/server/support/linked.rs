//! Nodes of a cluster in one process, connected by calls: for the server's side of a cluster, without an engine.

use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use roomcast_core::{
    AnswerSink, Args, ByteString, Cluster, ClusterHost, ClusterNamespace, ClusterStatus, Event, Heard,
    MemberControl, Membership, Namespace, PublishRefusal, Published, QueryError, RemoteAnswers, Room,
    SocketId, SocketInfo, Target, Unconfirmed,
};
use tokio::sync::{mpsc, watch};

/// Nodes of a cluster. A clone is the same cluster.
#[derive(Debug, Clone, Default)]
pub struct Nodes(Arc<Mutex<Vec<Arc<Node>>>>);

/// Connection of one node.
#[derive(Debug, Clone)]
pub struct Linked {
    nodes: Nodes,
    own: Arc<Node>,
}

/// Node as seen by the others.
#[derive(Debug)]
pub struct Node {
    name: String,
    tag: String,
    hosts: Mutex<Vec<(Namespace, WeakHost)>>,
    /// Rooms reported by the server, with their namespaces.
    rooms: Mutex<Vec<(Namespace, Room)>>,
    /// It neither receives nor answers.
    frozen: AtomicBool,
    /// Its engine accepts nothing.
    pub full: AtomicBool,
    left: AtomicBool,
    /// Whether its subscriptions are in effect.
    subscribed: watch::Sender<bool>,
}

struct WeakHost(Weak<dyn ClusterHost>);

impl std::fmt::Debug for WeakHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WeakHost")
    }
}

impl Nodes {
    /// Adds a node.
    pub fn node(&self) -> Linked {
        let mut nodes = lock(&self.0);
        let own = Arc::new(Node {
            name: format!("node{}", nodes.len()),
            tag: format!("node-{:03}", nodes.len()),
            hosts: Mutex::default(),
            rooms: Mutex::default(),
            frozen: AtomicBool::new(false),
            full: AtomicBool::new(false),
            left: AtomicBool::new(false),
            subscribed: watch::Sender::new(true),
        });
        nodes.push(own.clone());
        Linked { nodes: self.clone(), own }
    }
}

impl Linked {
    pub fn freeze(&self, frozen: bool) {
        self.own.frozen.store(frozen, Ordering::Relaxed);
    }

    pub fn fill(&self, full: bool) {
        self.own.full.store(full, Ordering::Relaxed);
    }

    pub fn subscribe(&self, subscribed: bool) {
        self.own.subscribed.send_replace(subscribed);
    }

    /// Returns the rooms of a namespace that the server reported as having members, sorted.
    pub fn rooms(&self, namespace: &str) -> Vec<Room> {
        let rooms = lock(&self.own.rooms);
        let mut rooms: Vec<_> = rooms
            .iter()
            .filter(|(name, _)| name.as_str() == namespace)
            .map(|(_, room)| room.clone())
            .collect();
        rooms.sort();
        rooms
    }

    /// Returns how often the server opened a namespace and has not closed it.
    pub fn open_count(&self, namespace: &str) -> usize {
        lock(&self.own.hosts).iter().filter(|(name, _)| name.as_str() == namespace).count()
    }

    pub fn has_left(&self) -> bool {
        self.own.left.load(Ordering::Relaxed)
    }

    /// Reports that events of other nodes were lost.
    pub fn lose(&self, namespace: &Namespace, room: Option<&Room>) {
        self.own.host(namespace).expect("an open namespace").missed(room);
    }
}

impl Node {
    fn host(&self, namespace: &Namespace) -> Option<Arc<dyn ClusterHost>> {
        let hosts = lock(&self.hosts);
        let (_, host) = hosts.iter().find(|(name, _)| name == namespace)?;
        host.0.upgrade()
    }
}

#[async_trait]
impl Cluster for Linked {
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace> {
        lock(&self.own.hosts).push((namespace.clone(), WeakHost(host)));
        Box::new(LinkedNamespace { linked: self.clone(), namespace: namespace.clone() })
    }

    fn id_tag(&self) -> &str {
        &self.own.tag
    }

    fn status(&self) -> ClusterStatus {
        if self.has_left() { ClusterStatus::Left } else { ClusterStatus::Connected }
    }

    async fn leave(&self) {
        self.own.left.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct LinkedNamespace {
    linked: Linked,
    namespace: Namespace,
}

impl LinkedNamespace {
    fn others(&self) -> Vec<Arc<Node>> {
        let nodes = lock(&self.linked.nodes.0);
        nodes.iter().filter(|node| !Arc::ptr_eq(node, &self.linked.own)).cloned().collect()
    }

    /// Calls the host of each other node; returns how the publication went.
    fn publish(&self, call: impl Fn(&dyn ClusterHost)) -> Published {
        if self.linked.has_left() {
            return Published::Refused(PublishRefusal::Left);
        }
        if self.linked.own.full.load(Ordering::Relaxed) {
            return Published::Refused(PublishRefusal::QueueFull);
        }
        for node in self.others().iter().filter(|node| !node.frozen.load(Ordering::Relaxed)) {
            if let Some(host) = node.host(&self.namespace) {
                call(&*host);
            }
        }
        Published::Accepted
    }

    /// Asks each other node; frozen ones are missing after the timeout.
    async fn ask<T, F>(
        &self,
        timeout: Duration,
        ask: impl Fn(Arc<Node>, Arc<dyn ClusterHost>) -> F,
    ) -> Result<Vec<T>, QueryError<T>>
    where
        F: Future<Output = Option<Vec<T>>>,
    {
        let (mut partial, mut nodes) = (Vec::new(), Vec::new());
        for node in self.others() {
            let host = node.host(&self.namespace).filter(|_| !node.frozen.load(Ordering::Relaxed));
            let answer = match host {
                Some(host) => ask(node.clone(), host).await,
                None => {
                    tokio::time::sleep(timeout).await;
                    None
                }
            };
            match answer {
                Some(answer) => partial.extend(answer),
                None => nodes.push(node.name.clone()),
            }
        }
        if nodes.is_empty() {
            Ok(partial)
        } else {
            Err(QueryError { missing: Some(nodes.len()), nodes, partial })
        }
    }
}

#[async_trait]
impl ClusterNamespace for LinkedNamespace {
    fn is_alone(&self) -> bool {
        self.others().is_empty()
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Published {
        self.publish(|host| _ = host.deliver(&sent(target), event))
    }

    fn update(&self, target: &Target, change: &Membership) -> Published {
        self.publish(|host| host.update(&sent(target), change))
    }

    fn disconnect(&self, target: &Target, close: bool) -> Published {
        self.publish(|host| host.disconnect(&sent(target), close))
    }

    fn server_side_emit(&self, name: &ByteString, args: &Args) -> Published {
        for node in self.others() {
            let (Some(host), name, args) = (node.host(&self.namespace), name.clone(), args.clone()) else {
                continue;
            };
            tokio::spawn(async move { host.server_side(&name, args).await });
        }
        Published::Accepted
    }

    async fn confirm(&self, timeout: Duration) -> Result<(), Unconfirmed> {
        let mut subscribed = self.linked.own.subscribed.subscribe();
        let confirmed = tokio::time::timeout(timeout, subscribed.wait_for(|subscribed| *subscribed)).await;
        confirmed.map_or(Err(Unconfirmed::TimedOut), |_| Ok(()))
    }

    async fn heard(&self, _room: Option<&Room>) -> Heard {
        let mut subscribed = self.linked.own.subscribed.subscribe();
        let heard = tokio::time::timeout(JOIN_TIMEOUT, subscribed.wait_for(|subscribed| *subscribed)).await;
        if heard.is_ok() { Heard::Confirmed } else { Heard::Degraded }
    }

    fn room_created(&self, room: &Room) {
        lock(&self.linked.own.rooms).push((self.namespace.clone(), room.clone()));
    }

    fn room_deleted(&self, room: &Room) {
        let mut rooms = lock(&self.linked.own.rooms);
        let at = rooms.iter().position(|(name, known)| *name == self.namespace && known == room);
        rooms.swap_remove(at.expect("a room that was created"));
    }

    async fn fetch(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> Result<Vec<SocketInfo>, QueryError<SocketInfo>> {
        self.ask(timeout, |node, host| {
            let remote = |found: SocketInfo| {
                let control = found.control.as_ref()?;
                let (handshake, data) = (control.handshake(), control.data());
                let (id, node, namespace) = (found.id.clone(), node.clone(), self.namespace.clone());
                let control: Arc<dyn MemberControl> =
                    Arc::new(Elsewhere { id, node, namespace, handshake, data });
                Some(SocketInfo { key: None, control: Some(control), ..found })
            };
            ready(Some(host.find(&sent(target)).into_iter().filter_map(remote).collect()))
        })
        .await
    }

    async fn count(&self, target: &Target, timeout: Duration) -> Result<Vec<usize>, QueryError<usize>> {
        self.ask(timeout, |_, host| ready(Some(vec![host.count(&sent(target))]))).await
    }

    async fn server_side_emit_with_ack(
        &self,
        name: &ByteString,
        args: &Args,
        timeout: Duration,
    ) -> Result<Vec<Args>, QueryError<Args>> {
        self.ask(timeout, |_, host| async move {
            host.server_side(name, args.clone()).await.map(|answer| vec![answer])
        })
        .await
    }

    #[expect(clippy::disallowed_methods, reason = "a test double; answers are as many as recipients")]
    async fn broadcast_with_ack(
        &self,
        target: &Target,
        event: &Event,
        timeout: Duration,
        answers: &dyn RemoteAnswers,
    ) -> Result<(), QueryError<()>> {
        let deadline = tokio::time::Instant::now() + timeout;
        self.ask::<(), _>(timeout, |_, host| async move {
            let (told, mut tells) = mpsc::unbounded_channel();
            let sink = Arc::new(Sink { told, recipients: Mutex::default() });
            host.deliver_with_ack(&sent(target), event.clone(), sink.clone());
            let recipients = *lock(&sink.recipients);
            answers.requested(recipients);
            for _ in 0..recipients {
                let told = tokio::time::timeout_at(deadline, tells.recv()).await.ok()??;
                match told {
                    (socket, Some(args)) => answers.answered(Some(socket), args),
                    (_, None) => answers.unanswered(None),
                }
            }
            Some(Vec::new())
        })
        .await
        .map(drop)
    }

    fn close(&self) {
        let mut hosts = lock(&self.linked.own.hosts);
        let at = hosts.iter().position(|(name, _)| *name == self.namespace);
        hosts.remove(at.expect("an open namespace"));
    }
}

/// Returns a target as another node gets it.
fn sent(target: &Target) -> Target {
    Target { skip: None, ..target.clone() }
}

#[derive(Debug)]
struct Sink {
    told: mpsc::UnboundedSender<(SocketId, Option<Args>)>,
    recipients: Mutex<usize>,
}

impl AnswerSink for Sink {
    fn requested(&self, _: &SocketId) {
        *lock(&self.recipients) += 1;
    }

    fn answered(&self, socket: &SocketId, args: Args) {
        let _ = self.told.send((socket.clone(), Some(args)));
    }

    fn unanswered(&self, socket: &SocketId) {
        let _ = self.told.send((socket.clone(), None));
    }
}

/// Socket of another node, as that node described it.
#[derive(Debug)]
struct Elsewhere {
    id: SocketId,
    node: Arc<Node>,
    namespace: Namespace,
    handshake: ByteString,
    data: ByteString,
}

impl MemberControl for Elsewhere {
    fn handshake(&self) -> ByteString {
        self.handshake.clone()
    }

    fn data(&self) -> ByteString {
        self.data.clone()
    }

    fn disconnect(&self, close: bool) {
        let target = Target { rooms: vec![Room::from(&self.id)], ..Target::default() };
        if let Some(host) = self.node.host(&self.namespace) {
            host.disconnect(&target, close);
        }
    }
}

/// Longest wait for a subscription.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
