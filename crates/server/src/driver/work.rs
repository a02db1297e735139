//! The handlers of a session that are under way

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};
use roomcast_core::Inbound;

use super::running::{Ended, Running};
use crate::util::log_limit::log_limited;

/// The handlers under way, and how much waits for them
#[derive(Default)]
pub(crate) struct Work {
    // Boxed and made on first use: most handlers end where they begin.
    running: Option<Box<FuturesUnordered<Running>>>,
    pub(super) waiting_bytes: usize,
}

/// What an event that waits costs besides its bytes
const EVENT_COST: usize = 128;

pub(super) fn cost(inbound: &Inbound) -> usize {
    inbound.args.byte_len() + inbound.name.len() + EVENT_COST
}

impl Work {
    pub(crate) fn add(&mut self, running: Running) {
        self.running.get_or_insert_default().push(running);
    }

    /// An event that waited is no longer there
    pub(crate) fn release(&mut self, inbound: &Inbound) {
        self.waiting_bytes -= cost(inbound);
    }

    /// Drops what decides whether a client may join: nobody waits for the answer any more
    pub(super) fn drop_admissions(&mut self) {
        let Some(running) = self.running.as_deref_mut() else { return };
        if !running.iter().any(Running::is_admission) {
            return;
        }
        let kept = std::mem::take(running).into_iter().filter_map(|running| {
            if !running.is_admission() {
                return Some(running);
            }
            // Dropping a future runs code of the application.
            if catch_unwind(AssertUnwindSafe(|| drop(running))).is_err() {
                log_limited!(ERROR, (), "middleware panicked when it was dropped");
            }
            None
        });
        *running = kept.collect();
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        match self.running.as_deref_mut() {
            Some(running) => Pin::new(running).poll_next(cx),
            None => Poll::Ready(None),
        }
    }

    /// Whether so many handlers are under way that those of events, which wait for their turn, are not all there is
    ///
    /// What is left are those of joining and leaving, which do not wait.
    pub(crate) fn is_crowded(&self, max_handlers: usize) -> bool {
        self.under_way() >= max_handlers.saturating_mul(2)
    }

    /// Whether nothing is under way, and nothing waits for that
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting_bytes == 0 && self.running.is_none()
    }

    /// Whether so much waits for the handlers, or so many are under way, that the client should not be read on
    #[inline]
    pub(crate) fn is_behind(&self, max_handlers: usize, max_event_bytes: usize) -> bool {
        self.waiting_bytes > max_event_bytes || self.running.is_some() && self.is_crowded(max_handlers)
    }

    pub(super) fn under_way(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.len())
    }
}
