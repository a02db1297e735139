//! End-to-end tests of `roomcast serve`.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests read a clock")]

#[allow(dead_code, reason = "each test file uses a part")]
mod support;

#[cfg(all(target_os = "linux", feature = "jemalloc"))]
use std::io::{BufRead, BufReader};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use roomcast_testkit::socket::ws::Ended;
use roomcast_testkit::wire::upgrade;
use rustix::process::{Pid, Signal, kill_process};
use support::{Chat, PATIENCE, Running, answer, ask, command, connect};

/// Returns the close frame of a drained connection.
fn drained(code: u16) -> Ended {
    Ended { code: Some(code), reason: "server shutting down".to_owned() }
}

#[test]
fn never_logs_session_ids() {
    let mut server = Running::start_logging(
        |command| command.args(["--log", "trace", "--drain-timeout", "1s"]),
        Stdio::piped(),
    );
    let mut log = server.child.stderr.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    let polling = "/socket.io/?EIO=4&transport=polling";
    let sids: Vec<String> = (0..5)
        .map(|_| {
            let (_, opened) = ask(server.address, polling);
            opened.split('"').nth(3).expect("a sid").to_owned()
        })
        .collect();
    let [lives, broken, overlapping, foreign, upgraded] = [0, 1, 2, 3, 4].map(|at| sids[at].as_str());
    let post = |sid: &str, body: &str| {
        let mut stream = connect(server.address);
        let len = body.len();
        let head = format!("POST {polling}&sid={sid} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        stream.write_all(format!("{head}Content-Length: {len}\r\n\r\n{body}").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    // A success, and every failure that is logged.
    assert!(post(lives, "40").ends_with("ok"));
    assert!(post(broken, "40\x1e42no JSON").contains("ok"));
    let waiting = connect(server.address);
    for mut stream in [waiting.try_clone().expect("a socket"), connect(server.address)] {
        let get = format!("GET {polling}&sid={overlapping} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(get.as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ask(server.address, &format!("{polling}&sid={foreign}&EIO=3")).0, 400);
    assert_eq!(ask(server.address, &format!("/socket.io/?EIO=4&transport=websocket&sid={upgraded}")).0, 400);
    let mut probe = connect(server.address);
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={upgraded}");
    probe.write_all(upgrade(&path).as_bytes()).expect("sent");
    probe.read_exact(&mut [0; 12]).expect("an answer");
    drop((probe, waiting));
    server.signal(Signal::TERM);
    server.wait();
    let log = reader.join().expect("it does not panic").expect("text");
    assert!(log.contains("request refused"), "something was logged: {log}");
    for sid in &sids {
        assert!(!log.contains(sid.as_str()), "{sid} is in the log:\n{log}");
    }
}

/// Sends so many events that the debug log does not fit into a pipe.
fn talk_at_length(chat: &mut Chat) {
    for _ in 0..20_000 {
        chat.say(r#"42["nobody handles this"]"#);
    }
    chat.say(r#"421["join","red"]"#);
    assert!(chat.hear().starts_with(r#"42["welcome""#));
    assert_eq!(chat.hear(), r#"431[{"ok":true,"rooms":["red"]}]"#);
}

/// Expects a server to drain and exit cleanly on a signal.
fn expect_drain(server: &mut Running, mut chat: Chat) {
    server.signal(Signal::TERM);
    assert_eq!(chat.end(), drained(1001));
    drop(chat);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn serves_while_stderr_is_unread() {
    let mut server = Running::start_logging(|command| command.args(["--log", "debug"]), Stdio::piped());
    let log = server.child.stderr.take().expect("a pipe");
    let mut chat = Chat::open(server.address);
    talk_at_length(&mut chat);
    assert_eq!(ask(server.address, "/").0, 200);
    let (_, metrics) = ask(server.admin, "/metrics");
    let lost = metrics.lines().find_map(|line| line.strip_prefix("roomcast_log_lines_lost_total "));
    assert!(lost.is_some_and(|lost| lost != "0"), "{metrics}");
    expect_drain(&mut server, chat);
    drop(log);
}

#[test]
fn serves_while_stderr_is_closed() {
    let mut server = Running::start_logging(|command| command.args(["--log", "debug"]), Stdio::piped());
    drop(server.child.stderr.take());
    let mut chat = Chat::open(server.address);
    talk_at_length(&mut chat);
    assert_eq!(ask(server.address, "/").0, 200);
    expect_drain(&mut server, chat);
}

#[test]
fn starts_and_drains_without_stdout() {
    // Without stdout the port must be known beforehand.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut child = command()
        .args(["serve", "--addr", &free.to_string()])
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let begun = Instant::now();
    while TcpStream::connect(free).is_err() {
        assert!(
            begun.elapsed() < PATIENCE && child.try_wait().expect("a child").is_none(),
            "it does not start"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}

#[test]
fn logs_clients_as_json() {
    let mut server = Running::start_logging(
        |command| command.args(["--log", "roomcast=debug,roomcast_server=debug", "--log-format", "json"]),
        Stdio::piped(),
    );
    let mut log = server.child.stderr.take().expect("a pipe");
    let mut chat = Chat::open(server.address);
    chat.say(r#"42["nobody handles this"]"#);
    chat.say("no packet");
    let _ = chat.0.receive();
    expect_end(&mut server);
    let mut text = String::new();
    log.read_to_string(&mut text).expect("text");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let of = |message: &str| {
        lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("{message} in\n{text}"))
    };
    let connected = of("client connected");
    assert_eq!(
        [&connected["namespace"], &connected["kind"], &connected["transport"], &connected["level"]],
        ["/", "socket.io", "websocket", "DEBUG"]
    );
    assert!(connected["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")));
    assert_eq!(of("event without handler")["event"], "nobody handles this");
    assert_eq!(of("event without handler")["socket"], connected["socket"]);
    assert_eq!(of("protocol error")["reason"], "parse error");
    assert_eq!(of("client disconnected")["reason"], "parse error");
    assert_eq!(of("drained")["left"], 0);
}

/// Expects a server without clients to exit cleanly on a signal.
fn expect_end(server: &mut Running) {
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn sigterm_drains_in_batches() {
    let mut server = Running::start(|command| {
        command.args(["--threads", "2", "--drain-delay", "1500ms", "--drain-batch", "1"])
    });
    assert_eq!(ask(server.admin, "/live"), (200, "live\n".into()));
    assert_eq!(ask(server.admin, "/ready"), (200, "ready\n".into()));
    let chats: Vec<_> = (0..4).map(|_| Chat::open(server.address)).collect();
    let (status, metrics) = ask(server.admin, "/metrics");
    assert_eq!(status, 200);
    assert!(metrics.contains("\nroomcast_sockets{namespace=\"/\"} 4\n"), "{metrics}");

    // Taken before the signal, so that a delay of the test cannot make the drain look early.
    let signalled = Instant::now();
    server.signal(Signal::TERM);
    let ends = chats.into_iter().map(|mut chat| {
        std::thread::spawn(move || {
            let end = chat.end();
            (end, signalled.elapsed())
        })
    });
    let mut times = Vec::new();
    for end in ends.collect::<Vec<_>>() {
        let (end, time) = end.join().expect("it is closed");
        assert_eq!(end, drained(1001));
        times.push(time);
    }
    times.sort();
    assert!(times[0] >= Duration::from_millis(1400), "{times:?}");
    // Batches are 250 ms apart.
    assert!(times[3] >= Duration::from_millis(2150), "one batch after the other: {times:?}");
    assert_eq!(server.wait().code(), Some(0));
    let mut said = String::new();
    server.stdout.read_to_string(&mut said).expect("text");
    assert!(said.contains("Stopped: 4 sessions closed, 0 of them cut off."), "{said}");
}

#[test]
fn second_signal_exits_at_once() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut server = Running::start(|command| command.args(["--drain-delay", "10m"]));
        let mut chat = Chat::open(server.address);
        server.signal(signal);
        let signalled = Instant::now();
        while ask(server.admin, "/ready").0 == 200 {
            assert!(signalled.elapsed() < PATIENCE, "it stays ready");
        }
        // Requests are served during the drain delay.
        assert_eq!(ask(server.admin, "/live").0, 200);
        assert_eq!(ask(server.address, "/").0, 200);
        assert!(server.child.try_wait().expect("a child").is_none(), "the first only drains");
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(code));
        assert_eq!(chat.end(), Ended::default(), "no time for a goodbye");
    }
}

#[test]
fn exits_at_once_without_clients() {
    let mut server = Running::start(|command| command);
    server.signal(Signal::INT);
    let signalled = Instant::now();
    assert_eq!(server.wait().code(), Some(0));
    assert!(signalled.elapsed() < Duration::from_secs(10), "{:?}", signalled.elapsed());
}

#[test]
fn reads_settings_from_environment() {
    let server = Running::start(|command| {
        command
            .env("ROOMCAST_MAX_SESSIONS", "1")
            .env("ROOMCAST_ALLOW_ORIGIN", "https://a.example,https://b.example")
    });
    let _chat = Chat::open(server.address);
    let (status, body) = ask(server.address, "/socket.io/?EIO=4&transport=polling");
    assert_eq!(status, 503);
    assert!(body.contains("no room"), "{body}");
}

#[test]
fn flags_and_variables_set_limits() {
    let server = Running::start(|command| {
        command.args(["--max-namespaces", "1", "--compression"]).env("ROOMCAST_MAX_ROOMS", "1").envs([
            ("ROOMCAST_NO_UPGRADES", "on"),
            ("ROOMCAST_RECOVERY", "1"),
            ("ROOMCAST_PUBLIC", "0"),
        ])
    });
    let whole = answer(server.address, "/socket.io/?EIO=4&transport=polling");
    assert!(whole.contains(r#""upgrades":[]"#), "{whole}");
    let mut chat = Chat::open(server.address);
    chat.say(r#"421["join","red"]"#);
    assert!(chat.hear().starts_with(r#"42["welcome""#));
    assert_eq!(chat.hear(), r#"431[{"ok":true,"rooms":["red"]}]"#);
    chat.say(r#"422["join","blue"]"#);
    assert_eq!(chat.hear(), r#"432[{"ok":false,"rooms":["red"]}]"#);
    chat.say("40/news,");
    assert_eq!(chat.hear(), r#"44/news,{"message":"Too many namespaces"}"#);
    let (_, metrics) = ask(server.admin, "/metrics");
    for limit in ["rooms", "joined_namespaces"] {
        let line = format!("\nroomcast_refused_total{{limit=\"{limit}\"}} 1\n");
        assert!(metrics.contains(&line), "{limit} in\n{metrics}");
    }
    assert!(metrics.contains("\nroomcast_recovery_log_events{namespace="), "{metrics}");
}

#[test]
fn flags_set_node_server_options() {
    let server = Running::start(|command| command.args(["--no-upgrades", "--cookie", "io"]));
    let whole = answer(server.address, "/socket.io/?EIO=4&transport=polling");
    assert!(whole.contains(r#""upgrades":[]"#), "{whole}");
    assert!(whole.to_ascii_lowercase().contains("set-cookie: io="), "{whole}");
    let server = Running::start(|command| command.args(["--transports", "websocket"]));
    let (status, body) = ask(server.address, "/socket.io/?EIO=4&transport=polling");
    assert_eq!(status, 400);
    assert!(body.contains("Transport unknown"), "{body}");
}

fn output(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("it runs")
}

#[test]
fn rejects_invalid_flags_with_hint() {
    for (arguments, repair) in [
        (&["serve", "--drain-delay", "5"][..], "25s"),
        (&["serve", "--ping-interval", "25000"], "300ms, 25s or 2m"),
        (&["serve", "--max-payload", "1Mb/s"], "1MiB, 64KiB, 1MB or 1000000"),
        (&["serve", "--memory-budget", "0"], "0 bytes are not possible here"),
        (&["serve", "--trusted-proxy", "10.0.0.0/33"], "10.0.0.0/8"),
        (&["serve", "--proxy-protocol"], "--trusted-proxy"),
        (&["serve", "--event-burst", "5"], "--max-events-per-second"),
        (&["serve", "--max-sessions", "0"], "--max-sessions"),
        (&["serve", "--addr", "0.0.0.0:0"], "--public"),
        (&["serve", "--log", "=["], "--log"),
        (&["serve", "--serve-client", "no/such/folder"], "client-dist"),
        (&["serve", "--tls-cert", "a.crt"], "--tls-key"),
        (&["serve", "--tls-key", "a.key"], "--tls-cert"),
        (&["serve", "--tls-cert", "no/such.crt", "--tls-key", "no/such.key"], "no/such.crt"),
        (&["serve", "--addr", "localhost"], "localhost:3000"),
        (&["serve", "--addr", ":0"], "--public"),
        (&["--addr", "nonsense"], "127.0.0.1:3000"),
        (
            &["serve", "--ping-interval", "2147483647ms"],
            "--ping-interval and ping_timeout are 2147503647 ms together",
        ),
        (&["serve", "--ping-timeout", "0"], "--ping-timeout is below 1 ms"),
        (&["serve", "--connect-timeout", "0s"], "--connect-timeout is 0"),
        (&["serve", "--header-timeout", "0s"], "--header-timeout is 0"),
        (&["serve", "--max-payload", "0"], "--max-payload is 0: no message would fit"),
        (&["serve", "--outbox", "0"], "--outbox is 0: nothing could wait"),
        (&["serve", "--max-headers", "0"], "--max-headers is 0: no request would be taken"),
        (&["serve", "--cookie", "a b"], "--cookie has the name \"a b\""),
        (&["serve", "--cookie-same-site", "none"], "--cookie"),
        (&["serve", "--drain-close-code", "1006"], "1012"),
        (
            &["serve", "--allow-origin", "app.example"],
            "--allow-origin `app.example` has no scheme; write `https://app.example`",
        ),
        (&["serve", "--allow-origin", "https://app.example/chat"], "write `https://app.example`"),
        (&["serve", "--allow-origin", "*"], "--origin-policy any"),
        (&["serve", "--allow-origin", "https://*.example"], "each origin has to be named"),
        (&["serve", "--cors", "app.example"], "--cors `app.example` has no scheme"),
        (&["serve", "--cors", "*,https://app.example"], "--cors '*'"),
    ] {
        let output = output(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(repair), "{arguments:?}: {said}");
    }
}

#[test]
fn names_invalid_variable() {
    for (variables, named, repair) in [
        (&[("ROOMCAST_MAX_SESSIONS", "many")][..], "ROOMCAST_MAX_SESSIONS", "invalid"),
        (&[("ROOMCAST_PING_TIMEOUT", "20000")], "ROOMCAST_PING_TIMEOUT", "300ms, 25s or 2m"),
        (&[("ROOMCAST_OUTBOX", "1 potato")], "ROOMCAST_OUTBOX", "1MiB, 64KiB, 1MB or 1000000"),
        (&[("ROOMCAST_PUBLIC", "perhaps")], "ROOMCAST_PUBLIC", "perhaps"),
        (&[("ROOMCAST_TLS_CERT", "a.crt")], "ROOMCAST_TLS_CERT", "--tls-key"),
        (&[("ROOMCAST_MAX_PAYLOAD", "0")], "ROOMCAST_MAX_PAYLOAD", "no message would fit"),
        (&[("ROOMCAST_OUTBOX", "0")], "ROOMCAST_OUTBOX", "nothing could wait"),
        (&[("ROOMCAST_ALLOW_ORIGIN", "app.example")], "ROOMCAST_ALLOW_ORIGIN", "https://app.example"),
        (&[("ROOMCAST_LOG", "=[")], "ROOMCAST_LOG", "not a filter"),
        (&[("ROOMCAST_SERVE_CLIENT", "no/such/folder")], "ROOMCAST_SERVE_CLIENT", "client-dist"),
        (&[("PORT", "http")], "PORT", "not a port"),
    ] {
        let output = command().arg("serve").envs(variables.iter().copied()).output().expect("it runs");
        assert!(!output.status.success(), "{variables:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(named) && said.contains(repair), "{variables:?}: {said}");
    }
    // A flag takes precedence over the variable and is named.
    let mut both = command();
    both.args(["serve", "--max-sessions", "0"]).env("ROOMCAST_MAX_SESSIONS", "5");
    let said = String::from_utf8(both.output().expect("it runs").stderr).expect("text");
    assert!(!said.contains("ROOMCAST_MAX_SESSIONS\n") && said.contains("--max-sessions"), "{said}");
}

#[test]
fn second_server_reports_address_in_use() {
    for threads in ["1", "2"] {
        let server = Running::start(|command| command.args(["--threads", threads]));
        for (flag, address) in [("--addr", server.address), ("--admin-addr", server.admin)] {
            let address = address.to_string();
            let mut second = vec!["--addr", "127.0.0.1:0"];
            if flag == "--addr" {
                second = vec![flag, &address]
            } else {
                second.extend([flag, &address])
            }
            let output = output(&second);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{said}");
            assert!(said.contains(&format!("{address}: address in use")), "{said}");
            assert!(said.contains(&format!("choose another with {flag}\n")), "{said}");
        }
    }
}

#[test]
fn accepts_host_names_and_bare_ports() {
    let served = |server: &Running| {
        let address = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
        assert_eq!(ask(address, "/").0, 200);
    };
    let server = Running::start_at(|command| command.args(["--addr", "localhost:0"]));
    assert!(server.address.ip().is_loopback());
    served(&server);
    let server = Running::start_at(|command| command.args(["serve", "--addr", ":0", "--public"]));
    assert!(server.address.ip().is_unspecified());
    served(&server);
    // PORT, as container hosts set it; on all interfaces only with --public.
    let server = Running::start_at(|command| command.arg("--public").env("PORT", "0"));
    assert!(server.address.ip().is_unspecified());
    served(&server);
    let server = Running::start_at(|command| command.arg("serve").env("PORT", "0"));
    assert!(server.address.ip().is_loopback());
    assert_ne!(server.address.port(), 3000);
    let server = Running::start_at(|command| command.args(["--addr", "127.0.0.1:0"]).env("PORT", "1"));
    served(&server);
}

#[test]
fn survives_repeated_sighup() {
    let mut server = Running::start(|command| command);
    server.signal(Signal::HUP);
    let mut chat = Chat::open(server.address);
    server.signal(Signal::HUP);
    chat.say(r#"421["join","red"]"#);
    assert!(chat.hear().starts_with(r#"42["welcome""#));
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.child.try_wait().expect("a child").is_none());
    assert_eq!(ask(server.admin, "/live").0, 200);
}

#[test]
fn logs_descriptor_exhaustion_without_flooding() {
    // Sets both limits, since the command raises the soft limit to the hard one.
    let line = format!(
        "ulimit -n 64 && exec {} --addr 127.0.0.1:0 --admin-addr 127.0.0.1:0",
        env!("CARGO_BIN_EXE_roomcast")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]);
    let mut server = Running::spawn(command, Stdio::piped());
    let mut log = server.child.stderr.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text)
    });
    let began = Instant::now();
    let crowd: Vec<_> = (0..200).map(|_| connect(server.address)).collect();
    std::thread::sleep(Duration::from_secs(2));
    drop(crowd);
    server.signal(Signal::TERM);
    server.wait();
    let log = reader.join().expect("it does not panic").expect("text");
    let few = log.lines().find(|line| line.contains("few file descriptors")).expect("a warning");
    assert!(few.contains("descriptors=64") && few.contains("connections=1"), "{few}");
    let failed = log.lines().filter(|line| line.contains("cannot accept")).count();
    let seconds = usize::try_from(began.elapsed().as_secs()).expect("a few");
    assert!((1..=seconds + 2).contains(&failed), "{failed} in {seconds} s:\n{log}");
}

#[test]
fn flags_set_cookie_and_close_code() {
    let mut server = Running::start(|command| {
        command.args(["--cookie", "io", "--cookie-same-site", "none", "--drain-close-code", "1012"])
    });
    let whole = answer(server.address, "/socket.io/?EIO=4&transport=polling");
    assert!(whole.contains("; HttpOnly; Secure; SameSite=None\r\n"), "{whole}");
    let mut chat = Chat::open(server.address);
    server.signal(Signal::TERM);
    assert_eq!(chat.end(), drained(1012));
    drop(chat);
    server.wait();
}

#[test]
fn version_names_commit_and_build() {
    let version = String::from_utf8(output(&["--version"]).stdout).expect("text");
    let (_, commit) = version.split_once("(commit ").expect("a commit");
    let commit = commit.split(',').next().expect("a commit");
    assert!(commit == "unknown" || commit.chars().all(|digit| digit.is_ascii_hexdigit()), "{version}");
    for part in [env!("CARGO_PKG_VERSION"), " build for ", "rustc 1."] {
        assert!(version.contains(part), "{version}");
    }
    let server = Running::start(|command| command);
    let (_, metrics) = ask(server.admin, "/metrics");
    let info = metrics.lines().find(|line| line.starts_with("roomcast_build_info{")).expect("a metric");
    assert!(info.contains(&format!("commit=\"{commit}\"")), "{info}");
}

#[test]
fn version_begins_with_command_name() {
    let version = String::from_utf8(output(&["--version"]).stdout).expect("text");
    assert_eq!(version.split_whitespace().next(), Some("roomcast"));
}

#[test]
fn help_groups_flags_by_heading() {
    let output = output(&["serve", "--help"]);
    let help = String::from_utf8(output.stdout).expect("text");
    let headings = [
        "Listening:",
        "Limits:",
        "Timeouts:",
        "HTTP:",
        "WebSocket:",
        "Recovery:",
        #[cfg(feature = "redis")]
        "Cluster:",
        "Shutdown:",
        "Observability:",
    ];
    let at: Vec<_> = headings.map(|heading| help.find(&format!("\n{heading}\n")).expect(heading)).into();
    assert!(at.is_sorted(), "{help}");
    assert!(help.contains("A second signal") && help.contains("TIME is a number with a unit"), "{help}");
}

#[test]
fn counts_pongs_received_during_pause() {
    for threads in ["1", "2"] {
        pause_between_ping_and_pong(threads);
    }
}

fn pause_between_ping_and_pong(threads: &str) {
    let times = ["--ping-interval", "300ms", "--ping-timeout", "400ms", "--threads", threads];
    let server = Running::start(|command| command.args(times));
    let mut clients: Vec<_> = (0..4).map(|_| Chat::session(server.address)).collect();
    for round in 0..3 {
        clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "2", "round {round}"));
        server.signal(Signal::STOP);
        clients.iter_mut().for_each(|client| client.say("3"));
        std::thread::sleep(Duration::from_millis(1_500));
        server.signal(Signal::CONT);
    }
    // All clients are still connected, and the heartbeat continues.
    clients.iter_mut().for_each(|client| assert_eq!(client.hear(), "2"));
}

/// Other allocators keep the memory.
#[cfg(all(target_os = "linux", feature = "jemalloc"))]
#[test]
fn returns_memory_after_many_clients() {
    const CONNECTIONS: usize = 80;
    const SESSIONS: usize = 100;
    const MIB: usize = 1 << 20;
    let server = Running::start(|command| command.args(["--connect-timeout", "10s"]));
    let memory = || {
        let path = format!("/proc/{}/statm", server.child.id());
        let pages = std::fs::read_to_string(path).expect("it runs");
        let resident: usize = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        resident * rustix::param::page_size()
    };
    let _ = ask(server.address, "/");
    let before = memory();
    let bound = before + before / 5 + 32 * MIB;
    let mut head = 0_u64;
    for _ in 0..CONNECTIONS {
        let mut stream = BufReader::new(connect(server.address));
        for _ in 0..SESSIONS {
            // Distinct values, so that no header is shared.
            head += 1;
            let long = format!("{head:0>8}").repeat(750);
            let request = format!(
                "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"
            );
            stream.get_mut().write_all(request.as_bytes()).expect("sent");
            let (mut line, mut len) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).expect("an answer");
                if let Some(value) = line.strip_prefix("content-length: ") {
                    len = value.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; len];
            stream.read_exact(&mut body).expect("an answer");
            assert!(body.starts_with(b"0{"), "{}", String::from_utf8_lossy(&body));
        }
    }
    let full = memory();
    assert!(full > bound, "{full} bytes are too few to tell: {before} before");
    let deadline = Instant::now() + Duration::from_secs(70);
    while memory() > bound {
        assert!(Instant::now() < deadline, "{} bytes after {full} and {before}", memory());
        std::thread::sleep(Duration::from_millis(200));
    }
}
