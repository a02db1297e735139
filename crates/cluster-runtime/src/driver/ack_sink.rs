//! Acknowledgements that other nodes have requested.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use roomcast_cluster::Asker;
use roomcast_core::{AnswerSink, Args, SocketId};

use crate::body::AckPart;
use crate::inlet::Input;
use crate::shared::{ANSWER_FIELDS, Shared};

/// Sink of a broadcast with acknowledgements, held until all have answered or the deadline.
#[derive(Debug)]
pub(super) struct HeldSink {
    /// Recipients hold it weakly.
    _sink: Arc<AckSink>,
    deadline: Instant,
    unanswered: usize,
}

/// Sink of the acknowledgements that another node requested.
pub(super) struct AckSink {
    shared: Arc<Shared>,
    asker: Asker,
    number: u64,
    recipients: AtomicUsize,
}

impl HeldSink {
    /// Holds a sink with a number of recipients, which is not 0.
    pub(super) fn new(sink: Arc<AckSink>, recipients: usize) -> Self {
        let deadline = sink.asker.deadline();
        Self { _sink: sink, deadline, unanswered: recipients }
    }

    /// Records an answer; returns the deadline with the last one.
    pub(super) fn settle(&mut self) -> Option<Instant> {
        self.unanswered = self.unanswered.saturating_sub(1);
        (self.unanswered == 0).then_some(self.deadline)
    }
}

impl AckSink {
    pub(super) fn new(shared: Arc<Shared>, asker: Asker, number: u64) -> Self {
        Self { shared, asker, number, recipients: AtomicUsize::new(0) }
    }

    /// Returns the number of recipients that were announced.
    pub(super) fn recipients(&self) -> usize {
        self.recipients.load(Ordering::Relaxed)
    }

    fn send(&self, part: &AckPart) {
        let part = part.encode();
        let bytes = self.shared.queued_len(part.len() + ANSWER_FIELDS);
        let input = Input::Acknowledge { asker: self.asker, sink: self.number, part };
        // The asking node misses an answer that is refused, and names this node.
        let _ = self.shared.inlet.push(input, bytes);
    }
}

impl AnswerSink for AckSink {
    fn requested(&self, _: &SocketId) {
        self.recipients.fetch_add(1, Ordering::Relaxed);
    }

    fn answered(&self, socket: &SocketId, args: Args) {
        self.send(&AckPart::Answered { socket: Some(socket.clone()), args });
    }

    fn unanswered(&self, socket: &SocketId) {
        self.send(&AckPart::Unanswered { socket: Some(socket.clone()) });
    }
}

impl fmt::Debug for AckSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckSink").field("asker", &self.asker).finish_non_exhaustive()
    }
}
