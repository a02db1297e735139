//! Connection state recovery in a cluster.

use roomcast_server::Config;
use roomcast_server::server::Drain;
use roomcast_testkit::cluster::Fault;
use serde_json::{Value, json};

use crate::recovery::{Returner, event};
use crate::support::cluster::{Node, Nodes, know_each_other};
use crate::support::serve::until;
use crate::support::ws::Message;

/// Starts a node with recovery.
fn recovering(nodes: &Nodes) -> Node {
    nodes.start_with(|builder| builder.config(Config::new().recovery(|recovery| recovery)))
}

/// Receives an event; returns its name and its offset.
fn hear(client: &mut Returner) -> (Value, String) {
    let Ok(Message::Text(text)) = client.engine.receive() else { panic!("no event") };
    let (mut list, offset) = event(&text);
    (list.remove(0), offset)
}

/// Breaks the connection of a client; returns its id, and the auth for its return.
fn vanish(node: &Node, client: Returner, offset: &str) -> (String, Value) {
    let (sid, shows) = (client.sid.clone(), client.shows(Some(offset)));
    drop(client.engine);
    until(|| node.io.client_count() == 0);
    (sid, shows)
}

/// Returns a client; the result is whether it was recovered, and the events that were replayed.
fn recover(node: &Node, sid: &str, shows: &Value) -> (bool, Vec<Value>) {
    let client = Returner::connect_with(&node.server.dial, "/", shows);
    let replayed = client.missed.iter().map(|message| match message {
        Message::Text(text) => event(text).0.remove(0),
        Message::Binary(_) => panic!("a binary event"),
    });
    (client.sid == sid, replayed.collect())
}

#[test]
fn missed_remote_events_are_replayed() {
    let nodes = Nodes::new();
    let (here, there) = (nodes.start(), recovering(&nodes));
    know_each_other(&[&here, &there]);
    let mut client = Returner::connect(&there.server.dial);
    here.io.emit("first", 1).expect("a valid name");
    let (name, offset) = hear(&mut client);
    assert_eq!(name, "first");
    let (sid, shows) = vanish(&there, client, &offset);
    here.io.emit("second", 2).expect("a valid name");
    here.io.emit("third", 3).expect("a valid name");
    until(|| there.metric("cluster_delivered") == 3);
    assert_eq!(recover(&there, &sid, &shows), (true, vec![json!("second"), json!("third")]));
}

#[test]
fn lost_remote_events_prevent_recovery() {
    let nodes = Nodes::new();
    let (here, there) = (nodes.start(), recovering(&nodes));
    know_each_other(&[&here, &there]);
    let mut client = Returner::connect(&there.server.dial);
    here.io.emit("first", 1).expect("a valid name");
    let (_, offset) = hear(&mut client);
    let (sid, shows) = vanish(&there, client, &offset);
    nodes.inject(&Fault::Loss(1000));
    here.server.block_on(here.io.emit_confirmed("lost", 2)).expect("a working engine");
    nodes.inject(&Fault::Loss(0));
    here.io.emit("third", 3).expect("a valid name");
    until(|| there.metric("cluster_delivered") == 2);
    assert_eq!(there.metric("cluster_gaps"), 1);
    assert_eq!(recover(&there, &sid, &shows), (false, Vec::new()));
}

#[test]
fn rolling_deploy_keeps_sessions_recoverable() {
    let nodes = Nodes::new();
    let (here, there) = (nodes.start(), recovering(&nodes));
    know_each_other(&[&here, &there]);
    let mut client = Returner::connect(&there.server.dial);
    here.io.emit("first", 1).expect("a valid name");
    let (_, offset) = hear(&mut client);
    let (sid, shows) = vanish(&there, client, &offset);
    // A new node joins, the old one leaves.
    let new = nodes.start();
    know_each_other(&[&here, &there, &new]);
    new.io.emit("from the new node", 2).expect("a valid name");
    here.io.emit("from the old node", 3).expect("a valid name");
    here.server.block_on(here.io.drain(Drain::default()));
    know_each_other(&[&there, &new]);
    new.io.emit("last", 4).expect("a valid name");
    until(|| there.metric("cluster_delivered") == 4);
    let (is_recovered, mut replayed) = recover(&there, &sid, &shows);
    assert!(is_recovered);
    replayed.sort_by_key(Value::to_string);
    assert_eq!(replayed, ["from the new node", "from the old node", "last"].map(|name| json!(name)));
    assert_eq!(there.metric("cluster_gaps"), 0);
}

#[test]
fn death_of_node_ends_recoverable_range() {
    let nodes = Nodes::with(|config| {
        config.heartbeat_interval = std::time::Duration::from_millis(500);
        config.node_timeout = std::time::Duration::from_secs(3);
    });
    let (mut here, there) = (nodes.start(), recovering(&nodes));
    know_each_other(&[&here, &there]);
    let mut client = Returner::connect(&there.server.dial);
    here.io.emit("first", 1).expect("a valid name");
    let (_, offset) = hear(&mut client);
    let (sid, shows) = vanish(&there, client, &offset);
    // It may have published more.
    here.die();
    until(|| there.metric("cluster_nodes") == 0);
    assert_eq!(recover(&there, &sid, &shows), (false, Vec::new()));
}
