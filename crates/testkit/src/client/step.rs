//! Expectations that report the caller's location.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Future that panics at the caller's line if the expected message does not arrive.
///
/// Returned by the methods of [`TestClient`](crate::TestClient).
#[must_use = "steps do nothing unless awaited"]
pub struct Step<'a, T> {
    outcome: Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>,
    caller: &'static Location<'static>,
}

impl<'a, T> Step<'a, T> {
    #[track_caller]
    pub(super) fn new(outcome: impl Future<Output = Result<T, String>> + Send + 'a) -> Self {
        Self { outcome: Box::pin(outcome), caller: Location::caller() }
    }
}

impl<T> Future for Step<'_, T> {
    type Output = T;

    // The panic location is the line with the `.await`. If a wrapper such as a timeout polls, the message still names
    // the line that created the future.
    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(self.outcome.as_mut().poll(cx)) {
            Ok(value) => Poll::Ready(value),
            Err(message) => panic!("{message}\n  at {}", self.caller),
        }
    }
}

impl<T> fmt::Debug for Step<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("caller", &self.caller).finish_non_exhaustive()
    }
}
