//! Several nodes as seen by an application, through the interface that clusters use.

use std::time::{Duration, Instant};

use roomcast_core::ClusterStatus;
use roomcast_server::emit::{ConfirmError, Overflow, PublishRefusal, Published, Unconfirmed};
use roomcast_server::handler::Answer;
use roomcast_server::namespace::{Namespace, ServerSideError};
use roomcast_server::rooms::Room;
use roomcast_server::server::Drain;
use roomcast_server::{Config, EmitError, Io, Socket, Value};
use serde_json::json;

use crate::recovery::Returner;
use crate::support::client::{Client, Kind};
use crate::support::linked::{Linked, Nodes};
use crate::support::recorder::{Recorder, arrivals, ear};
use crate::support::serve::{Running, serve, until};

const AGES: Duration = Duration::from_secs(60);

fn node(nodes: &Nodes) -> (Io, Running, Recorder<Socket>) {
    let (io, server, ear, _) = linked(nodes);
    (io, server, ear)
}

fn linked(nodes: &Nodes) -> (Io, Running, Recorder<Socket>, Linked) {
    let linked = nodes.node();
    let io = Io::builder().cluster(linked.clone()).build();
    let ear = arrivals(&io);
    let server = serve(&io);
    (io, server, ear, linked)
}

#[test]
fn manages_sockets_of_another_node() {
    let cluster = Nodes::default();
    let (here, server, sockets) = node(&cluster);
    let (there, far, far_sockets) = node(&cluster);
    let _near = Client::connect(Kind::WebSocket, &server.dial);
    let near = sockets.next();
    let mut client = Client::connect(Kind::Json, &far.dial);
    let socket = far_sockets.next();
    socket.set_data(&json!({ "name": "ada" })).expect("JSON");
    socket.join("red");
    let found = server.block_on(here.to("red").fetch_sockets()).expect("both nodes answer").remove(0);
    assert_eq!((found.id(), found.here().is_none()), (socket.id(), true));
    assert_eq!(found.data::<Value>().expect("JSON"), Some(json!({ "name": "ada" })));
    assert_eq!(found.handshake().expect("a handshake").url, "/ws");
    assert_eq!(server.block_on(here.fetch_sockets()).expect("both nodes answer").len(), 2);
    let local = server.block_on(here.local().fetch_sockets()).expect("this one answers");
    assert_eq!((local.len(), local[0].id()), (1, near.id()));

    found.join("blue");
    here.to("blue").sockets_leave("red");
    assert_eq!((there.count("blue"), there.count("red")), (1, 0));
    found.emit("news", 1).expect("a valid name");
    client.expect("news", json!([1]));
    let asked = {
        let found = found.clone();
        server.spawn(async move { found.timeout(AGES).emit_with_ack("question", ()).await })
    };
    let question = client.question("question");
    client.answer(question, json!(["yes"]));
    assert_eq!(asked.join().expect("an answer").get::<String>(0).expect("a string"), "yes");
    found.disconnect_client();
    until(|| there.client_count() == 0);
    assert_eq!(here.client_count(), 1);
}

#[test]
fn exchanges_server_side_events() {
    let cluster = Nodes::default();
    let (here, server, _) = node(&cluster);
    let (told, ear) = ear();
    let (other, _other_server, _) = node(&cluster);
    let hears = told.clone();
    for io in [&here, &other] {
        let hears = hears.clone();
        io.on_server_side("news", move |(text, number): (String, u32)| {
            let _ = hears.send((text, number));
            async {}
        });
    }
    // Neither this node nor any client receives it.
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    server.block_on(async { here.server_side_emit("news", ("hello", 5)) }).expect("a valid name");
    assert_eq!(ear.next(), ("hello".to_owned(), 5));
    client.sync();
    assert_eq!(ear.all(), []);

    other.on_server_side("load?", async |(unit,): (String,)| (3, unit));
    let ask = |event: &'static str, args: Value| server.block_on(here.server_side_emit_with_ack(event, args));
    let answers = ask("load?", json!("clients")).expect("an answer");
    let answers: Vec<(u32, String)> =
        answers.iter().map(|answer| answer.parse::<((u32, String),)>().expect("a single value").0).collect();
    assert_eq!(answers, [(3, "clients".to_owned())]);
    // An emit is no answer, so the next listener may still answer.
    let emits = other.clone();
    other.on_server_side("emits", move |()| {
        let receipt = emits.emit("told", 1);
        async { receipt }
    });
    other.on_server_side("emits", async |()| Answer(json!({ "told": true })));
    let answers = ask("emits", Value::Null).expect("an answer");
    assert_eq!(answers[0].parse::<(Value,)>().expect("a single value").0, json!({ "told": true }));
    // A listener that fails, is missing, or expects other arguments sends no answer.
    other.on_server_side("fails", async |()| Err::<(), _>("out of order"));
    other.on_server_side("panics", async |(number,): (u32,)| assert_ne!(number, 1, "this handler panics"));
    for (event, args) in [("fails", json!(1)), ("panics", json!(1)), ("load?", json!(7)), ("other", json!(1))]
    {
        let outcome = ask(event, args);
        let Err(ServerSideError::Unanswered(error)) = outcome else { panic!("{event}: {outcome:?}") };
        assert_eq!((error.missing, error.nodes, error.partial.len()), (Some(1), vec!["node1".to_owned()], 0));
    }
    for reserved in ["connect", "connection", "new_namespace"] {
        assert!(matches!(here.server_side_emit(reserved, ()), Err(EmitError::ReservedName(_))));
    }
}

#[test]
fn single_node_collects_no_answers() {
    let io = Io::new();
    io.on_server_side("load?", async |()| 1);
    let server = serve(&io);
    io.server_side_emit("load?", ()).expect("a valid name");
    let answers = server.block_on(io.of("/other").server_side_emit_with_ack("load?", ())).expect("nobody");
    assert_eq!(
        answers.len() + server.block_on(io.server_side_emit_with_ack("load?", ())).expect("nobody").len(),
        0
    );
}

#[test]
fn broadcasts_reach_other_nodes_once() {
    let nodes = Nodes::default();
    let (here, server, sockets, _) = linked(&nodes);
    let (_there, far, far_sockets, _) = linked(&nodes);
    let mut near = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    let mut client = Client::connect(Kind::Json, &far.dial);
    far_sockets.next().join("red");
    let receipt = here.emit("all", 1).expect("a valid name");
    assert_eq!((receipt.queued, receipt.published), (1, Published::Accepted));
    assert_eq!(here.local().emit("local", 2).expect("a valid name").published, Published::NotNeeded);
    here.to("red").emit("red", 3).expect("a valid name");
    here.to("red").except("red").emit("nobody", 4).expect("a valid name");
    socket.broadcast().emit("others", 5).expect("a valid name");
    for (event, number) in [("all", 1), ("red", 3), ("others", 5)] {
        client.expect(event, json!([number]));
    }
    near.expect("all", json!([1]));
    near.expect("local", json!([2]));
    here.emit("end", ()).expect("a valid name");
    near.expect("end", json!([]));
    client.expect("end", json!([]));
}

#[test]
fn room_policies_apply_to_remote_events() {
    let nodes = Nodes::default();
    let (here, _server, _) = node(&nodes);
    let (there, far, far_sockets) = node(&nodes);
    let mut client = Client::connect(Kind::WebSocket, &far.dial);
    let socket = far_sockets.next();
    let (told, ear) = ear();
    socket.on_any_outgoing(move |outgoing| _ = told.send(outgoing.event.to_string()));
    there.main().set_room_overflow("red", Overflow::DropNewest);
    socket.join("red");
    here.to("red").emit("news", 1).expect("a valid name");
    client.expect("news", json!([1]));
    assert_eq!(ear.next(), "news");
}

#[test]
fn counts_and_acks_span_nodes() {
    let nodes = Nodes::default();
    let (here, server, sockets) = node(&nodes);
    let (_there, far, far_sockets) = node(&nodes);
    let mut near = Client::connect(Kind::WebSocket, &server.dial);
    sockets.next().join("red");
    let mut clients = [Kind::WebSocket, Kind::Json].map(|kind| Client::connect(kind, &far.dial));
    let far_ids: Vec<_> = (0..2)
        .map(|_| far_sockets.next())
        .map(|socket| (socket.join("red"), socket.id().clone()).1)
        .collect();
    assert_eq!(server.block_on(here.to("red").count_all()).expect("all answer"), 3);
    assert_eq!(server.block_on(here.count_all()).expect("all answer"), 3);
    assert_eq!(server.block_on(here.local().count_all()).expect("all answer"), 1);
    let asking = here.clone();
    let asked =
        server.spawn(async move { asking.to("red").timeout(AGES).emit_with_ack("question", ()).await });
    for client in std::iter::once(&mut near).chain(&mut clients) {
        let question = client.question("question");
        client.answer(question, json!(["yes"]));
    }
    let answers = asked.join().expect("a valid name");
    assert!(answers.is_complete(), "{answers:?}");
    assert_eq!(answers.answers.len(), 3);
    assert!(
        far_ids.iter().all(|id| answers.answers.iter().any(|(answered, _)| answered == id)),
        "{answers:?}"
    );
    // A client that leaves does not answer.
    let asking = here.clone();
    let asked = server.spawn(async move { asking.to("red").timeout(AGES).emit_with_ack("again", ()).await });
    let question = near.question("again");
    near.answer(question, json!([]));
    for mut client in clients {
        client.question("again");
        drop(client);
    }
    let answers = asked.join().expect("a valid name");
    assert_eq!((answers.answers.len(), answers.gone_elsewhere, answers.missing_nodes), (1, 2, Some(0)));
}

#[test]
fn frozen_node_is_named_after_timeout() {
    let nodes = Nodes::default();
    let (here, server, sockets) = node(&nodes);
    let (_there, _far, _, other) = linked(&nodes);
    let _near = Client::connect(Kind::WebSocket, &server.dial);
    sockets.next();
    other.freeze(true);
    let short = Duration::from_millis(20);
    let error = server.block_on(here.timeout(short).fetch_sockets()).expect_err("a node is missing");
    assert_eq!((error.missing, error.partial.len(), error.nodes), (Some(1), 1, vec!["node1".to_owned()]));
    let error = server.block_on(here.timeout(short).count_all()).expect_err("a node is missing");
    assert_eq!(error.partial, [1]);
    let answers = server.block_on(here.timeout(short).emit_with_ack("hello", ())).expect("a valid name");
    assert_eq!((answers.missing.len(), answers.missing_nodes), (1, Some(1)));
}

#[test]
fn full_queue_refuses_publication_only() {
    let nodes = Nodes::default();
    let (here, server, sockets, own) = linked(&nodes);
    let (_there, _far, _) = node(&nodes);
    let mut near = Client::connect(Kind::WebSocket, &server.dial);
    sockets.next();
    server.block_on(here.emit_confirmed("confirmed", 1)).expect("a working engine");
    own.fill(true);
    let receipt = here.emit("news", 2).expect("a valid name");
    assert_eq!((receipt.queued, receipt.published), (1, Published::Refused(PublishRefusal::QueueFull)));
    let refused = server.block_on(here.emit_confirmed("refused", 3));
    assert!(matches!(refused, Err(ConfirmError::Unconfirmed(Unconfirmed::Refused(_)))), "{refused:?}");
    own.fill(false);
    own.subscribe(false);
    let late = server.block_on(here.timeout(Duration::from_millis(20)).emit_confirmed("late", 4));
    assert!(matches!(late, Err(ConfirmError::Unconfirmed(Unconfirmed::TimedOut))), "{late:?}");
    for (event, number) in [("confirmed", 1), ("news", 2), ("refused", 3), ("late", 4)] {
        near.expect(event, json!([number]));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it measures the wait")]
fn first_client_waits_for_subscription() {
    let nodes = Nodes::default();
    let (_here, server, sockets, own) = linked(&nodes);
    own.subscribe(false);
    let begun = Instant::now();
    let _degraded = Client::connect(Kind::WebSocket, &server.dial);
    // A cluster that does not respond delays it by the limit only, and the next ones not at all.
    let socket = sockets.next();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert!(!server.block_on(socket.join_confirmed("red")), "no subscription is confirmed");
    own.subscribe(true);
    assert!(server.block_on(socket.join_confirmed(["red", "blue"])));
    assert_eq!(own.rooms("/"), ["blue", "red"].map(Room::from));
}

#[test]
fn cluster_knows_rooms_with_members() {
    let nodes = Nodes::default();
    let (here, server, sockets, own) = linked(&nodes);
    let client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    assert!(socket.id().as_str().starts_with("node-000"), "{}", socket.id());
    // The room of its id needs no report.
    assert_eq!(own.rooms("/"), []);
    socket.join(["red", "blue"]);
    socket.leave("blue");
    assert_eq!(own.rooms("/"), [Room::from("red")]);
    drop(client);
    until(|| own.rooms("/").is_empty());
    // Ids of the application do not name their node.
    let own = nodes.node();
    let io = Io::builder().cluster(own.clone()).generate_socket_id(|_, _| "guest").build();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let _client = Client::connect(Kind::WebSocket, &server.dial);
    sockets.next();
    assert_eq!(own.rooms("/"), [Room::from("guest")]);
    drop(here);
}

#[test]
fn used_namespaces_are_opened_once() {
    let nodes = Nodes::default();
    let own = nodes.node();
    let config = Config::new().cleanup_empty_child_namespaces(true);
    let io = Io::builder().config(config).cluster(own.clone()).build();
    let parent = io.of_pattern("^/room-[0-9]$").expect("a pattern");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..20).for_each(|number| _ = io.of(format!("/fixed-{number}"))));
        }
    });
    assert_eq!(own.open_count("/"), 1);
    assert!((0..20).all(|number| own.open_count(&format!("/fixed-{number}")) == 1));
    assert_eq!(own.open_count(parent.name().as_str()), 0, "a parent has no members");
    let server = serve(&io);
    let client = Returner::connect_with(&server.dial, "/room-1", &json!({}));
    assert_eq!(own.open_count("/room-1"), 1);
    drop(client);
    until(|| own.open_count("/room-1") == 0);
}

#[test]
fn lost_remote_events_prevent_recovery() {
    for lost in [false, true] {
        let nodes = Nodes::default();
        let own = nodes.node();
        let config = Config::new().recovery(|recovery| recovery);
        let io = Io::builder().config(config).cluster(own.clone()).build();
        let sockets = arrivals(&io);
        let server = serve(&io);
        let client = Returner::connect(&server.dial);
        sockets.next();
        let (sid, shows) = client.vanish();
        until(|| io.client_count() == 0);
        if lost {
            own.lose(&Namespace::main(), None);
        }
        let client = Returner::connect_with(&server.dial, "/", &shows);
        assert_eq!(client.sid == sid, !lost);
    }
}

#[test]
fn node_leaves_after_last_session() {
    let nodes = Nodes::default();
    let (io, server, sockets, own) = linked(&nodes);
    let _client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    let (told, ear) = ear();
    let seen = own.clone();
    socket.on_disconnect(move |_: Socket| {
        let _ = told.send(seen.has_left());
        async {}
    });
    server.block_on(io.drain(Drain::default()));
    assert!(!ear.next(), "it left before its last session had ended");
    assert!(own.has_left());
    assert_eq!(io.cluster_status(), Some(ClusterStatus::Left));
}
