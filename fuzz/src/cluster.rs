//! Messages between the nodes of a cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_cluster::{
    BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig, Node, NodeId, check_message,
};
use roomcast_cluster_runtime::check_body;
use roomcast_core::{Namespace, Room};

/// Bodies of publications, requests and answers decode within bounds, and events are encoded as they were decoded.
///
/// The input is a body. One of another version would be rejected at its first byte, so that byte is replaced.
pub fn cluster_bodies(data: &[u8]) {
    let mut body = data.to_vec();
    let _ = check_body(&Bytes::copy_from_slice(data));
    if let Some(version) = body.first_mut() {
        *version = 1;
        let _ = check_body(&body.into());
    }
}

/// A node accepts any messages, within its limits.
///
/// The input is a sequence of messages: a byte that selects the channel and the time until the next message, a byte with
/// the length, and that many bytes.
pub fn cluster_messages(data: &[u8]) {
    let mut now = Instant::now();
    let mut config = ClusterConfig::default();
    config.max_publication = 1 << 10;
    config.reassembly_bytes = 2 << 10;
    let id = NodeId::new(1);
    let mut node = Node::new(Arc::new(config), id, 5, now);
    let (namespace, room) = (Namespace::main(), Room::from("a"));
    node.add_interest(&namespace, None, now);
    node.add_interest(&namespace, Some(&room), now);
    let channels = [
        Channel::Nodes,
        Channel::Inbox(id),
        Channel::Ids(id),
        Channel::Namespace(namespace.clone()),
        Channel::Room(namespace, room),
        Channel::Room(Namespace::from("/other"), Room::from("b")),
    ];
    let mut rest = data;
    while let [selector, len, tail @ ..] = rest {
        let (message, next) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = next;
        let channel = channels[usize::from(*selector) % channels.len()].clone();
        let payload = Bytes::copy_from_slice(message);
        let _ = check_message(&channel, &payload);
        node.handle_event(BackplaneEvent::Message { channel, payload }, now);
        now += Duration::from_millis(u64::from(*selector) * 4);
        drive(&mut node, now);
        let metrics = node.metrics();
        assert!(metrics.reassembly_bytes <= 2 << 10, "{metrics:?}");
    }
    // All timers end.
    for _ in 0..20 {
        now += Duration::from_secs(1);
        drive(&mut node, now);
    }
    assert_eq!(node.metrics().nodes, 0);
}

fn drive(node: &mut Node, now: Instant) {
    node.handle_timeout(now);
    while let Some(command) = node.poll_command(now) {
        if let BackplaneCommand::Subscribe { channels, token } = command {
            node.handle_event(BackplaneEvent::Subscribed { channels, token }, now);
        }
    }
    while let Some(action) = node.poll_action() {
        if let ClusterAction::Request { asker, body, .. } = action {
            // The request may have ended.
            let _ = node.answer(asker, Some(1), Some(body), now);
        }
    }
}
