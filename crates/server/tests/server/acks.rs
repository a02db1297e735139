//! Acknowledgements in both directions.

use std::time::Duration;

use roomcast_server::emit::{AckError, Answers};
use roomcast_server::metrics::Limit;
use roomcast_server::socket::SocketId;
use roomcast_server::{Args, Bytes, Config, EmitError, Io, Socket};
use serde_json::json;

use crate::support::client::{ACK_KINDS, Client, Heard, Kind, bytes};
use crate::support::recorder::{Recorder, arrivals};
use crate::support::serve::{Running, serve, until};

/// Timeout that expires only if something is wrong.
const AGES: Duration = Duration::from_secs(60);
/// Timeout that is expected to expire.
const MOMENT: Duration = Duration::from_millis(50);

/// Starts a server that passes its sockets to the test.
fn open() -> (Io, Running, Recorder<Socket>) {
    open_with(Config::new())
}

fn open_with(config: Config) -> (Io, Running, Recorder<Socket>) {
    let io = Io::builder().config(config).build();
    let ear = arrivals(&io);
    let server = serve(&io);
    (io, server, ear)
}

#[test]
fn carries_binary_in_events_and_acks() {
    let (_io, server, sockets) = open();
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        assert_eq!(socket.id().as_str(), client.id);
        for number in 0..3_u8 {
            let socket = socket.clone();
            let asked = server.spawn(async move {
                let data = Bytes::from(vec![number, 0xff]);
                socket.timeout(AGES).emit_with_ack("question", (number, data)).await
            });
            let Heard::Event { name, args, ack: Some(ack), .. } = client.hear() else {
                panic!("no ack request")
            };
            assert_eq!((name.as_str(), args), ("question", json!([number, bytes(&[number, 0xff])])));
            client.answer(ack, json!([{ "data": bytes(b"\x01\x02") }, number]));
            let answer = asked.join().expect("it answered");
            #[derive(serde::Deserialize)]
            struct Data {
                data: Bytes,
            }
            let (data, echoed): (Data, u8) = answer.parse().expect("the client's arguments");
            assert_eq!((&data.data[..], echoed), (&b"\x01\x02"[..], number));
        }
    }
}

#[test]
fn accepts_acks_in_any_order() {
    let (_io, server, sockets) = open();
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        let ask = |number: u32| {
            let socket = socket.clone();
            server.spawn(async move {
                socket.emit_with_ack("question", number).await?.get::<u32>(0).map_err(AckError::from)
            })
        };
        let mut asked = Vec::new();
        let mut questions = Vec::new();
        for number in 0..4 {
            asked.push(ask(number));
            questions.push(client.question("question"));
        }
        for (number, question) in (0..4).zip(questions).rev() {
            client.answer(question, json!([number * 10]));
        }
        for (number, asked) in (0..4).zip(asked) {
            assert_eq!(asked.join().expect("an answer"), number * 10);
        }
    }
}

#[test]
fn times_out_and_ignores_late_ack() {
    let (_io, server, sockets) = open();
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        let outcome = server.block_on(socket.timeout(MOMENT).emit_with_ack("question", 1));
        assert!(matches!(outcome, Err(AckError::Timeout)), "{outcome:?}");
        // A late ack is dropped and does not resolve the next request.
        let late = client.question("question");
        let asked = server.spawn(async move { socket.timeout(AGES).emit_with_ack("question", 2).await });
        let question = client.question("question");
        assert_ne!(late, question);
        client.answer(late, json!(["late"]));
        client.answer(question, json!(["in time"]));
        assert_eq!(asked.join().expect("an answer").json(), r#""in time""#);
    }
}

#[test]
fn fails_pending_ack_on_disconnect() {
    let (_io, server, sockets) = open();
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        let asked = {
            let socket = socket.clone();
            server.spawn(async move { socket.timeout(AGES).emit_with_ack("question", 1).await })
        };
        client.question("question");
        client.close();
        let outcome = asked.join();
        assert!(matches!(outcome, Err(AckError::Disconnected)), "{outcome:?}");
        // A request to a disconnected socket fails at once.
        let outcome = server.block_on(socket.timeout(AGES).emit_with_ack("question", 2));
        assert!(matches!(outcome, Err(AckError::Disconnected)), "{outcome:?}");
    }
}

#[test]
fn rejects_ack_request_to_plain_client() {
    let (_io, server, sockets) = open();
    let mut client = Client::connect(Kind::Plain, &server.dial);
    let socket = sockets.next();
    let outcome = server.block_on(socket.timeout(AGES).emit_with_ack("question", 1));
    assert!(matches!(outcome, Err(AckError::Unsupported)), "{outcome:?}");
    socket.emit("end", ()).expect("a valid name");
    client.expect("end", json!([]));
}

#[test]
fn rejects_reserved_names_with_ack() {
    let (io, server, sockets) = open();
    let _client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    for name in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        let outcome = server.block_on(socket.emit_with_ack(name, ()));
        assert!(matches!(outcome, Err(AckError::Emit(EmitError::ReservedName(_)))), "{outcome:?}");
        assert!(matches!(io.emit(name, ()), Err(EmitError::ReservedName(_))));
    }
}

fn answers_of(answers: &Answers) -> Vec<(SocketId, String)> {
    let text = |args: &Args| args.get(0).expect("a string");
    let mut all: Vec<_> = answers.answers.iter().map(|(id, args)| (id.clone(), text(args))).collect();
    all.sort();
    all
}

fn ids(clients: &[&Client]) -> Vec<SocketId> {
    let mut ids: Vec<_> = clients.iter().map(|client| SocketId::from(client.id.as_str())).collect();
    ids.sort();
    ids
}

fn sorted(mut ids: Vec<SocketId>) -> Vec<SocketId> {
    ids.sort();
    ids
}

#[test]
fn collects_acks_from_all_clients() {
    let (io, server, sockets) = open();
    let mut clients: Vec<_> = ACK_KINDS.iter().map(|kind| Client::connect(*kind, &server.dial)).collect();
    sockets.take(clients.len());
    for _ in 0..3 {
        let asked = {
            let io = io.clone();
            server.spawn(async move { io.timeout(AGES).emit_with_ack("question", "?").await })
        };
        for client in &mut clients {
            let question = client.question("question");
            let id = client.id.clone();
            client.answer(question, json!([id]));
        }
        let answers = asked.join().expect("a valid name");
        assert!(answers.is_complete());
        let answered = answers_of(&answers);
        assert_eq!(answered.len(), 4);
        assert!(answered.iter().all(|(id, text)| id.as_str() == text), "{answered:?}");
    }
}

#[test]
fn reports_plain_clients_as_gone() {
    let (io, server, sockets) = open();
    let _plain = Client::connect(Kind::Plain, &server.dial);
    let plain = sockets.next();
    let mut client = Client::connect(Kind::Json, &server.dial);
    let asked = {
        let io = io.clone();
        server.spawn(async move { io.timeout(AGES).emit_with_ack("question", ()).await })
    };
    let question = client.question("question");
    client.answer(question, json!(["yes"]));
    let answers = asked.join().expect("a valid name");
    assert_eq!(answers_of(&answers), [(client.id.as_str().into(), "yes".to_owned())]);
    assert_eq!((answers.gone, answers.missing), (vec![plain.id().clone()], vec![]));
    // A broadcast without recipients completes at once.
    let nobody = io.to("empty").timeout(AGES);
    let answers = server.block_on(nobody.emit_with_ack("question", ())).expect("a valid name");
    assert!(answers.is_complete() && answers.answers.is_empty());
}

#[test]
fn reports_answered_missing_and_gone_clients() {
    let (io, server, sockets) = open();
    let mut answering = Client::connect(Kind::Polling, &server.dial);
    let mut silent = Client::connect(Kind::WebSocket, &server.dial);
    let mut leaving = Client::connect(Kind::Upgraded, &server.dial);
    let mut late = Client::connect(Kind::Json, &server.dial);
    sockets.take(4);
    let asked = {
        let io = io.clone();
        // Long enough for the answering clients on any machine.
        let timeout = Duration::from_secs(10);
        server.spawn(async move { io.timeout(timeout).emit_with_ack("question", ()).await })
    };
    let question = answering.question("question");
    answering.answer(question, json!(["here"]));
    silent.question("question");
    leaving.question("question");
    let gone = ids(&[&leaving]);
    leaving.close();
    let question = late.question("question");
    until(|| io.client_count() == 3);
    let answers = asked.join().expect("a valid name");
    assert_eq!(answers_of(&answers), [(answering.id.as_str().into(), "here".to_owned())]);
    assert_eq!(sorted(answers.missing), ids(&[&silent, &late]));
    assert_eq!(answers.gone, gone);
    // The ack is too late for this request, but the client stays connected.
    late.answer(question, json!(["here"]));
    io.emit("end", ()).expect("a valid name");
    for client in [&mut answering, &mut silent, &mut late] {
        client.expect("end", json!([]));
    }
}

#[test]
fn limits_pending_acks_per_client() {
    let (io, server, sockets) = open_with(Config::new().limits(|limits| limits.max_acks(2)));
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    let ask = |socket: Socket| {
        server.spawn(async move { socket.timeout(AGES).emit_with_ack("question", ()).await.map(drop) })
    };
    let first = ask(socket.clone());
    let one = client.question("question");
    let second = ask(socket.clone());
    let other = client.question("question");
    let all = io.timeout(AGES);
    let answers = server.block_on(all.emit_with_ack("question", ())).expect("a valid name");
    assert_eq!(answers.gone, ids(&[&client]));
    assert_eq!(io.metrics().limits_exceeded(Limit::Acks), 1);
    let alone = server.block_on(socket.timeout(AGES).emit_with_ack("question", ()));
    assert!(matches!(alone, Err(AckError::Dropped)), "{alone:?}");
    assert_eq!(io.metrics().limits_exceeded(Limit::Acks), 2);
    // Answering frees the client's slots for further requests.
    client.answer(one, json!([]));
    client.answer(other, json!([]));
    first.join().expect("an answer");
    second.join().expect("an answer");
    let third = ask(socket);
    let question = client.question("question");
    client.answer(question, json!([]));
    third.join().expect("an answer");
}
