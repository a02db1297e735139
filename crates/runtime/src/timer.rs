//! Timer of a driver.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use tokio::time::Sleep;

/// Timer armed for the earliest deadline of a driver.
#[derive(Debug, Default)]
pub(crate) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Returns whether the deadline has passed; wakes the task when it does.
    pub(crate) fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= now {
            return true;
        }
        let until = tokio::time::Instant::from_std(deadline);
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.is_elapsed() || sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            // The deadline lies between two ticks of the timer: poll again at once.
            cx.waker().wake_by_ref();
        }
        false
    }
}
