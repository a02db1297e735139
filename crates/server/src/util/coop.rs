//! Giving way to other tasks of the runtime

use std::future::Future;
use std::pin::pin;
use std::task::Context;

/// Wakes the task again when everything else has had its turn, and the runtime has looked for what arrived
///
/// A task that just wakes itself runs again before that, dozens of times: one busy client would keep all others
/// waiting.
pub(crate) fn give_way(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}
