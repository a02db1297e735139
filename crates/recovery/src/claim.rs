//! Coming back

use std::sync::Arc;

use roomcast_core::{Delivery, Frame, Member, MemberKey, Overflow};

use crate::kept::{CaughtUp, Kept, Stay};
use crate::sequencer::Sequencer;

/// Somebody who came back, and has not been let in yet
///
/// Dropped, it leaves what is kept as it was.
#[derive(Debug)]
pub struct Claim {
    sequencer: Arc<Sequencer>,
    kept: Kept,
    /// Nothing is left to be given back
    spent: bool,
    /// Number of the last event that the client claims to have received
    seen: Option<u64>,
    budget: usize,
}

impl Claim {
    pub(crate) fn new(sequencer: Arc<Sequencer>, kept: Kept, seen: Option<u64>, budget: usize) -> Self {
        Self { sequencer, kept, spent: false, seen, budget }
    }

    /// What was kept
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Whether it is let in without asking the middlewares again
    pub fn skips_middlewares(&self) -> bool {
        self.sequencer.config.skip_middlewares
    }

    /// Lets it in: into its rooms, with what it missed on the way before anything that is emitted from now on
    ///
    /// `member` has the [id](Kept::id) that was kept, and is attached under the [key](Kept::key) that was kept,
    /// whatever its own. `welcome` tells the client that it is in, at the place that
    /// `order` says; it is called under the lock, so it may push and nothing else.
    ///
    /// # Errors
    /// When it has to begin anew, since its time ran out, it missed too much meanwhile, or it was
    /// [forgotten](Sequencer::forget); `welcome` was not called
    /// then, and nothing is kept any more.
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
        // What this kind of client cannot carry it would not have been told either.
        let frames: Vec<Frame> =
            missed.into_iter().filter_map(|entry| entry.event.frame(&*member.codec).ok()).collect();
        let replay = || {
            for frame in frames {
                // A client that is gone again is noticed by whoever owns the outbox.
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
            // Unless it was forgotten meanwhile.
            if state.claimed.remove(&self.kept.key()).is_none() {
                return;
            }
            let now = (self.sequencer.clock)();
            state.absent.insert(self.kept.clone(), now, &self.sequencer.config);
        }
    }
}

/// Where in the catching up a client is told that it is in
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "servers match every order")]
pub enum Order {
    /// First what it missed, then that it is in: Socket.IO
    MissedFirst,
    /// First that it is in, then what it missed
    WelcomeFirst,
}

/// Why somebody who came back has to begin anew
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Nobody with this secret is kept: it was away too long, never was here, or is here still
    #[error("nobody with this secret is kept")]
    Unknown,
    /// It was away too long
    #[error("it was away too long")]
    Expired,
    /// What it says it had last is no offset of this log
    #[error("the offset is none of this log")]
    Offset,
    /// Some of what it missed was dropped, since the log was full
    #[error("some of what it missed is no longer kept; raise the limits of the log")]
    Overflow,
    /// It missed more than fits into its outbox, or into the memory budget
    #[error("it missed more than fits into its outbox, or into memory")]
    TooMuch,
}

impl Refused {
    /// Every reason
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Expired, Self::Offset, Self::Overflow, Self::TooMuch];

    /// A short name
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
