//! State machine of one node's presence.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_cluster::{Channel, DecodeError, NodeId, NodeRef};
use roomcast_core::{MemberKey, PresenceMember, PresenceUpdate};

use crate::action::{AskId, PresenceAction, PresenceAsk, PresencePublication, RoomName, WatchId};
use crate::body::{AskWriter, Item, ItemState, decode_delta, decode_part};
use crate::config::PresenceConfig;
use crate::local::LocalRoom;
use crate::peers::{Peer, Peers, SentAsk};
use crate::view::{AskState, Changes, Outcome, View, remote_key};

/// Members of rooms on all nodes, as one node knows them.
///
/// The host reports its own members, and what the cluster delivers. After that it performs the actions of
/// [`poll_action`](Self::poll_action), and sends the results of [`poll_publication`](Self::poll_publication) and
/// [`poll_ask`](Self::poll_ask) as long as the queue towards the engine has room. It calls
/// [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) is due.
///
/// Times are arguments, which must not decrease.
#[derive(Debug)]
pub struct PresenceReplica {
    config: PresenceConfig,
    rooms: HashMap<RoomName, RoomState>,
    /// Times at which rooms have something to publish.
    publish_at: BTreeSet<(Instant, RoomName)>,
    /// Times at which the members of rooms are passed on without answers of all nodes.
    sync_until: BTreeSet<(Instant, RoomName)>,
    /// Version of the last publication of any room.
    clock: u64,
    last_ask: u64,
    last_queued: u64,
    last_watch: u64,
    peers: Peers,
    check_at: Instant,
    has_left: bool,
    actions: VecDeque<PresenceAction>,
}

#[derive(Debug, Default)]
struct RoomState {
    local: LocalRoom,
    /// Time of the last publication.
    published_at: Option<Instant>,
    /// Key of the room in `publish_at`.
    publish_at: Option<Instant>,
    /// Key of the room in `sync_until`; `None` once the members were passed on.
    sync_until: Option<Instant>,
    watch: WatchId,
    /// Publications of other nodes arrive, or cannot be waited for.
    is_heard: bool,
    /// Members on other nodes, by node.
    views: Vec<(NodeId, View)>,
}

impl PresenceReplica {
    /// Creates a replica without members.
    #[must_use]
    pub fn new(config: PresenceConfig, now: Instant) -> Self {
        let check_at = now + config.announce_interval / 2;
        Self {
            config,
            rooms: HashMap::new(),
            publish_at: BTreeSet::new(),
            sync_until: BTreeSet::new(),
            clock: 0,
            last_ask: 0,
            last_queued: 0,
            last_watch: 0,
            peers: Peers::default(),
            check_at,
            has_left: false,
            actions: VecDeque::new(),
        }
    }

    /// Reports a member of this node, or its new data.
    pub fn join(&mut self, name: &RoomName, key: MemberKey, member: PresenceMember, now: Instant) {
        let state = self.rooms.entry(name.clone()).or_default();
        let was_watched = state.is_watched();
        state.local.join(key.0, member);
        if !was_watched {
            self.watch(name, now);
        }
        self.schedule(name, now);
    }

    /// Reports new data of a member, if it was reported.
    pub fn set_data(&mut self, name: &RoomName, key: MemberKey, data: ByteString, now: Instant) {
        if self.rooms.get_mut(name).is_some_and(|state| state.local.set_data(key.0, Some(data))) {
            self.schedule(name, now);
        }
    }

    /// Reports that a member of this node has left.
    pub fn leave(&mut self, name: &RoomName, key: MemberKey, data: Option<ByteString>, now: Instant) {
        let Some(state) = self.rooms.get_mut(name) else { return };
        if state.local.leave(key.0, data) && state.local.present() == 0 {
            self.unwatch(name);
        }
        self.schedule(name, now);
        self.forget_if_over(name);
    }

    /// Requests the members of other nodes again.
    ///
    /// If the first answers are still awaited, the members follow as usual.
    pub fn refresh(&mut self, name: &RoomName) {
        if self.rooms.get(name).is_some_and(|state| state.is_watched() && state.sync_until.is_none()) {
            self.pass_on(name);
        }
    }

    /// Notes that the publications of other nodes to a room arrive, or cannot be waited for any longer.
    pub fn heard(&mut self, name: &RoomName, watch: WatchId, now: Instant) {
        let Some(state) = self.rooms.get_mut(name) else { return };
        if !state.is_watched() || state.watch != watch || std::mem::replace(&mut state.is_heard, true) {
            return;
        }
        for node in self.peers.ids().collect::<Vec<_>>() {
            self.ask(node, name, now);
        }
        self.end_sync_if_complete(name);
    }

    /// Notes that another node is in the cluster.
    pub fn node_joined(&mut self, node: NodeRef, now: Instant) {
        if let Some(known) = self.peers.get(node.id) {
            if known == node {
                return;
            }
            self.node_left(known);
        }
        let was_alone = self.peers.is_empty();
        self.peers.insert(node);
        let names: Vec<_> = self.rooms.keys().cloned().collect();
        for name in names {
            if self.rooms.get(&name).is_some_and(|state| state.is_watched() && state.is_heard) {
                self.ask(node.id, &name, now);
            }
            if was_alone {
                self.schedule(&name, now);
            }
        }
    }

    /// Notes that another node is no longer in the cluster: its members leave.
    pub fn node_left(&mut self, node: NodeRef) {
        if !self.peers.remove(node) {
            return;
        }
        let mut names: Vec<_> = self.rooms.iter().filter(|(_, state)| state.has_view(node.id)).collect();
        names.sort_by_key(|(name, _)| *name);
        let names: Vec<_> = names.into_iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(state) = self.rooms.get_mut(&name) else { continue };
            let Ok(place) = state.place(node.id) else { continue };
            let (_, view) = state.views.remove(place);
            let mut changes = Changes::of(node.id);
            view.members().for_each(|(key, member)| changes.left(*key, member.clone()));
            self.emit(&name, changes);
            self.end_sync_if_complete(&name);
        }
    }

    /// Notes that publications of other nodes were or may have been lost.
    pub fn gap(&mut self, channel: Option<&Channel>, from: Option<NodeRef>, now: Instant) {
        if from.is_some_and(|from| !self.peers.contains(from)) {
            return;
        }
        let names = match channel {
            Some(Channel::Room(namespace, room)) => {
                vec![RoomName { namespace: namespace.clone(), room: room.clone() }]
            }
            None | Some(Channel::Ids(_)) => {
                let is_meant = |name: &RoomName| {
                    channel.is_none_or(|channel| Channel::of(&name.namespace, Some(&name.room)) == *channel)
                };
                self.rooms.keys().filter(|name| is_meant(name)).cloned().collect()
            }
            Some(_) => return,
        };
        let nodes: Vec<_> = match from {
            Some(from) => vec![from.id],
            None => self.peers.ids().collect(),
        };
        for name in &names {
            // Otherwise the questions follow when its channel is subscribed.
            if self.rooms.get(name).is_some_and(|state| state.is_watched() && state.is_heard) {
                nodes.iter().for_each(|node| self.ask(*node, name, now));
            }
        }
    }

    /// Notes that this node has rejoined the cluster, since others had declared it dead.
    ///
    /// They may have published nothing in the meantime, if they knew no other node.
    pub fn rejoined(&mut self, now: Instant) {
        self.gap(None, None, now);
    }

    /// Takes a publication of another node.
    ///
    /// # Errors
    /// Returns an error if it is not of a known version, or damaged.
    pub fn receive(
        &mut self,
        from: NodeRef,
        name: &RoomName,
        body: Bytes,
        now: Instant,
    ) -> Result<(), DecodeError> {
        let is_wanted = self.peers.contains(from) && self.rooms.get(name).is_some_and(RoomState::is_watched);
        if !is_wanted {
            return Ok(());
        }
        let delta = decode_delta(body)?;
        let max_held = self.config.max_held;
        let mut changes = Changes::of(from.id);
        let outcome =
            self.view(from.id, name, now).map(|view| view.receive(delta, max_held, now, &mut changes));
        self.emit(name, changes);
        self.settle(from.id, name, outcome, now);
        Ok(())
    }

    /// Takes a part of an answer.
    ///
    /// # Errors
    /// Returns an error if it is not of a known version, or damaged.
    pub fn answer(&mut self, ask: AskId, body: Bytes, now: Instant) -> Result<(), DecodeError> {
        let part = decode_part(body)?;
        let Some((node, peer)) = self.peers.asked(ask) else { return Ok(()) };
        let Some(sent) = &mut peer.sent else { return Ok(()) };
        // Parts behind a lost one may belong to a room whose beginning is missing.
        if sent.next_part != Some(part.number) {
            sent.next_part = None;
            return Ok(());
        }
        sent.next_part = Some(part.number + 1);
        for item in part.items {
            self.take_item(ask, node, item, now);
        }
        Ok(())
    }

    /// Ends a question; `is_complete` is whether all parts of the answer arrived.
    pub fn answered(&mut self, ask: AskId, is_complete: bool, now: Instant) {
        let Some((node, peer)) = self.peers.asked(ask) else { return };
        let Some(sent) = peer.sent.take() else { return };
        let unanswered: Vec<_> = sent.rooms.into_iter().flatten().collect();
        peer.settle(is_complete && unanswered.is_empty(), now, &self.config);
        for name in unanswered {
            if let Some(view) = self.known_view(node, &name)
                && view.ask == AskState::Sent(ask)
            {
                view.ask = AskState::None;
                self.ask(node, &name, now);
            }
        }
    }

    /// Passes on all known members, and ends publishing.
    pub fn leave_cluster(&mut self) {
        self.has_left = true;
        self.publish_at.clear();
        self.rooms.values_mut().for_each(|state| state.publish_at = None);
        while let Some((_, name)) = self.sync_until.first().cloned() {
            self.end_sync(&name);
        }
    }

    /// Handles all timeouts that are due, except for publications and questions.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, name)) = self.sync_until.first().filter(|(at, _)| *at <= now).cloned() {
            self.end_sync(&name);
        }
        if self.check_at <= now {
            self.check_at = now + self.config.announce_interval / 2;
            self.ask_silent(now);
        }
    }

    /// Returns the time of the next timeout, publication or question.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.rooms.is_empty() {
            return None;
        }
        let first = |times: &BTreeSet<(Instant, RoomName)>| times.first().map(|(at, _)| *at);
        let asks = self.peers.poll_timeout().filter(|_| !self.has_left);
        let times = [first(&self.publish_at), first(&self.sync_until), asks];
        times.into_iter().flatten().chain([self.check_at]).min()
    }

    /// Returns whether [`poll_publication`](Self::poll_publication) or [`poll_ask`](Self::poll_ask) has work.
    #[must_use]
    pub fn has_output(&self, now: Instant) -> bool {
        !self.has_left
            && (self.publish_at.first().is_some_and(|(at, _)| *at <= now) || self.peers.has_ask(now))
    }

    /// Returns the next action.
    pub fn poll_action(&mut self) -> Option<PresenceAction> {
        self.actions.pop_front()
    }

    /// Returns the next publication; called when the queue towards the engine has room.
    pub fn poll_publication(&mut self, now: Instant) -> Option<PresencePublication> {
        while let Some((_, name)) = self.publish_at.first().filter(|(at, _)| *at <= now).cloned() {
            let Some(state) = self.rooms.get_mut(&name) else {
                self.publish_at.pop_first();
                continue;
            };
            let body = if state.local.is_dirty() {
                state.local.publish(&mut self.clock, self.config.max_bytes)
            } else {
                state.local.announce()
            };
            if body.is_some() {
                // The rest of a large change follows at once.
                state.published_at = Some(now).filter(|_| !state.local.is_dirty());
            }
            self.schedule(&name, now);
            self.forget_if_over(&name);
            if let Some(body) = body.filter(|_| !self.peers.is_empty()) {
                return Some(PresencePublication { name, body });
            }
        }
        None
    }

    /// Returns the next question; called when the queue towards the engine has room.
    ///
    /// [`answer`](Self::answer) follows for each part of the answer, then [`answered`](Self::answered).
    pub fn poll_ask(&mut self, now: Instant) -> Option<PresenceAsk> {
        if self.has_left {
            return None;
        }
        while let Some(node) = self.peers.next_to_ask(now) {
            self.last_ask += 1;
            let id = AskId(self.last_ask);
            let (mut out, mut rooms) = (AskWriter::new(), Vec::new());
            while let Some(name) = self.peers.get_mut(node.id).and_then(Peer::pop) {
                let Some(view) = self.known_view(node.id, &name) else { continue };
                view.ask = AskState::Sent(id);
                out.push(&name, view.version());
                rooms.push(Some(name));
                if rooms.len() >= self.config.max_rooms || out.len() >= self.config.max_bytes {
                    break;
                }
            }
            if rooms.is_empty() {
                continue;
            }
            let sent = SentAsk { id, rooms, next_part: Some(0), partial: None };
            self.peers.get_mut(node.id)?.sent = Some(sent);
            return Some(PresenceAsk { id, node, body: out.finish(), timeout: self.config.ask_timeout });
        }
        None
    }

    /// Returns the members of a room on other nodes, for tests and figures.
    pub fn remote(&self, name: &RoomName) -> impl Iterator<Item = (NodeId, MemberKey, &PresenceMember)> {
        let views = self.rooms.get(name).into_iter().flat_map(|state| &state.views);
        views.flat_map(|(node, view)| view.members().map(|(key, member)| (*node, MemberKey(*key), &**member)))
    }

    pub(crate) fn config(&self) -> &PresenceConfig {
        &self.config
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// Returns a room with members that were published.
    pub(crate) fn published(&self, name: &RoomName) -> Option<&LocalRoom> {
        self.rooms.get(name).map(|state| &state.local).filter(|local| local.version() > 0)
    }

    fn watch(&mut self, name: &RoomName, now: Instant) {
        let until = now + self.config.sync_timeout;
        self.last_watch += 1;
        let watch = WatchId(self.last_watch);
        if let Some(state) = self.rooms.get_mut(name) {
            (state.sync_until, state.is_heard, state.watch) = (Some(until), false, watch);
            self.sync_until.insert((until, name.clone()));
        }
        self.actions.push_back(PresenceAction::Watch(name.clone(), watch));
        if self.peers.is_empty() || self.has_left {
            self.end_sync(name);
        }
    }

    fn unwatch(&mut self, name: &RoomName) {
        let Some(state) = self.rooms.get_mut(name) else { return };
        for (node, view) in std::mem::take(&mut state.views) {
            if let AskState::Queued(number) = view.ask
                && let Some(peer) = self.peers.get_mut(node)
            {
                peer.queue.remove(&number);
            }
        }
        if let Some(until) = state.sync_until.take() {
            self.sync_until.remove(&(until, name.clone()));
        }
        self.actions.push_back(PresenceAction::Unwatch(name.clone()));
    }

    /// Sets the time of the room's next publication.
    fn schedule(&mut self, name: &RoomName, now: Instant) {
        let Some(state) = self.rooms.get_mut(name) else { return };
        let last = state.published_at;
        let at = if self.has_left {
            None
        } else if state.local.is_dirty() && self.peers.is_empty() {
            // A node that joins learns the present state.
            Some(now)
        } else if state.local.is_dirty() {
            Some(last.map_or(now, |last| (last + self.config.batch_interval).max(now)))
        } else if state.local.version() > 0 && !self.peers.is_empty() {
            Some(last.map_or(now, |last| last + self.config.announce_interval))
        } else {
            None
        };
        let old = std::mem::replace(&mut state.publish_at, at);
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.publish_at.remove(&(old, name.clone()));
        }
        if let Some(at) = at {
            self.publish_at.insert((at, name.clone()));
        }
    }

    fn forget_if_over(&mut self, name: &RoomName) {
        if self.rooms.get(name).is_some_and(|state| state.local.is_over()) {
            let state = self.rooms.remove(name);
            if let Some(at) = state.and_then(|state| state.publish_at) {
                self.publish_at.remove(&(at, name.clone()));
            }
        }
    }

    /// Takes the state of one room in an answer.
    fn take_item(&mut self, ask: AskId, node: NodeId, item: Item, now: Instant) {
        let Item { index, state } = item;
        let Some(sent) = self.peers.get_mut(node).and_then(|peer| peer.sent.as_mut()) else { return };
        let Some(Some(name)) = sent.rooms.get(index).cloned() else { return };
        let state = match state {
            ItemState::Members { version, members, is_complete } => {
                let mut all = match sent.partial.take() {
                    Some((of, in_version, all)) if (of, in_version) == (index, version) => all,
                    _ => Vec::new(),
                };
                all.extend(members);
                if !is_complete {
                    sent.partial = Some((index, version, all));
                    return;
                }
                ItemState::Members { version, members: all, is_complete }
            }
            other => other,
        };
        sent.rooms[index] = None;
        let mut changes = Changes::of(node);
        let Some(view) = self.known_view(node, &name) else { return };
        // The room may have been left and joined again, and the question be repeated.
        let is_present = view.ask == AskState::Sent(ask);
        if is_present {
            view.ask = AskState::None;
        }
        let outcome = match state {
            ItemState::Same => view.confirm(now, &mut changes),
            ItemState::Empty(since) => view.clear(since, now, &mut changes),
            ItemState::Members { version, members, .. } => view.replace(version, members, now, &mut changes),
        };
        if is_present {
            view.is_initial = false;
        }
        self.emit(&name, changes);
        self.settle(node, &name, Some(outcome), now);
        self.end_sync_if_complete(&name);
    }

    /// Asks for the state of a room if it is unknown, and drops an idle view.
    fn settle(&mut self, node: NodeId, name: &RoomName, outcome: Option<Outcome>, now: Instant) {
        // The answer to an earlier question will show whether it suffices.
        let is_idle = |view: &mut View| view.ask == AskState::None;
        if outcome == Some(Outcome::Unknown) && self.known_view(node, name).is_some_and(is_idle) {
            self.ask(node, name, now);
        }
        if let Some(state) = self.rooms.get_mut(name)
            && let Ok(place) = state.place(node)
            && state.views[place].1.is_idle()
        {
            state.views.remove(place);
        }
    }

    /// Queues a question for the state of a watched room, unless one is queued.
    ///
    /// If one was sent, its answer may be older than the reason to ask.
    fn ask(&mut self, node: NodeId, name: &RoomName, now: Instant) {
        if !self.peers.has(node) {
            return;
        }
        let is_initial = self.rooms.get(name).is_some_and(|state| state.sync_until.is_some());
        let number = self.last_queued + 1;
        let Some(view) = self.view(node, name, now) else { return };
        view.is_initial |= is_initial;
        if matches!(view.ask, AskState::Queued(_)) {
            return;
        }
        view.ask = AskState::Queued(number);
        if let Some(peer) = self.peers.get_mut(node) {
            peer.queue.insert(number, name.clone());
        }
        self.last_queued = number;
    }

    /// Asks for rooms whose node has not confirmed its members for long.
    fn ask_silent(&mut self, now: Instant) {
        let limit = self.config.announce_interval * 5 / 2;
        let mut silent = Vec::new();
        for (name, state) in &self.rooms {
            for (node, view) in &state.views {
                if view.ask == AskState::None && now.saturating_duration_since(view.heard_at) >= limit {
                    silent.push((name.clone(), *node));
                }
            }
        }
        silent.sort();
        silent.into_iter().for_each(|(name, node)| self.ask(node, &name, now));
    }

    fn end_sync_if_complete(&mut self, name: &RoomName) {
        let is_complete = self.rooms.get(name).is_some_and(|state| {
            state.sync_until.is_some()
                && state.is_heard
                && !state.views.iter().any(|(_, view)| view.is_initial)
        });
        if is_complete {
            self.end_sync(name);
        }
    }

    fn end_sync(&mut self, name: &RoomName) {
        let Some(state) = self.rooms.get_mut(name) else { return };
        let Some(until) = state.sync_until.take() else { return };
        state.views.iter_mut().for_each(|(_, view)| view.is_initial = false);
        self.sync_until.remove(&(until, name.clone()));
        self.pass_on(name);
    }

    /// Passes on all members of a room.
    fn pass_on(&mut self, name: &RoomName) {
        let Some(state) = self.rooms.get(name) else { return };
        let members = state.views.iter().flat_map(|(node, view)| {
            view.members().map(|(key, member)| (remote_key(*node, *key), member.clone()))
        });
        let update = PresenceUpdate::Members(members.collect());
        self.actions.push_back(PresenceAction::Update(name.clone(), update));
    }

    /// Passes on changes, unless all members follow.
    fn emit(&mut self, name: &RoomName, changes: Changes) {
        let is_synced = self.rooms.get(name).is_some_and(|state| state.sync_until.is_none());
        if is_synced && !changes.list.is_empty() {
            let update = PresenceUpdate::Changes(changes.list);
            self.actions.push_back(PresenceAction::Update(name.clone(), update));
        }
    }

    fn known_view(&mut self, node: NodeId, name: &RoomName) -> Option<&mut View> {
        let state = self.rooms.get_mut(name)?;
        let place = state.place(node).ok()?;
        Some(&mut state.views[place].1)
    }

    /// Returns the view of a watched room.
    fn view(&mut self, node: NodeId, name: &RoomName, now: Instant) -> Option<&mut View> {
        let state = self.rooms.get_mut(name).filter(|state| state.is_watched())?;
        let place = state.place(node).unwrap_or_else(|place| {
            if state.views.is_empty() {
                state.views.reserve_exact(1);
            }
            state.views.insert(place, (node, View::new(now)));
            place
        });
        Some(&mut state.views[place].1)
    }
}

impl RoomState {
    /// Returns whether there are members on this node.
    fn is_watched(&self) -> bool {
        self.local.present() > 0
    }

    fn has_view(&self, node: NodeId) -> bool {
        self.place(node).is_ok()
    }

    fn place(&self, node: NodeId) -> Result<usize, usize> {
        self.views.binary_search_by_key(&node, |(id, _)| *id)
    }
}
