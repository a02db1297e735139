//! Room lifecycle events and presence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use roomcast_server::rooms::{Presence, Room, RoomChange};
use roomcast_server::socket::SocketId;
use roomcast_server::{Io, Socket, Value};
use serde_json::json;

use crate::support::client::{ACK_KINDS, ALL, Client, Heard, Kind};
use crate::support::recorder::{Recorder, Teller, arrivals, ear};
use crate::support::serve::{Running, ends, serve, until};

/// Kinds whose connection breaks when they are dropped.
const VANISHING: [Kind; 4] = [Kind::WebSocket, Kind::Upgraded, Kind::Json, Kind::Plain];

fn telling(told: Teller<String>) -> impl Fn(&RoomChange) + Send + Sync {
    move |change| {
        let _ = told.send(match change {
            RoomChange::Created { room } => format!("created {room}"),
            RoomChange::Joined { room, socket, .. } => format!("{socket} joined {room}"),
            RoomChange::Left { room, socket, .. } => format!("{socket} left {room}"),
            RoomChange::Deleted { room } => format!("deleted {room}"),
            RoomChange::Present { .. } => unreachable!("hooks hear of changes alone"),
        });
    }
}

fn open() -> (Io, Running, Recorder<Socket>) {
    let io = Io::new();
    let ear = arrivals(&io);
    let server = serve(&io);
    (io, server, ear)
}

#[test]
fn reports_room_changes_in_order() {
    let (io, server, sockets) = open();
    let (told, changes) = ear();
    io.on_room_change(telling(told));
    for kind in ALL {
        for vanishes in [false, true] {
            if vanishes && !VANISHING.contains(&kind) {
                continue;
            }
            let client = Client::connect(kind, &server.dial);
            let socket = sockets.next();
            let id = socket.id().clone();
            // As on Node, the room of the socket's own id comes first, before the `connect` event.
            assert_eq!(changes.all(), [format!("created {id}"), format!("{id} joined {id}")]);
            socket.join(["red", "red"]);
            assert_eq!(changes.all(), ["created red".to_owned(), format!("{id} joined red")]);
            socket.leave("red");
            assert_eq!(changes.all(), [format!("{id} left red"), "deleted red".to_owned()]);
            io.to(&id).sockets_join("blue");
            assert_eq!(changes.take(2), ["created blue".to_owned(), format!("{id} joined blue")]);
            if vanishes {
                drop(client)
            } else {
                client.close()
            }
            // Its own room is left first, as on Node.
            let gone = [
                format!("{id} left {id}"),
                format!("deleted {id}"),
                format!("{id} left blue"),
                "deleted blue".to_owned(),
            ];
            assert_eq!(changes.take(4), gone);
            until(|| io.client_count() == 0);
        }
    }
    assert_eq!(changes.all(), [""; 0]);
}

#[test]
fn room_hooks_may_emit_and_panic() {
    let (io, server, sockets) = open();
    let (told, rooms) = ear::<(&str, Room, Option<SocketId>)>();
    let tell = |name: &'static str| {
        let told = told.clone();
        move |room: &Room, id: Option<&SocketId>| _ = told.send((name, room.clone(), id.cloned()))
    };
    let (created, joined, left, deleted) = (tell("create"), tell("join"), tell("leave"), tell("delete"));
    io.on_join_room(|room, _| assert_ne!(room.as_str(), "red", "this hook panics"));
    io.on_create_room(move |room| created(room, None));
    io.on_join_room(move |room, id| joined(room, Some(id)));
    io.on_leave_room(move |room, id| left(room, Some(id)));
    io.on_delete_room(move |room| deleted(room, None));
    let greeting = io.clone();
    io.on_join_room(move |room, id| {
        if room.as_str() == "red" {
            greeting.to(id).emit("welcome", room.as_str()).expect("a valid name");
            greeting.to(id).sockets_join("pink");
        }
    });
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    rooms.take(2);
    assert!(socket.join("red"));
    client.expect("welcome", json!(["red"]));
    socket.leave("red");
    let id = || Some(socket.id().clone());
    let expected = [
        ("create", "red", None),
        ("join", "red", id()),
        ("create", "pink", None),
        ("join", "pink", id()),
        ("leave", "red", id()),
        ("delete", "red", None),
    ];
    assert_eq!(rooms.all(), expected.map(|(name, room, id)| (name, Room::from(room), id)));
}

#[test]
fn child_namespaces_inherit_room_hooks() {
    let io = Io::new();
    let (told, changes) = ear();
    let parent = io.of_pattern(r"^/game-\d$").expect("a pattern");
    parent.on_room_change(telling(told));
    parent.presence(Presence::in_room("table"));
    parent.on("sit", async |socket: Socket| assert!(socket.join("table")));
    let server = serve(&io);
    let sit = |namespace: &str| {
        let mut client = Client::open(Kind::WebSocket, &server.dial);
        let Heard::Joined { id, .. } = client.join(namespace, json!(null)) else { panic!("not joined") };
        client.say(crate::support::client::ClientMessage {
            namespace,
            ack: None,
            name: "sit",
            args: json!([]),
        });
        let args = json!(["table", [{ "id": id }]]);
        let (name, namespace) = ("presence:state".to_owned(), namespace.to_owned());
        assert_eq!(client.hear(), Heard::Event { namespace, name, args, ack: None });
        client
    };
    // Each namespace has its own room `table`.
    let _seated = ["/game-1", "/game-2"].map(sit);
    assert_eq!(changes.take(8).iter().filter(|change| *change == "created table").count(), 2);
}

/// Members in the form sent to clients.
fn who(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({ "id": id })).collect()
}

#[test]
fn presence_reports_members_and_changes() {
    let (io, server, sockets) = open();
    io.presence(Presence::in_room("lobby"));
    for kind in ACK_KINDS {
        let mut first = Client::connect(kind, &server.dial);
        let first_socket = sockets.next();
        first_socket.join(["lobby", "elsewhere"]);
        first.expect("presence:state", json!(["lobby", who(&[&first.id])]));
        for vanishes in [false, true] {
            let mut second = Client::connect(Kind::WebSocket, &server.dial);
            let second_socket = sockets.next();
            second_socket.join(["elsewhere", "lobby"]);
            let (name, state) = second.event();
            let ids: BTreeSet<_> =
                state[1].as_array().expect("a list").iter().map(|who| who["id"].as_str()).collect();
            assert_eq!((name.as_str(), &state[0]), ("presence:state", &json!("lobby")));
            assert_eq!(ids, BTreeSet::from([Some(first.id.as_str()), Some(second.id.as_str())]));
            first.expect("presence:join", json!(["lobby", { "id": second.id }]));
            let gone = json!(["lobby", { "id": second.id }]);
            if vanishes {
                drop(second)
            } else {
                second.close()
            }
            first.expect("presence:leave", gone);
        }
        // A leaving socket gets no notice of the leave.
        first_socket.leave("lobby");
        io.emit("end", ()).expect("a valid name");
        first.expect("end", json!([]));
        first.close();
        until(|| io.client_count() == 0);
    }
}

#[test]
fn presence_uses_custom_names_and_data() {
    let (io, server, sockets) = open();
    let mut early = Client::connect(Kind::Json, &server.dial);
    let early_socket = sockets.next();
    early_socket.set_data(&json!({ "name": "ada" })).expect("JSON");
    early_socket.join("game:1");
    let games = Presence::in_rooms(|room| room.as_str().starts_with("game:"));
    io.presence(games.with_data().named("who", "in", "out"));
    io.presence(Presence::in_room("game:1").without_state());
    let mut late = Client::connect(Kind::Polling, &server.dial);
    let late_socket = sockets.next();
    late_socket.join("game:1");
    let ada = json!({ "id": early.id, "data": { "name": "ada" } });
    let (name, state) = late.event();
    let state: Vec<_> = state[1].as_array().expect("a list").clone();
    assert_eq!((name.as_str(), state.len(), state.contains(&ada)), ("who", 2, true), "{state:?}");
    early.expect("in", json!(["game:1", { "id": late.id, "data": {} }]));
    early.expect("presence:join", json!(["game:1", { "id": late.id }]));
    late_socket.set_data("x").expect("JSON");
    late.close();
    early.expect("out", json!(["game:1", { "id": late_socket.id().as_str(), "data": "x" }]));
    early.expect("presence:leave", json!(["game:1", { "id": late_socket.id().as_str() }]));
}

#[test]
fn presence_filter_may_change_rooms() {
    let (io, server, sockets) = open();
    let mut early = Client::connect(Kind::Json, &server.dial);
    sockets.next().join("game");
    let moves = io.clone();
    let presence = Presence::in_rooms(move |room| {
        if room.as_str() == "game" {
            moves.to("game").sockets_join("game seen");
        }
        room.as_str().starts_with("game")
    });
    let chosen = io.clone();
    ends(move || _ = chosen.presence(presence));
    early.expect("presence:state", json!(["game seen", who(&[&early.id])]));
    let mut late = Client::connect(Kind::WebSocket, &server.dial);
    let socket = sockets.next();
    let joining = socket.clone();
    ends(move || joining.join("game"));
    for room in ["game", "game seen"] {
        let (name, state) = late.event();
        let ids: BTreeSet<_> =
            state[1].as_array().expect("a list").iter().map(|who| who["id"].as_str()).collect();
        assert_eq!((name.as_str(), state[0].as_str()), ("presence:state", Some(room)));
        assert_eq!(ids, BTreeSet::from([Some(early.id.as_str()), Some(late.id.as_str())]));
        early.expect("presence:join", json!([room, { "id": late.id }]));
    }
    ends(move || socket.leave("game"));
    early.expect("presence:leave", json!(["game", { "id": late.id }]));
}

#[test]
fn presence_starts_consistent_during_churn() {
    const TIMES: usize = 20;
    let (io, server, sockets) = open();
    let _others: Vec<_> = (0..4).map(|_| Client::connect(Kind::Plain, &server.dial)).collect();
    let moving = sockets.take(4);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (at, socket) in moving.iter().enumerate() {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    socket.join("lobby");
                    socket.leave("lobby");
                }
                if at % 2 == 0 {
                    socket.join("lobby");
                }
            });
        }
        for time in 0..TIMES {
            io.presence(Presence::in_room("lobby").named(&format!("state {time}"), "in", "out"));
            thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
    });
    let mut newcomer = Client::connect(Kind::WebSocket, &server.dial);
    sockets.next().join("lobby");
    let there = [moving[0].id().as_str(), moving[2].id().as_str(), newcomer.id.as_str()];
    let there: BTreeSet<String> = there.map(str::to_owned).into();
    for time in 0..TIMES {
        let (name, state) = newcomer.event();
        let ids = state[1].as_array().expect("a list").iter();
        let ids: BTreeSet<String> = ids.map(|who| who["id"].as_str().expect("an id").to_owned()).collect();
        assert_eq!((name, &ids), (format!("state {time}"), &there));
    }
}

#[test]
fn presence_loses_no_change_under_churn() {
    const ROUNDS: usize = 150;
    let (io, server, sockets) = open();
    io.presence(Presence::in_room("lobby"));
    let mut clients: Vec<_> = [Kind::WebSocket, Kind::Json, Kind::WebSocket, Kind::Upgraded]
        .map(|kind| Client::connect(kind, &server.dial))
        .into();
    let watching = sockets.take(clients.len());
    let _others: Vec<_> = (0..4).map(|_| Client::connect(Kind::Plain, &server.dial)).collect();
    let moving = sockets.take(4);
    watching[0].join("lobby");
    thread::scope(|scope| {
        for socket in &moving {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    assert!(socket.join("lobby"));
                    assert!(socket.leave("lobby"));
                }
                socket.join("lobby");
            });
        }
        // Some join while others come and go.
        scope.spawn(|| watching[1..].iter().for_each(|socket| assert!(socket.join("lobby"))));
    });
    let last: BTreeSet<String> =
        watching.iter().chain(&moving).map(|socket| socket.id().to_string()).collect();
    io.emit("end", ()).expect("a valid name");
    for client in &mut clients {
        assert_eq!(hear_who_is_there(client), last, "{:?}", client.kind);
    }
}

/// Returns the members of the lobby that a client derives from the state and the changes after it.
fn hear_who_is_there(client: &mut Client) -> BTreeSet<String> {
    let id_of = |who: &Value| who["id"].as_str().expect("an id").to_owned();
    let mut present: Option<BTreeSet<String>> = None;
    loop {
        let (name, args) = client.event();
        match (name.as_str(), &mut present) {
            ("presence:state", known @ None) => {
                *known = Some(args[1].as_array().expect("a list").iter().map(id_of).collect());
            }
            ("presence:join", Some(present)) => assert!(present.insert(id_of(&args[1])), "joined twice"),
            ("presence:leave", Some(present)) => assert!(present.remove(&id_of(&args[1])), "left twice"),
            // Sent before the state.
            ("presence:join" | "presence:leave", None) => {}
            ("end", _) => return present.expect("a state"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn presence_excludes_only_the_socket() {
    let (io, server, sockets) = open();
    io.presence(Presence::in_room("lobby"));
    let mut guest = Client::connect(Kind::WebSocket, &server.dial);
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    let [guest_socket, socket] = sockets.take(2).try_into().expect("two");
    // A room named by the id of the other socket.
    guest_socket.join(socket.id());
    guest_socket.join("lobby");
    assert_eq!(guest.event().0, "presence:state");
    socket.join("lobby");
    assert_eq!(client.event().0, "presence:state");
    guest.expect("presence:join", json!(["lobby", { "id": client.id }]));
    socket.leave("lobby");
    guest.expect("presence:leave", json!(["lobby", { "id": client.id }]));
}

#[test]
fn presence_counts_sockets_of_one_id() {
    let io = Io::builder().generate_socket_id(|_: &_, _: &_| "same").build();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let mut clients = [(); 3].map(|()| Client::connect(Kind::WebSocket, &server.dial));
    let [first, second, third] = sockets.take(3).try_into().expect("three");
    first.join("lobby");
    io.presence(Presence::in_room("lobby"));
    second.join("lobby");
    clients[1].expect("presence:state", json!(["lobby", who(&["same", "same"])]));
    clients[0].expect("presence:join", json!(["lobby", { "id": "same" }]));
    third.join("lobby");
    clients[2].expect("presence:state", json!(["lobby", who(&["same", "same", "same"])]));
    second.leave("lobby");
    clients[0].expect("presence:join", json!(["lobby", { "id": "same" }]));
    clients[0].expect("presence:leave", json!(["lobby", { "id": "same" }]));
}

#[test]
fn presence_joins_running_change_stream() {
    const TIMES: usize = 20;
    let (io, server, sockets) = open();
    // A watcher is active already, so changes are in flight when presence is enabled.
    io.on_room_change(|_| thread::yield_now());
    let mut client = Client::connect(Kind::WebSocket, &server.dial);
    sockets.next().join("lobby");
    let _others: Vec<_> = (0..3).map(|_| Client::connect(Kind::Plain, &server.dial)).collect();
    let moving = sockets.take(3);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for socket in &moving {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    socket.join("lobby");
                    socket.leave("lobby");
                }
            });
        }
        for time in 0..TIMES {
            let [state, join, leave] = ["state", "in", "out"].map(|name| format!("{name} {time}"));
            io.presence(Presence::in_room("lobby").named(&state, &join, &leave));
        }
        over.store(true, Ordering::Relaxed);
    });
    // In the notices each socket alternates between joining and leaving, and ends with a leave.
    io.emit("end", ()).expect("a valid name");
    let mut last: BTreeMap<(String, String), String> = BTreeMap::new();
    loop {
        let (name, args) = client.event();
        let Some((what, time)) = name.split_once(' ') else { break };
        let who = args[1]["id"].as_str().expect("an id").to_owned();
        let before = last.insert((time.to_owned(), who), what.to_owned());
        assert_ne!(before.as_deref(), Some(what), "duplicate or lost notice: {name}");
    }
    let came_last: Vec<_> = last.iter().filter(|(_, what)| *what == "in").collect();
    assert!(came_last.is_empty(), "{came_last:?}");
}
