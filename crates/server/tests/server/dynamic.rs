//! Namespaces created on demand when a client connects to them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use roomcast_rooms::Rooms;
use roomcast_server::emit::Receipt;
use roomcast_server::metrics::Limit;
use roomcast_server::namespace::{Namespace, NamespaceError, NamespaceRequest};
use roomcast_server::rooms::Room;
use roomcast_server::{Ack, Config, ConnectError, Io, Socket, Value};
use serde_json::json;

use crate::support::client::{Client, ClientMessage, Heard, Kind, SOCKET_IO};
use crate::support::recorder::{Gate, Log, ear};
use crate::support::serve::{On, ends, serve, serve_on, until};

fn is_in(heard: &Heard, expected: &str) -> bool {
    matches!(heard, Heard::Joined { namespace, .. } if namespace == expected)
}

fn refused(namespace: &str, message: &str) -> Heard {
    Heard::Refused { namespace: namespace.into(), error: json!({ "message": message }) }
}

fn ask(client: &mut Client, namespace: &str, name: &str) -> Value {
    client.say(ClientMessage { namespace, ack: Some(7), name, args: json!([]) });
    match client.hear() {
        Heard::Answer { args, .. } => args,
        other => panic!("no answer but {other:?}"),
    }
}

#[test]
fn pattern_children_share_handlers_not_rooms() {
    let io = Io::new();
    let parent = io.of_pattern(r"^/room-\d+$").expect("a pattern");
    parent.on_connect(async |socket: Socket| assert!(socket.join("red")));
    parent.on("who", async |socket: Socket, ack: Ack| {
        let namespace = socket.namespace();
        ack.send((namespace.name().as_str(), namespace.count("red"))).map(drop)
    });
    let server = serve(&io);
    for (at, kind) in SOCKET_IO.into_iter().enumerate() {
        let mut client = Client::open(kind, &server.dial);
        assert!(is_in(&client.join("/room-1", json!(null)), "/room-1"));
        let own = format!("/room-1{at}");
        assert!(is_in(&client.join(&own, json!(null)), &own));
        for wrong in ["/room-", "/room-1x", "/x/room-1"] {
            assert_eq!(client.join(wrong, json!(null)), refused(wrong, "Invalid namespace"));
        }
        assert_eq!(ask(&mut client, "/room-1", "who"), json!(["/room-1", 1]));
        assert_eq!(ask(&mut client, &own, "who"), json!([own, 1]));
        assert_eq!(parent.count("red"), 2);
        assert_eq!(parent.children().len(), 2 + at);
        client.close();
        until(|| io.client_count() == 0);
        assert_eq!(parent.count("red"), 0);
    }
}

#[test]
fn parent_emit_reaches_each_child_once() {
    let io = Io::new();
    let parent = io.of_matching(|name| name.as_str().starts_with("/team/"));
    parent.on_connect(async |socket: Socket| {
        if socket.namespace().name().as_str() != "/team/c" {
            socket.join("red");
        }
    });
    io.of("/other");
    let server = serve(&io);
    let mut clients: Vec<_> = SOCKET_IO.iter().map(|kind| Client::connect(*kind, &server.dial)).collect();
    for client in &mut clients {
        for name in ["/team/a", "/team/b", "/team/c", "/other"] {
            assert!(is_in(&client.join(name, json!(null)), name));
        }
    }
    let queued = |queued| Receipt { queued, ..Receipt::default() };
    assert_eq!(parent.emit("all", 1).expect("a valid name"), queued(9));
    assert_eq!(parent.to("red").emit("red", 2).expect("a valid name"), queued(6));
    assert_eq!(parent.except("red").emit("rest", 3).expect("a valid name"), queued(3));
    for client in &mut clients {
        let mut heard = Vec::new();
        for _ in 0..6 {
            let Heard::Event { namespace, name, .. } = client.hear() else { panic!("no event") };
            heard.push(format!("{name} {namespace}"));
        }
        // Each namespace keeps its order; there is no order between namespaces.
        heard.sort();
        assert_eq!(
            heard,
            ["all /team/a", "all /team/b", "all /team/c", "red /team/a", "red /team/b", "rest /team/c"]
        );
    }
    // All recipients share one ack id, which no child uses for anything else.
    let answers = server.spawn({
        let parent = parent.clone();
        async move { parent.target().emit_with_ack("ask", ()).await.expect("a valid name") }
    });
    for client in &mut clients {
        for _ in 0..3 {
            let Heard::Event { namespace, ack: Some(ack), .. } = client.hear() else {
                panic!("no ack request")
            };
            let answer = format!("3{namespace},{ack}[{namespace:?}]");
            client.engine().send(answer.as_str().into());
        }
    }
    let answers = answers.join();
    assert!(answers.is_complete() && answers.answers.len() == 9, "{answers:?}");
}

#[test]
fn children_copy_handlers_at_creation() {
    let io = Io::new();
    let parent = io.of_pattern("^/child").expect("a pattern");
    parent.on("a", async |ack: Ack| ack.send("parent").map(drop)).serial(true);
    let server = serve(&io);
    let mut client = Client::open(Kind::WebSocket, &server.dial);
    assert!(is_in(&client.join("/child-1", json!(null)), "/child-1"));
    parent.on("b", async |ack: Ack| ack.send("later").map(drop));
    parent.children()[0].on("c", async |ack: Ack| ack.send("own").map(drop));
    assert!(is_in(&client.join("/child-2", json!(null)), "/child-2"));
    assert_eq!(ask(&mut client, "/child-1", "a"), json!(["parent"]));
    assert_eq!(ask(&mut client, "/child-1", "c"), json!(["own"]));
    assert_eq!(ask(&mut client, "/child-2", "b"), json!(["later"]));
    let unheard = |namespace, name| ClientMessage { namespace, ack: Some(1), name, args: json!([]) };
    client.emit_all(vec![unheard("/child-1", "b"), unheard("/child-2", "c")]);
    client.sync();
    assert_eq!(io.metrics().events_unhandled(), 2);
    // Creates a child by name, as on Node.
    let named = io.of("child-3");
    assert_eq!((named.name().as_str(), parent.children().len()), ("/child-3", 3));
    assert!(is_in(&client.join("/child-3", json!(null)), "/child-3"));
    assert_eq!(ask(&mut client, "/child-3", "a"), json!(["parent"]));
}

#[test]
fn predicate_decides_by_request_and_auth() {
    let asked = Log::default();
    let io = Io::new();
    let gate = Gate::closed();
    let (log, waits) = (asked.clone(), gate.clone());
    io.of_when(move |request: NamespaceRequest| {
        let (log, gate) = (log.clone(), waits.clone());
        async move {
            log.write(format!("first {} {}", request.name(), request.handshake().uri().contains("EIO=4")));
            match request.auth::<Value>().expect("an object")["wish"].as_str() {
                Some("wait") => gate.pass().await,
                Some("panic") => std::panic::resume_unwind(Box::new("boom")),
                Some("panic later") => {
                    tokio::task::yield_now().await;
                    std::panic::resume_unwind(Box::new("boom"))
                }
                _ => {}
            }
            request.auth::<Value>().is_ok_and(|auth| auth["token"] == "sesame")
        }
    });
    let log = asked.clone();
    let second = io.of_when(move |request: NamespaceRequest| {
        log.write(format!("second {}", request.name()));
        async move { request.name().as_str() == "/second" }
    });
    second.middleware(async || Err::<(), _>(ConnectError::new("not you").with_data(&json!({ "code": 7 }))));
    let server = serve(&io);
    for (at, kind) in SOCKET_IO.into_iter().enumerate() {
        let mut client = Client::open(kind, &server.dial);
        let name = format!("/first-{at}");
        for wish in ["", "panic", "panic later"] {
            assert_eq!(client.join(&name, json!({ "wish": wish })), refused(&name, "Invalid namespace"));
        }
        // Packets to the pending namespace are queued; other namespaces proceed.
        client.send_connect_to(&name, json!({ "token": "sesame", "wish": "wait" }));
        assert!(is_in(&client.join("/", json!(null)), "/"));
        gate.let_one_pass();
        assert!(is_in(&client.hear(), &name));
        assert_eq!(
            client.join("/second", json!(null)),
            Heard::Refused {
                namespace: "/second".into(),
                error: json!({ "message": "not you", "data": { "code": 7 } })
            }
        );
        let before = asked.read().len();
        let mut other = Client::open(kind, &server.dial);
        assert!(is_in(&other.join(&name, json!(null)), &name));
        assert_eq!(asked.read().len(), before, "no predicate runs for an existing namespace");
    }
    let log = asked.read();
    assert_eq!(log[..2], ["first /first-0 true", "second /first-0"]);
    assert_eq!(log.iter().filter(|line| *line == "second /second").count(), 1);
}

#[test]
fn removes_empty_children_if_configured() {
    for cleanup in [false, true] {
        let io = Io::builder().config(Config::new().cleanup_empty_child_namespaces(cleanup)).build();
        let parent = io.of_pattern("^/child").expect("a pattern");
        parent.middleware(async |socket: Socket| match socket.namespace().name().as_str() {
            "/child-refused" => Err("no"),
            _ => Ok(()),
        });
        io.of("/static");
        let server = serve(&io);
        for kind in SOCKET_IO {
            let mut client = Client::open(kind, &server.dial);
            let mut other = Client::open(kind, &server.dial);
            assert!(is_in(&client.join("/static", json!(null)), "/static"));
            for client in [&mut client, &mut other] {
                assert!(is_in(&client.join("/child", json!(null)), "/child"));
            }
            assert_eq!(client.join("/child-refused", json!(null)), refused("/child-refused", "no"));
            let names = || {
                let mut names: Vec<_> =
                    parent.children().iter().map(|child| child.name().to_string()).collect();
                names.sort();
                names
            };
            let all = if cleanup { vec!["/child"] } else { vec!["/child", "/child-refused"] };
            // A rejected client receives the error before its child namespace is removed.
            until(|| names() == all);
            client.leave("/child");
            client.sync();
            assert_eq!(names(), all);
            other.close();
            until(|| io.client_count() == 1);
            until(|| names().is_empty() == cleanup);
            assert_eq!(names(), if cleanup { vec![] } else { all });
            client.close();
            until(|| io.client_count() == 0);
            assert!(io.try_of("/static").is_ok());
        }
    }
}

#[test]
fn keeps_child_when_join_races_cleanup() {
    let io = Io::builder().config(Config::new().cleanup_empty_child_namespaces(true)).build();
    let parent = io.of_matching(|name| name.as_str() == "/meeting");
    parent.on("say", async |socket: Socket, text: String| {
        // Reaches its sender only if `/meeting` names the namespace of the socket.
        socket.io().of("/meeting").to(socket.id()).emit("said", text).map(drop)
    });
    let server = serve_on(&io, On::Workers(4));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::open(Kind::WebSocket, &server.dial);
                for round in 0..100 {
                    assert!(is_in(&client.join("/meeting", json!(null)), "/meeting"));
                    let args = json!([round.to_string()]);
                    client.say(ClientMessage {
                        namespace: "/meeting",
                        ack: None,
                        name: "say",
                        args: args.clone(),
                    });
                    let Heard::Event { args: heard, .. } = client.hear() else { panic!("nothing heard") };
                    assert_eq!(heard, args);
                    client.leave("/meeting");
                }
            });
        }
    });
    until(|| parent.children().is_empty());
}

#[test]
fn calls_new_namespace_hook_before_joins() {
    let (told, ear) = ear();
    let io = Io::new();
    io.of("/before");
    let made = Arc::new(AtomicUsize::new(0));
    let counts = made.clone();
    io.on_new_namespace(move |namespace| {
        counts.fetch_add(1, Ordering::Relaxed);
        // Its listeners are registered before any concurrent client connects.
        namespace.on("count", async |socket: Socket, ack: Ack| {
            ack.send(socket.namespace().listeners("count").len()).map(drop)
        });
        let _ = told.send(namespace.name().to_string());
    });
    io.of_pattern("^/made").expect("a pattern");
    io.of("/static");
    io.of("/static");
    assert_eq!(ear.all(), ["/static"]);
    let server = serve_on(&io, On::Workers(4));
    let connect = || Client::open(Kind::WebSocket, &server.dial);
    let mut clients: Vec<_> = (0..8).map(|_| connect()).collect();
    for round in 0..20 {
        let name = format!("/made-{round}");
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| {
                    assert!(is_in(&client.join(&name, json!(null)), &name));
                    assert_eq!(ask(client, &name, "count"), json!([1]));
                });
            }
        });
        assert_eq!(ear.all(), [name]);
    }
    assert_eq!(made.load(Ordering::Relaxed), 21);
}

#[test]
fn router_factory_detects_namespace_cycles() {
    let known = Arc::new(OnceLock::<Io>::new());
    let within = known.clone();
    let io = Io::builder().router(move |name| {
        let Some(io) = within.get() else { return Rooms::default() };
        match name.as_str() {
            "/first" => _ = io.of("/second"),
            "/made" => _ = io.of("/made-too"),
            "/own" => _ = io.of("/own"),
            "/there" => _ = io.of("/back"),
            "/back" => _ = io.of("/there"),
            "/_2" => _ = io.of("/first"),
            "/made-broken" => std::panic::resume_unwind(Box::new("boom")),
            _ => {}
        }
        Rooms::default()
    });
    let io = io.build();
    assert!(known.set(io.clone()).is_ok());
    let parents = io.clone();
    ends(move || {
        parents.of_pattern("^/made").expect("a pattern");
        // Creating one on demand does not deadlock either.
        let asks = parents.clone();
        parents.of_matching(move |name| name.as_str() == "/asking" && asks.of("/asked").name().is_main());
        parents.of_matching(|name| name.as_str() == "/nobody");
    });
    let names = io.clone();
    ends(move || names.of("/first"));
    for name in ["/first", "/second"] {
        io.of(name).on("hello", async |ack: Ack| ack.send("here").map(drop));
    }
    for circle in [["/own", "/own", "/own"], ["/there", "/back", "/there"]] {
        let io = io.clone();
        let panicked =
            ends(move || catch_unwind(AssertUnwindSafe(|| _ = io.of(circle[0])))).expect_err("no end");
        let text = panicked.downcast_ref::<String>().expect("a string");
        let [first, second, third] = circle;
        let circle = if first == second {
            format!("{first} for {first}")
        } else {
            format!("{first} for {second} for {third}")
        };
        assert!(text.contains(&circle), "{text}");
    }
    let server = serve(&io);
    for kind in SOCKET_IO {
        let mut client = Client::open(kind, &server.dial);
        for name in ["/first", "/second"] {
            assert!(is_in(&client.join(name, json!(null)), name));
            assert_eq!(ask(&mut client, name, "hello"), json!(["here"]));
        }
        assert_eq!(client.join("/made-broken", json!(null)), refused("/made-broken", "Invalid namespace"));
        for name in ["/made", "/made-too"] {
            assert!(is_in(&client.join(name, json!(null)), name));
        }
        // The panic left nothing locked, and a client may retry.
        assert_eq!(client.join("/made-broken", json!(null)), refused("/made-broken", "Invalid namespace"));
    }
}

#[test]
fn concurrent_router_factories_do_not_deadlock() {
    let known = Arc::new(OnceLock::<Io>::new());
    let within = known.clone();
    let made = Arc::new(AtomicUsize::new(0));
    let counts = made.clone();
    let io = Io::builder().router(move |name| {
        if let Some((side, round)) = name.as_str().split_once('-')
            && let Some(io) = within.get()
        {
            counts.fetch_add(1, Ordering::Relaxed);
            match side {
                "/left" => _ = io.of(format!("/shared-{round}")),
                "/right" => _ = io.of(format!("/shared-{round}")),
                _ => thread::yield_now(),
            }
        }
        Rooms::default()
    });
    let io = io.build();
    assert!(known.set(io.clone()).is_ok());
    let (told, news) = ear();
    io.on_new_namespace(move |namespace| _ = told.send(namespace.name().to_string()));
    for round in 0..100 {
        let [left, right] = ["/left", "/right"].map(|side| {
            let io = io.clone();
            move || {
                io.of(format!("{side}-{round}"));
                io.of(format!("/shared-{round}"))
            }
        });
        let (left, right) = ends(move || {
            thread::scope(|scope| {
                let left = scope.spawn(left);
                (right(), left.join().expect("no panic"))
            })
        });
        // All callers get the same namespace, no matter how many factories ran.
        left.on("here", async || {});
        assert_eq!(right.listeners("here").len(), 1);
        let mut names = news.all();
        names.sort();
        assert_eq!(names, [format!("/left-{round}"), format!("/right-{round}"), format!("/shared-{round}")]);
    }
    assert!(made.load(Ordering::Relaxed) >= 300);
}

#[test]
fn limits_child_namespaces() {
    let io = Io::builder().config(Config::new().limits(|limits| limits.max_child_namespaces(3))).build();
    io.of_pattern("^/child").expect("a pattern");
    let server = serve(&io);
    let mut client = Client::open(Kind::WebSocket, &server.dial);
    for number in 0..5 {
        let name = format!("/child-{number}");
        let answer = client.join(&name, json!(null));
        if number < 3 {
            assert!(is_in(&answer, &name));
        } else {
            assert_eq!(answer, refused(&name, "Too many namespaces"));
        }
    }
    assert_eq!(io.metrics().limits_exceeded(Limit::Namespaces), 2);
    // The limit does not apply to the application.
    io.of("/child-4");
    assert!(is_in(&client.join("/child-4", json!(null)), "/child-4"));
}

#[test]
fn rejects_invalid_namespace_names() {
    let io = Io::new();
    let comma = NamespaceError::Comma(Namespace::new("/a,b"));
    assert_eq!(io.try_of("/a,b").expect_err("a comma"), comma);
    assert_eq!(io.try_of("a,b").expect_err("a comma").to_string(), comma.to_string());
    let panicked = catch_unwind(|| Io::new().of("/a,b")).expect_err("a comma");
    assert!(panicked.downcast_ref::<String>().expect("a string").contains("`/a,b` contains a comma"));
    let error = io.of_pattern("(").expect_err("no pattern");
    assert!(
        matches!(&error, NamespaceError::Pattern(reason) if reason.contains("unclosed group")),
        "{error}"
    );
    assert_eq!(io.of("chat").name(), io.of("/chat").name());
    let room = Room::from("nobody");
    assert_eq!(io.of("").count(room), 0);
    assert_eq!(io.of("").name(), io.main().name());
}

#[test]
fn rejects_clients_when_namespace_hook_panics() {
    let io = Io::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    io.on_new_namespace(move |namespace| {
        if namespace.name().as_str().contains("broken") {
            // `-once` panics only the first time.
            let calls = count.fetch_add(1, Ordering::Relaxed);
            if calls == 0 || !namespace.name().as_str().ends_with("once") {
                std::panic::resume_unwind(Box::new("boom"));
            }
        }
    });
    io.of_matching(|name| name.as_str().starts_with("/child"));
    io.of("/child-whole");
    let server = serve(&io);
    let mut client = Client::open(Kind::WebSocket, &server.dial);
    let once = "/child-broken-once";
    assert_eq!(client.join(once, json!(null)), refused(once, "internal error"));
    assert!(is_in(&client.join(once, json!(null)), once), "the namespace is created again");
    io.of("/broken");
    for name in ["/child-broken", "/child-broken", "/broken", "/broken"] {
        assert_eq!(client.join(name, json!(null)), refused(name, "internal error"));
        assert_eq!(io.of("/broken").emit("anybody", ()).expect("a valid name").queued, 0);
    }
    assert!(is_in(&client.join("/child-whole", json!(null)), "/child-whole"));
    // Twice for the child that is created again for each attempt.
    assert_eq!(io.metrics().handlers_panicked(), 4);
}

/// Connects a client to two children of one parent under the same socket id.
fn twins() -> (Io, roomcast_server::namespace::ParentNamespace, crate::support::serve::Running, Client) {
    let io = Io::builder().generate_socket_id(|_: &_, _: &_| "same").build();
    let parent = io.of_pattern(r"^/room-\d$").expect("a pattern");
    let server = serve(&io);
    let mut client = Client::open(Kind::WebSocket, &server.dial);
    for namespace in ["/room-1", "/room-2"] {
        assert!(is_in(&client.join(namespace, json!(null)), namespace));
    }
    (io, parent, server, client)
}

#[test]
fn parent_collects_acks_of_equal_ids() {
    let (_io, parent, server, mut client) = twins();
    let ask = |time: Duration| {
        let parent = parent.clone();
        server
            .spawn(async move { parent.timeout(time).emit_with_ack("asks", ()).await.expect("a valid name") })
    };
    let hear = |client: &mut Client| {
        let mut asked = [client.hear(), client.hear()].map(|heard| match heard {
            Heard::Event { namespace, ack: Some(ack), .. } => (namespace, ack),
            other => panic!("no ack request but {other:?}"),
        });
        asked.sort();
        asked
    };
    let asked = ask(Duration::from_secs(60));
    for (at, (namespace, ack)) in hear(&mut client).into_iter().enumerate() {
        client.engine().send(format!("3{namespace},{ack}[{at}]").into());
        client.sync();
    }
    let answers = asked.join();
    let mut numbers: Vec<u32> =
        answers.answers.iter().map(|(_, args)| args.get(0).expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!((numbers, answers.is_complete()), (vec![0, 1], true));
    // A missing ack is reported as missing.
    let asked = ask(Duration::from_millis(200));
    let [(namespace, ack), _] = hear(&mut client);
    client.engine().send(format!("3{namespace},{ack}[5]").into());
    let answers = asked.join();
    assert_eq!((answers.answers.len(), answers.missing.len(), answers.is_complete()), (1, 1, false));
}

#[test]
fn fetches_both_sockets_of_equal_ids() {
    let (_io, parent, server, mut client) = twins();
    let mut found = server.block_on(parent.fetch_sockets()).expect("this node answers");
    assert_eq!(found.len(), 2);
    found.sort_by_key(|found| found.here().expect("a local socket").namespace().name().to_string());
    found[0].join("red");
    assert_eq!(parent.count("red"), 1);
    found[1].emit("second", ()).expect("a valid name");
    let (namespace, name, args) = ("/room-2".into(), "second".into(), json!([]));
    assert_eq!(client.hear(), Heard::Event { namespace, name, args, ack: None });
    found[0].disconnect();
    assert_eq!(client.hear(), Heard::Left { namespace: "/room-1".into() });
    client.sync();
    assert_eq!(parent.count("same"), 1);
    // The client rejoins under its id while the other socket is disconnected.
    assert!(is_in(&client.join("/room-1", json!(null)), "/room-1"));
    found[1].disconnect();
    assert_eq!(client.hear(), Heard::Left { namespace: "/room-2".into() });
    client.sync();
    assert_eq!(parent.count("same"), 1);
}
