//! Recovery of a retained session.

use std::sync::Arc;

use roomcast_core::{Delivery, Frame, Member, MemberKey, Overflow};

use crate::retained::{CaughtUp, RetainedSession, RoomHistory};
use crate::sequencer::Sequencer;

/// Pending recovery of a returning client that has not been accepted yet.
///
/// Dropping it puts the retained session back.
#[derive(Debug)]
pub struct PendingRecovery {
    sequencer: Arc<Sequencer>,
    retained: RetainedSession,
    /// The retained session was consumed.
    consumed: bool,
    /// Number of the last event that the client claims to have received.
    seen: Option<u64>,
    budget: usize,
}

impl PendingRecovery {
    pub(crate) fn new(
        sequencer: Arc<Sequencer>,
        retained: RetainedSession,
        seen: Option<u64>,
        budget: usize,
    ) -> Self {
        Self { sequencer, retained, consumed: false, seen, budget }
    }

    /// Returns the retained session.
    pub fn retained(&self) -> &RetainedSession {
        &self.retained
    }

    /// Returns whether the client skips the connect middlewares.
    pub fn skips_middlewares(&self) -> bool {
        self.sequencer.config.skip_middlewares
    }

    /// Attaches the member, rejoins its rooms, and replays missed events ahead of all later ones.
    ///
    /// `member` has the retained [id](RetainedSession::id), and is attached under the retained [key](RetainedSession::key) instead of a new
    /// one. `welcome` sends the acceptance to the client, at the position given by `order`. It is called under the
    /// lock, so it must only push to the outbox.
    ///
    /// # Errors
    /// Returns an error if the client has to start a new session: its time ran out, it missed too much in the meantime,
    /// or it was [forgotten](Sequencer::forget). `welcome` is not called then, and the session is no longer retained.
    pub fn resume(
        mut self,
        member: Member,
        order: Order,
        welcome: impl FnOnce(),
    ) -> Result<MemberKey, RecoveryError> {
        self.consumed = true;
        let sequencer = &self.sequencer;
        let mut state = sequencer.state();
        if state.claimed.remove(&self.retained.key()).is_none() {
            return Err(RecoveryError::Unknown);
        }
        let now = (sequencer.clock)();
        let missed = sequencer.missed(&state, &self.retained, self.seen, self.budget, now)?;
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
        let key = sequencer.router.attach(Member { key: self.retained.key(), ..member });
        let renewed = RoomHistory::new(key, self.retained.id().clone(), settled);
        let mut history = std::mem::replace(&mut self.retained.history, renewed);
        history.caught_up = Some(CaughtUp { settled, head, at: now });
        for room in history.joined() {
            sequencer.router.join(key, room);
        }
        state.insert(history);
        sequencer.unlock_and_notify(state);
        Ok(key)
    }
}

impl Drop for PendingRecovery {
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
    /// No session is retained for this token: it expired, never existed, or is still connected.
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
}

impl RecoveryError {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Expired, Self::Offset, Self::Overflow, Self::TooLarge];

    /// Returns a short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Offset => "offset",
            Self::Overflow => "overflow",
            Self::TooLarge => "too_much",
        }
    }
}
