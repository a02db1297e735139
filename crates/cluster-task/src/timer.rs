//! Timer of a task.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Timer of a task.
#[derive(Debug)]
pub struct Timer(Pin<Box<Sleep>>);

impl Timer {
    /// Creates a timer that is not armed.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without time.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::pin(tokio::time::sleep(Duration::ZERO)))
    }

    /// Arms the timer; returns `false` if the deadline has passed.
    pub fn arm(&mut self, deadline: Option<Instant>, now: Instant, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = deadline else { return true };
        if deadline <= now {
            return false;
        }
        let deadline = tokio::time::Instant::from_std(deadline);
        // A turn too early costs less than to move the timer at each turn.
        if self.0.is_elapsed() || self.0.deadline() > deadline {
            self.0.as_mut().reset(deadline);
        }
        self.0.as_mut().poll(cx).is_pending()
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}
