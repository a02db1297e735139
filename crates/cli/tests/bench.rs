//! End-to-end tests of `roomcast bench`.
#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

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
    Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["bench", "--warmup", "0.1", "--seconds", "0.5", "--clients", "20"])
        .args(arguments)
        .output()
        .expect("it runs")
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
