//! Timer of a session's driver task

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use tokio::time::Sleep;

/// Timer of a driver, armed for the earliest deadline of its session.
#[derive(Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Returns whether the deadline has passed; wakes the task when it does.
    ///
    /// A deadline that moves back leaves the timer to fire early: that is rarer than moving it each time.
    pub(super) fn poll(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(deadline) = deadline else { return false };
        if deadline <= now {
            return true;
        }
        let until = tokio::time::Instant::from_std(deadline);
        let sleep = match &mut self.0 {
            Some(sleep) => {
                let at = sleep.deadline();
                if !sleep.is_elapsed() && at.into_std() > now && at <= until {
                    return false;
                }
                sleep.as_mut().reset(until);
                sleep
            }
            None => self.0.insert(Box::pin(tokio::time::sleep_until(until))),
        };
        if sleep.as_mut().poll(cx).is_ready() {
            // The deadline is between two timer ticks: poll again at once.
            cx.waker().wake_by_ref();
        }
        false
    }
}
