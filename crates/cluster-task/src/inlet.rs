//! Queue of inputs from other threads to the task of a connection.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::PublishRefusal;

/// Queue of inputs, bounded by bytes.
///
/// A single queue: publications of one thread to any rooms stay in order among each other, and among changes of rooms.
pub struct Inlet<I> {
    state: Mutex<State<I>>,
    /// Bytes of the queued inputs.
    bytes: AtomicUsize,
    /// Bytes of the task's queue towards the engine.
    node_bytes: AtomicUsize,
    limit: usize,
    refused: AtomicU64,
}

struct State<I> {
    /// Inputs and their bytes.
    inputs: VecDeque<(I, usize)>,
    waker: Option<Waker>,
    has_left: bool,
    has_ended: bool,
}

impl<I> Inlet<I> {
    /// Creates an empty queue for a number of bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                inputs: VecDeque::new(),
                waker: None,
                has_left: false,
                has_ended: false,
            }),
            bytes: AtomicUsize::new(0),
            node_bytes: AtomicUsize::new(0),
            limit,
            refused: AtomicU64::new(0),
        }
    }

    /// Appends an input that counts `bytes` against the limit, unless they exceed it.
    ///
    /// # Errors
    /// Returns the reason of a refusal, which is counted.
    pub fn push(&self, input: I, bytes: usize) -> Result<(), PublishRefusal> {
        self.push_with(bytes, |_| Some(input))
    }

    /// Counts an input as [`push`](Self::push) does, and adds it to the last one that was not taken, or appends it.
    ///
    /// `add` is called with the last input under the lock; it returns `None` if it has added to that one, or the input
    /// to append.
    ///
    /// # Errors
    /// Returns the reason of a refusal, which is counted.
    pub fn push_with(
        &self,
        bytes: usize,
        add: impl FnOnce(Option<&mut I>) -> Option<I>,
    ) -> Result<(), PublishRefusal> {
        let pushed =
            if self.reserve(bytes) { self.append(bytes, add) } else { Err(PublishRefusal::QueueFull) };
        if pushed.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Appends an input that is not refused for lack of space; returns `false` if the task has ended.
    ///
    /// For inputs that concern what exists here: rooms, namespaces and waiting futures bound their number, and the task
    /// handles them whether or not the engine responds.
    pub fn push_unbounded(&self, input: I) -> bool {
        let mut state = self.lock();
        if state.has_ended {
            return false;
        }
        state.inputs.push_back((input, 0));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Refuses publications and requests from now on, and appends the farewell behind the earlier ones.
    pub fn leave(&self, farewell: I) {
        self.lock().has_left = true;
        self.push_unbounded(farewell);
    }

    /// Drops all inputs, and refuses further ones.
    pub fn end(&self) {
        let mut state = self.lock();
        (state.has_left, state.has_ended) = (true, true);
        let inputs = std::mem::take(&mut state.inputs);
        drop(state);
        let bytes: usize = inputs.iter().map(|(_, bytes)| bytes).sum();
        self.settle(bytes, 0);
    }

    /// Takes all inputs; registers the waker if there are none.
    pub fn poll_inputs(&self, cx: &Context<'_>, inputs: &mut VecDeque<(I, usize)>) -> Poll<()> {
        let mut state = self.lock();
        if state.inputs.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut state.inputs, inputs);
        Poll::Ready(())
    }

    /// Returns whether as many bytes could be queued in addition.
    pub fn has_room(&self, bytes: usize) -> bool {
        let queued = self.bytes.load(Ordering::Relaxed) + self.node_bytes.load(Ordering::Relaxed);
        queued.saturating_add(bytes) <= self.limit
    }

    /// Counts bytes against the limit, unless they exceed it; [`settle`](Self::settle) follows.
    pub fn reserve(&self, bytes: usize) -> bool {
        // Pairs with `settle`: bytes are subtracted after they were added to the task's queue.
        let queued = self.bytes.fetch_add(bytes, Ordering::Acquire) + self.node_bytes.load(Ordering::Relaxed);
        let fits = queued.saturating_add(bytes) <= self.limit;
        if !fits {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// Moves reserved bytes to the node's queue, which has now `node_bytes`.
    ///
    /// The sum of both numbers is never less than the queued bytes, so the node has room for each accepted input.
    pub fn settle(&self, bytes: usize, node_bytes: usize) {
        self.node_bytes.store(node_bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Release);
    }

    /// Returns the bytes of the queued inputs.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of publications, requests and answers that were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a refusal that was decided elsewhere.
    pub fn count_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn append(
        &self,
        bytes: usize,
        add: impl FnOnce(Option<&mut I>) -> Option<I>,
    ) -> Result<(), PublishRefusal> {
        let mut state = self.lock();
        if state.has_left {
            drop(state);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(PublishRefusal::Left);
        }
        let mut last = state.inputs.back_mut();
        match add(last.as_mut().map(|(input, _)| input)) {
            Some(input) => state.inputs.push_back((input, bytes)),
            None => last.into_iter().for_each(|(_, sum)| *sum += bytes),
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I> fmt::Debug for Inlet<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet")
            .field("bytes", &self.bytes())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn inputs_are_added_to_last() {
        let inlet = Inlet::new(10);
        let add = |number: u32, max: usize| {
            inlet.push_with(4, move |last: Option<&mut Vec<u32>>| match last {
                Some(last) if last.len() < max => {
                    last.push(number);
                    None
                }
                _ => Some(vec![number]),
            })
        };
        assert_eq!((add(1, 2), add(2, 2)), (Ok(()), Ok(())));
        assert_eq!(add(3, 2), Err(PublishRefusal::QueueFull));
        assert_eq!((inlet.refused(), inlet.bytes()), (1, 8));
        let mut inputs = VecDeque::new();
        let mut take = || {
            let cx = Context::from_waker(Waker::noop());
            inlet.poll_inputs(&cx, &mut inputs).is_ready().then(|| inputs.drain(..).collect::<Vec<_>>())
        };
        assert_eq!(take(), Some(vec![(vec![1, 2], 8)]));
        inlet.settle(8, 0);
        // Inputs that were taken are not changed any more.
        assert_eq!((add(4, 1), add(5, 1)), (Ok(()), Ok(())));
        assert_eq!(take(), Some(vec![(vec![4], 4), (vec![5], 4)]));
        assert_eq!(take(), None);
    }
}
