//! Running handlers of a session

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};
use roomcast_core::Inbound;

use super::running::{Ended, Running};
use crate::util::log_limit::log_limited;

/// Running handlers and the size of the event queue.
#[derive(Default)]
pub(crate) struct RunningHandlers {
    // Boxed and made on first use: most handlers complete on first poll.
    running: Option<Box<FuturesUnordered<Running>>>,
    pub(super) waiting_bytes: usize,
}

/// Fixed cost of a queued event, in bytes
const EVENT_COST: usize = 128;

pub(super) fn cost(inbound: &Inbound) -> usize {
    inbound.args.byte_len() + inbound.name.len() + EVENT_COST
}

impl RunningHandlers {
    pub(crate) fn add(&mut self, running: Running) {
        self.running.get_or_insert_default().push(running);
    }

    /// Releases the size of an event that leaves the queue.
    pub(crate) fn release(&mut self, inbound: &Inbound) {
        self.waiting_bytes -= cost(inbound);
    }

    /// Drops pending connect decisions, which are no longer needed.
    pub(super) fn drop_admissions(&mut self) {
        let Some(running) = self.running.as_deref_mut() else { return };
        if !running.iter().any(Running::is_admission) {
            return;
        }
        let kept = std::mem::take(running).into_iter().filter_map(|running| {
            if !running.is_admission() {
                return Some(running);
            }
            // Dropping a future runs application code.
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

    /// Returns whether running handlers exceed the event handlers, which are limited.
    ///
    /// The remainder are connect and disconnect handlers, which are not queued.
    pub(crate) fn is_crowded(&self, max_handlers: usize) -> bool {
        self.running_count() >= max_handlers.saturating_mul(2)
    }

    /// Returns whether no handler is running and no event is queued.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting_bytes == 0 && self.running.is_none()
    }

    /// Returns whether reading from the client should pause.
    #[inline]
    pub(crate) fn is_behind(&self, max_handlers: usize, max_event_bytes: usize) -> bool {
        self.waiting_bytes > max_event_bytes || self.running.is_some() && self.is_crowded(max_handlers)
    }

    pub(super) fn running_count(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.len())
    }
}
