//! Short run of the scenarios of clusters, with Roomcast, Node and the bare client library on a Redis.

use std::process::Command;

use roomcast_loadgen::{ClusterReport, Report};

/// Runs the scenarios of clusters with some servers; returns the results, the log and the folder of the report.
fn compare(name: &str, servers: &[&str]) -> (serde_json::Value, String, String) {
    let folder = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args("--cluster --rounds 1 --repeats 0 --warmup 0.1 --window 0.2 --only".split(' '))
        .args([&servers.join(","), "--out", &folder])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    let record = std::fs::read_to_string(format!("{folder}/results.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["missing"].as_array().map(Vec::len), Some(0), "{}", record["missing"]);
    (record, log, folder)
}

/// Returns the costs of a server under a load.
fn cost(record: &serde_json::Value, log: &str, load: &str, server: &str) -> ClusterReport {
    let mut runs = record["runs"].as_array().unwrap().iter();
    let run = runs
        .find(|run| run["load"].as_str().is_some_and(|it| it.starts_with(load)) && run["server"] == server);
    let run = run.unwrap_or_else(|| panic!("{server} did not run under {load}: {log}"));
    let report: Report = serde_json::from_value(run["report"].clone()).unwrap();
    assert!(report.ok && report.deliveries > 0, "{server} under {load}: {report:?}");
    report.cluster.unwrap()
}

#[test]
#[ignore = "needs redis-server, Node's packages and example programs; run by `cargo xtask test cluster-cost`"]
fn measures_servers_in_cluster() {
    let servers = [
        "roomcast-native",
        "roomcast-classic",
        "roomcast-sharded",
        "socket.io-classic",
        "socket.io-sharded",
        "roomcast-native-2-redis",
        "redis-rs",
        "redis-rs-classic",
    ];
    let (record, log, folder) = compare("cluster", &servers);
    let cost = |load: &str, server: &str| cost(&record, &log, load, server);
    for server in servers.into_iter().filter(|server| *server != "roomcast-native-2-redis") {
        let saturated = cost("cluster-saturated", server);
        assert!((0.05..5000.0).contains(&saturated.sender_us), "{server}: {saturated:?}");
        assert!((0.05..5000.0).contains(&saturated.receiver_us), "{server}: {saturated:?}");
    }
    for server in &servers[..5] {
        let paced = cost("cluster-paced", server);
        assert!((1.0..1100.0).contains(&paced.messages_per_s), "{server}: {paced:?}");
    }
    // In native mode, a server does not receive events for rooms without members.
    let [native, classic] = [servers[0], servers[1]].map(|server| cost("cluster-no-members", server));
    assert!(native.receiver_us < classic.receiver_us, "{native:?} and {classic:?}");
    for server in &servers[..6] {
        let rooms = cost("cluster-rooms", server);
        assert!((0.05..5000.0).contains(&rooms.redis_us), "{server}: {rooms:?}");
    }
    let report = std::fs::read_to_string(format!("{folder}/README.md")).unwrap();
    assert!(report.contains("### cluster-no-members:1:180"), "{report}");
}

#[test]
#[ignore = "needs redis-server, Node's packages and example programs; run by `cargo xtask test cluster-cost`"]
fn measures_streams_and_sessions() {
    let servers = ["roomcast-streams-recovery", "roomcast-streams-sessions", "socket.io-streams"];
    let (record, log, _) = compare("cluster-streams", &servers);
    let cost = |load: &str, server: &str| cost(&record, &log, load, server);
    for server in servers {
        let saturated = cost("cluster-saturated", server);
        assert!((0.05..5000.0).contains(&saturated.sender_us), "{server}: {saturated:?}");
        assert!((0.05..5000.0).contains(&saturated.receiver_us), "{server}: {saturated:?}");
        let changes = cost("cluster-sessions", server);
        assert!((0.05..5000.0).contains(&changes.sender_us), "{server}: {changes:?}");
        assert!((500.0..4100.0).contains(&changes.messages_per_s), "{server}: {changes:?}");
    }
    // Only one of them writes the changes.
    let [recovery, sessions] = [servers[0], servers[1]].map(|server| cost("cluster-sessions", server));
    assert!(recovery.redis_us < sessions.redis_us, "{recovery:?} and {sessions:?}");
}
