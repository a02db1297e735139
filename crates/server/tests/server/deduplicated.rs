//! Events that clients send again until they are acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roomcast_server::handler::deduplicated;
use roomcast_server::{Ack, Io, Socket, Value, json};

use crate::support::client::{ACK_KINDS, Client, ClientMessage, Heard};
use crate::support::recorder::{Gate, arrivals, ear};
use crate::support::serve::{serve, until};

fn order(ack: Option<u64>, id: impl Into<Value>) -> ClientMessage<'static> {
    ClientMessage { namespace: "/", ack, name: "order", args: json!([id.into(), "tea"]) }
}

fn answer(ack: u64, number: usize) -> Heard {
    Heard::Answer { namespace: "/".into(), ack, args: json!([number]) }
}

/// Counter of handled events, and a function that counts one.
fn counter() -> (Arc<AtomicUsize>, impl Fn() -> usize + Clone) {
    let handled = Arc::new(AtomicUsize::new(0));
    let count = handled.clone();
    (handled, move || count.fetch_add(1, Ordering::Relaxed) + 1)
}

#[test]
fn repeat_gets_answer_of_first_attempt() {
    let io = Io::new();
    let (_, count) = counter();
    io.on("order", deduplicated(move |_: Value, what: String| what.len() + count()));
    let server = serve(&io);
    let mut handled = 0;
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        for id in [json!("a"), json!("b"), json!(1), json!("1")] {
            handled += 1;
            for ack in [7, 8, 9] {
                client.say(order(Some(ack), id.clone()));
                assert_eq!(client.hear(), answer(ack, 3 + handled), "{kind:?} {id}");
            }
            // Without an acknowledgement.
            client.say(order(None, id));
        }
        client.sync();
    }
}

#[test]
fn repeat_waits_for_running_handler() {
    let io = Io::new();
    let gate = Gate::closed();
    let (told, ear) = ear();
    let (_, count) = counter();
    let handlers_gate = gate.clone();
    let handler = move |id: String, _: String| {
        let (gate, told, count) = (handlers_gate.clone(), told.clone(), count.clone());
        async move {
            let _ = told.send(id);
            gate.pass().await;
            count()
        }
    };
    io.on("order", deduplicated(handler));
    let server = serve(&io);
    for (round, kind) in ACK_KINDS.into_iter().enumerate() {
        let mut client = Client::connect(kind, &server.dial);
        client.emit_all(vec![
            order(Some(1), "a"),
            order(Some(2), "a"),
            order(None, "a"),
            order(Some(3), "a"),
        ]);
        assert_eq!(ear.next(), "a");
        client.sync();
        gate.let_one_pass();
        // The client has given up the second attempt.
        let mut answers = [client.hear(), client.hear()];
        answers.sort_by_key(|answer| format!("{answer:?}"));
        assert_eq!(answers, [answer(1, round + 1), answer(3, round + 1)]);
        client.say(order(Some(4), "a"));
        assert_eq!(client.hear(), answer(4, round + 1));
        assert!(ear.all().is_empty());
    }
}

#[test]
fn failed_handler_runs_again() {
    let io = Io::new();
    let (handled, count) = counter();
    let handler = move |id: String, _: String| {
        let number = count();
        async move {
            tokio::task::yield_now().await;
            assert!(id != "panic" || number != 1, "as planned");
            if id == "fail" && number == 1 { Err("no") } else { Ok(number) }
        }
    };
    io.on("order", deduplicated(handler));
    let server = serve(&io);
    for kind in ACK_KINDS {
        for id in ["fail", "panic"] {
            handled.store(0, Ordering::Relaxed);
            let mut client = Client::connect(kind, &server.dial);
            let failed = |io: &Io| io.metrics().handlers_failed() + io.metrics().handlers_panicked();
            let before = failed(&io);
            client.say(order(Some(1), id));
            until(|| failed(&io) > before);
            for ack in [2, 3] {
                client.say(order(Some(ack), id));
                assert_eq!(client.hear(), answer(ack, 2), "{kind:?} {id}");
            }
        }
    }
}

#[test]
fn ids_belong_to_their_scope() {
    let io = Io::new();
    let (_, count) = counter();
    let own = count.clone();
    let user = |_: &Socket| "ada".to_owned();
    io.on("order", deduplicated(move |_: String, _: String| own()))
        .on("shared", deduplicated(move |_: String| count()).scope(user));
    let server = serve(&io);
    let mut handled = 0;
    for kind in ACK_KINDS {
        let mut clients = [(); 2].map(|()| Client::connect(kind, &server.dial));
        for client in &mut clients {
            handled += 1;
            client.say(order(Some(1), "a"));
            assert_eq!(client.hear(), answer(1, handled));
        }
        handled += 1;
        let id = format!("{kind:?}");
        for client in &mut clients {
            assert_eq!(client.ask("shared", json!([id])), json!([handled]));
        }
    }
}

#[test]
fn answer_to_lost_connection_is_kept() {
    let io = Io::new();
    let arrived = arrivals(&io);
    let (told, ear) = ear();
    let (handled, count) = counter();
    let handler = move |_: usize, _: String, ack: Ack| {
        let _ = told.send(ack);
        count();
    };
    io.on("order", deduplicated(handler).scope(|_| "ada".into()).window(Duration::from_secs(60)));
    let server = serve(&io);
    for (round, kind) in ACK_KINDS.into_iter().enumerate() {
        let mut client = Client::connect(kind, &server.dial);
        client.say(order(Some(1), round));
        let (ack, socket) = (ear.next(), arrived.next());
        socket.disconnect_client();
        until(|| !socket.is_connected());
        let mut client = Client::connect(kind, &server.dial);
        arrived.next();
        client.say(order(Some(2), round));
        client.sync();
        // The first connection gets nothing any more, the second its answer.
        assert!(ack.send(7).is_err());
        assert_eq!(client.hear(), answer(2, 7));
        assert_eq!(handled.load(Ordering::Relaxed), round + 1);
    }
}

#[test]
fn event_without_id_does_not_match() {
    let io = Io::new();
    io.on("order", deduplicated(|_: Value, _: Value| 1));
    let server = serve(&io);
    for kind in ACK_KINDS {
        let mut client = Client::connect(kind, &server.dial);
        let before = io.metrics().events_mismatched();
        for id in [json!(null), json!(1.5), json!({}), json!("x".repeat(201))] {
            client.say(order(Some(1), id));
        }
        client.sync();
        assert_eq!(io.metrics().events_mismatched() - before, 4, "{kind:?}");
    }
}
