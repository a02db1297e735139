//! Clients whose connection breaks and that reconnect.

use std::time::Duration;

use roomcast_server::emit::Receipt;
use roomcast_server::namespace::Namespace;
use roomcast_server::socket::{CloseReason, RecoveryRefused};
use roomcast_server::{Auth, Bytes, Config, ConnectError, EmitError, Io, Socket, Value};
use serde_json::json;

use crate::support::dial::Dial;
use crate::support::engine::Engine;
use crate::support::recorder::{Gate, Recorder, arrivals, ear};
use crate::support::serve::{On, Running, serve, serve_on, until};
use crate::support::ws::Message;

const PATH: &str = "/socket.io/";

/// Socket.IO client that exposes each raw message.
pub(crate) struct Returner {
    pub(crate) engine: Engine,
    pub(crate) sid: String,
    pid: Option<String>,
    /// Messages received before the welcome.
    pub(crate) missed: Vec<Message>,
}

impl Returner {
    pub(crate) fn connect(dial: &Dial) -> Self {
        Self::connect_with(dial, "/", &json!({}))
    }

    pub(crate) fn connect_with(dial: &Dial, namespace: &str, auth: &Value) -> Self {
        Self::begin(Engine::websocket(dial, PATH), namespace, auth)
    }

    pub(crate) fn begin(mut engine: Engine, namespace: &str, auth: &Value) -> Self {
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        engine.send(format!("0{prefix}{auth}").into());
        let mut missed = Vec::new();
        loop {
            let message = engine.receive().expect("the client connects");
            if let Message::Text(text) = &message
                && let Some(welcome) = text.strip_prefix(&format!("0{prefix}"))
            {
                let welcome: Value = serde_json::from_str(welcome).expect("JSON");
                let sid = welcome["sid"].as_str().expect("an id").to_owned();
                let pid = welcome["pid"].as_str().map(str::to_owned);
                assert_eq!(
                    welcome.as_object().map(|fields| fields.len()),
                    Some(1 + usize::from(pid.is_some()))
                );
                return Self { engine, sid, pid, missed };
            }
            missed.push(message);
        }
    }

    /// Returns the auth for recovery, with the offset of the last event received.
    pub(crate) fn shows(&self, offset: Option<&str>) -> Value {
        offset
            .map_or_else(|| json!({ "pid": self.pid }), |offset| json!({ "pid": self.pid, "offset": offset }))
    }

    /// Breaks the connection.
    pub(crate) fn vanish(self) -> (String, Value) {
        let (sid, shows) = (self.sid.clone(), self.shows(None));
        drop(self.engine);
        (sid, shows)
    }

    /// Returns the next event: its arguments and its offset.
    pub(crate) fn hear(&mut self) -> (Vec<Value>, String) {
        let Ok(Message::Text(text)) = self.engine.receive() else { panic!("no event") };
        event(&text)
    }
}

pub(crate) fn event(text: &str) -> (Vec<Value>, String) {
    let mut list: Vec<Value> = serde_json::from_str(text.trim_start_matches('2')).expect("an event");
    let offset = list.pop().and_then(|offset| offset.as_str().map(str::to_owned)).expect("an offset");
    (list, offset)
}

pub(crate) fn names(messages: &[Message]) -> Vec<String> {
    let texts = messages.iter().filter_map(|message| match message {
        Message::Text(text) => Some(event(text).0[0].as_str().expect("an event name").to_owned()),
        Message::Binary(_) => None,
    });
    texts.collect()
}

fn on() -> Config {
    Config::new().recovery(|recovery| recovery)
}

/// Starts a server that passes its sockets to the test.
fn open(config: Config) -> (Io, Running, Recorder<Socket>) {
    let io = Io::builder().config(config).build();
    let ear = arrivals(&io);
    let server = serve(&io);
    (io, server, ear)
}

fn gone(io: &Io, sid: &str) {
    until(|| io.count(sid) == 0);
}

#[test]
fn sends_no_recovery_data_when_disabled() {
    let (io, server, sockets) = open(Config::new());
    let mut client = Returner::connect(&server.dial);
    assert_eq!(client.pid, None);
    let socket = sockets.next();
    socket.emit("event", 1).expect("a valid emit");
    io.emit("event", ()).expect("a valid emit");
    assert_eq!(client.engine.receive(), Ok("2[\"event\",1]".to_owned().into()));
    assert_eq!(client.engine.receive(), Ok("2[\"event\"]".to_owned().into()));
    let (sid, _) = client.vanish();
    gone(&io, &sid);
    let back = Returner::connect_with(&server.dial, "/", &json!({ "pid": "p", "offset": "o" }));
    assert_ne!(back.sid, sid);
    assert!(!sockets.next().recovered());
    assert_eq!(io.metrics().recovered(), 0);
    assert!(RecoveryRefused::ALL.iter().all(|reason| io.metrics().recovery_refused(*reason) == 0));
}

#[test]
fn restores_state_and_replays_before_welcome() {
    let (io, server, sockets) = open(on());
    let mut client = Returner::connect(&server.dial);
    let socket = sockets.next();
    assert!(!socket.recovered());
    assert!(socket.join("red"));
    socket.set_data(&json!({ "name": "ada" })).expect("valid JSON");
    socket.emit("heard", "x").expect("a valid emit");
    let (heard, offset) = client.hear();
    assert_eq!(heard, [json!("heard"), json!("x")]);
    io.to("red").emit("lost on the way", ()).expect("a valid emit");
    let shows = client.shows(Some(&offset));
    let (sid, _) = client.vanish();
    gone(&io, &sid);
    io.to("red").emit("binary", Bytes::from_static(b"\x01\x02")).expect("a valid emit");
    io.to("blue").emit("others", ()).expect("a valid emit");
    io.to(sid.as_str()).emit("itself", ()).expect("a valid emit");
    // Events with an ack and volatile events are not retained.
    io.main().target().volatile().emit("volatile", ()).expect("a valid emit");
    assert_eq!(io.metrics().recovered(), 0);
    let mut client = Returner::connect_with(&server.dial, "/", &shows);
    assert_eq!(client.sid, sid);
    assert_eq!(names(&client.missed[..1]), ["lost on the way"]);
    let Message::Text(binary) = &client.missed[1] else { panic!("text first") };
    assert!(binary.starts_with(r#"51-["binary",{"_placeholder":true,"num":0},""#), "{binary}");
    assert_eq!(client.missed[2], Message::Binary(vec![1, 2]));
    assert_eq!(names(&client.missed[3..]), ["itself"]);
    let socket = sockets.next();
    assert!(socket.recovered());
    assert_eq!(socket.id().as_str(), sid);
    assert_eq!(socket.rooms().iter().map(|room| room.as_str()).collect::<Vec<_>>(), [&*sid, "red"]);
    assert_eq!(socket.data::<Value>().expect("valid JSON"), Some(json!({ "name": "ada" })));
    io.to("red").emit("now", ()).expect("a valid emit");
    assert_eq!(client.hear().0, [json!("now")]);
    assert_eq!(io.metrics().recovered(), 1);
}

#[test]
fn recovers_only_after_connection_loss() {
    let (io, server, sockets) = open(on().limits(|limits| limits.outbox_limit(10_000).max_payload(100_000)));
    let (reasons, reason) = ear();
    io.on_disconnect(move |why: CloseReason| {
        let _ = reasons.send(why);
        async {}
    });
    type End = fn(&Io, &Socket, &mut Engine);
    let ends: [(CloseReason, End, bool); 7] = [
        (CloseReason::ServerNamespaceDisconnect, |_, socket, _| socket.disconnect(), false),
        (CloseReason::ServerNamespaceDisconnect, |_, socket, _| socket.disconnect_client(), false),
        (CloseReason::ClientNamespaceDisconnect, |_, _, engine| engine.send("1".to_owned().into()), false),
        (CloseReason::ServerShutdown, |io, _, _| io.close(), true),
        (CloseReason::ForcedClose, |_, _, engine| engine.send("0".to_owned().into()), true),
        (CloseReason::ParseError, |_, _, engine| engine.send_packets(vec!["x".to_owned().into()]), false),
        (
            CloseReason::SlowConsumer,
            |io, _, _| {
                // The first frame always fits, so several are needed.
                (0..3).for_each(|_| _ = io.emit("large", "x".repeat(20_000_000)).expect("a valid emit"));
            },
            false,
        ),
    ];
    for (expected, end, recovers) in ends {
        let mut client = Returner::connect(&server.dial);
        let socket = sockets.next();
        end(&io, &socket, &mut client.engine);
        assert_eq!(reason.next(), expected);
        let (sid, shows) = client.vanish();
        gone(&io, &sid);
        let back = Returner::connect_with(&server.dial, "/", &shows);
        assert_eq!((back.sid == sid, sockets.next().recovered()), (recovers, recovers), "{expected}");
        let (sid, _) = back.vanish();
        gone(&io, &sid);
        reason.next();
    }
}

#[test]
fn replays_events_lost_before_timeout() {
    // Long enough for clients that respond, on a busy machine.
    let moment = Duration::from_secs(3);
    let (io, server, sockets) =
        open(on().timeouts(|timeouts| timeouts.ping_interval(moment).ping_timeout(moment)));
    let mut client = Returner::connect(&server.dial);
    sockets.next().emit("heard", ()).expect("a valid emit");
    let (_, offset) = client.hear();
    io.emit("into the void", ()).expect("a valid emit");
    // It reads no more and so answers no ping.
    gone(&io, &client.sid);
    io.emit("missed", ()).expect("a valid emit");
    let back = Returner::connect_with(&server.dial, "/", &client.shows(Some(&offset)));
    assert_eq!((&back.sid, back.pid.as_deref()), (&client.sid, client.pid.as_deref()));
    assert_eq!(names(&back.missed), ["into the void", "missed"]);
}

#[test]
fn recovers_over_polling() {
    let (io, server, sockets) = open(on());
    let client = Returner::begin(Engine::polling(&server.dial, PATH), "/", &json!({}));
    drop(sockets.next());
    let (shows, sid) = (client.shows(None), client.sid.clone());
    client.engine.close();
    gone(&io, &sid);
    io.emit("missed", 1).expect("a valid emit");
    io.emit("missed", Bytes::from_static(b"x")).expect("a valid emit");
    let back = Returner::begin(Engine::polling(&server.dial, PATH), "/", &shows);
    assert_eq!((back.sid, back.missed.len()), (sid, 3));
}

#[test]
fn replays_events_emitted_during_middleware() {
    let (io, server, sockets) = open(Config::new().recovery(|recovery| recovery.skip_middlewares(false)));
    let (asked, ask) = ear();
    let gate = Gate::closed();
    let passes = gate.clone();
    io.main().middleware(move |socket: Socket, Auth(auth): Auth<Value>| {
        let (asked, passes) = (asked.clone(), passes.clone());
        async move {
            let _ = asked.send((socket.recovered(), socket.id().to_string()));
            if auth["waits"] == true {
                passes.pass().await;
            }
            if auth["refuse"] == true { Err(ConnectError::new("refused")) } else { Ok(()) }
        }
    });
    let client = Returner::connect(&server.dial);
    assert_eq!(ask.next(), (false, client.sid.clone()));
    drop(sockets.next());
    let (sid, mut shows) = client.vanish();
    gone(&io, &sid);
    // A rejected client keeps its retained session.
    let mut refused = Engine::websocket(&server.dial, PATH);
    shows["refuse"] = true.into();
    refused.send(format!("0{shows}").into());
    assert_eq!(refused.receive(), Ok("4{\"message\":\"refused\"}".to_owned().into()));
    assert_eq!(ask.next(), (true, sid.clone()));
    shows["refuse"] = false.into();
    shows["waits"] = true.into();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| Returner::connect_with(&server.dial, "/", &shows));
        assert_eq!(ask.next(), (true, sid.clone()));
        // Meanwhile a second client with the same token gets a new session.
        let second = Returner::connect_with(&server.dial, "/", &json!({ "pid": shows["pid"] }));
        assert_ne!(second.sid, sid);
        assert_eq!(ask.next(), (false, second.sid.clone()));
        assert_eq!(io.metrics().recovery_refused(RecoveryRefused::Unknown), 1);
        io.emit("at the door", ()).expect("a valid emit");
        gate.open();
        let first = first.join().expect("the client connects");
        assert_eq!((first.sid, names(&first.missed)), (sid, vec!["at the door".to_owned()]));
    });
}

#[test]
fn recovers_each_namespace_separately() {
    let (io, server, _sockets) = open(on());
    let chat = io.of("/chat");
    let main = Returner::connect(&server.dial);
    let mut engine = Engine::websocket(&server.dial, PATH);
    engine.send("0/chat,".to_owned().into());
    let Ok(Message::Text(welcome)) = engine.receive() else { panic!("a welcome") };
    let welcome: Value =
        serde_json::from_str(welcome.strip_prefix("0/chat,").expect("of this one")).expect("JSON");
    drop(engine);
    let sid = welcome["sid"].as_str().expect("an id").to_owned();
    until(|| chat.count(sid.as_str()) == 0);
    assert_eq!(*chat.name(), Namespace::new("/chat"));
    chat.emit("missed", ()).expect("a valid emit");
    let elsewhere = Returner::connect_with(&server.dial, "/", &json!({ "pid": welcome["pid"] }));
    assert_ne!(elsewhere.sid, sid);
    let back = Returner::connect_with(&server.dial, "/chat", &json!({ "pid": welcome["pid"] }));
    assert_eq!((back.sid, back.missed.len()), (sid, 1));
    drop(main);
}

#[test]
fn counts_recovery_outcomes_and_retained_state() {
    let io = Io::builder().config(Config::new().recovery(|recovery| recovery.max_log_events(10))).build();
    let server = serve_on(&io, On::Threads(2));
    let away = |said: &dyn Fn(&Returner) -> Value| {
        let client = Returner::connect(&server.dial);
        let (shows, (sid, _)) = (said(&client), client.vanish());
        gone(&io, &sid);
        (shows, sid)
    };
    let (nonsense, sid) = away(&|client| client.shows(Some("hello")));
    assert_ne!(Returner::connect_with(&server.dial, "/", &nonsense).sid, sid);
    let (overflown, sid) = away(&|client| client.shows(None));
    (0..11).for_each(|number| _ = io.emit("event", number).expect("a valid emit"));
    assert_ne!(Returner::connect_with(&server.dial, "/", &overflown).sid, sid);
    let counted = RecoveryRefused::ALL.map(|reason| (reason.as_str(), io.metrics().recovery_refused(reason)));
    assert_eq!(
        counted,
        [("unknown", 0), ("expired", 0), ("offset", 1), ("overflow", 1), ("too_much", 0), ("unavailable", 0)]
    );
    let metrics =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(io.openmetrics());
    for line in [
        "roomcast_recovered_total 0",
        "roomcast_recovery_refused_total{reason=\"overflow\"} 1",
        "roomcast_recovery_log_events{namespace=\"/\"} 10",
    ] {
        assert!(metrics.lines().any(|shown| shown == line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains("roomcast_recovery_log_bytes{namespace=\"/\"} "));
    assert!(metrics.contains("roomcast_recovery_sessions{namespace=\"/\"} "));
}

#[test]
fn flooding_client_does_not_prevent_recovery() {
    let io = Io::builder()
        .config(Config::new().recovery(|recovery| recovery.max_log_events(100).max_sessions(100)))
        .build();
    let sockets = arrivals(&io);
    io.on("say", |socket: Socket, later: bool| async move {
        if later {
            tokio::task::yield_now().await;
        }
        socket.namespace().to("own").emit("said", ()).map(drop)
    });
    let server = serve(&io);
    let victim = Returner::connect(&server.dial);
    let socket = sockets.take(1).remove(0);
    socket.join("red");
    let (sid, shows) = victim.vanish();
    until(|| !socket.is_connected());
    // Simulates a client with another address.
    io.to("red").emit("missed", ()).expect("a valid name");
    let mut attacker = Returner::connect(&server.dial);
    for number in 0..500 {
        attacker.engine.send(format!(r#"2["say",{}]"#, number % 2 == 0).into());
    }
    attacker.engine.send(r#"21["unheard"]"#.into());
    drop(attacker);
    until(|| io.client_count() == 0);
    let returned = Returner::connect_with(&server.dial, "/", &shows);
    assert_eq!(returned.sid, sid);
    assert_eq!(names(&returned.missed), ["missed"]);
}

/// Starts a server that records close reasons and disconnects a client that sends `bad`.
fn strict() -> (Io, Running, Recorder<Socket>, Recorder<CloseReason>) {
    let (io, server, sockets) = open(on());
    let (told, reasons) = ear();
    io.on_disconnect(move |why: CloseReason| _ = told.send(why));
    io.on(
        "bad",
        |socket: &Socket, whole: bool| {
            if whole { socket.disconnect_client() } else { socket.disconnect() }
        },
    );
    (io, server, sockets, reasons)
}

#[test]
fn disconnect_takes_precedence_over_later_errors() {
    let (_io, server, sockets, reasons) = strict();
    // A close packet, an invalid packet, and one that violates the Socket.IO protocol.
    for after in ["1", "x", "4nonsense"] {
        for whole in [false, true] {
            let mut client = Returner::connect(&server.dial);
            drop(sockets.next());
            client.engine.send_packets(vec![format!("42[\"bad\",{whole}]").into(), after.into()]);
            assert_eq!(reasons.next(), CloseReason::ServerNamespaceDisconnect, "{after}");
            assert_eq!(
                client.engine.receive(),
                Ok("1".into()),
                "the disconnect arrives before {after} closes it"
            );
            let (sid, shows) = client.vanish();
            let back = Returner::connect_with(&server.dial, "/", &shows);
            assert_ne!(back.sid, sid);
            assert!(!sockets.next().recovered());
            drop(back);
            assert_eq!(reasons.next(), CloseReason::TransportClose);
        }
    }
}

#[test]
fn disconnect_from_another_thread_is_final() {
    let (io, server, sockets, reasons) = strict();
    for round in 0..60 {
        let client = Returner::connect(&server.dial);
        let socket = sockets.next();
        let (sid, shows) = std::thread::scope(|scope| {
            scope.spawn(|| {
                // Before, while or after the server notices that the connection broke.
                (0..round * 1_000).for_each(|_| std::hint::spin_loop());
                if round % 2 == 0 {
                    socket.disconnect()
                } else {
                    socket.disconnect_client()
                }
                assert_eq!(io.count(socket.id()), 0);
            });
            client.vanish()
        });
        reasons.next();
        let back = Returner::connect_with(&server.dial, "/", &shows);
        assert_ne!(back.sid, sid, "round {round}");
        assert!(!sockets.next().recovered());
        drop(back);
        reasons.next();
    }
}

#[test]
fn disconnects_recovered_socket_by_old_handle() {
    let (io, server, sockets, reasons) = strict();
    let client = Returner::connect(&server.dial);
    let before = sockets.next();
    let (sid, shows) = client.vanish();
    assert_eq!(reasons.next(), CloseReason::TransportClose);
    let mut back = Returner::connect_with(&server.dial, "/", &shows);
    assert_eq!(back.sid, sid);
    before.disconnect();
    assert_eq!(io.count(&*sid), 0);
    assert_eq!(back.engine.receive(), Ok("1".into()));
    assert_eq!(reasons.next(), CloseReason::ServerNamespaceDisconnect);
    assert!(sockets.next().recovered());
}

#[test]
fn join_hooks_may_act_during_recovery() {
    let (io, server, sockets, reasons) = strict();
    let client = Returner::connect(&server.dial);
    sockets.next().join("red");
    let (sid, shows) = client.vanish();
    reasons.next();
    let (told, seen) = ear();
    let all = io.clone();
    io.on_join_room(move |room, id| {
        if room.as_str() == id.as_str() {
            let socket = all.socket(id).expect("a connected socket");
            let reached = socket.broadcast().emit("newcomer", ()).expect("a valid name").queued;
            let _ = told.send((socket.join("hall"), reached));
            socket.disconnect();
        }
    });
    let mut back = Returner::connect_with(&server.dial, "/", &shows);
    assert_eq!(back.sid, sid);
    assert_eq!(seen.next(), (true, 0));
    assert_eq!(back.engine.receive(), Ok("1".into()));
    assert_eq!(reasons.next(), CloseReason::ServerNamespaceDisconnect);
    assert_eq!(["red", "hall", &*sid].map(|room| io.count(room)), [0; 3]);
    assert_ne!(Returner::connect_with(&server.dial, "/", &shows).sid, sid);
}

#[test]
fn old_handle_works_after_recovery() {
    let (io, server, sockets, reasons) = strict();
    let client = Returner::connect(&server.dial);
    let mut other = Returner::connect(&server.dial);
    let before =
        [sockets.next(), sockets.next()].into_iter().find(|socket| socket.id().as_str() == client.sid);
    let before = before.expect("a socket");
    let (sid, shows) = client.vanish();
    reasons.next();
    // While disconnected, it is excluded from its own broadcasts, and emits to it are retained.
    for emit in [before.broadcast(), before.to(&*sid), before.except("blue"), before.volatile().broadcast()] {
        emit.emit("not for itself", ()).expect("a valid emit");
    }
    assert_eq!(before.emit("while away", ()).expect("a valid emit"), Receipt::default());
    before.set_data(&json!({ "kept": "while away" })).expect("valid JSON");
    let mut back = Returner::connect_with(&server.dial, "/", &shows);
    assert_eq!((&back.sid, names(&back.missed)), (&sid, vec!["while away".to_owned()]));
    let after = sockets.next();
    assert_eq!(after.data::<Value>().expect("valid JSON"), Some(json!({ "kept": "while away" })));
    for emit in [before.broadcast(), before.to(&*sid), before.except("blue"), before.volatile().broadcast()] {
        emit.emit("not for itself", ()).expect("a valid emit");
    }
    assert_eq!(before.emit("after", ()).expect("a valid emit").queued, 1);
    assert_eq!(back.hear().0, [json!("after")]);
    before.volatile().emit("volatile", ()).expect("a valid emit");
    assert_eq!(back.engine.receive(), Ok("2[\"volatile\"]".into()));
    let asked = {
        let before = before.clone();
        server.spawn(async move { before.timeout(Duration::from_secs(60)).emit_with_ack("asks", ()).await })
    };
    let Ok(Message::Text(question)) = back.engine.receive() else { panic!("no ack request") };
    let ack = question.trim_start_matches('2').split('[').next().expect("an ack id").to_owned();
    back.engine.send(format!("3{ack}[5]").into());
    assert_eq!(asked.join().expect("an answer").get::<u32>(0), Ok(5));
    assert!(before.join("red") && after.leave("red"));
    assert_eq!(before.rooms(), after.rooms());
    before.set_data(&5).expect("valid JSON");
    after.set_data(&(after.data::<u32>().expect("valid JSON").expect("it is set") + 1)).expect("valid JSON");
    assert_eq!(before.data::<u32>().expect("valid JSON"), Some(6));
    // The other client received every broadcast, twice except for the volatile one that came while it was not reading.
    assert!(other.hear().0 == [json!("not for itself")]);
    assert_eq!(io.count(&*sid), 1);
}

#[test]
fn old_handle_ignores_equal_id_socket() {
    let io = Io::builder().config(on()).generate_socket_id(|_: &_, _: &_| "same").build();
    let sockets = arrivals(&io);
    let server = serve(&io);
    let client = Returner::connect(&server.dial);
    let before = sockets.next();
    before.disconnect();
    drop(client);
    let mut stranger = Returner::connect(&server.dial);
    assert_eq!(stranger.sid, "same");
    assert!(!sockets.next().recovered());
    assert!(matches!(before.emit("not for strangers", ()), Err(EmitError::Disconnected)));
    assert_eq!(before.broadcast().emit("for strangers", ()).expect("a valid emit").queued, 1);
    assert_eq!(stranger.hear().0, [json!("for strangers")]);
    before.disconnect();
    assert!(!before.join("red") && before.rooms().is_empty());
    io.emit("last", ()).expect("a valid emit");
    assert_eq!(stranger.hear().0, [json!("last")]);
}
