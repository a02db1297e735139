//! Reference router.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roomcast_core::{
    AckRequest, ChangeQueue, Codec, Delivery, Dispatched, EncodeError, Event, Frame, JoinOutcome, Member,
    MemberControl, MemberKey, MemberLimit, Membership, Overflow, PresentMember, PushOutcome, Room,
    RoomChange, RoomWatcher, Router, RouterStats, SocketId, SocketInfo, Target, WatchFilter,
};

/// Reference router: one lock, and every query scans all members.
///
/// For tests that need a router, and as the oracle for optimized routers.
#[derive(Debug, Default)]
pub struct MemoryRouter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<MemberKey, Attached>,
    ids: HashMap<SocketId, MemberKey>,
    watches: Vec<(WatchFilter, Arc<ChangeQueue>)>,
    /// Controls to notify that they reached their room limit.
    full: Vec<Arc<dyn MemberControl>>,
}

/// Reasons for which a room exists.
#[derive(Debug, Clone, Copy)]
struct Existence {
    /// It is the id of a member.
    owned: bool,
    /// Members have joined it.
    joined: bool,
}

impl Existence {
    /// Returns whether the room exists for watchers with this filter.
    fn is_seen_by(self, filter: WatchFilter) -> bool {
        self.joined || self.owned && filter != WatchFilter::JoinedRooms
    }
}

#[derive(Debug)]
struct Attached {
    member: Member,
    rooms: BTreeSet<Room>,
}

impl Router for MemoryRouter {
    fn attach(&self, member: Member) -> MemberKey {
        self.change(|state| {
            let (key, own) = (member.key, Room::from(&member.id));
            let before = state.existence(&own);
            let (id, control) = (member.id.clone(), member.control.clone());
            state.ids.insert(id.clone(), key);
            state.members.insert(key, Attached { member, rooms: BTreeSet::new() });
            if !before.owned {
                state.entered(before, &own, (id, key), control);
            }
            key
        })
    }

    fn detach(&self, key: MemberKey) -> bool {
        self.change(|state| {
            let Some(Attached { member, rooms }) = state.members.remove(&key) else { return false };
            if state.ids.get(&member.id) == Some(&key) {
                let own = Room::from(&member.id);
                let before = state.existence(&own);
                state.ids.remove(&member.id);
                state.exited(before, &own, member.id.clone(), key);
            }
            // The member itself is no longer in the map.
            let before = |state: &State, room| Existence { joined: true, ..state.existence(room) };
            rooms.iter().for_each(|room| state.exited(before(state, room), room, member.id.clone(), key));
            true
        })
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        self.change(|state| state.join(key, room))
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        self.change(|state| state.leave(key, room))
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        let state = self.state();
        let Some(attached) = state.members.get(&key) else { return Vec::new() };
        let own = Room::from(&attached.member.id);
        std::iter::once(own).chain(attached.rooms.iter().cloned()).collect()
    }

    fn count(&self, room: &Room) -> usize {
        let state = self.state();
        state.members.keys().filter(|key| state.is_in(**key, room)).count()
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        let mut post = Post::new(event);
        {
            let state = self.state();
            for key in state.named(target) {
                post.deliver(&state.members[&key].member, target.delivery, target.overflow);
            }
        }
        post.finish()
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        let mut post = Post::new(event);
        post.deliver(member, delivery, overflow);
        post.finish()
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        self.change(|state| {
            let mut changed = 0;
            for key in state.named(target) {
                let before = state.members[&key].rooms.len();
                match change {
                    Membership::Join(rooms) => rooms.iter().for_each(|room| _ = state.join(key, room)),
                    Membership::Leave(rooms) => rooms.iter().for_each(|room| _ = state.leave(key, room)),
                }
                changed += usize::from(state.members[&key].rooms.len() != before);
            }
            changed
        })
    }

    fn stats(&self) -> RouterStats {
        let state = self.state();
        let rooms: BTreeSet<_> = state.members.values().flat_map(|attached| &attached.rooms).collect();
        RouterStats::new(state.members.len(), rooms.len())
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        let named = self.state().named(target);
        let found = |key| {
            let rooms = self.rooms_of(key);
            let state = self.state();
            let member = &state.members.get(&key)?.member;
            Some(SocketInfo { key: Some(key), id: member.id.clone(), rooms, control: member.control.clone() })
        };
        named.into_iter().filter_map(found).collect()
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        let controls = self.find(target).into_iter().filter_map(|found| found.control);
        controls.map(|control| control.disconnect(close)).count()
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) {
        self.state().watches.push((filter, Arc::new(ChangeQueue::new(watcher))));
    }

    fn survey(&self) {
        self.change(|state| {
            let rooms: BTreeSet<_> = state.members.values().flat_map(|attached| &attached.rooms).collect();
            for room in rooms {
                let there = state.members.iter().filter(|(_, attached)| attached.rooms.contains(room));
                let present = |(key, attached): (&MemberKey, &Attached)| PresentMember {
                    key: *key,
                    socket: attached.member.id.clone(),
                    control: attached.member.control.clone(),
                };
                let members = there.map(present).collect();
                state.record_members(RoomChange::Present { room: room.clone(), members });
            }
        });
    }
}

impl MemoryRouter {
    /// Changes memberships and notifies the watchers.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let outcome = change(&mut state);
        let (watches, full) = (state.watches.clone(), std::mem::take(&mut state.full));
        drop(state);
        full.iter().for_each(|control| control.limited(MemberLimit::Rooms));
        watches.iter().for_each(|(_, changes)| changes.notify());
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(&mut self, key: MemberKey, room: &Room) -> JoinOutcome {
        let before = self.existence(room);
        let Some(attached) = self.members.get_mut(&key) else { return JoinOutcome::Detached };
        if Room::from(&attached.member.id) == *room || attached.rooms.contains(room) {
            return JoinOutcome::Already;
        }
        if let Some(control) = attached.member.control.as_ref()
            && attached.rooms.len() >= control.max_rooms()
        {
            self.full.push(control.clone());
            return JoinOutcome::Full;
        }
        attached.rooms.insert(room.clone());
        let (id, control) = (attached.member.id.clone(), attached.member.control.clone());
        self.entered(before, room, (id, key), control);
        JoinOutcome::Joined
    }

    fn leave(&mut self, key: MemberKey, room: &Room) -> bool {
        let before = self.existence(room);
        let Some(attached) = self.members.get_mut(&key) else { return false };
        let left = attached.rooms.remove(room);
        if left {
            let id = attached.member.id.clone();
            self.exited(before, room, id, key);
        }
        left
    }

    fn existence(&self, room: &Room) -> Existence {
        Existence {
            owned: self.ids.contains_key(room.as_str()),
            joined: self.members.values().any(|attached| attached.rooms.contains(room)),
        }
    }

    /// Queues the report of a join for the watchers.
    fn entered(
        &self,
        before: Existence,
        room: &Room,
        (socket, key): (SocketId, MemberKey),
        control: Option<Arc<dyn MemberControl>>,
    ) {
        let after = self.existence(room);
        for (filter, changes) in &self.watches {
            if after.is_seen_by(*filter) && !before.is_seen_by(*filter) {
                changes.push(RoomChange::Created { room: room.clone() });
            }
        }
        self.record_members(RoomChange::Joined { room: room.clone(), socket, key, control });
    }

    /// Queues the report of a leave for the watchers.
    fn exited(&self, before: Existence, room: &Room, socket: SocketId, key: MemberKey) {
        self.record_members(RoomChange::Left { room: room.clone(), socket, key });
        let after = self.existence(room);
        for (filter, changes) in &self.watches {
            if before.is_seen_by(*filter) && !after.is_seen_by(*filter) {
                changes.push(RoomChange::Deleted { room: room.clone() });
            }
        }
    }

    /// Queues a report for the watchers of members.
    fn record_members(&self, change: RoomChange) {
        for (filter, changes) in &self.watches {
            if *filter == WatchFilter::Members {
                changes.push(change.clone());
            }
        }
    }

    /// Returns whether a room name or id addresses this member.
    fn is_in(&self, key: MemberKey, room: &Room) -> bool {
        self.ids.get(room.as_str()) == Some(&key) || self.members[&key].rooms.contains(room)
    }

    fn named(&self, target: &Target) -> Vec<MemberKey> {
        let any = |key: MemberKey, rooms: &[Room]| rooms.iter().any(|room| self.is_in(key, room));
        let named = |key: &MemberKey| {
            (target.rooms.is_empty() || any(*key, &target.rooms))
                && !any(*key, &target.except)
                && target.skip != Some(*key)
        };
        self.members.keys().copied().filter(named).collect()
    }
}

/// An event in delivery to its recipients.
struct Post<'a> {
    event: &'a Event,
    encoded: Vec<(Arc<dyn Codec>, Result<Frame, EncodeError>)>,
    dispatched: Dispatched,
    unanswered: Vec<SocketId>,
    /// Members that already owe too many acknowledgements.
    limited: Vec<Arc<dyn MemberControl>>,
}

impl<'a> Post<'a> {
    fn new(event: &'a Event) -> Self {
        let dispatched = Dispatched::default();
        Self { event, encoded: Vec::new(), dispatched, unanswered: Vec::new(), limited: Vec::new() }
    }

    fn deliver(&mut self, member: &Member, delivery: Delivery, overflow: Overflow) {
        let requested = match self.frame(&member.codec) {
            Err(_) => {
                self.dispatched.receipt.unsupported += 1;
                if let Some(ack) = &self.event.ack {
                    ack.answers.requested(&member.id);
                }
                false
            }
            Ok(frame) => self.push(member, frame, delivery, overflow),
        };
        if !requested && self.event.ack.is_some() {
            self.unanswered.push(member.id.clone());
        }
    }

    /// Pushes a frame; returns whether an acknowledgement can arrive.
    fn push(&mut self, member: &Member, frame: Frame, delivery: Delivery, overflow: Overflow) -> bool {
        let ack = self.event.ack.as_ref();
        if ack.is_some_and(|ack| !member.acks().register(&member.id, ack)) {
            let is_gone = member.acks().is_closed();
            self.dispatched.receipt.record(if is_gone { PushOutcome::Closed } else { PushOutcome::Dropped });
            self.limited.extend(member.control.clone().filter(|_| !is_gone));
            return false;
        }
        let pushed = member.outbox.push(frame, delivery, overflow);
        self.dispatched.record(pushed, &member.outbox);
        let reached =
            matches!(pushed, PushOutcome::Queued | PushOutcome::Backlogged | PushOutcome::Displaced(_));
        // If the request was removed already, its remover has notified the receiver.
        reached || !ack.is_some_and(|AckRequest { id, .. }| member.acks().withdraw(*id))
    }

    fn frame(&mut self, codec: &Arc<dyn Codec>) -> Result<Frame, EncodeError> {
        if let Some((_, encoded)) = self.encoded.iter().find(|(known, _)| Arc::ptr_eq(known, codec)) {
            return encoded.clone();
        }
        let encoded = self.event.frame(&**codec);
        self.encoded.push((Arc::clone(codec), encoded.clone()));
        encoded
    }

    fn finish(self) -> Dispatched {
        if let Some(ack) = &self.event.ack {
            self.unanswered.iter().for_each(|socket| ack.answers.unanswered(socket));
            self.limited.iter().for_each(|control| control.limited(MemberLimit::Answers));
        }
        self.dispatched
    }
}
