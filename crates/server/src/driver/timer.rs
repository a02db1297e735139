//! Timer of a session's driver task

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use crate::host::timers::{TimerKey, TimerQueue, Timers};

/// Timer of a driver, armed for the earliest deadline of its session.
#[derive(Default)]
pub(super) struct Timer {
    queue: Option<Arc<TimerQueue>>,
    /// Entry of the queue, if one was made; it is gone once it has woken the task.
    key: Option<TimerKey>,
}

impl Timer {
    /// Returns whether the deadline has passed; wakes the task when it does.
    ///
    /// A deadline that moves back leaves the timer to fire early: that is rarer than moving it each time.
    pub(super) fn poll(
        &mut self,
        deadline: Option<Instant>,
        timers: &Timers,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= now {
            return true;
        }
        let queue = self.queue.get_or_insert_with(|| timers.queue());
        if let Some(key) = self.key {
            if queue.is_pending(key, deadline, now) {
                return false;
            }
            queue.remove(key);
        }
        self.key = Some(queue.insert(deadline, cx.waker().clone()));
        false
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let (Some(queue), Some(key)) = (&self.queue, self.key) {
            queue.remove(key);
        }
    }
}
