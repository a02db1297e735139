//! Acknowledgements and numbers from several nodes.

use std::time::Duration;

use roomcast_server::emit::Answers;
use roomcast_server::socket::SocketId;
use serde_json::json;

use super::AGES;
use crate::support::client::{ACK_KINDS, Client, Kind, bytes};
use crate::support::cluster::{Node, Nodes};
use crate::support::serve::Spawned;

/// Emits to a room with acknowledgements.
fn ask(node: &Node, event: &'static str, timeout: Duration) -> Spawned<Answers> {
    let io = node.io.clone();
    let asked = async move { io.to("red").timeout(timeout).emit_with_ack(event, ()).await };
    node.server.spawn(async move { asked.await.expect("a valid name") })
}

/// Connects a client of each kind that supports acknowledgements, in room `red`.
fn clients(node: &Node) -> Vec<(Client, SocketId)> {
    let connect = |kind| {
        let (client, socket) = node.connect(kind);
        node.join(&socket, &["red"]);
        (client, socket.id().clone())
    };
    ACK_KINDS.into_iter().map(connect).collect()
}

#[test]
fn counts_span_nodes() {
    let nodes = Nodes::new();
    let [here, there, empty] = nodes.connected();
    let _clients = [clients(&here), clients(&there)];
    let (_plain, _) = there.connect(Kind::Plain);
    let count =
        |emit: roomcast_server::emit::Emit| here.server.block_on(emit.count_all()).expect("all nodes answer");
    assert_eq!(count(here.io.to("red")), 8);
    assert_eq!(count(here.io.main().target()), 9);
    assert_eq!(count(here.io.local()), 4);
    assert_eq!(count(here.io.except("red")), 1);
    assert_eq!(count(empty.io.to("red")), 8);
    assert_eq!(count(here.io.of("/other").target()), 0);
}

#[test]
fn acks_span_nodes() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let mut all: Vec<_> = [clients(&here), clients(&there)].into_iter().flatten().collect();
    let asked = ask(&here, "question", AGES);
    for (number, (client, _)) in all.iter_mut().enumerate() {
        let question = client.question("question");
        client.answer(question, json!([number, bytes(&[number as u8])]));
    }
    let answers = asked.join();
    assert!(answers.is_complete(), "{answers:?}");
    assert_eq!(answers.answers.len(), all.len());
    for (number, (_, id)) in all.iter().enumerate() {
        let (_, answer) = answers.answers.iter().find(|(answered, _)| answered == id).expect("an answer");
        assert_eq!(answer.get::<usize>(0).expect("a number"), number);
        assert_eq!(*answer.attachments()[0], [number as u8]);
    }
}

#[test]
fn clients_that_leave_are_not_awaited() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (mut near, socket) = here.connect(Kind::WebSocket);
    here.join(&socket, &["red"]);
    let gone = clients(&there);
    // Plain clients have no acknowledgements.
    let (_plain, plain) = there.connect(Kind::Plain);
    there.join(&plain, &["red"]);
    let asked = ask(&here, "again", AGES);
    let question = near.question("again");
    near.answer(question, json!([]));
    for (mut client, _) in gone {
        client.question("again");
        client.close();
    }
    let answers = asked.join();
    assert_eq!(answers.answers.len(), 1, "{answers:?}");
    assert_eq!(answers.gone.len() + answers.gone_elsewhere, 5, "{answers:?}");
    assert_eq!((answers.missing_elsewhere, answers.missing_nodes), (0, Some(0)), "{answers:?}");
}

#[test]
fn silent_clients_are_missing_at_timeout() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (mut near, mut far) = (clients(&here), clients(&there));
    let asked = ask(&here, "question", Duration::from_secs(1));
    // One on each node answers; the others have received the question, and stay silent.
    for clients in [&mut near, &mut far] {
        let questions: Vec<u64> = clients.iter_mut().map(|(client, _)| client.question("question")).collect();
        clients[0].0.answer(questions[0], json!(["yes"]));
    }
    let answers = asked.join();
    assert_eq!(answers.answers.len(), 2, "{answers:?}");
    assert_eq!((answers.missing.len(), answers.missing_elsewhere), (3, 3), "{answers:?}");
    assert!(!answers.is_complete());
    // Late answers have no effect on the next question.
    let asked = ask(&here, "again", AGES);
    for (client, _) in near.iter_mut().chain(&mut far) {
        let question = client.question("again");
        client.answer(question, json!(["yes"]));
    }
    assert!(asked.join().is_complete());
}

#[test]
fn excluded_sockets_are_not_asked() {
    let nodes = Nodes::new();
    let [here, there] = nodes.connected();
    let (mut near, socket) = here.connect(Kind::Json);
    let (mut far, other) = there.connect(Kind::Json);
    let (mut muted, third) = there.connect(Kind::Json);
    there.join(&other, &["red"]);
    there.join(&third, &["red", "muted"]);
    let asked = here.server.spawn({
        let socket = socket.clone();
        async move { socket.broadcast().except("muted").timeout(AGES).emit_with_ack("question", ()).await }
    });
    let question = far.question("question");
    far.answer(question, json!([1]));
    let answers = asked.join().expect("a valid name");
    assert!(answers.is_complete(), "{answers:?}");
    assert_eq!((answers.answers.len(), &answers.answers[0].0), (1, other.id()));
    here.io.emit("end", ()).expect("a valid name");
    near.expect("end", json!([]));
    muted.expect("end", json!([]));
}
