//! Clients that recover on another server, through a log that orders the events of all servers.

use roomcast_server::recovery::{SessionId, StoredSession};
use roomcast_server::{Socket, Value};
use serde_json::json;

use crate::recovery::{Returner, names};
use crate::support::ordered::{Node, Shared};
use crate::support::serve::until;
use crate::support::ws::{Message, Ws};

fn emit(node: &Node, name: &str) {
    let receipt = node.io.emit(name, ()).expect("a valid emit");
    // Its recipients are not known yet.
    assert_eq!((receipt.queued, receipt.published.refusal()), (0, None));
}

/// Waits until the session of a client is stored, as that of a connected one, by this node.
fn stored(shared: &Shared, node: &Node, client: &Returner) {
    stored_in(shared, node, client, 0);
}

/// Waits until the session is also stored with a number of rooms besides its own.
fn stored_in(shared: &Shared, node: &Node, client: &Returner, rooms: usize) {
    let pid = client.shows(None)["pid"].as_str().expect("a token").to_owned();
    let id = SessionId { namespace: "/".into(), secret: pid.as_str().into() };
    let is_stored = |session: StoredSession| session.connected && session.rooms.len() == rooms;
    until(|| {
        shared.store.holder(&id).as_ref() == Some(&node.id) && shared.store.get(&id).is_some_and(is_stored)
    });
}

#[test]
fn events_arrive_in_order_of_log() {
    let shared = Shared::new();
    let (a, b) = (shared.start(), shared.start());
    let mut clients = [&a, &b].map(|node| Returner::connect(&node.server.dial));
    let sockets: [Socket; 2] = [a.sockets.next(), b.sockets.next()];
    for number in 0..50 {
        emit([&a, &b][number % 2], &format!("e{number}"));
        // Events to one client take the same way.
        sockets.iter().for_each(|socket| _ = socket.emit(&format!("own{number}"), ()).expect("a valid emit"));
        sockets[0].broadcast().emit(&format!("others{number}"), ()).expect("a valid emit");
    }
    for (place, client) in clients.iter_mut().enumerate() {
        let (mut heard, mut offsets) = (Vec::new(), Vec::new());
        for _ in 0..100 + 50 * place {
            let (list, offset) = client.hear();
            heard.push(list[0].as_str().expect("a name").to_owned());
            offsets.push(offset.trim_end_matches("-0").parse::<u64>().expect("an offset of the log"));
        }
        let expected = (0..50).flat_map(|number| {
            let others = (place == 1).then(|| format!("others{number}"));
            [format!("e{number}"), format!("own{number}")].into_iter().chain(others)
        });
        assert_eq!(heard, expected.collect::<Vec<_>>());
        assert!(offsets.is_sorted());
    }
}

#[test]
fn client_of_killed_server_recovers() {
    let shared = Shared::new();
    let (a, b) = (shared.start(), shared.start());
    let mut client = Returner::connect(&a.server.dial);
    let socket = a.sockets.next();
    socket.set_data(&json!({ "name": "ada" })).expect("valid JSON");
    assert!(socket.join("red"));
    emit(&b, "heard");
    let (_, offset) = client.hear();
    stored_in(&shared, &a, &client, 1);
    shared.store.disconnect(&a.id);
    a.server.end_at_once();
    emit(&b, "missed");
    b.io.to("red").emit("in room", ()).expect("a valid emit");
    b.io.to("blue").emit("elsewhere", ()).expect("a valid emit");
    let mut back = Returner::connect_with(&b.server.dial, "/", &client.shows(Some(&offset)));
    assert_eq!(
        (&back.sid, names(&back.missed)),
        (&client.sid, vec!["missed".to_owned(), "in room".to_owned()])
    );
    let socket = b.sockets.next();
    assert!(socket.recovered() && socket.is_in("red"));
    assert_eq!(socket.data::<Value>().expect("valid JSON"), Some(json!({ "name": "ada" })));
    emit(&b, "live");
    assert_eq!(back.hear().0, [json!("live")]);
}

#[test]
fn live_session_is_taken_over_from_other_server() {
    let shared = Shared::new();
    let (a, b) = (shared.start(), shared.start());
    let client = Returner::connect(&a.server.dial);
    let socket = a.sockets.next();
    stored(&shared, &a, &client);
    emit(&a, "lost");
    until(|| a.io.count(&*client.sid) == 1);
    let back = Returner::connect_with(&b.server.dial, "/", &client.shows(None));
    // The former server has dropped its socket by now, without disconnect handlers.
    assert_eq!((a.io.count(&*client.sid), b.io.count(&*client.sid)), (0, 1));
    assert_eq!((&back.sid, names(&back.missed)), (&client.sid, vec!["lost".to_owned()]));
    assert!(!socket.is_connected() && b.sockets.next().recovered());
    drop(client.engine);
    until(|| a.io.client_count() == 0);
    assert_eq!(a.reasons.all(), []);
    stored(&shared, &b, &back);
}

#[test]
fn json_client_recovers_on_other_server() {
    let shared = Shared::new();
    let (a, b) = (shared.start(), shared.start());
    let open =
        |node: &Node, query: &str| Ws::open(&node.server.dial, &format!("/ws{query}"), Some("roomcast.json"));
    let text = |ws: &mut Ws| match ws.receive() {
        Ok(Message::Text(text)) => serde_json::from_str::<Value>(&text).expect("JSON"),
        other => panic!("{other:?}"),
    };
    let mut old = open(&a, "");
    let welcome = text(&mut old);
    let (sid, pid) = (welcome[0]["sid"].clone(), welcome[0]["pid"].as_str().expect("a token").to_owned());
    until(|| shared.store.len() == 1);
    emit(&a, "heard");
    let offset = text(&mut old)[0]["offset"].as_str().expect("an offset").to_owned();
    shared.store.disconnect(&a.id);
    a.server.end_at_once();
    (1..=3).for_each(|number| _ = b.io.emit("lost", number).expect("a valid emit"));
    let mut back = open(&b, &format!("?pid={pid}&offset={offset}"));
    assert_eq!(text(&mut back)[0]["sid"], sid);
    let missed: Vec<_> = (0..3).map(|_| text(&mut back)[2].clone()).collect();
    assert_eq!(missed, [json!(1), json!(2), json!(3)]);
}
