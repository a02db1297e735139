//! Events between servers.

use roomcast_server::handler::Answer;
use roomcast_server::namespace::ServerSideError;
use roomcast_server::{EmitError, Io, Value};
use serde_json::json;

use crate::support::client::Kind;
use crate::support::cluster::Nodes;
use crate::support::recorder::ear;
use crate::support::serve::serve;

#[test]
fn exchanges_server_side_events() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (told, ear) = ear();
    for (at, node) in [&here, &there].into_iter().enumerate() {
        let told = told.clone();
        node.io.on_server_side("news", move |(text, number): (String, u32)| {
            let _ = told.send((at, text, number));
            async {}
        });
    }
    // Neither this node nor any client receives it.
    let (mut client, _) = there.connect(Kind::WebSocket);
    for number in 0..100 {
        here.io.server_side_emit("news", ("hello", number)).expect("a valid name");
    }
    for number in 0..100 {
        assert_eq!(ear.next(), (1, "hello".to_owned(), number));
    }
    there.io.emit("end", ()).expect("a valid name");
    client.expect("end", json!([]));
    assert_eq!(ear.all(), []);
    for reserved in ["connect", "connection", "new_namespace"] {
        assert!(matches!(here.io.server_side_emit(reserved, ()), Err(EmitError::ReservedName(_))));
    }
}

#[test]
fn servers_acknowledge_events() {
    let nodes = Nodes::new();
    let [here, one, two] = nodes.connected();
    let ask = |event: &'static str, args: Value| {
        here.server.block_on(here.io.server_side_emit_with_ack(event, args)).expect("all nodes answer")
    };
    for (number, node) in [&one, &two].into_iter().enumerate() {
        node.io.on_server_side("load?", move |(unit,): (String,)| async move { (number, unit) });
        // An emit is no answer, so the next listener may still answer.
        let io = node.io.clone();
        node.io.on_server_side("emits", move |()| {
            let receipt = io.emit("told", 1);
            async { receipt }
        });
        node.io.on_server_side("emits", async |()| Answer(json!({ "told": true })));
    }
    let mut answers: Vec<(u32, String)> = ask("load?", json!("clients"))
        .iter()
        .map(|answer| answer.parse::<((u32, String),)>().expect("a single value").0)
        .collect();
    answers.sort();
    assert_eq!(answers, [(0, "clients".to_owned()), (1, "clients".to_owned())]);
    let answers = ask("emits", Value::Null);
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].parse::<(Value,)>().expect("a single value").0, json!({ "told": true }));
}

#[test]
fn failing_servers_are_named() {
    let nodes = Nodes::new();
    let [here, works, fails] = nodes.connected();
    works.io.on_server_side("fails", async |()| 1);
    works.io.on_server_side("panics", async |()| 1);
    works.io.on_server_side("wrong", async |()| 1);
    works.io.on_server_side("absent", async |()| 1);
    // A listener that fails, is missing, or expects other arguments sends no answer.
    fails.io.on_server_side("fails", async |()| Err::<(), _>("out of order"));
    fails.io.on_server_side("panics", async |(number,): (u32,)| assert_ne!(number, 1, "this handler panics"));
    fails.io.on_server_side("wrong", async |(text,): (String,)| text);
    // Each waits for the timeout.
    let asked = ["fails", "panics", "wrong", "absent"].map(|event| {
        let io = here.io.clone();
        (event, here.server.spawn(async move { io.server_side_emit_with_ack(event, 1).await }))
    });
    for (event, asked) in asked {
        let outcome = asked.join();
        let Err(ServerSideError::Unanswered(error)) = outcome else { panic!("{event}: {outcome:?}") };
        assert_eq!(
            (error.missing, error.nodes, error.partial.len()),
            (Some(1), vec![fails.name()], 1),
            "{event}"
        );
    }
}

#[test]
fn single_node_collects_no_answers() {
    let nodes = Nodes::new();
    let alone = nodes.start();
    let (without, server) = (Io::new(), serve(&Io::new()));
    for io in [&alone.io, &without] {
        io.on_server_side("load?", async |()| 1);
        io.server_side_emit("load?", ()).expect("a valid name");
        for namespace in [io.main(), io.of("/other")] {
            let asked = namespace.server_side_emit_with_ack("load?", ());
            assert!(server.block_on(asked).expect("no other node").is_empty());
        }
    }
}
