//! Answers on their way from the task to the future that waits for them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::peers::Peers;

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
    pub(crate) fn all(peers: &Peers) -> Self {
        let names = peers.names();
        Self { number: names.len().max(1), names }
    }
}

/// Bytes of answers that were not read yet, of all requests.
#[derive(Debug)]
pub(crate) struct AnswerMemory {
    bytes: AtomicUsize,
    limit: usize,
    dropped: AtomicU64,
}

impl AnswerMemory {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit, dropped: AtomicU64::new(0) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of parts that were dropped at the limit.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit;
        if !fits {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }
}

#[derive(Default)]
struct State {
    parts: VecDeque<Bytes>,
    /// Nodes of which a part was dropped at the limit of memory.
    incomplete: Vec<String>,
    /// Nodes that did not answer; present at the end.
    done: Option<Missing>,
    waker: Option<Waker>,
}

/// End of the task; the request ends when it is dropped.
pub(crate) struct ReplySender {
    state: Arc<Mutex<State>>,
    memory: Arc<AnswerMemory>,
    peers: Arc<Peers>,
    key: u64,
}

/// End of the waiting future; closed when it is dropped.
pub(crate) struct ReplyReceiver {
    state: Arc<Mutex<State>>,
    memory: Arc<AnswerMemory>,
}

/// Creates both ends of a request's answers; `key` is its number.
pub(crate) fn channel(
    key: u64,
    memory: &Arc<AnswerMemory>,
    peers: &Arc<Peers>,
) -> (ReplySender, ReplyReceiver) {
    let state = Arc::<Mutex<State>>::default();
    let sender = ReplySender { state: state.clone(), memory: memory.clone(), peers: peers.clone(), key };
    (sender, ReplyReceiver { state, memory: memory.clone() })
}

impl ReplySender {
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// Passes a part of the answer of a node.
    pub(crate) fn part(&self, node: impl fmt::Display, part: Bytes) {
        let mut state = lock(&self.state);
        // The future may be gone.
        if state.done.is_some() {
            return;
        }
        if self.memory.take(part.len()) {
            state.parts.push_back(part);
            return wake(state);
        }
        let node = node.to_string();
        if !state.incomplete.contains(&node) {
            state.incomplete.push(node);
        }
    }

    /// Ends the request, unless it has ended.
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
        let is_done = lock(&self.state).done.is_some();
        if !is_done {
            self.finish(Missing::all(&self.peers));
        }
    }
}

impl ReplyReceiver {
    /// Completes with the next part, or at the end with the nodes that did not answer.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<Bytes, Missing>> {
        let mut state = lock(&self.state);
        if let Some(part) = state.parts.pop_front() {
            self.memory.bytes.fetch_sub(part.len(), Ordering::Relaxed);
            return Poll::Ready(Ok(part));
        }
        if let Some(missing) = &state.done {
            return Poll::Ready(Err(missing.clone()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Drops all parts and rejects further ones; returns whether the request had not ended.
    pub(crate) fn close(&self) -> bool {
        let mut state = lock(&self.state);
        let unread: usize = state.parts.drain(..).map(|part| part.len()).sum();
        self.memory.bytes.fetch_sub(unread, Ordering::Relaxed);
        let was_open = state.done.is_none();
        state.done.get_or_insert_default();
        was_open
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_answers_are_bounded() {
        let (memory, peers) = (Arc::new(AnswerMemory::new(100)), Arc::default());
        let (sender, receiver) = channel(1, &memory, &peers);
        let (other, unread) = channel(2, &memory, &peers);
        let part = || Bytes::from_static(&[0; 60]);
        let next = |receiver: &ReplyReceiver| receiver.poll_next(&Context::from_waker(Waker::noop()));
        other.part("one", part());
        sender.part("one", part());
        assert_eq!((memory.bytes(), memory.dropped()), (60, 1));
        // Reading frees the memory; so does dropping.
        assert!(unread.close());
        other.part("one", part());
        assert_eq!(memory.bytes(), 0);
        sender.part("two", part());
        assert!(matches!(next(&receiver), Poll::Ready(Ok(_))));
        assert!(next(&receiver).is_pending());
        sender.done(Missing::named(vec!["three".to_owned()]));
        let Poll::Ready(Err(missing)) = next(&receiver) else { panic!("the request has ended") };
        assert_eq!((missing.number, missing.names), (2, vec!["three".to_owned(), "one".to_owned()]));
        assert!(!receiver.close());
        drop(other);
        let (sender, receiver) = channel(3, &memory, &peers);
        drop(sender);
        assert!(matches!(next(&receiver), Poll::Ready(Err(Missing { number: 1, .. }))));
    }
}
