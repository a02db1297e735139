//! Typed events as clients see them.

use roomcast_server::emit::AckError;
use roomcast_server::handler::{EventError, EventErrorCause};
use roomcast_server::typed::{Event, EventSet, NoAnswer};
use roomcast_server::{Ack, Bytes, EmitError, Io, Socket};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::client::{ACK_KINDS, Client, Heard, Kind, bytes};
use crate::support::recorder::{arrivals, ear};
use crate::support::serve::serve;

#[derive(Debug, Serialize, Deserialize)]
struct Say {
    room: String,
    text: String,
}

impl Event for Say {
    const NAME: &'static str = "say";
    type Answer = usize;
}

#[derive(Debug, Serialize, Deserialize)]
struct Said(String, Bytes);

impl Event for Said {
    const NAME: &'static str = "said";
    type Answer = NoAnswer;
}

#[derive(Debug, Serialize, Deserialize)]
struct Agreed;

impl Event for Agreed {
    const NAME: &'static str = "agreed?";
    type Answer = bool;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Game {
    Move { x: i32, y: i32 },
    Roll(u8, u8),
    GiveUp,
}

impl EventSet for Game {}

#[test]
fn reads_and_acks_typed_event() {
    let (told, errors) = ear();
    let io = Io::new();
    io.on_event(async |socket: Socket, say: Say| {
        let text = Bytes::from(say.text.into_bytes());
        socket.emit_event(&Said(say.room.clone(), text))?;
        Ok::<_, EmitError>(say.room.len())
    });
    io.on_error(move |error: EventError| {
        let _ = told.send(error);
        async {}
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        client.emit("say", json!([{ "room": "red", "text": "hi" }]));
        client.expect("said", json!(["red", bytes(b"hi")]));
        client.say(crate::support::client::ClientMessage {
            namespace: "/",
            ack: Some(7),
            name: "say",
            args: json!([{ "room": "blue", "text": "ho" }]),
        });
        client.expect("said", json!(["blue", bytes(b"ho")]));
        assert_eq!(client.hear(), Heard::Answer { namespace: "/".into(), ack: 7, args: json!([4]) });
        client.emit("say", json!([{ "room": "red" }]));
        let error = errors.next();
        assert_eq!(error.event, "say");
        assert!(matches!(error.cause, EventErrorCause::Mismatch(_)), "{error}");
        assert!(error.to_string().contains("missing field `text`"), "{error}");
    }
}

#[test]
fn sync_typed_handlers_send_acks() {
    let io = Io::new();
    io.on_event(|_: Socket, say: Say| say.room.len());
    io.on_event(|_: Socket, _: Agreed, ack: Ack| ack.send(true).map(drop));
    io.on_event(|socket: Socket, said: Said| socket.emit_event(&said).map(drop));
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        assert_eq!(client.ask("say", json!([{ "room": "red", "text": "hi" }])), json!([3]));
        assert_eq!(client.ask("agreed?", json!([])), json!([true]));
        client.emit("said", json!(["red", bytes(b"hi")]));
        client.expect("said", json!(["red", bytes(b"hi")]));
    }
}

#[test]
fn parses_typed_ack() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        for (answer, expected) in [(json!([true]), Some(true)), (json!(["yes"]), None)] {
            let asks = socket.clone();
            let asked = server.spawn(async move { asks.emit_event_with_ack(&Agreed).await });
            let question = client.question("agreed?");
            client.answer(question, answer.clone());
            match (asked.join(), expected) {
                (Ok(agreed), Some(expected)) => assert_eq!(agreed, expected),
                (Err(AckError::Args(error)), None) => {
                    assert!(error.to_string().contains("expected a boolean"))
                }
                (other, _) => panic!("{other:?}"),
            }
            let all = io.clone();
            let asked =
                server.spawn(async move { all.emit_event_with_ack(&Agreed).await.expect("a valid name") });
            let question = client.question("agreed?");
            client.answer(question, answer);
            let answers = asked.join();
            let count = (usize::from(expected.is_some()), usize::from(expected.is_none()));
            assert_eq!((answers.answers.len(), answers.mismatched.len()), count);
            assert_eq!((answers.missing.len(), answers.gone.len()), (0, 0));
        }
        client.close();
        crate::support::serve::until(|| io.client_count() == 0);
    }
}

#[test]
fn handles_and_forwards_event_set() {
    let io = Io::new();
    io.on_connect(async |socket: Socket| {
        socket.on_event(async |socket: Socket, game: Game| socket.emit_event(&game).map(drop));
        socket.on_event(async |_: Socket, game: Game, ack: Ack| ack.send(game == Game::GiveUp).map(drop));
    });
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        for (name, args) in
            [("move", json!([{ "x": 1, "y": -2 }])), ("roll", json!([3, 6])), ("give_up", json!([]))]
        {
            client.emit(name, args.clone());
            client.expect(name, args);
        }
    }
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    client.say(crate::support::client::ClientMessage {
        namespace: "/",
        ack: Some(1),
        name: "give_up",
        args: json!([]),
    });
    client.expect("give_up", json!([]));
    assert_eq!(client.hear(), Heard::Answer { namespace: "/".into(), ack: 1, args: json!([true]) });
}
