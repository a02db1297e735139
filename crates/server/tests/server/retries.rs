//! Emits that are repeated until the client acknowledges them.

use std::time::{Duration, Instant};

use roomcast_server::emit::AckError;
use roomcast_server::{Args, Config, Io, Socket};
use serde_json::json;

use crate::recovery::Returner;
use crate::support::client::{ACK_KINDS, Client, Kind};
use crate::support::cluster::{Nodes, know_each_other};
use crate::support::recorder::{Recorder, arrivals};
use crate::support::serve::{Running, Spawned, serve, until};
use crate::support::ws::Message;

/// Timeout that expires only if something is wrong.
const AGES: Duration = Duration::from_secs(60);
/// Timeout that is expected to expire.
const MOMENT: Duration = Duration::from_millis(50);
/// Retries that are not used up in any test.
const MANY: u32 = 10_000;

fn open(config: Config) -> (Io, Running, Recorder<Socket>) {
    let io = Io::builder().config(config).build();
    let sockets = arrivals(&io);
    let server = serve(&io);
    (io, server, sockets)
}

fn recovering() -> Config {
    Config::new().recovery(|recovery| recovery)
}

fn ask(
    server: &Running,
    socket: &Socket,
    timeout: Duration,
    retries: u32,
) -> Spawned<Result<Args, AckError>> {
    let socket = socket.clone();
    server.spawn(async move { socket.timeout(timeout).retries(retries).emit_with_ack("question", 7).await })
}

fn text(answer: Result<Args, AckError>) -> String {
    answer.expect("an answer").get(0).expect("a string")
}

/// Reads up to the next question, which has the argument 7; returns the number of its acknowledgement.
fn question(client: &mut Returner) -> String {
    let mut missed = std::mem::take(&mut client.missed).into_iter();
    loop {
        let message = missed.next().or_else(|| client.engine.receive().ok());
        if let Some(Message::Text(text)) = message
            && let Some((ack, _)) = text.split_once(r#"["question",7]"#)
        {
            return ack.strip_prefix('2').expect("an event").to_owned();
        }
    }
}

fn answer(client: &mut Returner, ack: &str) {
    client.engine.send(format!(r#"3{ack}["yes"]"#).into());
}

#[test]
fn event_is_sent_again_until_answered() {
    let (_io, server, sockets) = open(Config::new());
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let asked = ask(&server, &sockets.next(), MOMENT, MANY);
        client.question("question");
        client.question("question");
        let third = client.question("question");
        client.answer(third, json!(["yes"]));
        assert_eq!(text(asked.join()), "yes");
        client.close();
    }
}

#[test]
fn late_answer_to_earlier_attempt_counts() {
    let (_io, server, sockets) = open(Config::new());
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let asked = ask(&server, &sockets.next(), MOMENT, MANY);
    let first = client.question("question");
    client.question("question");
    client.answer(first, json!(["yes"]));
    assert_eq!(text(asked.join()), "yes");
}

#[test]
fn attempts_are_limited() {
    let (io, server, sockets) = open(Config::new());
    for retries in [0, 2] {
        let mut client = Client::connect(Kind::WebSocket, &server.dial);
        let result = ask(&server, &sockets.next(), MOMENT, retries).join();
        assert!(matches!(result, Err(AckError::Timeout)), "{result:?}");
        io.emit("end", ()).expect("a valid name");
        (0..=retries).for_each(|_| _ = client.question("question"));
        client.expect("end", json!([]));
        client.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn client_without_recovery_is_not_awaited() {
    let (io, server, sockets) = open(Config::new());
    let client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    let asked = ask(&server, &socket, AGES, MANY);
    client.close();
    let result = asked.join();
    assert!(matches!(result, Err(AckError::Disconnected)), "{result:?}");
    until(|| io.client_count() == 0);
    let result = ask(&server, &socket, AGES, MANY).join();
    assert!(matches!(result, Err(AckError::Disconnected)), "{result:?}");
}

#[test]
fn client_that_left_is_not_awaited() {
    let (io, server, sockets) = open(recovering());
    let awaited = |leave: &dyn Fn(&Socket, &mut Returner)| {
        let mut client = Returner::connect(&server.dial);
        let socket = sockets.next();
        let asked = ask(&server, &socket, AGES, MANY);
        question(&mut client);
        leave(&socket, &mut client);
        [asked.join(), ask(&server, &socket, AGES, MANY).join()]
    };
    let by_itself = awaited(&|_, client| client.engine.send("1".into()));
    let by_server = awaited(&|socket, _| socket.disconnect());
    for result in by_itself.into_iter().chain(by_server) {
        assert!(matches!(result, Err(AckError::Disconnected)), "{result:?}");
    }
    until(|| io.client_count() == 0);
}

#[test]
fn client_of_kind_without_recovery_is_not_awaited() {
    let (io, server, sockets) = open(recovering());
    let client = Client::connect(Kind::Plain, &server.dial);
    let socket = sockets.next();
    client.close();
    until(|| io.client_count() == 0);
    let result = ask(&server, &socket, AGES, MANY).join();
    assert!(matches!(result, Err(AckError::Disconnected)), "{result:?}");
}

#[test]
fn recovered_client_receives_event_again() {
    let (io, server, sockets) = open(recovering());
    let mut client = Returner::connect(&server.dial);
    let asked = ask(&server, &sockets.next(), AGES, 1);
    question(&mut client);
    // It received the event, and its answer is lost.
    let (sid, shows) = client.vanish();
    until(|| io.count(&*sid) == 0);
    let mut client = Returner::connect_with(&server.dial, "/", &shows);
    assert_eq!(client.sid, sid);
    let ack = question(&mut client);
    answer(&mut client, &ack);
    assert_eq!(text(asked.join()), "yes");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the wait is in real time")]
fn wait_for_return_is_limited() {
    let (io, server, sockets) = open(recovering());
    let client = Returner::connect(&server.dial);
    let socket = sockets.next();
    let (sid, _) = client.vanish();
    until(|| io.count(&*sid) == 0);
    let before = Instant::now();
    let result = ask(&server, &socket, 2 * MOMENT, 2).join();
    assert!(matches!(result, Err(AckError::Disconnected)), "{result:?}");
    // The first attempt fails at once.
    assert!(before.elapsed() >= 4 * MOMENT, "{:?}", before.elapsed());
}

#[test]
fn client_of_other_server_receives_event_again() {
    let nodes = Nodes::new();
    let [here, there] = [(), ()].map(|()| nodes.start_with(|builder| builder.config(recovering())));
    know_each_other(&[&here, &there]);
    let mut client = Returner::connect(&there.server.dial);
    let target = here.io.to(&*client.sid);
    let remote = here.server.block_on(target.fetch_sockets()).expect("both nodes answer").remove(0);
    let asked =
        here.server.spawn(async move { remote.timeout(AGES).retries(1).emit_with_ack("question", 7).await });
    question(&mut client);
    let (sid, shows) = client.vanish();
    until(|| there.io.count(&*sid) == 0);
    let mut client = Returner::connect_with(&there.server.dial, "/", &shows);
    assert_eq!(client.sid, sid);
    let ack = question(&mut client);
    answer(&mut client, &ack);
    assert_eq!(text(asked.join()), "yes");
}
