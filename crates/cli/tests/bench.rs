//! End-to-end tests of `roomcast bench`.
#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Demo server; killed on drop.
struct Demo {
    child: Child,
    address: String,
}

impl Demo {
    fn start() -> Self {
        Self::start_with(&[])
    }

    #[expect(clippy::disallowed_methods, reason = "a thread drains the command's output")]
    fn start_with(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_roomcast"))
            .args(["serve", "--addr", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let listening =
            |line: String| Some(line.split_once("listening on ")?.1.split_once("://")?.1.to_owned());
        let address = lines.by_ref().map_while(Result::ok).find_map(listening).expect("a listen address");
        // Keep reading, or the server would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

fn bench(arguments: &[&str]) -> Output {
    let defaults = [["--seconds", "0.5"], ["--clients", "20"]];
    let defaults = defaults.iter().filter(|default| !arguments.contains(&default[0])).flatten();
    Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["bench", "--warmup", "0.1"])
        .args(arguments)
        .args(defaults)
        .output()
        .expect("it runs")
}

/// Plain WebSocket echo server that answers one message at a time, each after a delay.
struct SlowEcho {
    address: String,
}

impl SlowEcho {
    #[expect(clippy::disallowed_methods, reason = "each client is served on a thread that sleeps")]
    fn start(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        // The threads end with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let Ok(mut socket) = tungstenite::accept(stream) else { return };
                    while let Ok(message) = socket.read() {
                        std::thread::sleep(delay);
                        if !message.is_text() || socket.send(message).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address }
    }
}

fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn delivers_everything_to_every_client_kind() {
    let demo = Demo::start();
    let (http, ws) = (format!("http://{}", demo.address), format!("ws://{}/ws", demo.address));
    let pid = demo.child.id().to_string();
    let everyone = r#"["everyone","{payload}"]"#;
    let to_room = r#"["room","{room}","{payload}"]"#;
    for arguments in [
        // The defaults match the demo's events.
        &[&*http][..],
        &[&*http, "--pattern", "broadcast"],
        &[&*http, "--pattern", "rooms", "--rooms", "4"],
        &[&*ws, "--pattern", "broadcast", "--rate", "100", "--pid", &pid],
        &[&*http, "--pattern", "broadcast", "--message", everyone],
        &[&*http, "--pattern", "broadcast", "--message", everyone, "--transport", "polling"],
        &[&*http, "--pattern", "broadcast", "--message", r#"["others","{payload}"]"#, "--without-sender"],
        &[&*http, &*http, "--pattern", "rooms", "--join", r#"["join","{room}"]"#, "--room-message", to_room],
    ] {
        let output = bench(&[arguments, &["--json", "-"]].concat());
        let report = report(&output);
        assert!(output.status.success() && report["ok"] == true, "{arguments:?}: {report}");
        assert!(report["deliveries"].as_u64().expect("a number") > 10, "{arguments:?}: {report}");
        // The demo sends `hello` to every client.
        assert!(report["others"].as_u64().expect("a number") >= 20, "{arguments:?}: {report}");
    }
}

#[test]
fn writes_page_and_prints_summary() {
    let demo = Demo::start();
    let page = format!("{}/bench.html", env!("CARGO_TARGET_TMPDIR"));
    let output = bench(&[&format!("ws://{}/ws", demo.address), "--pattern", "broadcast", "--html", &page]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "progress is for terminals");
    assert!(
        said.starts_with("broadcast, 20 clients at ws://127.0.0.1:")
            && said.contains("none: every message delivered once")
    );
    assert!(std::fs::read_to_string(page).expect("it was written").contains("Deliveries per second"));
}

#[test]
fn open_loop_reports_late_sends() {
    let demo = Demo::start();
    let ws = format!("ws://{}/ws", demo.address);
    let output = bench(&[&ws, "--pattern", "broadcast", "--rate", "200", "--seconds", "1", "--json", "-"]);
    let report = report(&output);
    assert!(output.status.success(), "{report}");
    let open_loop = &report["open_loop"];
    assert_eq!(open_loop["rate"], 200.0, "{report}");
    assert!((190..=220).contains(&open_loop["due"].as_u64().expect("a number")), "{report}");
    let late = ["late_generator", "late_bound"].map(|cause| open_loop[cause].as_u64().expect("a number"));
    assert_eq!(open_loop["late"].as_u64(), Some(late.iter().sum()), "{report}");
    // On a busy machine the generator may be late; then the report says so.
    let is_late = open_loop["late_share"].as_f64() > Some(0.01);
    assert_eq!(open_loop["invalid"].is_string(), is_late, "{report}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).contains("INVALID"), is_late, "{output:?}");
    assert!(report["p99_us"].as_f64() <= report["max_us"].as_f64(), "{report}");
    assert!(report["histogram"].as_str().expect("text").starts_with("HISTF"), "{report}");
}

#[test]
fn finds_capacity_of_demo() {
    let demo = Demo::start();
    let page = format!("{}/capacity.html", env!("CARGO_TARGET_TMPDIR"));
    let http = format!("http://{}", demo.address);
    let search = ["--find-capacity", "p50=200ms", "--start-rate", "400", "--seconds", "0.2"];
    let secret = ["--auth", r#"{"token":"s3cret"}"#];
    let output = bench(&[&[&*http, "--json", "-", "--html", &page][..], &search, &secret].concat());
    let report = report(&output);
    let capacity = &report["capacity"];
    let steps = capacity["steps"].as_array().expect("an array");
    assert!(steps.len() >= 3, "{report}");
    assert!(output.status.success() && capacity["rate"].as_f64() >= Some(50.0), "{report}");
    assert_eq!(steps[steps.len() - 1]["phase"], "confirmation", "{report}");
    assert_eq!((&report["ok"], &capacity["confirmed"]), (&true.into(), &true.into()), "{report}");
    assert_eq!(report["open_loop"]["rate"], capacity["rate"], "it is the run of the capacity");
    // One line per step, and the result.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.lines().count() > steps.len() && said.contains("messages per second with p50 ≤ 200 ms"),
        "{said}"
    );
    let page = std::fs::read_to_string(page).expect("it was written");
    assert!(page.contains("Steps of the search"), "{page}");
    for text in [&*page, &said, &report.to_string()] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn slow_server_has_low_capacity() {
    // One client, and 20 ms per message: at most 50 messages per second, a few more within the tolerance of a second.
    let server = SlowEcho::start(Duration::from_millis(20));
    let url = format!("ws://{}/", server.address);
    let search = ["--find-capacity", "p50=300ms", "--start-rate", "20", "--seconds", "1", "--clients", "1"];
    let output = bench(&[&[&*url, "--json", "-"][..], &search].concat());
    let report = report(&output);
    let capacity = &report["capacity"];
    let rate = capacity["rate"].as_f64().expect("a number");
    assert!(output.status.success() && (9.0..=60.0).contains(&rate), "{report}");
    assert_eq!((&capacity["at_least"], &capacity["confirmed"]), (&false.into(), &true.into()), "{report}");
    assert!(["latency", "behind"].contains(&capacity["stopped_by"].as_str().expect("text")), "{report}");
    // A limit below the delay of a single message.
    let none = ["--find-capacity", "p50=5ms", "--start-rate", "20", "--seconds", "0.5", "--clients", "1"];
    let output = bench(&[&[&*url][..], &none].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no rate with p50 ≤ 5 ms found"), "{said}");
}

#[test]
fn reports_misdelivered_message_as_fault() {
    let demo = Demo::start();
    // The demo broadcasts it instead of echoing it.
    let output = bench(&[&format!("ws://{}/ws", demo.address), "--pattern", "echo", "--json", "-"]);
    let report = report(&output);
    assert!(!output.status.success() && report["faults"]["misdelivered"].as_u64() > Some(0), "{report}");
}

#[test]
fn reports_connection_failures_at_once() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let output = bench(&[&format!("ws://{free}/")]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && said.contains(&format!("connect to {free}: Connection refused")),
        "{said}"
    );
    let demo = Demo::start();
    let output = bench(&[&format!("ws://{}/nowhere", demo.address)]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("404"), "{output:?}");
}

#[cfg(feature = "tls")]
#[test]
fn measures_over_tls() {
    let (certificate, key) = (certificate("one.crt"), certificate("one.key"));
    let demo = Demo::start_with(&["--tls-cert", &certificate, "--tls-key", &key]);
    let (_, port) = demo.address.rsplit_once(':').expect("a port");
    let (http, ws) = (format!("https://localhost:{port}"), format!("wss://localhost:{port}/ws"));
    let long = ["--pattern", "broadcast", "--payload", "100000"];
    for arguments in [
        &[&*http, "--ca", &certificate][..],
        &[&*http, "--insecure", "--transport", "polling", "--pattern", "broadcast"],
        &[&*ws, "--insecure", "--pattern", "broadcast"],
        &[&[&*ws, "--insecure"][..], &long].concat(),
    ] {
        let report = report(&bench(&[arguments, &["--json", "-"]].concat()));
        assert!(report["ok"] == true, "{arguments:?}: {report}");
        assert!(report["deliveries"].as_u64().expect("a number") > 10, "{arguments:?}: {report}");
    }
    // The system does not trust this authority.
    let said = String::from_utf8(bench(&[&http]).stdout).expect("text");
    assert!(said.contains("--ca FILE"), "{said}");
    let plain = Demo::start();
    let output = bench(&[&format!("wss://{}/ws", plain.address), "--insecure"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("does the server speak TLS"), "{output:?}");
}

#[cfg(feature = "tls")]
fn certificate(name: &str) -> String {
    format!("{}/../server/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}
