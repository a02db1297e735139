//! Collection of acks for one event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::{AnswerSink, Args, SocketId};

/// Outcome of an emit with acks to several sockets.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Answers {
    /// Answers by socket, in order of arrival.
    pub answers: Vec<(SocketId, Args)>,
    /// Sockets that did not answer before the timeout.
    pub missing: Vec<SocketId>,
    /// Sockets that disconnected, or whose protocol has no acks.
    pub gone: Vec<SocketId>,
}

impl Answers {
    /// Returns whether all recipients answered.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.gone.is_empty()
    }
}

/// Collects the answers to one event and wakes the waiting emitter when the last recipient answers or disconnects.
pub(crate) struct Collector {
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    /// Number of pending sockets by id; sockets of different namespaces may share an id.
    waiting: HashMap<SocketId, usize>,
    answers: Vec<(SocketId, Args)>,
    gone: Vec<SocketId>,
    all_asked: bool,
    waker: Option<Waker>,
}

impl Collector {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { collected: Mutex::default() })
    }

    /// Completes when all recipients have answered or disconnected; no recipient may be added afterwards.
    pub(crate) async fn wait(&self) {
        self.lock().all_asked = true;
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    /// Takes the answers received so far.
    pub(crate) fn take(&self) -> Answers {
        let mut collected = self.lock();
        Answers {
            answers: std::mem::take(&mut collected.answers),
            missing: collected.waiting.drain().flat_map(|(id, times)| vec![id; times]).collect(),
            gone: std::mem::take(&mut collected.gone),
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut collected = self.lock();
        if collected.is_complete() {
            return Poll::Ready(());
        }
        collected.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn record(&self, socket: &SocketId, record: impl FnOnce(&mut Collected)) {
        let waker = {
            let mut collected = self.lock();
            collected.no_longer_waits(socket);
            record(&mut collected);
            if collected.is_complete() { collected.waker.take() } else { None }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    fn is_complete(&self) -> bool {
        self.all_asked && self.waiting.is_empty()
    }

    fn no_longer_waits(&mut self, socket: &SocketId) {
        if let Some(times) = self.waiting.get_mut(socket) {
            *times -= 1;
            if *times == 0 {
                self.waiting.remove(socket);
            }
        }
    }
}

impl AnswerSink for Collector {
    fn requested(&self, socket: &SocketId) {
        *self.lock().waiting.entry(socket.clone()).or_default() += 1;
    }

    fn answered(&self, socket: &SocketId, args: Args) {
        self.record(socket, |collected| collected.answers.push((socket.clone(), args)));
    }

    fn unanswered(&self, socket: &SocketId) {
        self.record(socket, |collected| collected.gone.push(socket.clone()));
    }
}
