//! End-to-end tests of `roomcast serve --redis` without a Redis. `e2e/cluster` tests it with one.
#![cfg(all(unix, feature = "redis"))]
#![allow(clippy::disallowed_methods, reason = "tests read a clock")]

#[allow(dead_code, reason = "each test file uses a part")]
mod support;

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Chat, PATIENCE, Running, ask, command};

/// URL of a port without a server, with a password.
fn absent() -> String {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    format!("redis://me:hunter2@{free}")
}

#[test]
fn serves_degraded_without_redis() {
    let server = Running::start(|command| {
        command.env("ROOMCAST_REDIS", absent()).args(["--connect-timeout", "300ms"])
    });
    // The first client waits for the cluster at most.
    let begun = Instant::now();
    let mut chat = Chat::open(server.address);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    chat.say(r#"421["join","red"]"#);
    assert!(chat.hear().starts_with(r#"42["welcome""#));
    let begun = Instant::now();
    while ask(server.admin, "/ready") != (200, "ready\ncluster degraded\n".into()) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", ask(server.admin, "/ready"));
    }
    let (_, metrics) = ask(server.admin, "/metrics");
    for line in ["roomcast_redis_connected 0.0", "roomcast_cluster_nodes 0.0"] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} in\n{metrics}");
    }
    let manual = include_str!("../operations.md");
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a kind");
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(manual.contains(&name), "{name} is missing in the manual");
    }
}

#[test]
fn shows_no_password() {
    let mut server = Running::start_logging(
        |command| {
            command.args(["--redis", &absent(), "--log", "trace"]).env("ROOMCAST_REDIS_PASSWORD", "hunter3")
        },
        Stdio::piped(),
    );
    let mut log = server.child.stderr.take().expect("a pipe");
    let (_, metrics) = ask(server.admin, "/metrics");
    std::thread::sleep(Duration::from_millis(300));
    server.signal(Signal::TERM);
    server.wait();
    let mut text = String::new();
    log.read_to_string(&mut text).expect("text");
    assert!(text.contains("the password in --redis is visible to other users"), "{text}");
    let mut help = command();
    let help = help.args(["serve", "--help"]).env("ROOMCAST_REDIS", absent()).output().expect("it runs");
    let help = String::from_utf8(help.stdout).expect("text");
    assert!(help.contains("ROOMCAST_REDIS_PASSWORD"), "{help}");
    for text in [text, metrics, help] {
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[test]
fn names_invalid_setting_without_its_value() {
    let mut secret = std::env::temp_dir();
    secret.push(format!("roomcast-cli-no-certificate-{}", std::process::id()));
    std::fs::write(&secret, "hunter2").expect("a file");
    let file = secret.to_str().expect("text");
    for (flags, variables, expected) in [
        (
            &["--redis", "http://me:hunter2@host"][..],
            &[][..],
            "--redis: invalid Redis URL; expected redis://",
        ),
        (&[], &[("ROOMCAST_REDIS", "host:hunter2")], "ROOMCAST_REDIS: invalid Redis URL"),
        (&["--redis", "rediss://:hunter2@host/#insecure"], &[], "--redis-ca-file"),
        (&["--redis", "rediss://host", "--redis-ca-file", file], &[], "--redis-ca-file: no certificate in"),
        (
            &["--redis", "redis://host", "--redis-password-file", "no/such"],
            &[],
            "--redis-password-file: cannot",
        ),
        (&["--redis-sentinel", "host"], &[], "--redis-sentinel: invalid sentinel address \"host\""),
        (
            &["--redis-sentinel", "host:1", "--redis-sentinel-user", "me"],
            &[],
            "ROOMCAST_REDIS_SENTINEL_PASSWORD",
        ),
        (&["--redis", "redis://host", "--redis-user", "me"], &[], "ROOMCAST_REDIS_PASSWORD"),
        (&["--redis-prefix", "chat"], &[], "--redis"),
        (&[], &[("ROOMCAST_REDIS_PREFIX", "chat")], "ROOMCAST_REDIS_PREFIX"),
        (&["--redis", "redis://host", "--redis-mode", "other"], &[], "native"),
    ] {
        let output = command().arg("serve").args(flags).envs(variables.iter().copied()).output();
        let output = output.expect("it runs");
        assert!(!output.status.success(), "{flags:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected) && !said.contains("hunter2"), "{flags:?} {variables:?}: {said}");
    }
    std::fs::remove_file(&secret).expect("the file");
}
