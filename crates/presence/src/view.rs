//! Members of one room on another node.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use roomcast_cluster::NodeId;
use roomcast_core::{MemberKey, PresenceMember, RemoteChange, RemoteKey};

use crate::action::AskId;
use crate::body::{Delta, Keyed, Op};

/// Members of one room on another node, as far as this one knows.
#[derive(Debug)]
pub(crate) struct View {
    /// Version of the members; 0 if there are none.
    version: u64,
    members: BTreeMap<u64, Arc<PresenceMember>>,
    pub(crate) ask: AskState,
    /// The first answer is awaited before the members of the room are passed on.
    pub(crate) is_initial: bool,
    /// Changes that follow an unknown version, in order.
    held: Vec<Delta>,
    held_ops: usize,
    /// Greatest version that the node has mentioned.
    mentioned: u64,
    /// Time at which the version was last confirmed.
    pub(crate) heard_at: Instant,
}

/// Question for the state of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskState {
    None,
    /// Its number in the queue.
    Queued(u64),
    Sent(AskId),
}

/// Whether a question for the state of a room is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Known,
    Unknown,
}

impl View {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            version: 0,
            members: BTreeMap::new(),
            ask: AskState::None,
            is_initial: false,
            held: Vec::new(),
            held_ops: 0,
            mentioned: 0,
            heard_at: now,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&u64, &Arc<PresenceMember>)> {
        self.members.iter()
    }

    /// Returns whether it holds nothing that an absent one would not.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.ask == AskState::None && self.held.is_empty()
    }

    /// Takes changes or an announcement of the node, which arrive in order.
    pub(crate) fn receive(
        &mut self,
        delta: Delta,
        max_held: usize,
        now: Instant,
        out: &mut Changes,
    ) -> Outcome {
        if delta.to <= self.version {
            if delta.to == self.version {
                self.heard_at = now;
            }
            return Outcome::Known;
        }
        self.heard_at = now;
        self.mentioned = self.mentioned.max(delta.to);
        if delta.from == 0 {
            self.start(delta, out);
            return Outcome::Known;
        }
        if delta.from == self.version && self.held.is_empty() {
            self.apply(delta, out);
            return Outcome::Known;
        }
        // An announcement only shows that changes are missing.
        if delta.from < delta.to {
            self.held_ops += delta.ops.len().max(1);
            self.held.push(delta);
            if self.held_ops > max_held {
                self.drop_held();
            }
        }
        Outcome::Unknown
    }

    /// Takes the state in an answer; `version` is greater than 0.
    pub(crate) fn replace(
        &mut self,
        version: u64,
        members: Vec<Keyed>,
        now: Instant,
        out: &mut Changes,
    ) -> Outcome {
        self.heard_at = now;
        if version > self.version {
            self.set_members(members.into_iter().collect(), out);
            self.version = version;
        }
        self.apply_held(version, out)
    }

    /// Takes an answer that the room is empty since a version.
    pub(crate) fn clear(&mut self, since: u64, now: Instant, out: &mut Changes) -> Outcome {
        self.heard_at = now;
        if since >= self.version {
            self.set_members(BTreeMap::new(), out);
            self.version = 0;
        }
        self.apply_held(since, out)
    }

    /// Takes an answer that the version in the question is the present one.
    pub(crate) fn confirm(&mut self, now: Instant, out: &mut Changes) -> Outcome {
        self.heard_at = now;
        self.apply_held(self.version, out)
    }

    /// Takes a room that was empty before, in place of the known members.
    fn start(&mut self, delta: Delta, out: &mut Changes) {
        let put = |op| match op {
            Op::Put(member) => Some(member),
            Op::Remove(..) => None,
        };
        self.set_members(delta.ops.into_iter().filter_map(put).collect(), out);
        self.version = delta.to;
        // Earlier changes belong to what the room was before.
        self.drop_held();
    }

    /// Applies the held changes behind a version of the node.
    fn apply_held(&mut self, since: u64, out: &mut Changes) -> Outcome {
        let held = std::mem::take(&mut self.held);
        self.held_ops = 0;
        for delta in held {
            if delta.to <= since.max(self.version) {
                continue;
            }
            if delta.from != self.version {
                return Outcome::Unknown;
            }
            self.apply(delta, out);
        }
        if since.max(self.version) < self.mentioned { Outcome::Unknown } else { Outcome::Known }
    }

    fn apply(&mut self, delta: Delta, out: &mut Changes) {
        for op in delta.ops {
            match op {
                Op::Put((key, member)) => match self.members.entry(key) {
                    Entry::Vacant(entry) => {
                        out.joined(key, &member);
                        entry.insert(member);
                    }
                    Entry::Occupied(mut entry) => {
                        if *entry.get() != member {
                            out.data_changed(key, &member);
                            entry.insert(member);
                        }
                    }
                },
                Op::Remove(key, data) => {
                    if let Some(member) = self.members.remove(&key) {
                        let last = match data {
                            Some(data) => {
                                Arc::new(PresenceMember { id: member.id.clone(), data: Some(data) })
                            }
                            None => member,
                        };
                        out.left(key, last);
                    }
                }
            }
        }
        // A room that is empty starts again from nothing.
        self.version = if self.members.is_empty() { 0 } else { delta.to };
    }

    fn set_members(&mut self, members: BTreeMap<u64, Arc<PresenceMember>>, out: &mut Changes) {
        let old = std::mem::take(&mut self.members);
        for (key, member) in &members {
            match old.get(key) {
                None => out.joined(*key, member),
                Some(known) if known != member => out.data_changed(*key, member),
                Some(_) => {}
            }
        }
        for (key, member) in old {
            if !members.contains_key(&key) {
                out.left(key, member);
            }
        }
        self.members = members;
    }

    fn drop_held(&mut self) {
        (self.held, self.held_ops) = (Vec::new(), 0);
    }
}

/// Collector of the changes of one node's members.
#[derive(Debug)]
pub(crate) struct Changes {
    node: NodeId,
    pub(crate) list: Vec<RemoteChange>,
}

impl Changes {
    pub(crate) fn of(node: NodeId) -> Self {
        Self { node, list: Vec::new() }
    }

    pub(crate) fn left(&mut self, key: u64, member: Arc<PresenceMember>) {
        self.list.push(RemoteChange::Left(remote_key(self.node, key), member));
    }

    fn joined(&mut self, key: u64, member: &Arc<PresenceMember>) {
        self.list.push(RemoteChange::Joined(remote_key(self.node, key), member.clone()));
    }

    fn data_changed(&mut self, key: u64, member: &Arc<PresenceMember>) {
        self.list.push(RemoteChange::DataChanged(remote_key(self.node, key), member.clone()));
    }
}

pub(crate) fn remote_key(node: NodeId, key: u64) -> RemoteKey {
    RemoteKey { node: node.get(), member: MemberKey(key) }
}
