//! Flow control of one session: unprocessed messages and stalled clients

use std::collections::VecDeque;
use std::time::Instant;

use roomcast_core::{Backlog, CloseReason, ConnectionError, Message, Received};
use roomcast_runtime::Stall;

use super::rate::Bucket;

/// Driver state that only sessions under load need; allocated on first use.
#[derive(Default)]
pub(super) struct Flow {
    /// Event rate bucket
    pub(super) bucket: Option<Bucket>,
    /// Rest of a read, processed in the next visit
    pub(super) kept: VecDeque<Message>,
    /// End of the connection, behind those messages
    pub(super) ended: Option<Result<Received, ConnectionError>>,
    /// Outboxes to flush before reading on
    pub(super) backlog: Backlog,
    pub(super) stall: Option<Stall>,
    /// Reading is paused
    pub(super) paused: bool,
    /// The session is about to end
    pub(super) leaving: Option<Leaving>,
}

/// Session about to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) at: Instant,
    pub(super) reason: CloseReason,
    /// Whether the client's last requests are still read
    pub(super) reads: bool,
}

impl Flow {
    /// Returns whether none of it is in use.
    pub(super) fn is_idle(&self) -> bool {
        let Self { bucket, kept, ended, backlog, stall, paused, leaving } = self;
        let waits = !kept.is_empty() || ended.is_some() || !backlog.is_empty() || *paused;
        !waits && bucket.is_none() && stall.is_none() && leaving.is_none()
    }

    /// Returns whether the driver has left messages of the client unprocessed.
    pub(super) fn holds_back(&self) -> bool {
        self.paused || !self.kept.is_empty() || !self.backlog.is_empty()
    }
}

#[cfg(test)]
mod model;
