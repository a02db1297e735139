//! Answers of clients to an event that asked for them

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::{AnswerSink, Args, SocketId};

/// What came back from one event that asked for answers
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Answers {
    /// Who answered what, in the order in which the answers came
    pub answers: Vec<(SocketId, Args)>,
    /// Who did not answer in time
    pub missing: Vec<SocketId>,
    /// Who went away, or uses a kind of client that cannot be asked
    pub gone: Vec<SocketId>,
}

impl Answers {
    /// Whether everybody who was asked has answered
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.gone.is_empty()
    }
}

/// Collects the answers to one event; a future that is ready once everybody has answered or is gone
pub(crate) struct Collector {
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    /// How many sockets of each id, since those of different namespaces may have the same
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

    /// Ready once everybody who was asked has answered or is gone; nobody is asked after this
    pub(crate) async fn wait(&self) {
        self.lock().all_asked = true;
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    /// Takes what has come so far
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
    fn asked(&self, socket: &SocketId) {
        *self.lock().waiting.entry(socket.clone()).or_default() += 1;
    }

    fn answered(&self, socket: &SocketId, args: Args) {
        self.record(socket, |collected| collected.answers.push((socket.clone(), args)));
    }

    fn gone(&self, socket: &SocketId) {
        self.record(socket, |collected| collected.gone.push(socket.clone()));
    }
}
