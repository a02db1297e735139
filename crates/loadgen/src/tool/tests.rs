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
    let line = line.replace("HOST", &server.address.to_string());
    let arguments =
        ["/opt/roomcast", "bench"].into_iter().chain(line.split(' ')).map(str::to_owned).collect();
    options(&line).measure(SystemTime::UNIX_EPOCH, arguments, &Arc::default()).unwrap()
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
        let text = summary::summary(&outcome);
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
fn reports_late_sends_at_bound() {
    let line = "ws://HOST --clients 1000 --pattern broadcast --rate 20000 --outstanding 1";
    let outcome = outcome(LimitPattern::Broadcast, &format!("{line} {SHORT}"));
    let report = &outcome.report;
    assert!(report.ok && report.invalid().is_some() && outcome.is_ok(), "{report:?}");
    let text = summary::summary(&outcome);
    for part in ["late sends", "by more than 1 ms", "at 20,000 messages per second", "INVALID", "over 1 %"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn writes_json_and_html_reports() {
    let line =
        format!("ws://HOST/?token=s3cret --clients 5 --header X:s3cret --pid {} {SHORT}", std::process::id());
    let outcome = outcome(LimitPattern::Echo, &line);
    let text = outcome.json();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((value["ok"].as_bool(), value["pattern"].as_str()), (Some(true), Some("echo")));
    assert_eq!((value["date"].as_str(), value["capacity"].is_null()), (Some("1970-01-01T00:00:00Z"), true));
    assert!(value["command"].as_str().unwrap().starts_with("roomcast bench 'ws://127.0.0.1:"), "{value}");
    assert!(value["command"].as_str().unwrap().ends_with(&format!("--pid {} {SHORT}", std::process::id())));
    assert!(value["machine"]["cpus"].as_u64().unwrap() > 0, "{value}");
    assert!(value["samples"][0]["server_cores"].as_f64().unwrap() > 0.0, "{value}");
    assert_eq!(value["percentiles"][0]["percentile"], 0.0, "{value}");
    let last = value["percentiles"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["percentile"], &last["latency_us"]), (&100.0.into(), &value["max_us"]), "{value}");
    assert!(value["histogram"].as_str().unwrap().starts_with("HISTF"), "{value}");
    let page = html::page(&outcome);
    assert_eq!(page.matches("<svg").count(), 5);
    assert!(!page.contains("src=") && !page.contains("href="), "it is self-contained");
    for part in
        ["1970-01-01T00:00:00Z", "Latency by percentile", ">99.9 %</text>", "HISTF", " CPUs, ", "X: ***"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
    for report in [&text, &page, &summary::summary(&outcome)] {
        assert!(!report.contains("s3cret"), "{report}");
    }
}

#[test]
fn finds_capacity_and_reports_it() {
    // Delivery to 1,500 clients takes about a millisecond, so the search is short.
    let line = "ws://HOST --clients 1500 --pattern broadcast --find-capacity p90=20ms --start-rate 200 --warmup 0.1 \
                --seconds 0.3";
    let outcome = outcome(LimitPattern::Broadcast, line);
    let capacity = outcome.capacity.as_ref().unwrap();
    let text = summary::summary(&outcome);
    assert!(capacity.steps.len() > 2, "{capacity:?}");
    assert_eq!(outcome.is_ok(), capacity.rate.is_some(), "{capacity:?}");
    assert!(text.contains("p90 ≤ 20 ms") && text.contains("  stopped "), "{text}");
    if let Some(rate) = capacity.rate {
        // A busy machine lowers it.
        assert!((30.0..1e6).contains(&rate) && capacity.confirmed, "{capacity:?}");
        assert!(outcome.report.p90_us.unwrap() <= 20_000.0 && outcome.report.ok, "{text}");
    }
    let value: serde_json::Value = serde_json::from_str(&outcome.json()).unwrap();
    assert_eq!(value["capacity"]["steps"].as_array().unwrap().len(), capacity.steps.len());
    assert_eq!(value["capacity"]["steps"][0]["phase"], "growth");
    assert!(value["capacity"]["stopped_by"].is_string(), "{value}");
    let page = html::page(&outcome);
    for part in ["Steps of the search", "class=\"limit\"", "<circle", "<td>growth</td>"] {
        assert!(page.contains(part), "{part} in {page}");
    }
}

#[test]
fn interrupt_before_first_step_finds_nothing() {
    let server = Running::new(Send::Write, LimitPattern::Echo);
    let options = options(&format!("ws://{} --clients 2 --find-capacity p50=1s", server.address));
    let stop = Arc::new(AtomicBool::new(true));
    let outcome = options.measure(SystemTime::UNIX_EPOCH, Vec::new(), &stop).unwrap();
    assert!(!outcome.is_ok());
    assert!(summary::summary(&outcome).contains("stopped by Ctrl-C"), "{}", summary::summary(&outcome));
    assert!(html::page(&outcome).contains("Steps of the search"));
}

#[test]
fn closed_port_ends_search_with_error() {
    // The port is free again once the listener is dropped.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = options(&format!("http://{address} --clients 5 --find-capacity p99=50ms"));
    let outcome = options.measure(SystemTime::UNIX_EPOCH, Vec::new(), &Arc::default()).unwrap();
    let capacity = outcome.capacity.as_ref().unwrap();
    assert_eq!((capacity.steps.len(), capacity.rate), (1, None), "{capacity:?}");
    assert!(outcome.report.window_s > 0.0 && !outcome.is_ok(), "it has the run that failed");
    let error = run(&options).unwrap_err().to_string();
    for part in ["target unreachable: connect to 127.0.0.1:", "refused", "start the server there"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(summary::summary(&outcome).contains(&error), "{}", summary::summary(&outcome));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the server ends after some time")]
fn server_that_dies_ends_search_with_error() {
    let server = Running::new(Send::Write, LimitPattern::Echo);
    let line = "--clients 2 --warmup 0.1 --seconds 0.3 --find-capacity p50=1s --start-rate 50";
    let options = options(&format!("ws://{} {line}", server.address));
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1_000));
        drop(server);
    });
    let outcome = options.measure(SystemTime::UNIX_EPOCH, Vec::new(), &Arc::default()).unwrap();
    killer.join().unwrap();
    let capacity = outcome.capacity.as_ref().unwrap();
    let aborted = capacity.steps.iter().filter(|step| step.error.is_some()).count();
    assert!(
        (1..=2).contains(&aborted),
        "one run under load at most, and one that cannot connect: {capacity:?}"
    );
    assert!(capacity.rate.is_some() && !capacity.confirmed, "the runs before it are kept: {capacity:?}");
    let problem = outcome.target_failure().unwrap();
    for part in ["target unreachable", "the target answered before", "see its log"] {
        assert!(problem.contains(part), "{part} in {problem}");
    }
    assert!(!outcome.is_ok(), "{problem}");
}

#[test]
fn server_of_other_pattern_ends_search() {
    let line = "ws://HOST --clients 3 --pattern broadcast --find-capacity p50=1s --stall 0.3";
    let outcome = outcome(LimitPattern::Echo, line);
    assert_eq!(outcome.capacity.as_ref().unwrap().steps.len(), 1);
    let problem = outcome.target_failure().unwrap();
    assert!(problem.contains("1 of 3 clients") && problem.contains("check that URL, --pattern"), "{problem}");
}

#[test]
fn search_excludes_fixed_rate() {
    for line in
        ["ws://h --rate 5 --find-capacity p99=1s", "ws://h --start-rate 5", "ws://h --find-capacity p9=1s"]
    {
        let parsed = Cli::try_parse_from(std::iter::once("bench").chain(line.split(' ')));
        assert!(parsed.is_err(), "{line}");
    }
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
        "ws://127.0.0.1 --pattern idle --pid 1 --rate 5",
        "ws://127.0.0.1 --pattern idle --pid 1 --find-capacity p99=1s",
        "ws://127.0.0.1 --message hello",
        "http://127.0.0.1 --message {payload}",
        "http://127.0.0.1 --auth {",
        "http://127.0.0.1 --namespace chat",
        "ws://127.0.0.1 --header x",
    ] {
        assert!(matches!(options(line).settings(), Err(Error::Usage(_))), "{line}");
    }
}
