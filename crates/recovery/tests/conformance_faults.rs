//! The recovery suite detects injected faults.
#![allow(clippy::disallowed_methods, reason = "the clock is the runtime's, which is paused")]

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{
    Delivery, Dispatched, Event, JoinOutcome, Member, MemberKey, Membership, Overflow, Room, RoomWatcher,
    Router, RouterStats, SocketId, SocketInfo, Target, WatchFilter,
};
use roomcast_recovery::{
    Claim, ClaimResult, Order, Owner, PendingRecovery, Recovery, RecoveryConfig, RecoveryError, Sequencer,
    SessionInit, SharedData, Usage,
};
use roomcast_rooms::Rooms;
use roomcast_testkit::recovery::failures;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Some events are not retained.
    LosesEvents,
    /// Some events are retained and delivered twice.
    DoublesEvents,
    /// Each event is overtaken by the next one.
    SwapsEvents,
    /// Any token claims the session that was retained last.
    AcceptsAnyToken,
    /// A session can be claimed twice.
    ClaimsTwice,
    /// Losses on the way here are not recorded.
    IgnoresLosses,
    /// Claims never end.
    ClaimsHang,
    /// A dropped claim ends the session.
    ConsumesDroppedClaims,
    /// Forgotten sessions can be recovered.
    RemembersForgotten,
    /// The rooms are not restored.
    LosesRooms,
    /// The client's offset is not considered.
    IgnoresOffset,
    /// The welcome is always last.
    DelaysWelcome,
    /// The time since the disconnect is not limited.
    NeverExpires,
    /// A clean disconnect retains the session.
    RetainsEverything,
    /// The budget is not considered.
    IgnoresBudget,
}

#[test]
fn suite_detects_each_fault() {
    let cases = [
        (Fault::LosesEvents, "replays_missed_events_in_order"),
        (Fault::DoublesEvents, "replays_missed_events_in_order"),
        (Fault::SwapsEvents, "replays_missed_events_in_order"),
        (Fault::AcceptsAnyToken, "wrong_token_claims_nothing"),
        (Fault::ClaimsTwice, "one_of_concurrent_claims_wins"),
        (Fault::IgnoresLosses, "lost_events_end_recoveries"),
        (Fault::ClaimsHang, "restores_key_rooms_and_data"),
        (Fault::ConsumesDroppedClaims, "dropped_claim_is_put_back"),
        (Fault::RemembersForgotten, "forgotten_session_is_refused"),
        (Fault::LosesRooms, "restores_key_rooms_and_data"),
        (Fault::IgnoresOffset, "replays_nothing_that_was_received"),
        (Fault::DelaysWelcome, "welcome_may_precede_missed_events"),
        (Fault::NeverExpires, "late_client_is_refused"),
        (Fault::RetainsEverything, "detached_session_is_not_retained"),
        (Fault::IgnoresBudget, "replay_over_budget_is_refused"),
    ];
    assert_eq!(failures(|config| Faulty::new(Fault::None, config)), [""; 0]);
    for (fault, case) in cases {
        let failed = failures(|config| Faulty::new(fault, config));
        assert!(failed.contains(&case), "{fault:?} is detected by {failed:?} only");
    }
}

/// Sequencer with a fault.
#[derive(Debug)]
struct Faulty {
    fault: Fault,
    inner: Arc<Sequencer>,
    /// Router below the sequencer.
    rooms: Arc<Rooms>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    broadcasts: usize,
    held: Option<(Target, Event)>,
    /// Token of the last attached member.
    secret: ByteString,
    claimed: Option<Copied>,
}

/// Copy of a claimed session.
#[derive(Debug, Clone)]
struct Copied {
    key: MemberKey,
    id: SocketId,
    secret: ByteString,
    data: SharedData,
    rooms: Vec<Room>,
}

impl Faulty {
    fn new(fault: Fault, config: RecoveryConfig) -> Arc<Self> {
        let rooms = Arc::new(Rooms::default());
        let config = match fault {
            Fault::NeverExpires => config.max_disconnection(std::time::Duration::from_secs(1 << 20)),
            _ => config,
        };
        let clock = || tokio::time::Instant::now().into_std();
        let inner = Arc::new(Sequencer::new(rooms.clone(), config, "0123456789abcdefghij", clock));
        Arc::new(Self { fault, inner, rooms, state: Mutex::default() })
    }

    fn claim_now(self: Arc<Self>, claim: Claim, secret: &str) -> ClaimResult {
        let Claim::Ready(result) = claim else { panic!("claim in memory is pending") };
        let mut state = self.state.lock().expect("not poisoned");
        match result {
            Ok(pending) => {
                let copied = Copied {
                    key: pending.key(),
                    id: pending.id().clone(),
                    secret: pending.secret().clone(),
                    data: pending.data().clone(),
                    rooms: pending.rooms(),
                };
                state.claimed = Some(copied.clone());
                drop(state);
                Ok(Box::new(Returning { recovery: self, copied, pending: Some(pending) }))
            }
            Err(RecoveryError::Unknown) if self.fault == Fault::ClaimsTwice => {
                let copied = state.claimed.clone().filter(|copied| &*copied.secret == secret);
                drop(state);
                let copied = copied.ok_or(RecoveryError::Unknown)?;
                Ok(Box::new(Returning { recovery: self, copied, pending: None }))
            }
            Err(refused) => Err(refused),
        }
    }
}

impl Recovery for Faulty {
    fn attach_recoverable(&self, member: Member, session: SessionInit) -> MemberKey {
        self.state.lock().expect("not poisoned").secret = session.secret.clone();
        self.inner.attach_recoverable(member, session)
    }

    fn detach_and_retain(&self, key: MemberKey, data: SharedData, until: Option<Instant>) -> bool {
        self.inner.detach_and_retain(key, data, until)
    }

    fn forget(&self, key: MemberKey) -> bool {
        self.fault == Fault::RemembersForgotten || self.inner.forget(key)
    }

    fn queue_for_absent(&self, key: MemberKey, delivery: Delivery, event: &Event) -> bool {
        self.inner.queue_for_absent(key, delivery, event)
    }

    fn data_changed(&self, key: MemberKey, data: &SharedData) {
        self.inner.data_changed(key, data);
    }

    fn missed(&self, room: Option<&Room>) {
        if self.fault != Fault::IgnoresLosses {
            self.inner.missed(room);
        }
    }

    fn attached(&self, secret: &str) -> Option<(MemberKey, SocketId)> {
        self.inner.attached(secret)
    }

    fn claim(self: Arc<Self>, secret: &str, offset: Option<&str>, budget: usize) -> Claim {
        let last = self.state.lock().expect("not poisoned").secret.clone();
        let shown = if self.fault == Fault::AcceptsAnyToken { &*last } else { secret };
        let offset = offset.filter(|_| self.fault != Fault::IgnoresOffset);
        let budget = if self.fault == Fault::IgnoresBudget { usize::MAX } else { budget };
        if self.fault == Fault::ClaimsHang {
            return Claim::Pending(Box::pin(std::future::pending()));
        }
        let claim = self.inner.clone().claim(shown, offset, budget);
        Claim::Ready(self.claim_now(claim, secret))
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

impl Router for Faulty {
    fn detach(&self, key: MemberKey) -> bool {
        match self.fault {
            Fault::RetainsEverything => self.inner.detach_and_retain(key, SharedData::default(), None),
            _ => self.inner.detach(key),
        }
    }

    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched {
        let mut state = self.state.lock().expect("not poisoned");
        state.broadcasts += 1;
        let is_second = state.broadcasts.is_multiple_of(2);
        match self.fault {
            Fault::LosesEvents if is_second => self.rooms.broadcast(target, event),
            Fault::DoublesEvents if is_second => {
                self.inner.broadcast(target, event).flush_backlog();
                self.inner.broadcast(target, event)
            }
            Fault::SwapsEvents => {
                let Some((target_of, held)) = state.held.take() else {
                    state.held = Some((target.clone(), event.clone()));
                    return Dispatched::default();
                };
                self.inner.broadcast(target, event).flush_backlog();
                self.inner.broadcast(&target_of, &held)
            }
            _ => self.inner.broadcast(target, event),
        }
    }

    fn attach(&self, member: Member) -> MemberKey {
        self.inner.attach(member)
    }

    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome {
        self.inner.join(key, room)
    }

    fn leave(&self, key: MemberKey, room: &Room) -> bool {
        self.inner.leave(key, room)
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        self.inner.rooms_of(key)
    }

    fn count(&self, room: &Room) -> usize {
        self.inner.count(room)
    }

    fn send(&self, member: &Member, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Dispatched {
        self.inner.send(member, delivery, overflow, event)
    }

    fn update(&self, target: &Target, change: &Membership) -> usize {
        self.inner.update(target, change)
    }

    fn stats(&self) -> RouterStats {
        self.inner.stats()
    }

    fn find(&self, target: &Target) -> Vec<SocketInfo> {
        self.inner.find(target)
    }

    fn disconnect(&self, target: &Target, close: bool) -> usize {
        self.inner.disconnect(target, close)
    }

    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) {
        self.inner.watch(watcher, filter);
    }

    fn survey(&self) {
        self.inner.survey();
    }
}

/// Pending recovery; without `pending`, a second one of a session that was claimed already.
#[derive(Debug)]
struct Returning {
    recovery: Arc<Faulty>,
    copied: Copied,
    pending: Option<Box<dyn PendingRecovery>>,
}

impl PendingRecovery for Returning {
    fn key(&self) -> MemberKey {
        self.copied.key
    }

    fn id(&self) -> &SocketId {
        &self.copied.id
    }

    fn secret(&self) -> &ByteString {
        &self.copied.secret
    }

    fn data(&self) -> &SharedData {
        &self.copied.data
    }

    fn rooms(&self) -> Vec<Room> {
        self.copied.rooms.clone()
    }

    fn skips_middlewares(&self) -> bool {
        true
    }

    fn resume(
        mut self: Box<Self>,
        member: Member,
        owner: Option<Owner>,
        order: Order,
        welcome: &mut dyn FnMut(),
    ) -> Result<MemberKey, RecoveryError> {
        let fault = self.recovery.fault;
        let Some(pending) = self.pending.take() else {
            welcome();
            return Ok(self.recovery.inner.attach(Member { key: self.copied.key, ..member }));
        };
        let order = if fault == Fault::DelaysWelcome { Order::MissedFirst } else { order };
        let key = pending.resume(member, owner, order, welcome)?;
        if fault == Fault::LosesRooms {
            self.copied.rooms.iter().for_each(|room| _ = self.recovery.inner.leave(key, room));
        }
        Ok(key)
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if self.pending.take().is_some() && self.recovery.fault == Fault::ConsumesDroppedClaims {
            self.recovery.inner.forget(self.copied.key);
        }
    }
}
