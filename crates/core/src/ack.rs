//! Answers that a socket still owes

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::sync::{Mutex, lock};
use crate::{AckId, AckRequest, AnswerSink, Args, SocketId};

/// The answers that one socket still owes, by the id of the event
///
/// An answer is registered *before* the event is pushed to the outbox, so however fast the client is, its answer
/// finds the entry. Cloning gives another handle to the same table; an unused one allocates nothing but itself.
#[derive(Clone, Default)]
pub struct AckTable(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    // Costs three words while nothing is owed, which is nearly always. Weak: whoever no longer waits (a timeout,
    // a dropped future) needs not be found in every table to be forgotten.
    pending: BTreeMap<AckId, Weak<dyn AnswerSink>>,
    limit: Option<usize>,
    closed: bool,
}

impl AckTable {
    /// A table that holds at most this many answers
    pub fn with_limit(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Table { limit: Some(limit), ..Table::default() })))
    }

    /// Enters a wish for an answer of `socket`; `false` if it is gone or owes too many already
    ///
    /// If so, and whenever the event does not leave after all, the caller says [`AnswerSink::gone`], under no lock.
    pub fn register(&self, socket: &SocketId, request: &AckRequest) -> bool {
        // Noted before it can be answered, and whatever comes of it.
        request.answers.asked(socket);
        let mut table = lock(&self.0);
        if table.closed {
            return false;
        }
        let limit = table.limit.unwrap_or(usize::MAX);
        let owed = table.pending.len();
        if owed >= limit || owed >= SWEEP_FROM && owed.is_power_of_two() {
            table.pending.retain(|_, sink| sink.strong_count() > 0);
        }
        if table.pending.len() >= limit {
            return false;
        }
        table.pending.insert(request.id, Arc::downgrade(&request.answers));
        true
    }

    /// Takes a wish back: it timed out, or the event was never sent
    pub fn withdraw(&self, id: AckId) -> bool {
        lock(&self.0).pending.remove(&id).is_some()
    }

    /// Hands an answer to whoever waits for it; `false` if nobody does
    pub fn answer(&self, socket: &SocketId, id: AckId, args: Args) -> bool {
        let sink = lock(&self.0).pending.remove(&id);
        match sink.and_then(|sink| sink.upgrade()) {
            Some(sink) => {
                sink.answered(socket, args);
                true
            }
            None => false,
        }
    }

    /// The socket is gone: tells everybody who waits, and takes in nothing more
    pub fn close(&self, socket: &SocketId) {
        let pending = {
            let mut table = lock(&self.0);
            table.closed = true;
            std::mem::take(&mut table.pending)
        };
        for sink in pending.into_values().filter_map(|sink| sink.upgrade()) {
            sink.gone(socket);
        }
    }

    /// Whether the socket is gone
    pub fn is_closed(&self) -> bool {
        lock(&self.0).closed
    }

    /// How many answers are owed, those that nobody waits for any more included
    pub fn len(&self) -> usize {
        lock(&self.0).pending.len()
    }

    /// Whether no answer is owed
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// From this many on, the table is swept each time it has doubled
const SWEEP_FROM: usize = 8;

impl fmt::Debug for AckTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckTable").field("pending", &self.len()).finish()
    }
}
