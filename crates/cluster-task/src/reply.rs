//! Answers on their way from the task to the future that waits for them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use roomcast_core::QueryError;

/// Nodes that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "tasks build it and take it apart")]
pub struct Missing {
    /// Number of nodes; `None` if it is not known.
    pub number: Option<usize>,
    /// Their names, where known.
    pub names: Vec<String>,
}

impl Missing {
    /// Nodes that are all known by name.
    #[must_use]
    pub fn named(names: Vec<String>) -> Self {
        Self { number: Some(names.len()), names }
    }

    /// Returns the answers, or an error if nodes are missing.
    ///
    /// # Errors
    /// Returns an error with the answers, unless it is known that no node is missing.
    pub fn result<T>(self, answers: Vec<T>) -> Result<Vec<T>, QueryError<T>> {
        match self.number {
            Some(0) => Ok(answers),
            missing => Err(QueryError { missing, nodes: self.names, partial: answers }),
        }
    }
}

/// Other nodes, as far as the task knows them.
pub trait Members: Send + Sync {
    /// Returns the nodes that do not answer a request that was not sent, or whose end is unknown.
    fn all_missing(&self) -> Missing;
}

/// Part of an answer.
pub trait Part: Send {
    /// Returns its bytes in memory, approximately.
    fn byte_len(&self) -> usize;
}

impl Part for Bytes {
    fn byte_len(&self) -> usize {
        self.len()
    }
}

/// Bytes of answers that were not read yet, of all requests.
#[derive(Debug)]
pub struct AnswerMemory {
    bytes: AtomicUsize,
    limit: usize,
    dropped: AtomicU64,
}

impl AnswerMemory {
    /// Creates a ledger with a limit.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), limit, dropped: AtomicU64::new(0) }
    }

    /// Returns the bytes of unread answers.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of parts that were dropped at the limit.
    pub fn dropped(&self) -> u64 {
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

struct State<P> {
    /// Parts and their bytes.
    parts: VecDeque<(P, usize)>,
    /// Nodes of which a part was dropped at the limit of memory.
    incomplete: Vec<String>,
    /// Parts of unknown nodes that were dropped there.
    incomplete_unnamed: usize,
    /// Nodes that did not answer; present at the end.
    done: Option<Missing>,
    waker: Option<Waker>,
}

/// End of the task; the request ends when it is dropped.
pub struct ReplySender<P> {
    state: Arc<Mutex<State<P>>>,
    memory: Arc<AnswerMemory>,
    members: Arc<dyn Members>,
    key: u64,
}

/// End of the waiting future; closed when it is dropped.
pub struct ReplyReceiver<P> {
    state: Arc<Mutex<State<P>>>,
    memory: Arc<AnswerMemory>,
}

/// Creates both ends of a request's answers; `key` is its number.
pub fn channel<P: Part>(
    key: u64,
    memory: &Arc<AnswerMemory>,
    members: Arc<dyn Members>,
) -> (ReplySender<P>, ReplyReceiver<P>) {
    let state = State {
        parts: VecDeque::new(),
        incomplete: Vec::new(),
        incomplete_unnamed: 0,
        done: None,
        waker: None,
    };
    let state = Arc::new(Mutex::new(state));
    let sender = ReplySender { state: state.clone(), memory: memory.clone(), members, key };
    (sender, ReplyReceiver { state, memory: memory.clone() })
}

impl<P: Part> ReplySender<P> {
    /// Returns the number of the request.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Passes a part of the answer of a node, which may not be known by name.
    pub fn part(&self, node: Option<&dyn fmt::Display>, part: P) {
        let mut state = lock(&self.state);
        // The future may be gone.
        if state.done.is_some() {
            return;
        }
        let bytes = part.byte_len();
        if self.memory.take(bytes) {
            state.parts.push_back((part, bytes));
            return wake(state);
        }
        let Some(node) = node.map(ToString::to_string) else { return state.incomplete_unnamed += 1 };
        if !state.incomplete.contains(&node) {
            state.incomplete.push(node);
        }
    }

    /// Ends the request, unless it has ended.
    pub fn done(self, missing: Missing) {
        finish(&self.state, missing);
    }
}

fn finish<P>(state: &Mutex<State<P>>, mut missing: Missing) {
    let mut state = lock(state);
    if state.done.is_some() {
        return;
    }
    missing.number = missing.number.map(|number| number + state.incomplete_unnamed);
    for node in std::mem::take(&mut state.incomplete) {
        if !missing.names.contains(&node) {
            missing.number = missing.number.map(|number| number + 1);
            missing.names.push(node);
        }
    }
    state.done = Some(missing);
    wake(state);
}

impl<P> Drop for ReplySender<P> {
    fn drop(&mut self) {
        let is_done = lock(&self.state).done.is_some();
        if !is_done {
            finish(&self.state, self.members.all_missing());
        }
    }
}

impl<P> ReplyReceiver<P> {
    /// Completes with the next part, or at the end with the nodes that did not answer.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Result<P, Missing>> {
        let mut state = lock(&self.state);
        if let Some((part, bytes)) = state.parts.pop_front() {
            self.memory.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Poll::Ready(Ok(part));
        }
        if let Some(missing) = &state.done {
            return Poll::Ready(Err(missing.clone()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Drops all parts and rejects further ones; returns whether the request had not ended.
    pub fn close(&self) -> bool {
        let mut state = lock(&self.state);
        let unread: usize = state.parts.drain(..).map(|(_, bytes)| bytes).sum();
        self.memory.bytes.fetch_sub(unread, Ordering::Relaxed);
        let was_open = state.done.is_none();
        state.done.get_or_insert_with(|| Missing::named(Vec::new()));
        was_open
    }
}

impl<P> fmt::Debug for ReplySender<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplySender").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<P> fmt::Debug for ReplyReceiver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyReceiver").finish_non_exhaustive()
    }
}

fn wake<P>(mut state: MutexGuard<'_, State<P>>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn lock<P>(state: &Mutex<State<P>>) -> MutexGuard<'_, State<P>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unknown;

    impl Members for Unknown {
        fn all_missing(&self) -> Missing {
            Missing { number: None, names: Vec::new() }
        }
    }

    #[test]
    fn unread_answers_are_bounded() {
        let memory = Arc::new(AnswerMemory::new(100));
        let pair = |key| channel::<Bytes>(key, &memory, Arc::new(Unknown));
        let (sender, receiver) = pair(1);
        let (other, unread) = pair(2);
        let part = || Bytes::from_static(&[0; 60]);
        let next = |receiver: &ReplyReceiver<Bytes>| receiver.poll_next(&Context::from_waker(Waker::noop()));
        other.part(Some(&"one"), part());
        sender.part(Some(&"one"), part());
        assert_eq!((memory.bytes(), memory.dropped()), (60, 1));
        // Reading frees the memory; so does dropping.
        assert!(unread.close());
        other.part(Some(&"one"), part());
        assert_eq!(memory.bytes(), 0);
        sender.part(Some(&"two"), part());
        assert!(matches!(next(&receiver), Poll::Ready(Ok(_))));
        assert!(next(&receiver).is_pending());
        sender.done(Missing::named(vec!["three".to_owned()]));
        let Poll::Ready(Err(missing)) = next(&receiver) else { panic!("the request has ended") };
        assert_eq!((missing.number, missing.names), (Some(2), vec!["three".to_owned(), "one".to_owned()]));
        assert!(!receiver.close());
        drop(other);
        let (sender, receiver) = pair(3);
        drop(sender);
        assert!(matches!(next(&receiver), Poll::Ready(Err(Missing { number: None, .. }))));
    }
}
