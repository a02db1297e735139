//! Clients that return before their old connection is known to be dead.

use roomcast_server::socket::{CloseReason, RecoveryRefused};
use roomcast_server::{Config, Io, Socket, Value};
use serde_json::json;

use crate::recovery::{Returner, event, names};
use crate::support::engine::Engine;
use crate::support::recorder::{Recorder, Teller, ear};
use crate::support::serve::{On, Running, serve, serve_on, until};
use crate::support::ws::{Ended, Message, Ws};

/// Report of a handler.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// Whether the socket is recovered.
    Connect(bool),
    Disconnect(CloseReason),
}

use Report::{Connect, Disconnect};

struct Scene {
    io: Io,
    server: Running,
    reports: Recorder<Report>,
    sockets: Recorder<Socket>,
}

fn report(io: &Io, tell: Teller<Report>) -> Recorder<Socket> {
    let (told, sockets) = ear();
    let connects = tell.clone();
    io.on_connect(move |socket: Socket| {
        let _ = connects.send(Connect(socket.recovered()));
        let _ = told.send(socket);
        async {}
    });
    io.on_disconnect(move |reason: CloseReason| {
        let _ = tell.send(Disconnect(reason));
        async {}
    });
    sockets
}

fn open_on(config: Config, on: Option<On>) -> Scene {
    let io = Io::builder().config(config).build();
    let (tell, reports) = ear();
    let sockets = report(&io, tell);
    let server = on.map_or_else(|| serve(&io), |on| serve_on(&io, on));
    Scene { io, server, reports, sockets }
}

fn open() -> Scene {
    open_on(Config::new().recovery(|recovery| recovery), None)
}

impl Scene {
    fn expect(&self, reports: &[Report]) {
        assert_eq!(self.reports.take(reports.len()), reports);
        assert_eq!(self.reports.all(), []);
    }

    fn takes_over(&self, namespace: &str, shows: &Value) -> Returner {
        Returner::connect_with(&self.server.dial, namespace, shows)
    }
}

const TAKEN_OVER: [Report; 2] = [Disconnect(CloseReason::TakenOver), Connect(true)];

#[test]
fn takes_over_live_session() {
    let scene = open();
    let mut old = Returner::connect(&scene.server.dial);
    let socket = scene.sockets.next();
    assert!(socket.join("red"));
    socket.set_data(&json!({ "name": "ada" })).expect("valid JSON");
    scene.io.to("red").emit("heard", ()).expect("a valid emit");
    let (_, offset) = old.hear();
    // Written to the old connection, whose client does not read it.
    scene.io.to("red").emit("lost", 1).expect("a valid emit");
    socket.emit("lost", 2).expect("a valid emit");
    let mut back = scene.takes_over("/", &old.shows(Some(&offset)));
    assert_eq!((&back.sid, back.missed.len()), (&old.sid, 2));
    assert_eq!(names(&back.missed), ["lost", "lost"]);
    scene.expect(&[Connect(false), Disconnect(CloseReason::TakenOver), Connect(true)]);
    let after = scene.sockets.next();
    assert_eq!(after.rooms(), [old.sid.as_str(), "red"].map(Into::into));
    assert_eq!(after.data::<Value>().expect("valid JSON"), Some(json!({ "name": "ada" })));
    assert!(!socket.is_connected() && after.is_connected());
    // The old handle refers to the recovered client.
    socket.emit("to both", ()).expect("a valid emit");
    assert_eq!(back.hear().0, [json!("to both")]);
    assert_eq!((scene.io.count(&*old.sid), scene.io.sockets().len()), (1, 1));
    assert_eq!((scene.io.metrics().recovered(), scene.io.count("red")), (1, 1));
    // The old connection gets a DISCONNECT, and is closed.
    let mut heard = Vec::new();
    while let Ok(Message::Text(text)) = old.engine.receive() {
        heard.push(text);
    }
    assert_eq!(heard.last().map(String::as_str), Some("1"), "{heard:?}");
    assert!(heard.iter().all(|text| !text.contains("to both")));
    until(|| scene.io.client_count() == 1);
}

#[test]
fn takes_over_while_polling() {
    let scene = open();
    let old = Returner::begin(Engine::polling(&scene.server.dial, "/socket.io/"), "/", &json!({}));
    scene.io.emit("lost", 1).expect("a valid emit");
    scene.io.emit("lost", 2).expect("a valid emit");
    let engine = Engine::polling(&scene.server.dial, "/socket.io/");
    let back = Returner::begin(engine, "/", &old.shows(None));
    assert_eq!((&back.sid, names(&back.missed).len()), (&old.sid, 2));
    scene.expect(&[Connect(false), Disconnect(CloseReason::TakenOver), Connect(true)]);
    until(|| scene.io.client_count() == 1);
}

#[test]
fn takes_over_in_json_mode() {
    let scene = open();
    let open = |query: &str| Ws::open(&scene.server.dial, &format!("/ws{query}"), Some("roomcast.json"));
    let text = |ws: &mut Ws| match ws.receive() {
        Ok(Message::Text(text)) => serde_json::from_str::<Value>(&text).expect("JSON"),
        other => panic!("{other:?}"),
    };
    let mut old = open("");
    let welcome = text(&mut old);
    let (sid, pid) = (welcome[0]["sid"].clone(), welcome[0]["pid"].as_str().expect("a token").to_owned());
    scene.io.emit("heard", 0).expect("a valid emit");
    let offset = text(&mut old)[0]["offset"].as_str().expect("an offset").to_owned();
    (1..=3).for_each(|number| _ = scene.io.emit("lost", number).expect("a valid emit"));
    let mut back = open(&format!("?pid={pid}&offset={offset}"));
    let welcome = text(&mut back);
    assert_eq!((&welcome[0]["sid"], &welcome[0]["pid"]), (&sid, &json!(pid)));
    let missed: Vec<_> = (0..3).map(|_| text(&mut back)[2].clone()).collect();
    assert_eq!(missed, [json!(1), json!(2), json!(3)]);
    scene.expect(&[Connect(false), Disconnect(CloseReason::TakenOver), Connect(true)]);
    let end = loop {
        if let Err(end) = old.receive() {
            break end;
        }
    };
    assert_eq!(end, Ended { code: Some(4409), reason: "session taken over".into() });
}

#[test]
fn replays_full_outbox_of_old_connection() {
    let scene = open();
    let mut old = Returner::connect(&scene.server.dial);
    scene.io.emit("heard", ()).expect("a valid emit");
    let (_, offset) = old.hear();
    // Far more than the buffers of the kernel, so that most of it waits in the outbox.
    let large = "x".repeat(1 << 20);
    (0..12).for_each(|number| _ = scene.io.emit("large", (number, &large)).expect("a valid emit"));
    let back = scene.takes_over("/", &old.shows(Some(&offset)));
    assert_eq!(back.sid, old.sid);
    let numbers = back.missed.iter().map(|message| match message {
        Message::Text(text) => event(text).0[1].as_u64(),
        Message::Binary(_) => None,
    });
    assert!(numbers.eq((0..12).map(Some)));
    scene.expect(&[Connect(false), Disconnect(CloseReason::TakenOver), Connect(true)]);
    // Waits neither for the old client nor for its outbox.
    until(|| scene.io.client_count() == 1);
}

#[test]
fn concurrent_takeovers_have_one_winner() {
    let scene = open_on(Config::new().recovery(|recovery| recovery), Some(On::Threads(3)));
    let mut old = Returner::connect(&scene.server.dial);
    scene.expect(&[Connect(false)]);
    for round in 0..40 {
        scene.io.emit("missed", round).expect("a valid emit");
        let shows = old.shows(None);
        let dial = &scene.server.dial;
        let [one, two] = std::thread::scope(|scope| {
            let dials = [(); 2].map(|()| scope.spawn(|| Returner::connect_with(dial, "/", &shows)));
            dials.map(|dial| dial.join().expect("the client connects"))
        });
        let sockets = scene.io.sockets();
        assert_eq!(sockets.iter().filter(|socket| socket.id().as_str() == old.sid).count(), 1);
        let (sid, offset) = (old.sid.clone(), round);
        // Either one wins and the other starts a new session, or the second one also takes over from the first.
        let winners = [&one, &two].into_iter().filter(|client| client.sid == sid).count();
        let reports = scene.reports.take(if winners == 1 { 3 } else { 4 });
        let count = |report: &Report| reports.iter().filter(|seen| *seen == report).count();
        assert_eq!(count(&TAKEN_OVER[0]), winners, "{reports:?}");
        assert_eq!((count(&Connect(true)), count(&Connect(false))), (winners, 2 - winners), "{reports:?}");
        let live = sockets.into_iter().find(|socket| socket.id().as_str() == sid).expect("a winner");
        live.emit("whose", offset).expect("a valid emit");
        let [mut one, mut two] = [one, two];
        let is_one = one.sid == sid && hears(&mut one, "whose");
        let is_two = two.sid == sid && !is_one && hears(&mut two, "whose");
        assert!(is_one || is_two, "the live connection hears its events");
        let (winner, loser) = if is_one { (one, two) } else { (two, one) };
        old = winner;
        if loser.sid != sid {
            let (sid, _) = loser.vanish();
            until(|| scene.io.count(&sid) == 0);
            assert_eq!(scene.reports.next(), Disconnect(CloseReason::TransportClose));
        }
    }
    assert_eq!(scene.reports.all(), []);
    assert_eq!(scene.io.sockets().len(), 1);
}

/// Reads up to an event of this name; `false` if the connection ends before.
fn hears(client: &mut Returner, name: &str) -> bool {
    loop {
        match client.engine.receive() {
            Ok(Message::Text(text)) if text.starts_with('2') && event(&text).0[0] == name => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[test]
fn takes_over_again_and_again() {
    let scene = open();
    let mut old = Returner::connect(&scene.server.dial);
    scene.expect(&[Connect(false)]);
    let mut offset = None;
    for round in 0..50 {
        scene.io.emit("missed", round).expect("a valid emit");
        let back = scene.takes_over("/", &old.shows(offset.as_deref()));
        let [Message::Text(missed)] = &back.missed[..] else { panic!("{:?}", back.missed) };
        let (args, at) = event(missed);
        assert_eq!((args, &back.sid), (vec![json!("missed"), json!(round)], &old.sid));
        offset = Some(at);
        scene.expect(&TAKEN_OVER);
        old = back;
    }
    assert_eq!((scene.io.sockets().len(), scene.io.metrics().recovered()), (1, 50));
    assert!(RecoveryRefused::ALL.iter().all(|reason| scene.io.metrics().recovery_refused(*reason) == 0));
    until(|| scene.io.client_count() == 1);
}

#[test]
fn emits_during_takeovers_arrive_once_in_order() {
    let scene = open_on(Config::new().recovery(|recovery| recovery), Some(On::Threads(3)));
    let mut client = Returner::connect(&scene.server.dial);
    let (mut offset, mut heard) = (None, Vec::new());
    let (total, io) = (3_000, &scene.io);
    std::thread::scope(|scope| {
        scope.spawn(move || (0..total).for_each(|number| _ = io.emit("e", number).expect("a valid emit")));
        let mut hear = |message: &Message, offset: &mut Option<String>| {
            let Message::Text(text) = message else { panic!("binary") };
            let (args, at) = event(text);
            heard.push(args[1].as_u64().expect("a number"));
            *offset = Some(at);
            heard.last() == Some(&(total - 1))
        };
        loop {
            let mut is_last = false;
            for _ in 0..40 {
                is_last |= hear(&client.engine.receive().expect("an event"), &mut offset);
                if is_last {
                    return;
                }
            }
            let back = scene.takes_over("/", &client.shows(offset.as_deref()));
            assert_eq!(back.sid, client.sid);
            is_last |= back.missed.iter().any(|message| hear(message, &mut offset));
            client = back;
            if is_last {
                return;
            }
        }
    });
    assert!(heard.iter().copied().eq(0..total), "{heard:?}");
}

#[test]
fn other_namespaces_stay_recoverable() {
    let scene = open();
    let (tell, reports) = ear();
    let chat = scene.io.of("/chat");
    chat.on_disconnect(move |reason: CloseReason| {
        let _ = tell.send(reason);
        async {}
    });
    let mut old = Returner::connect(&scene.server.dial);
    old.engine.send("0/chat,".to_owned().into());
    let Ok(Message::Text(welcome)) = old.engine.receive() else { panic!("a welcome") };
    let welcome: Value = serde_json::from_str(welcome.trim_start_matches("0/chat,")).expect("JSON");
    let back = scene.takes_over("/", &old.shows(None));
    assert_eq!(back.sid, old.sid);
    // Its client may not return to this namespace.
    assert_eq!(reports.next(), CloseReason::TransportClose);
    chat.emit("missed", ()).expect("a valid emit");
    let other = scene.takes_over("/chat", &json!({ "pid": welcome["pid"] }));
    assert_eq!((other.sid.as_str(), other.missed.len()), (welcome["sid"].as_str().expect("an id"), 1));
}

#[test]
fn wrong_token_takes_over_nothing() {
    let scene = open();
    let mut old = Returner::connect(&scene.server.dial);
    for pid in [json!("guess"), json!(""), json!(old.sid)] {
        let stranger = scene.takes_over("/", &json!({ "pid": pid }));
        assert_ne!(stranger.sid, old.sid);
    }
    // The token is valid in its own namespace only.
    scene.io.of("/chat");
    assert_ne!(scene.takes_over("/chat", &old.shows(None)).sid, old.sid);
    assert!(scene.sockets.next().emit("still here", ()).expect("a valid emit").queued == 1);
    assert_eq!(old.hear().0, [json!("still here")]);
}

#[test]
fn refused_middleware_keeps_session_claimable() {
    let scene = open_on(Config::new().recovery(|recovery| recovery.skip_middlewares(false)), None);
    scene.io.main().middleware(|socket: Socket| async move {
        let refused = socket.auth::<Value>().is_ok_and(|auth| auth["refuse"] == true);
        if refused { Err(roomcast_server::ConnectError::new("refused")) } else { Ok(()) }
    });
    let old = Returner::connect(&scene.server.dial);
    let mut shows = old.shows(None);
    shows["refuse"] = true.into();
    let mut refused = Engine::websocket(&scene.server.dial, "/socket.io/");
    refused.send(format!("0{shows}").into());
    assert_eq!(refused.receive(), Ok("4{\"message\":\"refused\"}".to_owned().into()));
    shows["refuse"] = false.into();
    let back = scene.takes_over("/", &shows);
    assert_eq!(back.sid, old.sid);
    scene.expect(&[Connect(false), Disconnect(CloseReason::TakenOver), Connect(true)]);
}

#[test]
fn disconnect_during_takeover_is_final() {
    let scene = open();
    for round in 0..60 {
        let old = Returner::connect(&scene.server.dial);
        let socket = scene.sockets.next();
        let shows = old.shows(None);
        let back = std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..round * 2_000).for_each(|_| std::hint::spin_loop());
                // Before, while or after the client returns.
                socket.disconnect();
            });
            scene.takes_over("/", &shows)
        });
        let is_recovered = back.sid == old.sid;
        assert_eq!(scene.sockets.next().recovered(), is_recovered);
        assert_eq!(scene.io.count(&*old.sid), 0, "round {round}");
        drop((old, back));
        until(|| scene.io.client_count() == 0);
    }
}
