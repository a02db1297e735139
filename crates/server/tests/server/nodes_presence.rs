//! Presence across the nodes of a cluster, as clients see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use roomcast_cluster::NodeId;
use roomcast_cluster_runtime::{ClusterConnection, ConnectionConfig};
use roomcast_core::{Cluster as _, ClusterHost, ClusterNamespace, ClusterStatus, ClusterValue, Namespace};
use roomcast_server::rooms::Presence;
use roomcast_server::{Io, Socket, Value};
use roomcast_testkit::cluster::{Fault, Harness as _, MemoryEngine};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::support::client::{Client, Heard, Kind};
use crate::support::recorder::{Recorder, arrivals};
use crate::support::serve::{Running, serve, until};

/// Nodes on an engine in memory.
struct Cluster {
    engine: MemoryEngine,
    _time: Runtime,
}

struct Node {
    io: Io,
    server: Running,
    sockets: Recorder<Socket>,
    cluster: Arc<ClusterConnection>,
    /// Runs the connection.
    runtime: Option<Runtime>,
}

impl Cluster {
    fn new() -> Self {
        let (engine, runtime) = (MemoryEngine::new(1), worker());
        let time = engine.clone();
        runtime.spawn(async move { time.run().await });
        Self { engine, _time: runtime }
    }

    /// Starts a node; `number` replaces an earlier one that has ended.
    fn start(&self, number: usize, prepare: impl FnOnce(&Io)) -> Node {
        let runtime = worker();
        let engine = self.engine.clone().connect(number);
        let config = ConnectionConfig::new().id(NodeId::new(number as u64 + 1)).node(|config| {
            config.heartbeat_interval = Duration::from_millis(100);
            config.node_timeout = Duration::from_millis(1500);
        });
        let cluster = {
            let _entered = runtime.enter();
            Arc::new(ClusterConnection::start(config, engine))
        };
        let io = Io::builder().cluster(Shared(cluster.clone())).build();
        let sockets = arrivals(&io);
        prepare(&io);
        let server = serve(&io);
        Node { io, server, sockets, cluster, runtime: Some(runtime) }
    }

    /// Starts nodes that know each other.
    fn nodes<const N: usize>(&self, prepare: impl Fn(&Io)) -> [Node; N] {
        let nodes = std::array::from_fn(|number| self.start(number, &prepare));
        nodes.iter().for_each(|node| node.knows(N - 1));
        nodes
    }

    fn inject(&self, fault: Fault) {
        assert!(self.engine.clone().inject(&fault), "{fault:?} is not supported");
    }
}

impl Node {
    fn knows(&self, others: usize) {
        until(|| self.figure("cluster_nodes") == others as f64);
    }

    fn figure(&self, name: &str) -> f64 {
        let metrics = self.cluster.metrics();
        match metrics.iter().find(|metric| metric.name == name).expect("a metric").value {
            ClusterValue::Counter(value) | ClusterValue::Gauge(value) => value,
            ref other => panic!("{name} is {other:?}"),
        }
    }

    /// Connects a client, which joins the rooms.
    fn client(&self, rooms: &[&str]) -> (Client, Socket) {
        let client = Client::connect(Kind::WebSocket, &self.server.dial);
        let socket = self.sockets.next();
        rooms.iter().for_each(|room| _ = socket.join(*room));
        (client, socket)
    }

    /// Ends the connection without a goodbye.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Connection that the test keeps too.
#[derive(Debug)]
struct Shared(Arc<ClusterConnection>);

#[async_trait]
impl roomcast_core::Cluster for Shared {
    fn open(&self, namespace: &Namespace, host: Weak<dyn ClusterHost>) -> Box<dyn ClusterNamespace> {
        self.0.open(namespace, host)
    }

    fn id_tag(&self) -> &str {
        self.0.id_tag()
    }

    fn status(&self) -> ClusterStatus {
        self.0.status()
    }

    async fn leave(&self) {
        self.0.leave().await;
    }
}

fn worker() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn red(io: &Io) {
    io.presence(Presence::in_room("red"));
}

/// Members of a room as a client knows them, by id.
type Members = BTreeMap<String, Value>;

/// Reads the state, and returns its members.
#[track_caller]
fn state(client: &mut Client, room: &str) -> Members {
    let (name, args) = client.event();
    assert_eq!((name.as_str(), &args[0]), ("presence:state", &json!(room)), "{args}");
    let list = args[1].as_array().expect("a list").clone();
    let count = list.len();
    let members: Members = list.into_iter().map(|who| (id(&who), who)).collect();
    assert_eq!(members.len(), count, "a member is listed twice");
    members
}

fn id(who: &Value) -> String {
    who["id"].as_str().expect("an id").to_owned()
}

fn ids(members: &Members) -> BTreeSet<&str> {
    members.keys().map(String::as_str).collect()
}

fn who(client: &Client) -> Value {
    json!(["red", { "id": client.id }])
}

/// Applies notices until the members are the client and others; each has to follow the state before it.
#[track_caller]
fn follow(client: &mut Client, members: &mut Members, others: &[&str]) {
    let own = client.id.clone();
    let expected: BTreeSet<_> = others.iter().copied().chain([&*own]).collect();
    while ids(members) != expected {
        let (name, args) = client.event();
        let member = id(&args[1]);
        let follows = match name.as_str() {
            "presence:join" => members.insert(member, args[1].clone()).is_none(),
            "presence:leave" => members.remove(&member).is_some(),
            _ => false,
        };
        assert!(follows, "{name} {args} does not follow {members:?}");
    }
}

#[test]
fn presence_spans_nodes() {
    let cluster = Cluster::new();
    let [one, two, three] = cluster.nodes(red);
    let (mut ada, _) = one.client(&["red", "blue"]);
    assert_eq!(ids(&state(&mut ada, "red")), BTreeSet::from([&*ada.id]));
    let (mut ben, ben_socket) = two.client(&["red"]);
    assert_eq!(ids(&state(&mut ben, "red")), BTreeSet::from([&*ada.id, &*ben.id]));
    ada.expect("presence:join", who(&ben));
    let (mut cleo, _) = three.client(&["red"]);
    assert_eq!(ids(&state(&mut cleo, "red")), BTreeSet::from([&*ada.id, &*ben.id, &*cleo.id]));
    ada.expect("presence:join", who(&cleo));
    ben.expect("presence:join", who(&cleo));
    // The second client of a node has no question to ask.
    let (mut dora, _) = three.client(&["red"]);
    assert_eq!(state(&mut dora, "red").len(), 4);
    for client in [&mut ada, &mut ben, &mut cleo] {
        client.expect("presence:join", who(&dora));
    }
    let gone = who(&cleo);
    cleo.close();
    for client in [&mut ada, &mut ben, &mut dora] {
        client.expect("presence:leave", gone.clone());
    }
    ben_socket.leave("red");
    for client in [&mut ada, &mut dora] {
        client.expect("presence:leave", who(&ben));
    }
    // No other notice was sent.
    for client in [&mut ada, &mut ben, &mut dora] {
        client.sync();
    }
    ben_socket.join("red");
    assert_eq!(ids(&state(&mut ben, "red")), BTreeSet::from([&*ada.id, &*ben.id, &*dora.id]));
}

#[test]
fn remote_members_show_current_data() {
    let cluster = Cluster::new();
    let named = |io: &Io| {
        io.presence(Presence::in_rooms(|room| room.as_str() == "red").with_data().named("who", "in", "out"));
    };
    let [one, two] = cluster.nodes(named);
    let (mut ada, ada_socket) = one.client(&[]);
    ada_socket.set_data(&json!({ "name": "ada" })).expect("JSON");
    ada_socket.join("red");
    assert_eq!(ada.event().0, "who");
    let (mut ben, ben_socket) = two.client(&["red"]);
    let (name, args) = ben.event();
    let list = args[1].as_array().expect("a list");
    assert_eq!((name.as_str(), list.len()), ("who", 2));
    assert!(list.contains(&json!({ "id": ada.id, "data": { "name": "ada" } })), "{list:?}");
    assert!(list.contains(&json!({ "id": ben.id, "data": {} })), "{list:?}");
    ada.expect("in", json!(["red", { "id": ben.id, "data": {} }]));
    // Later clients see new data, and so do the others when the member leaves.
    ada_socket.set_data(&json!({ "name": "ada", "score": 3 })).expect("JSON");
    let shown = json!({ "id": ada.id, "data": { "name": "ada", "score": 3 } });
    until(|| {
        let (mut late, _) = two.client(&["red"]);
        let (_, args) = late.event();
        ada.expect("in", json!(["red", { "id": late.id, "data": {} }]));
        ben.expect("in", json!(["red", { "id": late.id, "data": {} }]));
        let left = json!(["red", { "id": late.id, "data": {} }]);
        late.close();
        ada.expect("out", left.clone());
        ben.expect("out", left);
        args[1].as_array().expect("a list").contains(&shown)
    });
    ben_socket.set_data("last").expect("JSON");
    ben.close();
    ada.expect("out", json!(["red", { "id": ben_socket.id().as_str(), "data": "last" }]));
}

#[test]
fn members_leave_with_their_node() {
    let cluster = Cluster::new();
    let [one, two, mut three] = cluster.nodes(red);
    let (mut ada, _) = one.client(&["red"]);
    state(&mut ada, "red");
    let (mut ben, _) = two.client(&["red"]);
    state(&mut ben, "red");
    ada.expect("presence:join", who(&ben));
    let (mut cleo, _) = three.client(&["red"]);
    state(&mut cleo, "red");
    ada.expect("presence:join", who(&cleo));
    // A goodbye takes effect at once.
    two.server.block_on(two.cluster.leave());
    assert_eq!(two.io.cluster_status(), Some(ClusterStatus::Left));
    ada.expect("presence:leave", who(&ben));
    // A node that dies is noticed after its timeout; its successor of the same name has no ghosts.
    three.kill();
    ada.expect("presence:leave", who(&cleo));
    let next = cluster.start(2, red);
    next.knows(1);
    let (mut dora, _) = next.client(&["red"]);
    assert_eq!(ids(&state(&mut dora, "red")), BTreeSet::from([&*ada.id, &*dora.id]));
    ada.expect("presence:join", who(&dora));
    // This time it is replaced before its silence is noticed.
    let mut next = next;
    next.kill();
    let last = cluster.start(2, red);
    let (mut emil, _) = last.client(&["red"]);
    let mut known = state(&mut emil, "red");
    ada.expect("presence:leave", who(&dora));
    ada.expect("presence:join", who(&emil));
    follow(&mut emil, &mut known, &[&*ada.id]);
}

#[test]
fn members_return_after_partition() {
    let cluster = Cluster::new();
    let [one, two] = cluster.nodes(red);
    let (mut ada, _) = one.client(&["red"]);
    let mut known = state(&mut ada, "red");
    let (mut ben, ben_socket) = two.client(&["red"]);
    state(&mut ben, "red");
    follow(&mut ada, &mut known, &[&*ben.id]);
    cluster.inject(Fault::Partition(vec![0, 1]));
    follow(&mut ada, &mut known, &[]);
    ben.expect("presence:leave", who(&ada));
    // Changes on the other side are known afterwards.
    let (mut cleo, _) = two.client(&["red"]);
    assert_eq!(state(&mut cleo, "red").len(), 2);
    ben.expect("presence:join", who(&cleo));
    ben_socket.leave("red");
    cleo.expect("presence:leave", who(&ben));
    cluster.inject(Fault::Partition(Vec::new()));
    // The leave may be published after the nodes have found each other.
    follow(&mut ada, &mut known, &[&*cleo.id]);
    cleo.expect("presence:join", who(&ada));
}

#[test]
fn lost_changes_are_made_up_for() {
    let cluster = Cluster::new();
    let [one, two] = cluster.nodes(red);
    let (mut ada, _) = one.client(&["red"]);
    let mut known = state(&mut ada, "red");
    let (mut ben, ben_socket) = two.client(&["red"]);
    state(&mut ben, "red");
    follow(&mut ada, &mut known, &[&*ben.id]);
    for _ in 0..3 {
        cluster.inject(Fault::Loss(1000));
        let (cleo, _) = two.client(&["red"]);
        ben.expect("presence:join", who(&cleo));
        thread_pause();
        cluster.inject(Fault::Loss(0));
        follow(&mut ada, &mut known, &[&*ben.id, &*cleo.id]);
        let gone = who(&cleo);
        cluster.inject(Fault::Loss(1000));
        cleo.close();
        ben.expect("presence:leave", gone);
        thread_pause();
        cluster.inject(Fault::Loss(0));
        follow(&mut ada, &mut known, &[&*ben.id]);
    }
    ben_socket.leave("red");
    follow(&mut ada, &mut known, &[]);
}

/// Waits until a change was published, and lost.
#[expect(clippy::disallowed_methods, reason = "the loss sends no notification")]
fn thread_pause() {
    thread::sleep(Duration::from_millis(150));
}

#[test]
fn churn_is_published_in_batches() {
    const ROUNDS: usize = 500;
    let cluster = Cluster::new();
    let [one, two, three] = cluster.nodes(red);
    let (mut ada, _) = one.client(&["red"]);
    let mut known = state(&mut ada, "red");
    let others: Vec<_> = (0..8).map(|number| [&two, &three][number % 2].client(&[])).collect();
    let before = two.figure("cluster_published") + three.figure("cluster_published");
    thread::scope(|scope| {
        for (number, (_, socket)) in others.iter().enumerate() {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    socket.join("red");
                    socket.leave("red");
                }
                if number % 3 != 0 {
                    socket.join("red");
                }
            });
        }
    });
    let truth = others.iter().enumerate().filter(|(number, _)| number % 3 != 0);
    let truth: Vec<_> = truth.map(|(_, (client, _))| client.id.as_str()).collect();
    follow(&mut ada, &mut known, &truth);
    // A member that has just come sees the same, at the latest when its node has the last batch.
    let (mut late, _) = two.client(&["red"]);
    let mut known = state(&mut late, "red");
    let others: Vec<_> = truth.into_iter().chain([&*ada.id]).collect();
    follow(&mut late, &mut known, &others);
    let published = two.figure("cluster_published") + three.figure("cluster_published") - before;
    assert!(published < (8 * ROUNDS) as f64 / 4.0, "{published} publications");
}

#[test]
fn other_rooms_and_nodes_have_no_traffic() {
    let cluster = Cluster::new();
    let [one, two, three] = cluster.nodes(red);
    let (mut ada, ada_socket) = one.client(&["red"]);
    state(&mut ada, "red");
    let (mut ben, _) = two.client(&["red", "blue"]);
    state(&mut ben, "red");
    ada.expect("presence:join", who(&ben));
    // A room without presence.
    let published = one.figure("cluster_published");
    for _ in 0..10 {
        ada_socket.join("blue");
        ada_socket.leave("blue");
    }
    // A node without members in the room gets no changes of it.
    let delivered = three.figure("cluster_delivered");
    for _ in 0..5 {
        let (other, _) = two.client(&["red"]);
        ada.expect("presence:join", who(&other));
        let gone = who(&other);
        other.close();
        ada.expect("presence:leave", gone);
    }
    assert_eq!((one.figure("cluster_published"), three.figure("cluster_delivered")), (published, delivered));
}

#[test]
fn dynamic_namespaces_share_presence() {
    let cluster = Cluster::new();
    let [one, two] = cluster.nodes(|io| {
        let games = io.of_matching(|name| name.as_str().starts_with("/game"));
        games.presence(Presence::in_room("red").named("who", "in", "out"));
        games.presence(Presence::in_room("red").without_state());
        games.on_connect(async |socket: Socket| _ = socket.join("red"));
    });
    let mut ada = Client::connect(Kind::WebSocket, &one.server.dial);
    let mut ben = Client::connect(Kind::WebSocket, &two.server.dial);
    let ada_id = enter_game(&mut ada);
    expect_in_game(&mut ada, "who", json!([{ "id": ada_id }]));
    let ben_id = enter_game(&mut ben);
    expect_in_game(&mut ada, "in", json!({ "id": ben_id }));
    expect_in_game(&mut ada, "presence:join", json!({ "id": ben_id }));
    ben.leave("/game1");
    expect_in_game(&mut ada, "out", json!({ "id": ben_id }));
    expect_in_game(&mut ada, "presence:leave", json!({ "id": ben_id }));
}

#[track_caller]
fn enter_game(client: &mut Client) -> String {
    match client.join("/game1", Value::Null) {
        Heard::Joined { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn expect_in_game(client: &mut Client, expected: &str, who: Value) {
    match client.hear() {
        Heard::Event { namespace, name, args, .. } => {
            let expected = ("/game1", expected, json!(["red", who]));
            assert_eq!((namespace.as_str(), name.as_str(), args), expected);
        }
        other => panic!("{other:?}"),
    }
}
