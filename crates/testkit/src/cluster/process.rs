//! Process of one node in the fault suite: the node, its host and its members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_cluster::{
    Asker, Backplane, Channel, ClusterAction, ClusterConfig, ClusterRequest, Incarnation, JoinResult,
    JoinTicket, LeaveReason, MissingAnswer, Node, NodeId, NodeRef, Publication, PublishError, RequestId,
};
use roomcast_core::Room;

use super::check::{Published, Report, SimMember, Violation, namespace, read_body};
use super::clock::NodeClock;

/// Kind of a request for the members of a room.
pub(super) const MEMBERS: u32 = 1;
/// Kind of a request that is answered by several parts, some of them late or never.
pub(super) const ACKS: u32 = 2;

/// Process of one node.
#[derive(Debug)]
pub(super) struct Process<B> {
    /// Number that no other process has.
    pub(super) number: u64,
    pub(super) node: Node,
    pub(super) clock: NodeClock,
    frozen_until: Option<Instant>,
    pub(super) was_frozen: bool,
    /// Time of the node's clock at which it was frozen no longer.
    thawed_at: Option<Instant>,
    pub(super) members: BTreeMap<u64, SimMember>,
    /// Channels whose join was confirmed.
    pub(super) confirmed: BTreeMap<Channel, Instant>,
    pub(super) reports: Vec<Report>,
    pub(super) has_left: bool,
    /// Results of ended requests for members: nodes that were missing, and the members found.
    pub(super) found: BTreeMap<RequestId, (Vec<MissingAnswer>, Vec<String>)>,
    pub(super) delivered: u64,
    backplane: B,
    config: Arc<ClusterConfig>,
    woken: Arc<Woken>,
    /// Rooms by number of members.
    rooms: BTreeMap<Room, usize>,
    tickets: BTreeMap<JoinTicket, (Channel, Instant)>,
    requests: BTreeMap<RequestId, Asked>,
    dead: BTreeMap<NodeId, Incarnation>,
    /// Processes that were ever known: their node, and the part of the incarnation that they keep.
    known: BTreeSet<(NodeId, u64)>,
    /// Last publication by node and room, or namespace.
    last_seen: BTreeMap<(NodeId, Channel), u64>,
    answers: Vec<(Instant, Asker, Option<u32>, Option<Bytes>)>,
    /// Subscription commands at one time.
    commands: (Instant, u64, u64),
}

#[derive(Debug)]
struct Asked {
    kind: u32,
    deadline: Instant,
    incarnation: Incarnation,
    asked: BTreeSet<NodeRef>,
    answered: BTreeSet<NodeRef>,
    gone: BTreeSet<NodeRef>,
    found: Vec<String>,
}

#[derive(Debug)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<B: Backplane> Process<B> {
    pub(super) fn new(
        number: u64,
        config: Arc<ClusterConfig>,
        id: NodeId,
        incarnation: Incarnation,
        backplane: B,
        clock: NodeClock,
        now: Instant,
    ) -> Self {
        let local = clock.local(now);
        let mut process = Self {
            number,
            node: Node::new(config.clone(), id, incarnation, local),
            clock,
            frozen_until: None,
            was_frozen: false,
            thawed_at: None,
            members: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            reports: Vec::new(),
            has_left: false,
            found: BTreeMap::new(),
            delivered: 0,
            backplane,
            config,
            woken: Arc::new(Woken(AtomicBool::new(true))),
            rooms: BTreeMap::new(),
            tickets: BTreeMap::new(),
            requests: BTreeMap::new(),
            dead: BTreeMap::new(),
            known: BTreeSet::new(),
            last_seen: BTreeMap::new(),
            answers: Vec::new(),
            commands: (local, 0, 0),
        };
        process.node.add_interest(&namespace(), None, local);
        process.await_join(None, local);
        process.await_join(Some(&process.own_room(0)), local);
        process
    }

    pub(super) fn id(&self) -> NodeId {
        self.node.node_ref().id
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_until.is_some()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.tickets.is_empty() || !self.requests.is_empty()
    }

    /// Returns whether a process was ever known.
    pub(super) fn has_known(&self, node: NodeId, process: u64) -> bool {
        self.known.contains(&(node, process))
    }

    /// Returns the rooms with members.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.keys()
    }

    /// Returns the time at which the process has something to do.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.frozen_until {
            return Some(until);
        }
        if self.woken.0.load(Ordering::Relaxed) {
            return Some(now);
        }
        let answers = self.answers.iter().map(|(at, ..)| *at).min();
        let local = self.node.poll_timeout().into_iter().chain(answers).min();
        local.map(|local| self.clock.global(local))
    }

    /// Adds a member; its number is unique in the run.
    pub(super) fn attach(&mut self, number: u64) {
        let member = SimMember {
            own: self.own_room(number),
            rooms: BTreeSet::new(),
            version: 0,
            seen: BTreeSet::new(),
            last: BTreeMap::new(),
        };
        self.members.insert(number, member);
    }

    pub(super) fn join(&mut self, member: u64, room: &Room, awaited: bool, now: Instant) {
        let local = self.clock.local(now);
        self.woken.0.store(true, Ordering::Relaxed);
        let Some(member) = self.members.get_mut(&member) else { return };
        if member.rooms.insert(room.clone()) {
            member.version += 1;
            let count = self.rooms.entry(room.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.node.add_interest(&namespace(), Some(room), local);
            }
        }
        if awaited {
            self.await_join(Some(room), local);
        }
    }

    pub(super) fn leave_room(&mut self, member: u64, room: &Room, now: Instant) {
        let local = self.clock.local(now);
        self.woken.0.store(true, Ordering::Relaxed);
        let Some(member) = self.members.get_mut(&member) else { return };
        if !member.rooms.remove(room) {
            return;
        }
        member.version += 1;
        let Some(count) = self.rooms.get_mut(room) else { return };
        *count -= 1;
        if *count == 0 {
            self.rooms.remove(room);
            self.confirmed.remove(&Channel::of(&namespace(), Some(room)));
            self.node.remove_interest(&namespace(), Some(room), local);
        }
    }

    /// Publishes, unless the node is alone; returns whether it did.
    pub(super) fn publish(&mut self, publication: Publication, now: Instant) -> Result<bool, PublishError> {
        if self.node.is_alone() {
            return Ok(false);
        }
        self.woken.0.store(true, Ordering::Relaxed);
        self.node.publish(publication, self.clock.local(now)).map(|()| true)
    }

    /// Sends a request; the result is checked when it ends.
    pub(super) fn request(
        &mut self,
        to: Option<NodeId>,
        kind: u32,
        room: &Room,
        timeout: Duration,
        now: Instant,
    ) -> Option<RequestId> {
        let local = self.clock.local(now);
        self.woken.0.store(true, Ordering::Relaxed);
        let asked = self.node.peers().filter(|node| to.is_none_or(|to| to == node.id)).collect();
        let body = Bytes::copy_from_slice(room.as_str().as_bytes());
        let request = self.node.request(ClusterRequest { to, kind, body, timeout }, local).ok()?;
        let asked = Asked {
            kind,
            deadline: local + timeout,
            incarnation: self.node.node_ref().incarnation,
            asked,
            answered: BTreeSet::new(),
            gone: BTreeSet::new(),
            found: Vec::new(),
        };
        self.requests.insert(request, asked);
        Some(request)
    }

    pub(super) fn leave(&mut self, now: Instant) {
        self.woken.0.store(true, Ordering::Relaxed);
        self.node.leave(self.clock.local(now));
    }

    /// Stops the process until a time.
    pub(super) fn freeze(&mut self, until: Instant) {
        self.frozen_until = Some(until);
        self.was_frozen = true;
    }

    /// Handles due timeouts and events, and checks the outcome.
    pub(super) fn drive(&mut self, now: Instant, messages: &[Published]) -> Result<(), Violation> {
        if let Some(until) = self.frozen_until {
            if until > now {
                return Ok(());
            }
            self.frozen_until = None;
            self.thawed_at = Some(self.clock.local(now));
            self.woken.0.store(true, Ordering::Relaxed);
        }
        let local = self.clock.local(now);
        let is_woken = self.woken.0.swap(false, Ordering::Relaxed);
        let is_due = self.node.poll_timeout().is_some_and(|at| at <= local);
        let has_answers = self.answers.iter().any(|(at, ..)| *at <= local);
        if !is_woken && !is_due && !has_answers {
            return Ok(());
        }
        if is_due {
            self.node.handle_timeout(local);
        }
        let (due, later) = std::mem::take(&mut self.answers).into_iter().partition(|(at, ..)| *at <= local);
        self.answers = later;
        for (_, asker, expected, part) in due {
            // A request may have ended in the meantime, or the queue be full.
            let _ = self.node.answer(asker, expected, part, local);
        }
        let waker = Waker::from(self.woken.clone());
        loop {
            self.node.exchange(&mut self.backplane, &mut Context::from_waker(&waker), local);
            let mut is_idle = true;
            while let Some(action) = self.node.poll_action() {
                is_idle = false;
                self.act(action, local, now, messages)?;
            }
            if is_idle {
                break;
            }
        }
        self.check(local)
    }

    fn act(
        &mut self,
        action: ClusterAction,
        local: Instant,
        now: Instant,
        messages: &[Published],
    ) -> Result<(), Violation> {
        match action {
            ClusterAction::Deliver { from, publication } => self.deliver(from, &publication, messages)?,
            ClusterAction::Gap { channel, from, .. } => {
                self.reports.push(Report { at: now, channel, from: from.map(|from| from.id) });
            }
            ClusterAction::Heard { ticket, outcome } => {
                let Some((channel, _)) = self.tickets.remove(&ticket) else {
                    return self.broken("a join completed twice");
                };
                if outcome == JoinResult::Confirmed {
                    // Further joins of a room may be awaited.
                    self.confirmed.entry(channel).or_insert(now);
                }
            }
            ClusterAction::Request { asker, kind, body } => {
                self.check_alive(asker.node())?;
                self.answer(asker, kind, &body, local);
            }
            ClusterAction::Answer { request, node, part } => {
                self.check_alive(node)?;
                let Some(asked) = self.requests.get_mut(&request) else {
                    return self.broken("an answer followed the end of its request");
                };
                if asked.kind == MEMBERS && !asked.answered.insert(node) {
                    return self.broken("an answer arrived twice");
                }
                let names = String::from_utf8_lossy(&part);
                asked.found.extend(names.split_whitespace().map(str::to_owned));
            }
            ClusterAction::Done { request, missing, .. } => self.end_request(request, missing, local)?,
            ClusterAction::NodeLeft { node, reason } => {
                if reason != LeaveReason::Goodbye {
                    self.reports.push(Report { at: now, channel: None, from: Some(node.id) });
                    self.dead.insert(node.id, node.incarnation);
                }
                self.requests.values_mut().for_each(|asked| _ = asked.gone.insert(node));
            }
            ClusterAction::NodeJoined { node } => {
                self.known.insert((node.id, node.incarnation & PROCESS_MASK));
            }
            ClusterAction::Rejoined { .. } => {}
            ClusterAction::Left => self.has_left = true,
            other => panic!("unknown action {other:?}"),
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        from: NodeRef,
        publication: &Publication,
        messages: &[Published],
    ) -> Result<(), Violation> {
        self.check_alive(from)?;
        let id = read_body(&publication.body, messages)?;
        let message = &messages[id as usize];
        // Rooms in which a later publication was delivered are excluded.
        let (except, overtaken) =
            publication.except.split_at_checked(message.except.len()).unwrap_or((&[], &[]));
        let is_reported = |room: &Room| {
            let channel = Channel::of(&namespace(), Some(room));
            message.rooms.contains(room)
                && self
                    .reports
                    .iter()
                    .any(|report| report.channel.as_ref() == Some(&channel) && report.covers(message))
        };
        let is_same = message.rooms == publication.rooms && message.except == except;
        if !is_same || !overtaken.iter().all(is_reported) {
            return self.broken(&format!("message {id} has other rooms than it was published with"));
        }
        if message.from != from.id {
            return self.broken(&format!("message {id} is attributed to {from}"));
        }
        if let [channel] = &message.channels[..] {
            let last = self.last_seen.insert((from.id, channel.clone()), id);
            if last.is_some_and(|last| last >= id) {
                return self.broken(&format!("message {id} follows {last:?} on {channel}"));
            }
        }
        self.delivered += 1;
        for member in self.members.values_mut() {
            if !member.matches(&publication.rooms, &publication.except) {
                continue;
            }
            if !member.seen.insert(id) {
                return Err(Violation(format!("a member received message {id} twice")));
            }
            if let Some(later) = member.receive(id, message, &self.confirmed) {
                return Err(Violation(format!(
                    "a member of {:?} received message {id} after {later}",
                    message.rooms
                )));
            }
        }
        Ok(())
    }

    fn answer(&mut self, asker: Asker, kind: u32, body: &[u8], local: Instant) {
        let room = Room::from(&*String::from_utf8_lossy(body));
        let names: Vec<&str> = self
            .members
            .values()
            .filter(|member| member.is_in(&room))
            .map(|member| member.own.as_str())
            .collect();
        if kind == MEMBERS {
            let part = Bytes::from(names.join(" "));
            let _ = self.node.answer(asker, Some(1), Some(part), local);
            return;
        }
        // The count may follow some of the answers. Every fourth answer never comes.
        for (index, name) in names.iter().enumerate().filter(|(index, _)| index % 4 != 3) {
            let at = local + Duration::from_millis(10 * index as u64);
            self.answers.push((at, asker, None, Some(Bytes::copy_from_slice(name.as_bytes()))));
        }
        let expected = u32::try_from(names.len()).unwrap_or(u32::MAX);
        self.answers.push((local + Duration::from_millis(15), asker, Some(expected), None));
    }

    fn end_request(
        &mut self,
        request: RequestId,
        missing: Vec<MissingAnswer>,
        local: Instant,
    ) -> Result<(), Violation> {
        let Some(asked) = self.requests.remove(&request) else {
            return self.broken("a request ended twice");
        };
        let named: BTreeSet<NodeRef> = missing.iter().map(|missing| missing.node).collect();
        if asked.deadline + TOLERANCE < local && self.thawed_at != Some(local) {
            return self.broken("a request outlived its deadline");
        }
        if asked.kind == MEMBERS {
            let unanswered: BTreeSet<_> = asked.asked.difference(&asked.answered).copied().collect();
            if !asked.asked.is_empty() && named != unanswered {
                return self.broken(&format!("{named:?} are named as missing instead of {unanswered:?}"));
            }
            self.found.insert(request, (missing, asked.found));
        }
        Ok(())
    }

    fn check(&mut self, local: Instant) -> Result<(), Violation> {
        let metrics = self.node.metrics();
        if metrics.queue_bytes > self.config.queue_bytes {
            return self.broken(&format!("{} bytes are queued for the engine", metrics.queue_bytes));
        }
        if metrics.reassembly_bytes > self.config.reassembly_bytes {
            return self.broken(&format!("{} bytes wait for their other parts", metrics.reassembly_bytes));
        }
        let (at, before, count) = self.commands;
        let new = metrics.subscribe_commands - before;
        let count = if at == local { count + new } else { new };
        self.commands = (local, metrics.subscribe_commands, count);
        if count > 2 {
            return self.broken(&format!("{count} subscription commands at one time"));
        }
        if self.tickets.values().any(|(_, deadline)| *deadline <= local) && !self.has_left {
            return self.broken("a join outlived its deadline");
        }
        let incarnation = self.node.node_ref().incarnation;
        for asked in self.requests.values() {
            if asked.deadline <= local {
                return self.broken("a request outlived its deadline");
            }
            if asked.incarnation != incarnation {
                return self.broken("a request survived its incarnation");
            }
            let is_over = |node: &NodeRef| asked.answered.contains(node) || asked.gone.contains(node);
            if asked.kind == MEMBERS && asked.asked.iter().all(is_over) {
                return self.broken("a request waits for nodes that have answered or left");
            }
        }
        Ok(())
    }

    fn check_alive(&self, node: NodeRef) -> Result<(), Violation> {
        match self.dead.get(&node.id) {
            Some(dead) if *dead >= node.incarnation => {
                self.broken(&format!("a message of {node} was handled after its death"))
            }
            _ => Ok(()),
        }
    }

    fn await_join(&mut self, room: Option<&Room>, local: Instant) {
        let ticket = self.node.await_join(&namespace(), room, local);
        let channel = Channel::of(&namespace(), room);
        self.tickets.insert(ticket, (channel, local + self.config.join_timeout));
    }

    fn own_room(&self, member: u64) -> Room {
        Room::from(format!("{}{member:012}", self.id().tag()))
    }

    fn broken<T>(&self, what: &str) -> Result<T, Violation> {
        Err(Violation(format!("node {}: {what}", self.node.node_ref())))
    }
}

/// Bits of an incarnation that are the number of its process.
const PROCESS_MASK: u64 = (1 << 20) - 1;
/// Difference between the time of a timeout and that at which the suite drives it.
const TOLERANCE: Duration = Duration::from_millis(1);
