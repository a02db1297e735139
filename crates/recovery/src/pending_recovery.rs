//! Recovery of a retained session.

use std::sync::Arc;

use bytestring::ByteString;
use roomcast_core::{Delivery, Frame, Member, MemberKey, Overflow, Room, SocketId};

use crate::owner::Owner;
use crate::recovery::PendingRecovery;
use crate::retained::{CaughtUp, RetainedSession, RoomHistory, SharedData};
use crate::sequencer::Sequencer;

/// Pending recovery of a session that a [`Sequencer`] retained.
#[derive(Debug)]
pub(crate) struct ClaimedSession {
    sequencer: Arc<Sequencer>,
    retained: RetainedSession,
    /// The retained session was consumed.
    consumed: bool,
    /// Number of the last event that the client claims to have received.
    seen: Option<u64>,
    budget: usize,
}

impl ClaimedSession {
    pub(crate) fn new(
        sequencer: Arc<Sequencer>,
        retained: RetainedSession,
        seen: Option<u64>,
        budget: usize,
    ) -> Self {
        Self { sequencer, retained, consumed: false, seen, budget }
    }
}

impl PendingRecovery for ClaimedSession {
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
        let this = &mut *self;
        let sequencer = &this.sequencer;
        let mut state = sequencer.state();
        if state.claimed.remove(&this.retained.key()).is_none() {
            return Err(RecoveryError::Unknown);
        }
        let now = (sequencer.clock)();
        let missed = sequencer.missed(&state, &this.retained, this.seen, this.budget, now)?;
        let head = state.log.head();
        let settled = missed.first().map_or(head, |first| first.number() - 1);
        // The client would not have received events that its codec cannot encode.
        let frames: Vec<Frame> =
            missed.into_iter().filter_map(|entry| entry.event.frame(&*member.codec).ok()).collect();
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
        let key = sequencer.router.attach(Member { key: this.retained.key(), ..member });
        let renewed = RoomHistory::new(key, this.retained.id().clone(), settled);
        let mut history = std::mem::replace(&mut this.retained.history, renewed);
        history.owner = owner.or(history.owner);
        history.caught_up = Some(CaughtUp { settled, head, at: now });
        for room in history.joined() {
            sequencer.router.join(key, room);
        }
        state.insert(history);
        sequencer.unlock_and_notify(state);
        Ok(key)
    }
}

impl Drop for ClaimedSession {
    fn drop(&mut self) {
        if !self.consumed {
            let mut state = self.sequencer.state();
            // Unless it was forgotten in the meantime.
            if state.claimed.remove(&self.retained.key()).is_none() {
                return;
            }
            let now = (self.sequencer.clock)();
            state.absent.insert(self.retained.clone(), now, &self.sequencer.config);
        }
    }
}

/// Position of the welcome relative to the replayed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "servers match every order")]
pub enum Order {
    /// Missed events first, then the welcome, as in Socket.IO.
    MissedFirst,
    /// The welcome first, then missed events.
    WelcomeFirst,
}

/// Reason for refusing a recovery; the client starts a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// No session is retained for this token: it expired, never existed, is still attached, or is being recovered.
    #[error("no retained session for this recovery token")]
    Unknown,
    /// The client was disconnected for too long.
    #[error("client was disconnected for too long")]
    Expired,
    /// The client's last offset is not from this log.
    #[error("offset is not from this log")]
    Offset,
    /// Some of the missed events were dropped because the log was full.
    #[error("missed events were dropped from the full log; raise its limits")]
    Overflow,
    /// The missed events exceed the outbox or the memory budget.
    #[error("missed events exceed the outbox or the memory budget")]
    TooLarge,
    /// The store of sessions failed, or did not answer in time.
    #[error("session store failed or did not answer in time")]
    Unavailable,
}

impl RecoveryError {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Expired, Self::Offset, Self::Overflow, Self::TooLarge, Self::Unavailable];

    /// Returns whether a claim with this error drops the session, since it cannot succeed later either.
    pub(crate) fn drops_session(self) -> bool {
        matches!(self, Self::Overflow | Self::TooLarge)
    }

    /// Returns a short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Offset => "offset",
            Self::Overflow => "overflow",
            Self::TooLarge => "too_much",
            Self::Unavailable => "unavailable",
        }
    }
}
