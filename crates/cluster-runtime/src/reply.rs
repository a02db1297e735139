//! Answers on their way from the task to the future that waits for them.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::inlet::Input;
use crate::shared::{Shared, count};

#[derive(Default)]
struct State {
    parts: VecDeque<Bytes>,
    /// Nodes of which a part was dropped at the limit of memory.
    incomplete: Vec<String>,
    /// Nodes that did not answer; present at the end.
    done: Option<Missing>,
    waker: Option<Waker>,
}

/// Nodes that did not answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Missing {
    pub(crate) number: usize,
    pub(crate) names: Vec<String>,
}

impl Missing {
    pub(crate) fn named(names: Vec<String>) -> Self {
        Self { number: names.len(), names }
    }

    /// The request was not sent, or its end is unknown.
    pub(crate) fn all(shared: &Shared) -> Self {
        let names = shared.peer_names();
        Self { number: names.len().max(1), names }
    }
}

/// End of the task; the request ends when it is dropped.
pub(crate) struct ReplySender {
    state: Arc<Mutex<State>>,
    shared: Arc<Shared>,
    key: u64,
}

/// End of the waiting future; dropping it withdraws the request.
pub(crate) struct Replies {
    state: Arc<Mutex<State>>,
    shared: Arc<Shared>,
    key: u64,
}

/// Creates both ends of a request's answers.
pub(crate) fn channel(shared: &Arc<Shared>) -> (ReplySender, Replies) {
    let state = Arc::<Mutex<State>>::default();
    let key = shared.next_key();
    let sender = ReplySender { state: state.clone(), shared: shared.clone(), key };
    (sender, Replies { state, shared: shared.clone(), key })
}

impl ReplySender {
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// Passes a part of the answer of a node.
    pub(crate) fn part(&self, node: impl fmt::Display, part: Bytes) {
        let (len, shared) = (part.len(), &self.shared);
        let queued = shared.answer_bytes.fetch_add(len, Ordering::Relaxed);
        if queued + len > shared.limits.answer_bytes {
            shared.answer_bytes.fetch_sub(len, Ordering::Relaxed);
            count(&shared.counters.answers_dropped);
            let node = node.to_string();
            let incomplete = &mut lock(&self.state).incomplete;
            if !incomplete.contains(&node) {
                incomplete.push(node);
            }
            return;
        }
        let mut state = lock(&self.state);
        if state.done.is_some() {
            // The future was dropped.
            shared.answer_bytes.fetch_sub(len, Ordering::Relaxed);
            return;
        }
        state.parts.push_back(part);
        wake(state);
    }

    pub(crate) fn done(self, missing: Missing) {
        self.finish(missing);
    }

    fn finish(&self, mut missing: Missing) {
        let mut state = lock(&self.state);
        if state.done.is_some() {
            return;
        }
        for node in std::mem::take(&mut state.incomplete) {
            if !missing.names.contains(&node) {
                missing.number += 1;
                missing.names.push(node);
            }
        }
        state.done = Some(missing);
        wake(state);
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        if lock(&self.state).done.is_none() {
            self.finish(Missing::all(&self.shared));
        }
    }
}

impl Replies {
    /// Returns the next part, or at the end the nodes that did not answer.
    pub(crate) async fn next(&self) -> Result<Bytes, Missing> {
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if let Some(part) = state.parts.pop_front() {
                self.shared.answer_bytes.fetch_sub(part.len(), Ordering::Relaxed);
                return Poll::Ready(Ok(part));
            }
            if let Some(missing) = &state.done {
                return Poll::Ready(Err(missing.clone()));
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let unread: usize = state.parts.drain(..).map(|part| part.len()).sum();
        let is_done = state.done.is_some();
        // Later parts are not queued for a future that is gone.
        state.done.get_or_insert_default();
        drop(state);
        self.shared.answer_bytes.fetch_sub(unread, Ordering::Relaxed);
        if !is_done {
            self.shared.inlet.push_unbounded(Input::Cancel { key: self.key });
        }
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
