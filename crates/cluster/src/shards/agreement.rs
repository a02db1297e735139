//! Agreement of the nodes on the servers by which they publish.

use std::collections::{BTreeMap, BTreeSet};

use super::control::PROCESS_MASK;
use super::note::{Announcement, Header};
use super::servers::{ServerId, ServerSet};
use crate::{Channel, NodeId};

/// Sets of servers of this node and of the others.
///
/// Time is counted in heartbeats of this node.
#[derive(Debug)]
pub(super) struct Agreement {
    /// Set that this node was configured with.
    pub(super) goal: ServerSet,
    /// Set by which it publishes.
    pub(super) publishes: ServerSet,
    /// Set before the last change, and the time of the change.
    pub(super) previous: Option<(ServerSet, u64)>,
    pub(super) changes: u64,
    pub(super) listened: Vec<Listened>,
    peers: BTreeMap<NodeId, Peer>,
    pub(super) tick: u64,
    /// Number of changes of other nodes; orders these and confirmations.
    pub(super) epoch: u64,
}

/// Set by which other nodes may publish: each channel is subscribed on its server.
#[derive(Debug)]
pub(super) struct Listened {
    pub(super) set: ServerSet,
    /// All subscriptions were confirmed once, so the set is announced.
    pub(super) is_ready: bool,
    /// Channels without a confirmation.
    pub(super) missing: BTreeSet<Channel>,
    /// Time since which no node needs it.
    unwanted_since: Option<u64>,
}

#[derive(Debug)]
struct Peer {
    process: u64,
    /// Number of the last message with an announcement.
    number: u64,
    /// Number of its last heartbeat, and how many were different.
    heartbeat: u64,
    beats: u64,
    publishes: ServerSet,
    listens: Vec<ServerSet>,
    changes: u64,
    changed: Option<Changed>,
    heard_at: u64,
}

/// Last change of another node.
#[derive(Debug)]
struct Changed {
    from: ServerSet,
    at_beat: u64,
    epoch: u64,
}

/// Next step of a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Subscribe to each channel on its server in this set.
    Listen(ServerSet),
    /// Unsubscribe what no other set needs.
    Unlisten(ServerSet),
    /// Publish by this set.
    Publish(ServerSet),
}

/// Way of a message, compared with the announcements of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the server that the node leaves or has left.
    Old,
    /// By the only server.
    Settled,
    /// By the server of a change: earlier messages may still arrive by another one, up to a mark of this change.
    New { change: u64, beats: u64 },
}

impl Agreement {
    pub(super) fn new(goal: ServerSet) -> Self {
        let listened =
            Listened { set: goal.clone(), is_ready: true, missing: BTreeSet::new(), unwanted_since: None };
        Self {
            publishes: goal.clone(),
            goal,
            previous: None,
            changes: 0,
            listened: vec![listened],
            peers: BTreeMap::new(),
            tick: 0,
            epoch: 0,
        }
    }

    /// Records a heartbeat of this node.
    pub(super) fn tick(&mut self) {
        self.tick += 1;
        let tick = self.tick;
        self.peers.retain(|_, peer| peer.heard_at + GONE_AFTER > tick);
        if self.previous.as_ref().is_some_and(|(_, at)| at + MARKED <= tick) {
            self.previous = None;
        }
    }

    pub(super) fn announcement(&self) -> Announcement {
        let is_announced = |listened: &&Listened| listened.is_ready && listened.unwanted_since.is_none();
        let listens = self.listened.iter().filter(is_announced).map(|listened| listened.set.clone());
        Announcement { changes: self.changes, publishes: self.publishes.clone(), listens: listens.collect() }
    }

    /// Returns whether all other nodes listen to the set by which this one publishes.
    pub(super) fn is_heard(&self) -> bool {
        self.is_common(&self.publishes)
    }

    pub(super) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Returns whether messages may arrive by several servers.
    pub(super) fn is_moving(&self) -> bool {
        self.listened.len() > 1
    }

    /// Records a message of another node that is sent to all servers; returns the node's heartbeats.
    ///
    /// A node without shards sends no announcement; it uses the server by which its message arrived.
    pub(super) fn hear(&mut self, header: &Header, server: ServerId) -> u64 {
        let process = header.node.incarnation & PROCESS_MASK;
        let announcement = match (&header.note.announcement, header.note.number) {
            (Some(announcement), _) => Some(announcement.clone()),
            (None, Some(_)) => None,
            (None, None) => {
                let only = ServerSet::new([server]);
                Some(Announcement { changes: 0, publishes: only.clone(), listens: vec![only] })
            }
        };
        let number = header.note.number.unwrap_or(0);
        let known = self.peers.get_mut(&header.node.id).filter(|peer| peer.process == process);
        let Some(peer) = known else {
            let Some(Announcement { changes, publishes, listens }) = announcement else { return 0 };
            let peer = Peer {
                process,
                number,
                heartbeat: header.heartbeat,
                beats: 0,
                publishes,
                listens,
                changes,
                changed: None,
                heard_at: self.tick,
            };
            self.peers.insert(header.node.id, peer);
            return 0;
        };
        peer.heard_at = self.tick;
        let Some(announcement) = announcement.filter(|_| number == 0 || number > peer.number) else {
            return peer.beats;
        };
        peer.number = number;
        peer.beats += u64::from(header.heartbeat != peer.heartbeat);
        peer.heartbeat = header.heartbeat;
        peer.listens = announcement.listens;
        peer.changes = announcement.changes;
        if announcement.publishes != peer.publishes {
            self.epoch += 1;
            let from = std::mem::replace(&mut peer.publishes, announcement.publishes);
            peer.changed = Some(Changed { from, at_beat: peer.beats, epoch: self.epoch });
        }
        peer.beats
    }

    /// Returns the way of a message on a channel that was confirmed in an epoch.
    pub(super) fn way(
        &self,
        header: &Header,
        server: ServerId,
        digest: u64,
        epoch: u64,
        is_up: impl Fn(ServerId) -> bool,
    ) -> Way {
        let process = header.node.incarnation & PROCESS_MASK;
        let Some(peer) = self.peers.get(&header.node.id).filter(|peer| peer.process == process) else {
            return Way::Settled;
        };
        let home = peer.publishes.home(digest);
        let old = peer.changed.as_ref().and_then(|changed| changed.from.home(digest));
        let is_awaited = |server: Option<ServerId>| server.is_some_and(&is_up);
        if home != Some(server) {
            if old == Some(server) {
                return Way::Old;
            }
            // It has changed its servers, and its announcement has not arrived yet.
            return match is_awaited(home) {
                true => Way::New { change: peer.changes + 1, beats: peer.beats },
                false => Way::Settled,
            };
        }
        match &peer.changed {
            Some(Changed { at_beat, epoch: changed, .. })
                if old != home && is_awaited(old) && peer.beats < at_beat + WAIT && epoch < *changed =>
            {
                Way::New { change: peer.changes, beats: peer.beats }
            }
            _ => Way::Settled,
        }
    }

    /// Returns what to do next; called until there is nothing more.
    ///
    /// `has_servers` returns whether this node knows all servers of a set.
    pub(super) fn next_step(&mut self, has_servers: impl Fn(&ServerSet) -> bool) -> Option<Step> {
        let tick = self.tick;
        let own = [&self.goal, &self.publishes];
        let wanted: BTreeSet<ServerSet> =
            own.into_iter().chain(self.peers.values().map(|peer| &peer.publishes)).cloned().collect();
        let is_listened = |set: &ServerSet| self.listened.iter().any(|listened| listened.set == *set);
        if let Some(set) = wanted.iter().find(|set| !is_listened(set) && has_servers(set)) {
            return Some(Step::Listen((*set).clone()));
        }
        for listened in &mut self.listened {
            if wanted.contains(&listened.set) {
                listened.unwanted_since = None;
            } else if tick >= *listened.unwanted_since.get_or_insert(tick) + LINGER {
                return Some(Step::Unlisten(listened.set.clone()));
            }
        }
        if self.changes > 0 && self.previous.is_some() {
            return None;
        }
        let is_usable = |set: &ServerSet| {
            let own = self.listened.iter().find(|listened| listened.set == *set);
            own.is_some_and(|own| own.is_ready && own.unwanted_since.is_none()) && self.is_common(set)
        };
        if is_usable(&self.goal) {
            return (self.publishes != self.goal).then(|| Step::Publish(self.goal.clone()));
        }
        if self.is_heard() {
            return None;
        }
        let common = self.peers.values().next()?.listens.iter().filter(|set| is_usable(set)).min();
        common.map(|set| Step::Publish(set.clone()))
    }

    /// Records that each subscription of a set is to be confirmed.
    pub(super) fn listen(&mut self, set: ServerSet, missing: BTreeSet<Channel>) {
        self.listened.push(Listened { set, is_ready: false, missing, unwanted_since: None });
    }

    pub(super) fn unlisten(&mut self, set: &ServerSet) {
        self.listened.retain(|listened| listened.set != *set);
    }

    /// Changes the set by which this node publishes.
    pub(super) fn publish(&mut self, set: ServerSet) {
        let from = std::mem::replace(&mut self.publishes, set);
        self.previous = Some((from, self.tick));
        self.changes += 1;
    }

    /// Returns the number of other nodes that publish by servers which this node does not know.
    pub(super) fn strangers(&self) -> usize {
        let is_listened = |peer: &&Peer| !self.listened.iter().any(|own| own.set == peer.publishes);
        self.peers.values().filter(is_listened).count()
    }

    fn is_common(&self, set: &ServerSet) -> bool {
        self.peers.values().all(|peer| peer.listens.contains(set))
    }
}

/// Heartbeats after which a silent node is no longer waited for; it is dead after about five.
const GONE_AFTER: u64 = 6;
/// Heartbeats for which a set that no node needs stays subscribed: a node may begin to use it on an older announcement.
const LINGER: u64 = 4;
/// Heartbeats after a change in which the first message on each channel ends the old way by a mark.
const MARKED: u64 = 6;
/// Heartbeats of another node for which its messages wait for a mark.
pub(super) const WAIT: u64 = 3;

#[cfg(test)]
mod tests {
    use super::super::note::Note;
    use super::*;
    use crate::NodeRef;

    fn set(names: &[&str]) -> ServerSet {
        ServerSet::new(names.iter().map(|name| ServerId::of(name)))
    }

    fn header(node: u64, heartbeat: u64, announcement: Option<Announcement>) -> Header {
        let node = NodeRef { id: NodeId::new(node), incarnation: 1 };
        let number = announcement.is_some().then_some(heartbeat);
        let note = Note { number, announcement, handover: None };
        Header { node, heartbeat, frames: 1, note }
    }

    fn announce(publishes: &ServerSet, listens: &[&ServerSet]) -> Option<Announcement> {
        let listens = listens.iter().map(|set| (*set).clone()).collect();
        Some(Announcement { changes: 0, publishes: publishes.clone(), listens })
    }

    fn server() -> ServerId {
        ServerId::of("a")
    }

    #[test]
    fn change_waits_until_all_listen() {
        let (old, new) = (set(&["a"]), set(&["a", "b"]));
        let mut own = Agreement::new(old.clone());
        own.hear(&header(2, 1, announce(&old, &[&old])), server());
        assert_eq!(own.next_step(|_| true), None);
        own.goal = new.clone();
        assert_eq!(own.next_step(|_| true), Some(Step::Listen(new.clone())));
        own.listen(new.clone(), BTreeSet::new());
        own.listened[1].is_ready = true;
        assert_eq!(own.next_step(|_| true), None);
        assert_eq!(own.announcement().listens, [old.clone(), new.clone()]);
        own.hear(&header(2, 2, announce(&old, &[&old, &new])), server());
        assert_eq!(own.next_step(|_| true), Some(Step::Publish(new.clone())));
        own.publish(new.clone());
        assert_eq!(own.next_step(|_| true), None);
        own.hear(&header(2, 3, announce(&new, &[&old, &new])), server());
        assert_eq!(own.next_step(|_| true), None);
        // The old set is no longer announced, and ends later.
        assert_eq!(own.announcement().listens, [new]);
        (0..LINGER).for_each(|_| own.tick());
        assert_eq!(own.next_step(|_| true), Some(Step::Unlisten(old)));
    }

    #[test]
    fn silent_nodes_are_not_waited_for() {
        let (old, new) = (set(&["a"]), set(&["a", "b"]));
        let mut own = Agreement::new(old.clone());
        own.hear(&header(2, 1, announce(&old, &[&old])), server());
        own.goal = new.clone();
        own.listen(new.clone(), BTreeSet::new());
        own.listened[1].is_ready = true;
        assert_eq!(own.next_step(|_| true), None);
        (0..GONE_AFTER).for_each(|_| own.tick());
        assert_eq!(own.next_step(|_| true), Some(Step::Publish(new)));
    }

    #[test]
    fn newer_node_publishes_as_older_ones() {
        let (old, new) = (set(&["a"]), set(&["a", "b"]));
        let mut own = Agreement::new(new.clone());
        // A node without shards has the server on which it was heard.
        own.hear(&header(2, 1, None), server());
        assert_eq!(own.next_step(|_| true), Some(Step::Listen(old.clone())));
        own.listen(old.clone(), BTreeSet::new());
        own.listened[1].is_ready = true;
        assert_eq!(own.next_step(|_| true), Some(Step::Publish(old)));
    }

    #[test]
    fn unknown_servers_are_counted() {
        let mut own = Agreement::new(set(&["a"]));
        own.hear(&header(2, 1, announce(&set(&["c"]), &[])), server());
        assert_eq!(own.next_step(|_| false), None);
        assert_eq!(own.strangers(), 1);
    }

    #[test]
    fn messages_after_change_wait_for_mark() {
        let (old, new) = (set(&["a"]), set(&["b"]));
        let (a, b) = (ServerId::of("a"), ServerId::of("b"));
        let mut own = Agreement::new(old.clone());
        own.hear(&header(2, 1, announce(&old, &[&old])), a);
        let message = header(2, 1, None);
        let way = |own: &Agreement, server, epoch| own.way(&message, server, 7, epoch, |_| true);
        assert_eq!(way(&own, a, 0), Way::Settled);
        assert_eq!(way(&own, b, 0), Way::New { change: 1, beats: 0 });
        let mut changed = announce(&new, &[&old, &new]);
        changed.as_mut().expect("one").changes = 1;
        own.hear(&header(2, 2, changed.clone()), a);
        assert_eq!(way(&own, a, 0), Way::Old);
        assert_eq!(way(&own, b, 0), Way::New { change: 1, beats: 1 });
        // Subscribed after the change.
        assert_eq!(way(&own, b, own.epoch), Way::Settled);
        assert_eq!(own.way(&message, b, 7, 0, |server| server != a), Way::Settled);
        (0..WAIT).for_each(|beat| _ = own.hear(&header(2, 3 + beat, changed.clone()), a));
        assert_eq!(way(&own, b, 0), Way::Settled);
    }
}
