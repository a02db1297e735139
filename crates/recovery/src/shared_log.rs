//! Recovery of a session whose missed events are read from a log that all nodes share.

use std::collections::HashSet;
use std::sync::Arc;

use bytestring::ByteString;
use roomcast_core::{
    Delivery, Event, EventLog, EventLogError, Frame, LogQuery, Member, MemberKey, Overflow, Room, SocketId,
};

use crate::log::event_bytes;
use crate::owner::Owner;
use crate::pending_recovery::{Order, RecoveryError};
use crate::recovery::{ClaimResult, PendingRecovery};
use crate::retained::{RetainedSession, RoomHistory, SharedData};
use crate::sequencer::{FRAME_COST, Sequencer};

/// Pending recovery of a session from the shared log.
///
/// Events that arrive here after the claim began are in the log of this process. Events that were not read from the
/// shared log are added when the member is attached, under the lock of the sequencer. Before that, all that was read
/// has arrived here, so none of it is delivered again.
#[derive(Debug)]
pub(crate) struct SharedClaim {
    sequencer: Arc<Sequencer>,
    retained: RetainedSession,
    /// Where the session came from.
    origin: Origin,
    /// Number of the last event of this process before the shared log was read.
    from: u64,
    /// Missed events that were read from the shared log.
    missed: Vec<Event>,
    budget: usize,
    consumed: bool,
}

/// Process that retained a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This one, which retains it again if it is not recovered.
    Here,
    /// Another one. A store has the session.
    Elsewhere,
}

impl SharedClaim {
    /// Creates a claim of a session that is neither attached nor retained any more, in the state of the sequencer.
    pub(crate) fn new(
        sequencer: Arc<Sequencer>,
        retained: RetainedSession,
        origin: Origin,
        from: u64,
        budget: usize,
    ) -> Self {
        Self { sequencer, retained, origin, from, missed: Vec::new(), budget, consumed: false }
    }

    /// Reads the missed events.
    pub(crate) async fn read(mut self, log: Arc<dyn EventLog>, offset: Option<ByteString>) -> ClaimResult {
        match self.read_missed(&*log, offset).await {
            Ok(()) => Ok(Box::new(self)),
            Err(refused) => {
                if refused.drops_session() {
                    self.consumed = true;
                    self.sequencer.state().claimed.remove(&self.retained.key());
                }
                Err(refused)
            }
        }
    }

    async fn read_missed(
        &mut self,
        log: &dyn EventLog,
        offset: Option<ByteString>,
    ) -> Result<(), RecoveryError> {
        // Members of this node have received events without the log, which this one has not.
        log.settled().await.map_err(refusal)?;
        self.from = self.sequencer.state().log.head();
        let rooms = self.all_rooms();
        let start = self.retained.history.start.clone();
        // A client that has received no event has no offset.
        let after = offset.clone().or_else(|| start.clone()).ok_or(RecoveryError::Offset)?;
        let query = LogQuery { after: &after, rooms: &rooms, max_bytes: self.budget };
        let found = match log.missed(&query).await {
            // All events up to its start have arrived, so an older offset is that of the last event for the client.
            Err(EventLogError::Trimmed) if let Some(start) = start.filter(|start| *start != after) => {
                log.missed(&LogQuery { after: &start, ..query }).await
            }
            found => found,
        };
        let missed = found.map_err(refusal)?.events;
        // Delivery to this node may be behind the log. It would deliver the rest of these events again.
        if let Some(last) = missed.last().and_then(|event| event.offset.as_ref()) {
            log.reached(last).await.map_err(refusal)?;
        }
        self.missed = missed;
        self.retained.history.start = Some(after);
        Ok(())
    }

    /// Returns the rooms of the member, its own first.
    fn all_rooms(&self) -> Vec<Room> {
        let own = Room::from(self.retained.id());
        std::iter::once(own).chain(self.retained.history.joined().cloned()).collect()
    }
}

fn refusal(error: EventLogError) -> RecoveryError {
    match error {
        EventLogError::InvalidOffset => RecoveryError::Offset,
        EventLogError::Trimmed => RecoveryError::Overflow,
        EventLogError::TooLarge => RecoveryError::TooLarge,
        _ => RecoveryError::Unavailable,
    }
}

impl PendingRecovery for SharedClaim {
    fn key(&self) -> MemberKey {
        self.retained.key()
    }

    fn id(&self) -> &SocketId {
        self.retained.id()
    }

    fn secret(&self) -> &ByteString {
        &self.retained.history.secret
    }

    fn data(&self) -> &SharedData {
        &self.retained.data
    }

    fn rooms(&self) -> Vec<Room> {
        self.retained.history.joined().cloned().collect()
    }

    fn skips_middlewares(&self) -> bool {
        self.sequencer.config.skip_middlewares
    }

    fn resume(
        mut self: Box<Self>,
        member: Member,
        owner: Option<Owner>,
        order: Order,
        welcome: &mut dyn FnMut(),
    ) -> Result<MemberKey, RecoveryError> {
        self.consumed = true;
        let rooms = self.all_rooms();
        let this = &mut *self;
        let sequencer = &this.sequencer;
        let mut state = sequencer.state();
        let (key, secret) = (this.retained.key(), &this.retained.history.secret);
        // Another client may have recovered it with the same token, from the same store.
        if state.claimed.remove(&key).is_none() || state.is_attached(secret) {
            return Err(RecoveryError::Unknown);
        }
        let now = (sequencer.clock)();
        if this.retained.is_expired(now, &sequencer.config) {
            return Err(RecoveryError::Expired);
        }
        let arrived = state.log.arrived_after(this.from, &rooms).ok_or(RecoveryError::Overflow)?;
        let read: HashSet<&str> = this.missed.iter().filter_map(|event| event.offset.as_deref()).collect();
        let newer =
            arrived.filter(|event| !event.offset.as_deref().is_some_and(|offset| read.contains(offset)));
        let newer: Vec<_> = newer.collect();
        // After the log was read, an outage of it began: it is not known which of these events were read.
        let is_provisional = |event: &&Event| {
            let log = sequencer.shared_log.get();
            event.offset.as_deref().is_some_and(|offset| log.is_some_and(|log| log.is_provisional(offset)))
        };
        if newer.iter().any(is_provisional) {
            return Err(RecoveryError::Unavailable);
        }
        let mut left = this.budget;
        let mut frames: Vec<Frame> = Vec::with_capacity(this.missed.len());
        for event in this.missed.iter().chain(newer) {
            let bytes = event_bytes(event) + event.namespace.as_str().len() + FRAME_COST;
            left = left.checked_sub(bytes).ok_or(RecoveryError::TooLarge)?;
            // The client would not have received events that its codec cannot encode.
            frames.extend(event.frame(&*member.codec));
        }
        let replay = || {
            for frame in frames {
                // The owner of the outbox detects a client that has disconnected again.
                let _ = member.outbox.push(frame, Delivery::Reliable, Overflow::Close);
            }
        };
        match order {
            Order::MissedFirst => {
                replay();
                welcome();
            }
            Order::WelcomeFirst => {
                welcome();
                replay();
            }
        }
        sequencer.router.attach(Member { key, ..member });
        let head = state.log.head();
        let mut history = RoomHistory::new(key, this.retained.id().clone(), head);
        history.owner = owner.or(this.retained.history.owner);
        history.secret = secret.clone();
        history.start = this.retained.history.start.clone();
        history.attached_at = Some(now);
        for room in this.retained.history.joined() {
            sequencer.router.join(key, room);
            history.join(room, head);
        }
        state.insert(history);
        sequencer.unlock_and_notify(state);
        Ok(key)
    }
}

impl Drop for SharedClaim {
    fn drop(&mut self) {
        if self.consumed {
            return;
        }
        let mut state = self.sequencer.state();
        // Unless it was forgotten in the meantime.
        if state.claimed.remove(&self.retained.key()).is_some() && self.origin == Origin::Here {
            let now = (self.sequencer.clock)();
            state.absent.insert(self.retained.clone(), now, &self.sequencer.config);
        }
    }
}
