//! Listeners for outgoing events of a socket.

use roomcast_server::Io;
use roomcast_server::handler::Outgoing;
use roomcast_server::http::Handshake;
use roomcast_server::namespace::Namespace;
use serde_json::json;

use crate::support::client::{ALL, Client, Kind};
use crate::support::recorder::{Log, arrivals};
use crate::support::serve::{serve, until};

fn noting(log: &Log<String>, who: &str) -> impl Fn(&Outgoing<'_>) + Send + Sync + use<> {
    let (log, who) = (log.clone(), who.to_owned());
    move |outgoing| log.write(format!("{who} {} {}", outgoing.event, outgoing.args.json()))
}

#[test]
fn notifies_outgoing_listeners_of_all_emits() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    for kind in ALL {
        let log = Log::default();
        let mut client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        let other = Client::connect(Kind::WebSocket, &server.dial);
        let other_socket = sockets.next();
        socket.join("red");
        other_socket.join("red");
        other_socket.join("blue");
        io.emit("unheard", 0).expect("a valid name");
        socket.on_any_outgoing(noting(&log, "second")).prepend_any_outgoing(noting(&log, "first"));
        socket.on_any_outgoing(|_| std::panic::resume_unwind(Box::new("boom")));

        socket.emit("own", (1, "a")).expect("a valid name");
        io.emit("all", 2).expect("a valid name");
        io.to("red").emit("red", 3).expect("a valid name");
        io.to(socket.id()).emit("by id", 4).expect("a valid name");
        other_socket.broadcast().emit("others", 5).expect("a valid name");
        // None of these reaches the socket.
        io.to("blue").emit("blue", 6).expect("a valid name");
        io.except("red").emit("not red", 6).expect("a valid name");
        socket.broadcast().emit("not me", 6).expect("a valid name");
        other_socket.emit("you", 6).expect("a valid name");
        let heard = ["own 1,\"a\"", "all 2", "red 3", "by id 4", "others 5"];
        let expected: Vec<_> =
            heard.iter().flat_map(|heard| [format!("first {heard}"), format!("second {heard}")]).collect();
        assert_eq!(log.read(), expected, "{kind:?}");
        // Listeners do not keep events from the client.
        for (name, args) in
            [("unheard", json!([0])), ("own", json!([1, "a"])), ("all", json!([2])), ("red", json!([3]))]
        {
            client.expect(name, args);
        }

        let listeners = socket.listeners_any_outgoing();
        assert_eq!(listeners.len(), 3);
        assert!(socket.remove_listener(listeners[0]) && !socket.remove_listener(listeners[0]));
        io.emit("all", 7).expect("a valid name");
        socket.off_any_outgoing();
        io.emit("all", 8).expect("a valid name");
        assert_eq!(log.read().split_off(expected.len()), ["second all 7"]);
        client.close();
        other.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn releases_listeners_of_closed_socket() {
    let io = Io::new();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let log = Log::default();
    for kind in ALL {
        let client = Client::connect(kind, &server.dial);
        let socket = sockets.next();
        let held = std::sync::Arc::new(());
        let listen = || {
            let (own, held, note) = (socket.clone(), held.clone(), noting(&log, "heard"));
            socket.on_any_outgoing(move |outgoing| {
                let _ = (&own, &held);
                note(outgoing);
            });
        };
        listen();
        assert_eq!(std::sync::Arc::strong_count(&held), 2);
        client.close();
        until(|| std::sync::Arc::strong_count(&held) == 1);
        listen();
        assert_eq!(std::sync::Arc::strong_count(&held), 1);
        io.emit("late", ()).expect("a valid name");
        assert!(socket.emit("late", ()).is_err());
    }
    assert_eq!(log.read(), [""; 0]);
}

#[test]
fn keeps_listeners_of_equal_id_socket() {
    // Two sockets briefly share an id when a client recovers before its old socket is fully removed.
    let io = Io::builder().generate_socket_id(|_: &Handshake, _: &Namespace| "same").build();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let log = Log::default();
    let mut old = Client::connect(Kind::WebSocket, &server.dial);
    sockets.next().on_any_outgoing(noting(&log, "old"));
    let mut new = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    socket.on_any_outgoing(noting(&log, "new"));
    socket.emit("one", 1).expect("a valid name");
    new.expect("one", json!([1]));
    assert_eq!(log.read(), ["new one 1"]);
    old.sync();
    old.close();
    until(|| io.client_count() == 1);
    assert_eq!(socket.listeners_any_outgoing().len(), 1);
    io.emit("all", 2).expect("a valid name");
    assert_eq!(log.read(), ["new one 1", "new all 2"]);
}
