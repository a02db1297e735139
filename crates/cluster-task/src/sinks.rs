//! Acknowledgements that other nodes have requested.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use roomcast_core::{AnswerSink, Args, SocketId};

/// Answer of a recipient; without arguments if it will not answer.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "tasks take it apart")]
pub struct SinkAnswer {
    /// Number of the request in its [`AckSinks`].
    pub sink: u64,
    /// Recipient.
    pub socket: SocketId,
    /// Arguments.
    pub args: Option<Args>,
}

/// Broadcasts of other nodes whose recipients have not all answered.
///
/// Recipients hold their sink weakly, so it is withdrawn when all have answered, and at the deadline.
#[derive(Debug, Default)]
pub struct AckSinks {
    sinks: HashMap<u64, Held>,
    deadlines: BTreeSet<(Instant, u64)>,
    last: u64,
}

#[derive(Debug)]
struct Held {
    _sink: Arc<AckSink>,
    deadline: Instant,
    unanswered: usize,
}

/// Sink of the acknowledgements that another node requested.
struct AckSink {
    number: u64,
    recipients: AtomicUsize,
    pass: Box<dyn Fn(SinkAnswer) + Send + Sync>,
}

impl AckSinks {
    /// Returns the number of broadcasts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sinks.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Calls `deliver` with a sink, and returns the number of recipients that it announced; `None` if it failed.
    ///
    /// `pass` is called for each answer, on any thread. It passes the answer to the task, which calls
    /// [`settle`](Self::settle) with its number.
    pub fn deliver(
        &mut self,
        deadline: Instant,
        pass: impl Fn(SinkAnswer) + Send + Sync + 'static,
        deliver: impl FnOnce(Arc<dyn AnswerSink>) -> Option<()>,
    ) -> Option<usize> {
        self.last += 1;
        let number = self.last;
        let sink = Arc::new(AckSink { number, recipients: AtomicUsize::new(0), pass: Box::new(pass) });
        deliver(sink.clone())?;
        let recipients = sink.recipients.load(Ordering::Relaxed);
        if recipients > 0 {
            self.sinks.insert(number, Held { _sink: sink, deadline, unanswered: recipients });
            self.deadlines.insert((deadline, number));
        }
        Some(recipients)
    }

    /// Records an answer; the sink is dropped with the last one.
    pub fn settle(&mut self, number: u64) {
        let Some(held) = self.sinks.get_mut(&number) else { return };
        held.unanswered = held.unanswered.saturating_sub(1);
        if held.unanswered == 0 {
            let deadline = held.deadline;
            self.sinks.remove(&number);
            self.deadlines.remove(&(deadline, number));
        }
    }

    /// Returns the first deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Withdraws requests whose deadline has passed.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, number)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_first();
            self.sinks.remove(&number);
        }
    }
}

impl AnswerSink for AckSink {
    fn requested(&self, _: &SocketId) {
        self.recipients.fetch_add(1, Ordering::Relaxed);
    }

    fn answered(&self, socket: &SocketId, args: Args) {
        (self.pass)(SinkAnswer { sink: self.number, socket: socket.clone(), args: Some(args) });
    }

    fn unanswered(&self, socket: &SocketId) {
        (self.pass)(SinkAnswer { sink: self.number, socket: socket.clone(), args: None });
    }
}

impl fmt::Debug for AckSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckSink").field("number", &self.number).finish_non_exhaustive()
    }
}
