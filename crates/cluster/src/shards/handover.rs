//! Order of the messages of a node that changes its servers.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::agreement::{WAIT, Way};
use crate::{BackplaneEvent, Channel, NodeId};

/// Messages that wait for the end of a node's messages by another server.
///
/// The node ends them by a mark, which the old server delivers behind them. If the mark is lost, the messages wait for
/// some heartbeats of the node.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Last change of servers of each node by channel that was marked.
    marks: BTreeMap<(NodeId, Channel), u64>,
    waiting: BTreeMap<(NodeId, Channel), Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    change: u64,
    /// Heartbeat of the node at which the first message arrived.
    since: u64,
    messages: Vec<Bytes>,
}

impl Handover {
    /// Takes a message, and appends it to `out` once the messages before it have arrived.
    pub(super) fn receive(
        &mut self,
        way: Way,
        from: NodeId,
        channel: Channel,
        payload: Bytes,
        out: &mut impl Extend<BackplaneEvent>,
    ) {
        let key = (from, channel);
        match way {
            Way::New { change, beats }
                if self.waiting.contains_key(&key)
                    || self.marks.get(&key).is_none_or(|marked| *marked < change) =>
            {
                self.bytes += payload.len();
                let new = || Waiting { change, since: beats, messages: Vec::new() };
                self.waiting.entry(key.clone()).or_insert_with(new).messages.push(payload);
                if self.bytes > MAX_BYTES {
                    self.release(&key, out);
                }
            }
            Way::Old => out.extend([message(key.1, payload)]),
            Way::New { .. } | Way::Settled => {
                self.release(&key, out);
                out.extend([message(key.1, payload)]);
            }
        }
    }

    /// Records the end of a node's messages by the old server.
    pub(super) fn mark(
        &mut self,
        from: NodeId,
        channel: Channel,
        change: u64,
        out: &mut impl Extend<BackplaneEvent>,
    ) {
        let key = (from, channel);
        if self.waiting.get(&key).is_some_and(|waiting| waiting.change <= change) {
            self.release(&key, out);
        }
        let marked = self.marks.entry(key).or_default();
        *marked = (*marked).max(change);
    }

    /// Ends the waits for marks that must have been lost.
    pub(super) fn end_waits(&mut self, from: NodeId, beats: u64, out: &mut impl Extend<BackplaneEvent>) {
        if self.waiting.is_empty() {
            return;
        }
        let is_over = |(node, _): &(NodeId, Channel), waiting: &Waiting| {
            *node == from && beats >= waiting.since.saturating_add(WAIT)
        };
        let over = self.waiting.iter().filter(|(key, waiting)| is_over(key, waiting));
        let over: Vec<_> = over.map(|(key, _)| key.clone()).collect();
        over.iter().for_each(|key| self.release(key, out));
    }

    /// Ends all waits, as after the loss of a server.
    pub(super) fn release_all(&mut self, out: &mut impl Extend<BackplaneEvent>) {
        let keys: Vec<_> = self.waiting.keys().cloned().collect();
        keys.iter().for_each(|key| self.release(key, out));
    }

    /// Ends all waits, and forgets the marks, once there is no second way.
    pub(super) fn close(&mut self, out: &mut impl Extend<BackplaneEvent>) {
        self.release_all(out);
        self.marks.clear();
    }

    fn release(&mut self, key: &(NodeId, Channel), out: &mut impl Extend<BackplaneEvent>) {
        let Some(waiting) = self.waiting.remove(key) else { return };
        self.bytes -= waiting.messages.iter().map(Bytes::len).sum::<usize>();
        out.extend(waiting.messages.into_iter().map(|payload| message(key.1.clone(), payload)));
    }
}

fn message(channel: Channel, payload: Bytes) -> BackplaneEvent {
    BackplaneEvent::Message { channel, payload }
}

/// Bytes of all messages that wait.
const MAX_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use roomcast_core::{Namespace, Room};

    const NODE: NodeId = NodeId::new(7);
    const NEW: Way = Way::New { change: 2, beats: 5 };

    fn room() -> Channel {
        Channel::Room(Namespace::main(), Room::from("a"))
    }

    fn receive(handover: &mut Handover, way: Way, text: &'static str) -> Vec<BackplaneEvent> {
        let mut out = Vec::new();
        handover.receive(way, NODE, room(), Bytes::from_static(text.as_bytes()), &mut out);
        out
    }

    fn messages(texts: &[&'static str]) -> Vec<BackplaneEvent> {
        texts.iter().map(|text| message(room(), Bytes::from_static(text.as_bytes()))).collect()
    }

    #[test]
    fn new_way_waits_for_mark() {
        let mut handover = Handover::default();
        assert_eq!(receive(&mut handover, NEW, "two"), []);
        assert_eq!(receive(&mut handover, Way::Old, "one"), messages(&["one"]));
        let mut out = Vec::new();
        handover.mark(NODE, room(), 1, &mut out);
        assert_eq!(out, []);
        handover.mark(NODE, room(), 2, &mut out);
        assert_eq!(out, messages(&["two"]));
        assert_eq!(receive(&mut handover, NEW, "three"), messages(&["three"]));
        assert_eq!(handover.bytes, 0);
    }

    #[test]
    fn lost_mark_ends_wait() {
        let mut handover = Handover::default();
        receive(&mut handover, NEW, "one");
        let mut out = Vec::new();
        handover.end_waits(NODE, 5 + WAIT - 1, &mut out);
        assert_eq!(out, []);
        handover.end_waits(NODE, 5 + WAIT, &mut out);
        assert_eq!(out, messages(&["one"]));
    }

    #[test]
    fn waiting_bytes_are_bounded() {
        let mut handover = Handover::default();
        let mut out = Vec::new();
        for _ in 0..20 {
            handover.receive(NEW, NODE, room(), Bytes::from(vec![0; 100_000]), &mut out);
            assert!(handover.bytes <= MAX_BYTES);
        }
        assert!(!out.is_empty());
    }
}
