//! Tests of the interest, with a model of the servers.

use super::*;

fn assign_all(interest: &mut Interest, node: impl Fn(u16) -> NodeId) {
    let changes: Vec<_> = (0..SLOTS).map(|slot| (slot, Some(node(slot)))).collect();
    interest.assign(&changes);
}

fn names(names: &[&'static str]) -> Vec<ByteString> {
    names.iter().copied().map(ByteString::from_static).collect()
}

fn events(interest: &mut Interest) -> Vec<PubSubEvent> {
    interest.report_restored();
    interest.events.drain(..).collect()
}

#[test]
fn channels_of_slot_share_command() {
    let mut interest = Interest::new();
    assign_all(&mut interest, |_| 1);
    interest.subscribe(names(&["{a}1", "b", "{a}2"]), 1, |_| true);
    let batch = interest.take(1, 10);
    assert_eq!(batch.start.len(), 2);
    assert!(batch.start.contains(&names(&["{a}1", "{a}2"])) && batch.stop.is_empty());
    assert!(interest.blocks(1));
    ["{a}1", "b", "{a}2"].iter().for_each(|name| interest.confirm(1, name));
    assert!(!interest.blocks(1));
    assert_eq!(events(&mut interest), [PubSubEvent::Done { token: 1 }]);
}

#[test]
fn churn_is_coalesced() {
    let mut interest = Interest::new();
    assign_all(&mut interest, |_| 1);
    for token in 0..1000 {
        interest.subscribe(names(&["a"]), 2 * token, |_| false);
        interest.unsubscribe(&names(&["a"]), 2 * token + 1);
    }
    assert_eq!(interest.queues[&1].len(), 1);
    assert_eq!(interest.take(1, 10), Batch::default());
    assert!(interest.channels.is_empty() && interest.is_settled());
    assert_eq!(events(&mut interest).len(), 2000);
}

#[test]
fn unwanted_channels_are_bounded_in_outage() {
    let mut interest = Interest::new();
    assign_all(&mut interest, |_| 1);
    for token in 0..20_000 {
        let name = [ByteString::from(token.to_string())];
        interest.subscribe(name.to_vec(), token, |_| false);
        interest.unsubscribe(&name, token);
    }
    assert!(interest.channels.len() <= MAX_SURPLUS + 1, "{}", interest.channels.len());
    assert!(interest.queues[&1].len() <= MAX_SURPLUS + 1);
}

#[test]
fn removed_subscriptions_are_renewed_and_told() {
    let mut interest = Interest::new();
    assign_all(&mut interest, |_| 1);
    interest.subscribe(names(&["a"]), 1, |_| true);
    interest.take(1, 10);
    interest.confirm(1, "a");
    assert!(interest.removed(1, "a"));
    assert!(!interest.removed(1, "a"));
    interest.assign(&[(slot_of(b"a"), Some(2))]);
    assert_eq!(interest.take(1, 10), Batch::default());
    assert_eq!(interest.take(2, 10).start, [names(&["a"])]);
    // A former master is not heard.
    assert_eq!(interest.heard(1, b"a"), None);
    interest.confirm(2, "a");
    assert_eq!(interest.heard(2, b"a"), Some("a".into()));
    let missed = PubSubEvent::Missed { subscriptions: names(&["a"]) };
    assert_eq!(events(&mut interest), [PubSubEvent::Done { token: 1 }, missed]);
    assert_eq!(interest.lost, 1);
}

#[test]
fn refused_subscriptions_end() {
    let mut interest = Interest::new();
    assign_all(&mut interest, |_| 1);
    interest.subscribe(names(&["a", "b"]), 1, |_| true);
    interest.take(1, 10);
    interest.refused(1, &names(&["a"]), false);
    interest.confirm(1, "b");
    assert_eq!(events(&mut interest), [PubSubEvent::Refused { token: 1 }]);
    // The driver asks for all of them again.
    assert_eq!(interest.take(1, 10).stop, [names(&["b"])]);
}

/// Server of the model: its subscriptions, and the commands that it has not executed.
#[derive(Default)]
struct Server {
    heard: HashSet<ByteString>,
    commands: VecDeque<Batch>,
}

/// Executes the first command of a server; a slot of another owner is redirected.
fn execute(interest: &mut Interest, servers: &mut HashMap<NodeId, Server>, node: NodeId, owners: &[NodeId]) {
    let Some(server) = servers.get_mut(&node) else { return };
    let Some(Batch { start, stop }) = server.commands.pop_front() else { return };
    let stopped = stop.concat();
    stopped.iter().for_each(|name| _ = server.heard.remove(name));
    interest.stopped(node, &stopped);
    for names in start {
        let slot = slot_of(names[0].as_bytes());
        let owner = owners[usize::from(slot)];
        if owner == node {
            names.iter().for_each(|name| interest.confirm(node, name));
            server.heard.extend(names);
        } else {
            interest.assign(&[(slot, Some(owner))]);
            interest.refused(node, &names, true);
            interest.retry(&names);
        }
    }
}

#[test]
fn all_wanted_channels_end_at_their_owner() {
    const NODES: u32 = 3;
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut interest = Interest::new();
        let mut owners: Vec<NodeId> = (0..SLOTS).map(|slot| u32::from(slot) % NODES).collect();
        assign_all(&mut interest, |slot| u32::from(slot) % NODES);
        let mut servers: HashMap<NodeId, Server> = (0..NODES).map(|node| (node, Server::default())).collect();
        let mut wanted: HashMap<ByteString, usize> = HashMap::new();
        let mut answers = 0;
        let mut token = 0;
        for _ in 0..200 {
            let node = random.u32(..NODES);
            let name = ByteString::from(random.u32(..20).to_string());
            match random.u32(..10) {
                0..=2 => {
                    token += 1;
                    *wanted.entry(name.clone()).or_default() += 1;
                    interest.subscribe(vec![name], token, |_| true);
                }
                3 | 4 if wanted.get(&name).is_some_and(|count| *count > 0) => {
                    token += 1;
                    *wanted.entry(name.clone()).or_default() -= 1;
                    interest.unsubscribe(&[name], token);
                }
                5 => {
                    let slot = slot_of(name.as_bytes());
                    let from = std::mem::replace(&mut owners[usize::from(slot)], node);
                    let server = servers.get_mut(&from).expect("a server");
                    if from != node && server.heard.remove(&name) {
                        interest.removed(from, &name);
                    }
                }
                6 => {
                    let server = servers.get_mut(&node).expect("a server");
                    *server = Server::default();
                    interest.disconnected(node);
                }
                7 | 8 => {
                    let max = random.usize(1..5);
                    let batch = interest.take(node, max);
                    servers.get_mut(&node).expect("a server").commands.push_back(batch);
                }
                _ => execute(&mut interest, &mut servers, node, &owners),
            }
            answers += count_answers(&mut interest);
        }
        for _ in 0..100 {
            for node in 0..NODES {
                let batch = interest.take(node, 100);
                servers.get_mut(&node).expect("a server").commands.push_back(batch);
                execute(&mut interest, &mut servers, node, &owners);
            }
            answers += count_answers(&mut interest);
        }
        assert!(interest.is_settled(), "seed {seed}");
        assert_eq!(answers, token, "seed {seed}: each command has one answer");
        let wanted: HashSet<_> =
            wanted.into_iter().filter(|(_, count)| *count > 0).map(|(name, _)| name).collect();
        for name in &wanted {
            let owner = owners[usize::from(slot_of(name.as_bytes()))];
            assert!(servers[&owner].heard.contains(name), "seed {seed}: {name}");
            assert!(interest.heard(owner, name.as_bytes()).is_some(), "seed {seed}: {name}");
        }
        assert_eq!(interest.channels.len(), wanted.len(), "seed {seed}");
        assert_eq!((0..NODES).map(|node| interest.active(node)).sum::<u64>(), wanted.len() as u64);
    }
}

fn count_answers(interest: &mut Interest) -> u64 {
    let is_answer =
        |event: &PubSubEvent| matches!(event, PubSubEvent::Done { .. } | PubSubEvent::Refused { .. });
    events(interest).iter().filter(|event| is_answer(event)).count() as u64
}
