//! Recovery of a retained session.

use std::sync::Arc;

use roomcast_core::{Delivery, Frame, Member, MemberKey, Overflow};

use crate::kept::{CaughtUp, Kept, Stay};
use crate::sequencer::Sequencer;

/// Pending recovery of a returning client that has not been accepted yet.
///
/// Dropping it puts the retained session back.
#[derive(Debug)]
pub struct Claim {
    sequencer: Arc<Sequencer>,
    kept: Kept,
    /// The retained session was consumed.
    spent: bool,
    /// Number of the last event that the client claims to have received.
    seen: Option<u64>,
    budget: usize,
}

impl Claim {
    pub(crate) fn new(sequencer: Arc<Sequencer>, kept: Kept, seen: Option<u64>, budget: usize) -> Self {
        Self { sequencer, kept, spent: false, seen, budget }
    }

    /// Returns the retained session.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Returns whether the client skips the connect middlewares.
    pub fn skips_middlewares(&self) -> bool {
        self.sequencer.config.skip_middlewares
    }

    /// Attaches the member, rejoins its rooms, and replays missed events ahead of all later ones.
    ///
    /// `member` has the retained [id](Kept::id), and is attached under the retained [key](Kept::key) instead of a new
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
    ) -> Result<MemberKey, Refused> {
        self.spent = true;
        let sequencer = &self.sequencer;
        let mut state = sequencer.state();
        if state.claimed.remove(&self.kept.key()).is_none() {
            return Err(Refused::Unknown);
        }
        let now = (sequencer.clock)();
        let missed = sequencer.missed(&state, &self.kept, self.seen, self.budget, now)?;
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
        let key = sequencer.router.attach(Member { key: self.kept.key(), ..member });
        let anew = Stay::new(key, self.kept.id().clone(), settled);
        let mut stay = std::mem::replace(&mut self.kept.stay, anew);
        stay.caught_up = Some(CaughtUp { settled, head, at: now });
        for room in stay.joined() {
            sequencer.router.join(key, room);
        }
        state.insert(stay);
        sequencer.let_go(state);
        Ok(key)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.spent {
            let mut state = self.sequencer.state();
            // Unless it was forgotten in the meantime.
            if state.claimed.remove(&self.kept.key()).is_none() {
                return;
            }
            let now = (self.sequencer.clock)();
            state.absent.insert(self.kept.clone(), now, &self.sequencer.config);
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
pub enum Refused {
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
    TooMuch,
}

impl Refused {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Expired, Self::Offset, Self::Overflow, Self::TooMuch];

    /// Returns a short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Offset => "offset",
            Self::Overflow => "overflow",
            Self::TooMuch => "too_much",
        }
    }
}
