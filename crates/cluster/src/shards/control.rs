//! Messages that arrive by several servers: each once, and in order as far as possible.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{BackplaneEvent, Channel, Incarnation, NodeId, NodeRef};

/// Numbered messages of other nodes, which are sent to all servers.
///
/// A server delivers the messages of a node in order, but may lose some, or have begun later than another. A message
/// behind a missing one waits until no other server can still deliver that.
#[derive(Debug, Default)]
pub(super) struct Control {
    senders: BTreeMap<Key, Sender>,
}

/// Node, its process, and the channel of its messages.
type Key = (NodeId, u64, Channel);

/// Numbers of this node's messages to all servers, by channel.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: BTreeMap<Channel, u64>,
    /// Highest number of forgotten channels. Others begin above it, since they may be one of them.
    floor: u64,
}

impl Numbers {
    pub(super) fn next(&mut self, channel: &Channel) -> u64 {
        if self.last.len() >= MAX_CHANNELS && !self.last.contains_key(channel) {
            let nodes = self.last.remove(&Channel::Nodes);
            self.floor = self.last.values().copied().max().unwrap_or(self.floor);
            self.last.clear();
            self.last.extend(nodes.map(|last| (Channel::Nodes, last)));
        }
        let last = self.last.entry(channel.clone()).or_insert(self.floor);
        *last += 1;
        *last
    }
}

#[derive(Debug)]
struct Sender {
    incarnation: Incarnation,
    /// Number of the last message that was passed on.
    last: u64,
    paths: Vec<Path>,
    waiting: BTreeMap<u64, (Channel, Bytes)>,
    /// Own heartbeat at its last message.
    heard_at: u64,
}

/// Messages of a node by one server.
#[derive(Debug)]
struct Path {
    server: usize,
    /// Number of the last one, and own heartbeat at that.
    last: u64,
    heard_at: u64,
}

impl Control {
    /// Takes a copy; returns whether it is the first one.
    ///
    /// `live` are the servers whose messages arrive, as bits. Messages that are next are appended to `out`.
    #[allow(clippy::too_many_arguments, reason = "each is a different thing")]
    pub(super) fn receive(
        &mut self,
        from: NodeRef,
        number: u64,
        server: usize,
        live: u32,
        tick: u64,
        message: (Channel, Bytes),
        out: &mut impl Extend<BackplaneEvent>,
    ) -> bool {
        let process = from.incarnation & PROCESS_MASK;
        let new = || Sender {
            incarnation: from.incarnation,
            last: number.saturating_sub(1),
            paths: Vec::new(),
            waiting: BTreeMap::new(),
            heard_at: tick,
        };
        let sender = self.senders.entry((from.id, process, message.0.clone())).or_insert_with(new);
        if from.incarnation > sender.incarnation && number <= sender.last {
            // A process counts on when it rejoins, so this is another process with the same random bits.
            *sender = new();
        }
        sender.incarnation = sender.incarnation.max(from.incarnation);
        sender.heard_at = tick;
        match sender.paths.iter_mut().find(|path| path.server == server) {
            Some(path) => (path.last, path.heard_at) = (path.last.max(number), tick),
            None => sender.paths.push(Path { server, last: number, heard_at: tick }),
        }
        let is_first = number > sender.last && !sender.waiting.contains_key(&number);
        if is_first {
            sender.waiting.insert(number, message);
        }
        sender.pass_on(live, tick, out);
        is_first
    }

    /// Passes on what no longer waits, as for a server that was lost.
    pub(super) fn pass_on(&mut self, live: u32, tick: u64, out: &mut impl Extend<BackplaneEvent>) {
        self.senders.values_mut().for_each(|sender| sender.pass_on(live, tick, out));
    }

    /// Forgets a server whose place another one will take.
    pub(super) fn forget_server(&mut self, server: usize) {
        self.senders.values_mut().for_each(|sender| sender.paths.retain(|path| path.server != server));
    }

    /// Forgets the nodes that have been silent for long.
    pub(super) fn forget_silent(&mut self, tick: u64) {
        self.senders.retain(|_, sender| sender.heard_at + FORGET_AFTER > tick);
    }
}

impl Sender {
    fn pass_on(&mut self, live: u32, tick: u64, out: &mut impl Extend<BackplaneEvent>) {
        while let Some((&number, _)) = self.waiting.first_key_value() {
            let is_next = number <= self.last + 1;
            // A node sends heartbeats by each server that it is connected to.
            let may_come = |path: &Path| {
                live & 1 << path.server != 0 && path.last + 1 < number && path.heard_at + 2 > tick
            };
            let waits = !is_next && self.paths.iter().any(may_come) && self.waiting.len() <= MAX_WAITING;
            if waits {
                return;
            }
            let Some((channel, payload)) = self.waiting.remove(&number) else { return };
            self.last = self.last.max(number);
            out.extend([BackplaneEvent::Message { channel, payload }]);
        }
    }
}

/// Messages of a node that wait for an earlier one.
const MAX_WAITING: usize = 16;
/// Inboxes of other nodes whose numbers are kept.
const MAX_CHANNELS: usize = 1024;
/// Own heartbeats after which a silent node is forgotten.
const FORGET_AFTER: u64 = 60;
/// Bits of an incarnation that a process keeps.
pub(super) const PROCESS_MASK: u64 = (1 << 20) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: NodeRef = NodeRef { id: NodeId::new(7), incarnation: 5 << 20 | 3 };

    const NONE: [u64; 0] = [];

    #[derive(Default)]
    struct Rig {
        control: Control,
        live: u32,
        tick: u64,
        passed: Vec<BackplaneEvent>,
    }

    impl Rig {
        fn receive(&mut self, from: NodeRef, server: usize, number: u64) -> Vec<u64> {
            let message = (Channel::Nodes, Bytes::copy_from_slice(&number.to_le_bytes()));
            self.control.receive(from, number, server, self.live, self.tick, message, &mut self.passed);
            self.take()
        }

        fn take(&mut self) -> Vec<u64> {
            let number = |event| match event {
                BackplaneEvent::Message { payload, .. } => {
                    u64::from_le_bytes(payload[..].try_into().expect("a number"))
                }
                other => panic!("{other:?}"),
            };
            std::mem::take(&mut self.passed).into_iter().map(number).collect()
        }
    }

    #[test]
    fn copies_are_passed_on_once() {
        let mut rig = Rig { live: 3, ..Rig::default() };
        assert_eq!(rig.receive(FROM, 0, 4), [4]);
        assert_eq!(rig.receive(FROM, 1, 4), NONE);
        assert_eq!(rig.receive(FROM, 1, 5), [5]);
        assert_eq!(rig.receive(FROM, 0, 5), NONE);
    }

    #[test]
    fn new_server_does_not_overtake() {
        let mut rig = Rig { live: 3, ..Rig::default() };
        assert_eq!(rig.receive(FROM, 0, 4), [4]);
        // Number 5 was sent before the node used the second server.
        assert_eq!(rig.receive(FROM, 1, 6), NONE);
        assert_eq!(rig.receive(FROM, 0, 5), [5, 6]);
    }

    #[test]
    fn lost_messages_are_not_waited_for() {
        let mut rig = Rig { live: 3, ..Rig::default() };
        rig.receive(FROM, 0, 4);
        rig.receive(FROM, 1, 4);
        assert_eq!(rig.receive(FROM, 0, 6), NONE);
        assert_eq!(rig.receive(FROM, 1, 6), [6]);
        assert_eq!(rig.receive(FROM, 0, 8), NONE);
        rig.live = 1;
        let mut passed = Vec::new();
        rig.control.pass_on(rig.live, 1, &mut passed);
        rig.passed = passed;
        assert_eq!(rig.take(), [8]);
    }

    #[test]
    fn frozen_server_delays_nothing() {
        let mut rig = Rig { live: 3, ..Rig::default() };
        rig.receive(FROM, 0, 1);
        for number in 2..100 {
            assert_eq!(rig.receive(FROM, 1, number), [number]);
        }
        assert_eq!(rig.receive(FROM, 1, 101), NONE);
        let mut passed = Vec::new();
        rig.control.pass_on(rig.live, 2, &mut passed);
        rig.passed = passed;
        assert_eq!(rig.take(), [101]);
    }

    #[test]
    fn channels_have_their_own_numbers() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.next(&Channel::Nodes), 1);
        assert_eq!(numbers.next(&Channel::Inbox(NodeId::new(0))), 1);
        assert_eq!(numbers.next(&Channel::Nodes), 2);
        for node in 0..5000 {
            let inbox = Channel::Inbox(NodeId::new(node));
            let first = numbers.next(&inbox);
            assert_eq!(numbers.next(&inbox), first + 1);
            assert!(numbers.last.len() <= MAX_CHANNELS);
        }
        assert_eq!(numbers.next(&Channel::Nodes), 3);
        assert!(numbers.next(&Channel::Inbox(NodeId::new(0))) > 2);
    }

    #[test]
    fn other_process_counts_anew() {
        let mut rig = Rig { live: 3, ..Rig::default() };
        rig.receive(FROM, 0, 40);
        let other = NodeRef { incarnation: 6 << 20 | 4, ..FROM };
        assert_eq!(rig.receive(other, 0, 1), [1]);
        let same_bits = NodeRef { incarnation: 7 << 20 | 3, ..FROM };
        assert_eq!(rig.receive(same_bits, 0, 1), [1]);
    }
}
