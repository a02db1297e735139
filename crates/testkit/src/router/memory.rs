//! The simplest router there can be

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use roomcast_core::{
    AckRequest, Codec, Delivery, EncodeError, Event, Frame, Joined, Member, MemberKey, Membership, Overflow,
    Pushed, Receipt, Room, Router, RouterError, RouterStats, SocketId, Target,
};

/// The simplest router there can be: one lock, and every question is answered by asking each member in turn
///
/// For tests that need a router, and as the oracle for routers that are clever.
#[derive(Debug, Default)]
pub struct MemoryRouter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_key: u64,
    members: BTreeMap<MemberKey, Attached>,
    ids: HashMap<SocketId, MemberKey>,
}

#[derive(Debug)]
struct Attached {
    member: Member,
    rooms: BTreeSet<Room>,
}

#[async_trait]
impl Router for MemoryRouter {
    fn attach(&self, member: Member) -> MemberKey {
        let mut state = self.state();
        state.last_key += 1;
        let key = MemberKey(state.last_key);
        state.ids.insert(member.id.clone(), key);
        state.members.insert(key, Attached { member, rooms: BTreeSet::new() });
        key
    }

    fn detach(&self, key: MemberKey) -> bool {
        let mut state = self.state();
        let Some(attached) = state.members.remove(&key) else { return false };
        if state.ids.get(&attached.member.id) == Some(&key) {
            state.ids.remove(&attached.member.id);
        }
        true
    }

    fn join(&self, key: MemberKey, room: &Room) -> Joined {
        self.state().join(key, room)
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        self.state().leave(key, room)
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

    fn broadcast(&self, target: &Target, event: &Event) -> Receipt {
        let mut post = Post::new(event);
        {
            let state = self.state();
            for key in state.named(target) {
                post.deliver(&state.members[&key].member, target.delivery, target.overflow);
            }
        }
        post.finish()
    }

    fn send(&self, member: &Member, delivery: Delivery, event: &Event) -> Receipt {
        let mut post = Post::new(event);
        post.deliver(member, delivery, Overflow::default());
        post.finish()
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        let mut state = self.state();
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
    }

    fn stats(&self) -> RouterStats {
        let state = self.state();
        let rooms: BTreeSet<_> = state.members.values().flat_map(|attached| &attached.rooms).collect();
        RouterStats::new(state.members.len(), rooms.len())
    }

    async fn sockets(&self, target: &Target) -> Result<Vec<SocketId>, RouterError> {
        let state = self.state();
        Ok(state.named(target).iter().map(|key| state.members[key].member.id.clone()).collect())
    }
}

impl MemoryRouter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn join(&mut self, key: MemberKey, room: &Room) -> Joined {
        let Some(attached) = self.members.get_mut(&key) else { return Joined::Detached };
        if Room::from(&attached.member.id) == *room || !attached.rooms.insert(room.clone()) {
            return Joined::Already;
        }
        Joined::Joined
    }

    fn leave(&mut self, key: MemberKey, room: &Room) -> bool {
        self.members.get_mut(&key).is_some_and(|attached| attached.rooms.remove(room))
    }

    /// Whether a name of a room, or of the room of an id, means this member
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

/// One event on its way to its recipients
struct Post<'a> {
    event: &'a Event,
    encoded: Vec<(Arc<dyn Codec>, Result<Frame, EncodeError>)>,
    receipt: Receipt,
    not_asked: Vec<SocketId>,
}

impl<'a> Post<'a> {
    fn new(event: &'a Event) -> Self {
        Self { event, encoded: Vec::new(), receipt: Receipt::default(), not_asked: Vec::new() }
    }

    fn deliver(&mut self, member: &Member, delivery: Delivery, overflow: Overflow) {
        let asked = match self.frame(&member.codec) {
            Err(_) => {
                self.receipt.unsupported += 1;
                if let Some(ack) = &self.event.ack {
                    ack.answers.asked(&member.id);
                }
                false
            }
            Ok(frame) => self.push(member, frame, delivery, overflow),
        };
        if !asked && self.event.ack.is_some() {
            self.not_asked.push(member.id.clone());
        }
    }

    /// Pushes a frame; tells whether an answer can come
    fn push(&mut self, member: &Member, frame: Frame, delivery: Delivery, overflow: Overflow) -> bool {
        let ack = self.event.ack.as_ref();
        if ack.is_some_and(|ack| !member.acks.register(&member.id, ack)) {
            let outcome = if member.acks.is_closed() { Pushed::Closed } else { Pushed::Dropped };
            self.receipt.record(outcome);
            return false;
        }
        let pushed = member.outbox.push(frame, delivery, overflow);
        self.receipt.record(pushed);
        let reached = matches!(pushed, Pushed::Queued | Pushed::Displaced(_));
        // If the wish is gone already, whoever took it has told the one who waits.
        reached || !ack.is_some_and(|AckRequest { id, .. }| member.acks.withdraw(*id))
    }

    fn frame(&mut self, codec: &Arc<dyn Codec>) -> Result<Frame, EncodeError> {
        if let Some((_, encoded)) = self.encoded.iter().find(|(known, _)| Arc::ptr_eq(known, codec)) {
            return encoded.clone();
        }
        let encoded = self.event.frame(&**codec);
        self.encoded.push((Arc::clone(codec), encoded.clone()));
        encoded
    }

    fn finish(self) -> Receipt {
        if let Some(ack) = &self.event.ack {
            self.not_asked.iter().for_each(|socket| ack.answers.gone(socket));
        }
        self.receipt
    }
}
