//! Answers, both ways

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::{AckId, AnswerSink, Args, IntoArgs, SocketId};

use crate::app::error::EmitError;
use crate::app::model::socket::Socket;

/// The answer that a client waits for
///
/// A client that asked for none gets none: sending is then harmless and says `false`.
#[derive(Debug)]
#[must_use = "a client may be waiting for this answer"]
pub struct Ack(Option<Asked>);

#[derive(Debug, Clone)]
struct Asked {
    socket: Socket,
    id: AckId,
    /// Whether another handler has answered, where there are several
    answered: Option<Arc<AtomicBool>>,
}

impl Ack {
    pub(crate) fn new(socket: Socket, id: AckId) -> Self {
        Self(Some(Asked { socket, id, answered: None }))
    }

    /// The same answer for another handler; the first one that is sent counts
    pub(crate) fn share(&mut self) -> Self {
        if let Some(asked) = &mut self.0 {
            asked.answered.get_or_insert_default();
        }
        Self(self.0.clone())
    }

    pub(crate) fn unwanted() -> Self {
        Self(None)
    }

    /// Whether the client asked for an answer
    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Answers, with one argument or several; `false` if the client did not ask, or another handler of the same event
    /// has answered already
    ///
    /// # Errors
    /// When the arguments cannot be serialised, the client is gone, or it is of a kind that cannot take such an answer.
    pub fn send(self, args: impl IntoArgs) -> Result<bool, EmitError> {
        let Some(Asked { socket, id, answered }) = self.0 else { return Ok(false) };
        let args = args.into_args()?;
        socket.state().check_attachments(&args)?;
        let is_first = answered.is_none_or(|answered| !answered.swap(true, Ordering::Relaxed));
        if is_first {
            socket.answer(id, &args)?;
        }
        Ok(is_first)
    }
}

/// What came back from one event that asked for answers
#[derive(Debug, Clone, Default)]
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
