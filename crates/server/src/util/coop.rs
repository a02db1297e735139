//! Cooperative yield to other tasks of the runtime

use std::future::Future;
use std::pin::pin;
use std::task::Context;

/// Wakes the task after all other ready tasks have run and the runtime has polled I/O.
///
/// A task that wakes itself directly runs again before that, dozens of times: one busy client would starve all others.
pub(crate) fn yield_now(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
