//! Memory of members of other nodes, measured at the allocator.

#![expect(clippy::disallowed_methods, reason = "an `Instant` has no other constructor")]

use std::time::Instant;

use allocation_counter::measure;
use roomcast_cluster::{NodeId, NodeRef};
use roomcast_core::{MemberKey, Namespace, PresenceMember, SocketId};
use roomcast_presence::{PresenceConfig, PresenceReplica, RoomName};

const MEMBERS: u64 = 10_000;

#[test]
fn remote_member_costs_little() {
    let now = Instant::now();
    let name = RoomName { namespace: Namespace::main(), room: "red".into() };
    let node = |number| NodeRef { id: NodeId::new(number), incarnation: 1 };
    let replica = |other| {
        let mut replica = PresenceReplica::new(PresenceConfig::default(), now);
        replica.node_joined(node(other), now);
        replica
    };
    let (mut here, mut there) = (replica(2), replica(1));
    let member = |key: u64| PresenceMember { id: SocketId::from(format!("{key:020}")), data: None };
    here.join(&name, MemberKey(1), member(1), now);
    (0..MEMBERS).for_each(|key| there.join(&name, MemberKey(key), member(key), now));
    while here.poll_action().is_some() {}
    let mut publications = Vec::new();
    while let Some(publication) = there.poll_publication(now) {
        publications.push(publication.body);
    }
    let used = measure(|| {
        for body in &publications {
            here.receive(node(2), &name, body.clone(), now).expect("it decodes");
        }
        while here.poll_action().is_some() {}
    });
    assert_eq!(here.remote(&name).count() as u64, MEMBERS);
    let bytes = used.bytes_current as f64 / MEMBERS as f64;
    println!("{bytes} bytes for each member");
    assert!(bytes < 160.0, "{bytes}");
}
