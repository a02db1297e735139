//! Queue of inputs from other threads to the task of a connection.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use roomcast_cluster::{Asker, ClusterRequest, Publication};
use roomcast_core::{
    ByteString, ClusterHost, Heard, MemberKey, Namespace, PresenceMember, PublishRefusal, Room,
};
use tokio::sync::oneshot;

use crate::reply::ReplySender;

/// Input to the task of a connection.
pub(crate) enum Input {
    Publish(Box<Publication>),
    Open {
        namespace: Namespace,
        host: Weak<dyn ClusterHost>,
    },
    Close {
        namespace: Namespace,
    },
    Created {
        namespace: Namespace,
        room: Room,
    },
    Deleted {
        namespace: Namespace,
        room: Room,
    },
    /// Member of this node in a room with presence.
    Presence {
        namespace: Namespace,
        room: Room,
        news: PresenceNews,
    },
    Heard {
        namespace: Namespace,
        room: Option<Room>,
        reply: oneshot::Sender<Heard>,
    },
    Confirm {
        lost: u64,
        reply: oneshot::Sender<bool>,
    },
    Request {
        request: ClusterRequest,
        reply: ReplySender,
    },
    Cancel {
        key: u64,
    },
    Answer {
        asker: Asker,
        expected: Option<u32>,
        part: Bytes,
    },
    /// A recipient of a broadcast with acknowledgements has answered; `sink` is the number of the request here.
    Acknowledge {
        asker: Asker,
        sink: u64,
        part: Bytes,
    },
    Leave,
    /// The connection was dropped.
    Abandon,
}

/// News of the members of this node in a room with presence.
pub(crate) enum PresenceNews {
    Joined { key: MemberKey, member: PresenceMember },
    DataChanged { key: MemberKey, data: ByteString },
    Left { key: MemberKey, data: Option<ByteString> },
    Refresh,
}

/// Queue of inputs, bounded by bytes.
///
/// A single queue: publications of one thread to any rooms stay in order among each other, and among changes of rooms.
pub(crate) struct Inlet {
    state: Mutex<State>,
    /// Bytes of the queued inputs.
    bytes: AtomicUsize,
    /// Bytes of the node's queue towards the engine.
    node_bytes: AtomicUsize,
    limit: usize,
    refused: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Inputs and their bytes.
    inputs: VecDeque<(Input, usize)>,
    waker: Option<Waker>,
    has_left: bool,
    has_ended: bool,
}

impl Inlet {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            bytes: AtomicUsize::new(0),
            node_bytes: AtomicUsize::new(0),
            limit,
            refused: AtomicU64::new(0),
        }
    }

    /// Appends an input that counts `bytes` against the limit, unless they exceed it.
    pub(crate) fn push(&self, input: Input, bytes: usize) -> Result<(), PublishRefusal> {
        let pushed =
            if self.reserve(bytes) { self.append(input, bytes) } else { Err(PublishRefusal::QueueFull) };
        if pushed.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Appends an input that is not refused for lack of space; returns `false` if the task has ended.
    ///
    /// For inputs that concern what exists here: rooms, namespaces and waiting futures bound their number, and the task
    /// handles them whether or not the engine responds.
    pub(crate) fn push_unbounded(&self, input: Input) -> bool {
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
    pub(crate) fn leave(&self) {
        self.lock().has_left = true;
        self.push_unbounded(Input::Leave);
    }

    /// Drops all inputs, and refuses further ones.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        (state.has_left, state.has_ended) = (true, true);
        let inputs = std::mem::take(&mut state.inputs);
        drop(state);
        let bytes: usize = inputs.iter().map(|(_, bytes)| bytes).sum();
        self.settle(bytes, 0);
    }

    /// Takes all inputs; registers the waker if there are none.
    pub(crate) fn poll_inputs(&self, cx: &Context<'_>, inputs: &mut VecDeque<(Input, usize)>) -> Poll<()> {
        let mut state = self.lock();
        if state.inputs.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut state.inputs, inputs);
        Poll::Ready(())
    }

    /// Returns whether as many bytes could be queued in addition.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let queued = self.bytes.load(Ordering::Relaxed) + self.node_bytes.load(Ordering::Relaxed);
        queued.saturating_add(bytes) <= self.limit
    }

    /// Counts bytes against the limit, unless they exceed it; [`settle`](Self::settle) follows.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        // Pairs with `settle`: subtracted bytes were added to those of the node before.
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
    pub(crate) fn settle(&self, bytes: usize, node_bytes: usize) {
        self.node_bytes.store(node_bytes, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Release);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the number of publications, requests and answers that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn count_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn append(&self, input: Input, bytes: usize) -> Result<(), PublishRefusal> {
        let mut state = self.lock();
        if state.has_left {
            drop(state);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(PublishRefusal::Left);
        }
        state.inputs.push_back((input, bytes));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet")
            .field("bytes", &self.bytes())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
