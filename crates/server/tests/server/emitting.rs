//! Whom the operators reach, wherever they are used

use std::time::Duration;

use roomcast_server::{AckError, Args, Bytes, Emit, EmitError, Io, Overflow, Receipt, Socket};
use serde_json::json;

use crate::support::client::{Client, Kind, TALKING, bytes};
use crate::support::heard::arrivals;
use crate::support::serve::serve;

/// Time that nobody needs, unless something is wrong
const AGES: Duration = Duration::from_secs(60);

#[test]
fn every_operator_reaches_the_same_from_everywhere() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    // The sender, one in `red`, one in `blue`, one in both, one in neither.
    // All on connections that can take volatile events at any time.
    let kinds = [Kind::WebSocket, Kind::Upgraded, Kind::Json, Kind::Plain, Kind::WebSocket];
    let mut clients = kinds.map(|kind| Client::connect(kind, &server.dial));
    let sockets = sockets.take(clients.len());
    let [sender, red, blue, both, _other] = &sockets[..] else { panic!("five sockets") };
    for (socket, rooms) in
        [(sender, vec!["red"]), (red, vec!["red"]), (blue, vec!["blue"]), (both, vec!["red", "blue"])]
    {
        assert!(socket.join(rooms));
    }
    let (all, namespace) = (&[0, 1, 2, 3, 4][..], io.main());
    let cases: Vec<(Emit, &[usize])> = vec![
        (io.to("red"), &[0, 1, 3]),
        (io.within(["red", "blue"]), &[0, 1, 2, 3]),
        (io.except("red"), &[2, 4]),
        (io.local(), all),
        (io.volatile(), all),
        (io.compress(false), all),
        (io.timeout(AGES), all),
        (io.overflow(Overflow::DropNewest), all),
        (io.latest("key"), all),
        (namespace.to("blue").to("red"), &[0, 1, 2, 3]),
        (namespace.within("blue").except("red"), &[2]),
        (namespace.except(["red", "blue"]).local().compress(true), &[4]),
        (namespace.volatile().to("blue"), &[2, 3]),
        // From a socket the sender is left out, whatever comes later in the chain.
        (sender.broadcast(), &[1, 2, 3, 4]),
        (sender.to("red"), &[1, 3]),
        (sender.to("red").within("blue"), &[1, 2, 3]),
        (sender.within("red"), &[0, 1, 3]),
        (sender.except("blue"), &[1, 4]),
        (sender.local().to(["red", "blue"]).except(both.id()), &[1, 2]),
        (sender.volatile().to("red"), &[1, 3]),
        (sender.compress(false).broadcast(), &[1, 2, 3, 4]),
        (sender.timeout(AGES).except("red"), &[2, 4]),
        (sender.overflow(Overflow::DropOldest).within("red"), &[0, 1, 3]),
        (sender.latest("key").local(), &[1, 2, 3, 4]),
        // A room that bears the id of a socket is that socket.
        (io.to(blue.id()).to(both.id()), &[2, 3]),
        (io.to("nobody"), &[]),
    ];
    for (number, (emit, reached)) in cases.iter().enumerate() {
        let receipt = emit.emit("news", number).expect("a name");
        assert_eq!(receipt, Receipt { queued: reached.len(), ..Receipt::default() }, "{number}");
        for &at in *reached {
            clients[at].expect("news", json!([number]));
        }
    }
    // Nobody heard anything that was not meant for it.
    io.send("end").expect("a name");
    clients.iter_mut().for_each(|client| client.expect("message", json!(["end"])));
}

#[test]
fn a_handler_has_them_all() {
    let io = Io::new();
    io.on("say", async |socket: Socket, io: Io, text: String| {
        io.except(socket.id()).emit("said", &text)?;
        socket.namespace().to(socket.id()).emit("said", &text)?;
        socket.broadcast().send(&text)?;
        socket.send(&text)?;
        Ok::<_, EmitError>(())
    });
    let server = serve(&io);
    for kind in TALKING {
        let mut speaker = Client::connect(kind, &server.dial);
        let mut listener = Client::connect(Kind::WebSocket, &server.dial);
        speaker.emit("say", json!(["hello"]));
        for client in [&mut speaker, &mut listener] {
            client.expect("said", json!(["hello"]));
            client.expect("message", json!(["hello"]));
        }
    }
}

#[test]
fn one_socket_is_emitted_to_with_several_arguments_and_binary_anywhere() {
    #[derive(serde::Serialize)]
    struct Picture {
        name: &'static str,
        layers: Vec<Bytes>,
    }
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    for kind in TALKING {
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        let picture =
            Picture { name: "sea", layers: vec![Bytes::from_static(b"\0"), Bytes::from_static(b"\xff")] };
        let expected =
            json!([1, { "name": "sea", "layers": [bytes(b"\0"), bytes(b"\xff")] }, bytes(b"z"), null]);
        let args = || (1, &picture, Bytes::from_static(b"z"), None::<u8>);
        socket.emit("picture", args()).expect("a name");
        socket.compress(false).emit("picture", args()).expect("a name");
        socket.overflow(Overflow::DropOldest).latest("picture").emit("picture", args()).expect("a name");
        for _ in 0..3 {
            client.expect("picture", expected.clone());
        }
    }
}

#[test]
fn a_question_that_is_dropped_says_so() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let mut client = Client::connect(Kind::Polling, &server.dial);
    let socket = sockets.next();
    // No request of its waits, so it cannot take anything now.
    let outcome = server.block_on(socket.volatile().timeout(AGES).emit_with_ack("question", ()));
    assert!(matches!(outcome, Err(AckError::Dropped)), "{outcome:?}");
    let asked = {
        let socket = socket.clone();
        server.spawn(async move { socket.timeout(AGES).emit_with_ack("question", (1, "two")).await })
    };
    let question = client.question("question");
    client.answer(question, json!([3, "four"]));
    let answer: Args = asked.join().expect("an answer");
    assert_eq!(answer.parse::<(u8, String)>().expect("what the client said"), (3, "four".to_owned()));
}
