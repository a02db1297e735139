//! Several nodes as seen by an application, through the interface that clusters use.

use std::time::Duration;

use roomcast_server::handler::Answer;
use roomcast_server::namespace::ServerSideError;
use roomcast_server::{EmitError, Io, Socket, Value};
use serde_json::json;

use crate::support::client::{Client, Kind};
use crate::support::linked::Cluster;
use crate::support::recorder::{Recorder, arrivals, ear};
use crate::support::serve::{Running, serve, until};

const AGES: Duration = Duration::from_secs(60);

fn node(cluster: &Cluster) -> (Io, Running, Recorder<Socket>) {
    let cluster = cluster.clone();
    let io = Io::builder().router(move |_| cluster.node()).build();
    let ear = arrivals(&io);
    let server = serve(&io);
    (io, server, ear)
}

#[test]
fn manages_sockets_of_another_node() {
    let cluster = Cluster::default();
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
    let cluster = Cluster::default();
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
        assert_eq!((error.missing, error.partial.len()), (1, 0));
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
