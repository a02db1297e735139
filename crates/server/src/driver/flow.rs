//! Flow control of one session: what is read but not heard yet, and a client that stalls

use std::collections::VecDeque;
use std::time::Instant;

use roomcast_core::{Backlog, CloseReason, ConnectionError, Message, Received};
use roomcast_runtime::Stall;

use super::rate::Bucket;

/// Parts of a driver that only sessions under load have; made on first use
#[derive(Default)]
pub(super) struct Flow {
    /// Events the client may send
    pub(super) bucket: Option<Bucket>,
    /// The rest of a read, which waits for the next visit
    pub(super) kept: VecDeque<Message>,
    /// How the connection ended behind those
    pub(super) ended: Option<Result<Received, ConnectionError>>,
    /// Outboxes that have to be relieved before anything more is read
    pub(super) backlog: Backlog,
    pub(super) stall: Option<Stall>,
    /// Reading pauses
    pub(super) paused: bool,
    /// The session is about to end
    pub(super) leaving: Option<Leaving>,
}

/// A session that ends in a moment
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) at: Instant,
    pub(super) reason: CloseReason,
    /// Whether requests that the client sent last are still read
    pub(super) reads: bool,
}

impl Flow {
    /// Whether nothing of it is in use
    pub(super) fn is_idle(&self) -> bool {
        let Self { bucket, kept, ended, backlog, stall, paused, leaving } = self;
        let waits = !kept.is_empty() || ended.is_some() || !backlog.is_empty() || *paused;
        !waits && bucket.is_none() && stall.is_none() && leaving.is_none()
    }

    /// Whether messages of the client lie where nobody has looked at them, by the driver's own choice
    pub(super) fn holds_back(&self) -> bool {
        self.paused || !self.kept.is_empty() || !self.backlog.is_empty()
    }
}

#[cfg(test)]
mod model;
