use std::sync::mpsc;
use std::thread;

use clap::Parser;

use super::*;
use roomcast_compare::limit::testing::Running;
use roomcast_compare::limit::{Pattern as LimitPattern, Send};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn options(line: &str) -> Options {
    Cli::parse_from(std::iter::once("bench").chain(line.split(' '))).options
}

/// Runs a short load against a limit server in this process.
fn outcome(pattern: LimitPattern, line: &str) -> Outcome {
    let server = Running::new(Send::Write, pattern);
    let options = options(&line.replace("HOST", &server.address.to_string()));
    let mut view = View::new(options.warmup + options.seconds, Arc::default());
    let report = run_watched(&options.settings().unwrap(), &mut view).unwrap();
    let (urls, samples) = (options.urls.iter().map(ToString::to_string).collect(), view.finish());
    Outcome { urls, pattern: options.pattern.name(), rate: options.rate, report, samples }
}

const SHORT: &str = "--warmup 0.1 --seconds 0.6";

#[test]
fn runs_every_pattern() {
    for (pattern, line, least) in [
        (LimitPattern::Echo, "ws://HOST --clients 10", 100),
        (
            LimitPattern::Broadcast,
            "ws://HOST/x --clients 10 --pattern broadcast --outstanding 4 --senders 2",
            100,
        ),
        (LimitPattern::Room, "ws://HOST --clients 11 --pattern rooms --rooms 3", 50),
        (LimitPattern::Room, "ws://HOST --clients 600 --pattern rooms --rooms 1 --senders 1", 600),
        (LimitPattern::Poll, "http://HOST --transport polling --clients 10 --pattern broadcast", 20),
    ] {
        let outcome = outcome(pattern, &format!("{line} {SHORT}"));
        let report = &outcome.report;
        assert!(report.ok && report.deliveries >= least && report.sent > 0, "{line}: {report:?}");
        assert!(!outcome.samples.is_empty(), "{line}");
        let text = view::summary(&outcome);
        assert!(text.contains("faults                none"), "{text}");
    }
}

#[test]
fn keeps_requested_rate() {
    let outcome = outcome(
        LimitPattern::Broadcast,
        "ws://HOST --clients 5 --pattern broadcast --rate 50 --warmup 0.1 --seconds 2",
    );
    let report = &outcome.report;
    assert!(report.ok, "{report:?}");
    let rate = report.sent as f64 / report.window_s;
    assert!((40.0..=55.0).contains(&rate), "{report:?}");
    // Counted from the due time, which is less than an interval ago.
    assert!(report.p50_us.unwrap() < 15_000.0, "{report:?}");
    assert!((4.0..=6.0).contains(&(report.deliveries as f64 / report.sent as f64)), "{report:?}");
}

#[test]
fn writes_json_and_html_reports() {
    let line = format!("ws://HOST --clients 5 --pid {} {SHORT}", std::process::id());
    let outcome = outcome(LimitPattern::Echo, &line);
    let value: serde_json::Value = serde_json::from_str(&json(&outcome)).unwrap();
    assert_eq!((value["ok"].as_bool(), value["pattern"].as_str()), (Some(true), Some("echo")));
    assert!(value["samples"][0]["server_cores"].as_f64().unwrap() > 0.0, "{value}");
    let page = html::page(&outcome);
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(!page.contains("src=") && !page.contains("href="), "it is self-contained");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the server runs on a thread")]
fn reports_servers_of_other_protocols() {
    let error = |line: &str| outcome(LimitPattern::Echo, line).report.error.unwrap();
    // In this pattern the limit answers no polls and does not speak Socket.IO.
    assert!(error("http://HOST --clients 2 --stall 0.3").contains("0 of 2 clients connected"));
    let (tell, told) = mpsc::sync_channel(1);
    let ssh = thread::spawn(move || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH\r\n").unwrap();
        std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
    });
    let address = told.recv().unwrap();
    let run = |line: &str| {
        run_watched(&options(line).settings().unwrap(), &mut View::new(Duration::ZERO, Arc::default()))
            .unwrap()
    };
    let report = run(&format!("ws://{address} --clients 1"));
    ssh.join().unwrap();
    assert!(report.error.as_ref().unwrap().contains("not HTTP, \"SSH-2.0"), "{report:?}");
    let report = run(&format!("ws://{address} --clients 1"));
    assert!(report.error.as_ref().unwrap().contains(&format!("connect to {address}")), "{report:?}");
}

#[test]
fn rejects_invalid_options() {
    for line in [
        "ws://h http://h",
        "ws://h --transport polling",
        "ws://127.0.0.1 --payload 31",
        "ws://127.0.0.1 --pattern broadcast --senders 101",
        "ws://127.0.0.1 --pattern rooms --rooms 101",
        "ws://127.0.0.1 --pattern rooms --rooms 60 --without-sender",
        "ws://127.0.0.1 --pattern idle",
        "ws://127.0.0.1 --message hello",
        "http://127.0.0.1 --message {payload}",
        "http://127.0.0.1 --auth {",
        "http://127.0.0.1 --namespace chat",
        "ws://127.0.0.1 --header x",
    ] {
        assert!(matches!(options(line).settings(), Err(Error::Usage(_))), "{line}");
    }
}
