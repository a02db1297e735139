//! Collection of acks for one event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::{AnswerSink, Args, RemoteAnswers, SocketId};

/// Outcome of an emit with acks to several sockets.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answers {
    /// Answers by socket, in order of arrival.
    pub answers: Vec<(SocketId, Args)>,
    /// Sockets on this node that did not answer before the timeout.
    pub missing: Vec<SocketId>,
    /// Sockets that disconnected, or whose protocol has no acks.
    pub gone: Vec<SocketId>,
    /// Answers of sockets on other nodes that were not named; Node servers name none.
    pub anonymous: Vec<Args>,
    /// Number of sockets on other nodes that did not answer before the timeout.
    pub missing_elsewhere: usize,
    /// Number of sockets on other nodes that disconnected, or whose protocol has no acks, and that were not named.
    pub gone_elsewhere: usize,
    /// Number of other nodes that did not report before the timeout how many recipients they have; `None` if it is not
    /// known how many nodes there are.
    pub missing_nodes: Option<usize>,
}

impl Default for Answers {
    /// No answers of no recipients.
    fn default() -> Self {
        Collector::new().take()
    }
}

impl Answers {
    /// Returns whether all recipients answered.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
            && self.gone.is_empty()
            && (self.missing_elsewhere, self.gone_elsewhere, self.missing_nodes) == (0, 0, Some(0))
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
    anonymous: Vec<Args>,
    /// Number of pending recipients on other nodes.
    waiting_elsewhere: usize,
    gone_elsewhere: usize,
    all_asked: bool,
    /// Socket whose first answer is enough.
    awaited: Option<SocketId>,
    waker: Option<Waker>,
}

impl Collector {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { collected: Mutex::default() })
    }

    /// Collects the answer of one socket. Its first answer completes the wait.
    pub(crate) fn of(socket: &SocketId) -> Arc<Self> {
        let collected = Collected { awaited: Some(socket.clone()), ..Collected::default() };
        Arc::new(Self { collected: Mutex::new(collected) })
    }

    /// Allows for further recipients. Earlier ones on this node may still answer.
    pub(crate) fn begin_again(&self) {
        let mut collected = self.lock();
        collected.all_asked = false;
        (collected.waiting_elsewhere, collected.gone_elsewhere) = (0, 0);
        collected.anonymous.clear();
    }

    /// Takes the answer of the awaited socket.
    pub(crate) fn take_answer(&self) -> Option<Args> {
        let mut collected = self.lock();
        let at = collected.answer_at()?;
        Some(collected.answers.swap_remove(at).1)
    }

    /// Takes the answer of a socket on another node that was not named, if it is the only one.
    pub(crate) fn take_anonymous(&self) -> Option<Args> {
        let mut collected = self.lock();
        if collected.anonymous.len() == 1 { collected.anonymous.pop() } else { None }
    }

    /// Returns whether the awaited socket is connected here and has not answered, or one elsewhere.
    pub(crate) fn is_awaited(&self) -> bool {
        let collected = self.lock();
        let is_here = collected.awaited.as_ref().is_some_and(|id| collected.waiting.contains_key(id));
        is_here || collected.waiting_elsewhere > 0
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
            anonymous: std::mem::take(&mut collected.anonymous),
            missing_elsewhere: std::mem::take(&mut collected.waiting_elsewhere),
            gone_elsewhere: std::mem::take(&mut collected.gone_elsewhere),
            missing_nodes: Some(0),
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
        self.all_asked && (self.waiting.is_empty() || self.answer_at().is_some())
    }

    /// Returns the index of the answer of the awaited socket.
    fn answer_at(&self) -> Option<usize> {
        let awaited = self.awaited.as_ref()?;
        self.answers.iter().position(|(id, _)| id == awaited)
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

impl RemoteAnswers for Collector {
    fn requested(&self, recipients: usize) {
        self.lock().waiting_elsewhere += recipients;
    }

    fn answered(&self, socket: Option<SocketId>, args: Args) {
        let mut collected = self.lock();
        collected.waiting_elsewhere = collected.waiting_elsewhere.saturating_sub(1);
        match socket {
            Some(socket) => collected.answers.push((socket, args)),
            None => collected.anonymous.push(args),
        }
    }

    fn unanswered(&self, socket: Option<SocketId>) {
        let mut collected = self.lock();
        collected.waiting_elsewhere = collected.waiting_elsewhere.saturating_sub(1);
        match socket {
            Some(socket) => collected.gone.push(socket),
            None => collected.gone_elsewhere += 1,
        }
    }
}
