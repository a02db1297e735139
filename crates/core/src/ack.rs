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
#[derive(Clone)]
pub struct AckTable(Arc<Mutex<Table>>);

struct Table {
    // Boxed, since nothing is owed nearly always. Weak: whoever no longer waits (a timeout, a dropped future) needs
    // not be found in every table to be forgotten.
    pending: Option<Box<Pending>>,
    /// None if it is the largest number
    limit: u32,
    /// Wishes since the last sweep, refused ones included; [`CLOSED`] once the socket is gone
    since_sweep: u32,
}

/// In place of a number of wishes, since a flag beside it would cost each socket 16 bytes
const CLOSED: u32 = u32::MAX;

type Pending = BTreeMap<AckId, Weak<dyn AnswerSink>>;

impl AckTable {
    /// A table that holds at most this many answers
    pub fn with_limit(limit: usize) -> Self {
        // That many answers would need more memory than any client is worth.
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Self(Arc::new(Mutex::new(Table { pending: None, limit, since_sweep: 0 })))
    }

    /// Enters a wish for an answer of `socket`; `false` if it is gone or owes too many already
    ///
    /// If so, and whenever the event does not leave after all, the caller says [`AnswerSink::gone`], under no lock.
    pub fn register(&self, socket: &SocketId, request: &AckRequest) -> bool {
        // Noted before it can be answered, and whatever comes of it.
        request.answers.asked(socket);
        let mut table = lock(&self.0);
        if table.is_closed() {
            return false;
        }
        let limit = if table.limit == u32::MAX { usize::MAX } else { table.limit as usize };
        table.since_sweep = (table.since_sweep + 1).min(CLOSED - 1);
        if table.is_worth_sweeping(limit) {
            table.since_sweep = 0;
            if let Some(pending) = &mut table.pending {
                pending.retain(|_, sink| sink.strong_count() > 0);
            }
        }
        if table.owed() >= limit {
            return false;
        }
        table.pending.get_or_insert_default().insert(request.id, Arc::downgrade(&request.answers));
        true
    }

    /// Takes a wish back: it timed out, or the event was never sent
    pub fn withdraw(&self, id: AckId) -> bool {
        lock(&self.0).remove(id).is_some()
    }

    /// Hands an answer to whoever waits for it; `false` if nobody does
    pub fn answer(&self, socket: &SocketId, id: AckId, args: Args) -> bool {
        let sink = lock(&self.0).remove(id);
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
            table.since_sweep = CLOSED;
            table.pending.take().unwrap_or_default()
        };
        for sink in pending.into_values().filter_map(|sink| sink.upgrade()) {
            sink.gone(socket);
        }
    }

    /// Whether the socket is gone
    pub fn is_closed(&self) -> bool {
        lock(&self.0).is_closed()
    }

    /// How many answers are owed, those that nobody waits for any more included
    pub fn len(&self) -> usize {
        lock(&self.0).owed()
    }

    /// Whether no answer is owed
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for AckTable {
    fn default() -> Self {
        Self::with_limit(usize::MAX)
    }
}

impl Table {
    fn is_closed(&self) -> bool {
        self.since_sweep == CLOSED
    }

    fn owed(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.len())
    }

    /// What is empty is kept: who is asked once is asked again
    fn remove(&mut self, id: AckId) -> Option<Weak<dyn AnswerSink>> {
        self.pending.as_mut()?.remove(&id)
    }

    /// Whether enough was asked since the last sweep to pay for another, which costs as much as there are entries
    ///
    /// Sooner at the limit, where an entry that nobody waits for keeps another out; but not each time, or a client
    /// that answers nothing would make every further wish as expensive as its whole table.
    fn is_worth_sweeping(&self, limit: usize) -> bool {
        let owed = self.owed();
        let enough = if owed >= limit { owed / 4 } else { (owed / 2).max(SWEEP_FROM) };
        self.since_sweep as usize > enough
    }
}

/// From about this many on, the table is swept each time it has doubled
const SWEEP_FROM: usize = 8;

impl fmt::Debug for AckTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckTable").field("pending", &self.len()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Waits;

    impl AnswerSink for Waits {
        fn asked(&self, _: &SocketId) {}
        fn answered(&self, _: &SocketId, _: Args) {}
        fn gone(&self, _: &SocketId) {}
    }

    fn ask(table: &AckTable, id: u64) -> (bool, AckRequest) {
        let request = AckRequest { id: AckId(id), answers: Arc::new(Waits) };
        (table.register(&SocketId::new("a"), &request), request)
    }

    #[test]
    fn a_full_table_takes_more_when_nobody_waits_for_what_is_in_it() {
        for limit in [1, 2, 7, 8, 100, 1000] {
            let table = AckTable::with_limit(limit);
            let waiting: Vec<_> = (0..limit as u64).map(|id| ask(&table, id)).collect();
            assert!(waiting.iter().all(|(taken, _)| *taken), "{limit}");
            assert!(!ask(&table, u64::MAX).0, "{limit}");
            drop(waiting);
            // Some may be refused until it is worth looking again.
            let refused = (0..).take_while(|id| !ask(&table, 10_000 + id).0).count();
            assert!(refused <= limit / 4, "{limit}: {refused} were refused");
        }
    }

    #[test]
    fn one_that_was_asked_very_often_is_closed_only_by_its_end() {
        let (table, socket) = (AckTable::default(), SocketId::new("a"));
        for since in [CLOSED - 1, CLOSED - 2] {
            lock(&table.0).since_sweep = since;
            assert!(ask(&table, 2).0 && !table.is_closed());
        }
        table.close(&socket);
        assert!(table.is_closed() && table.is_empty());
        assert!(!ask(&table, 3).0 && table.is_closed());
    }

    #[test]
    fn what_nobody_waits_for_does_not_pile_up() {
        let table = AckTable::default();
        let waiting: Vec<_> = (0..100).map(|id| ask(&table, id)).collect();
        for id in 0..10_000 {
            assert!(ask(&table, 1000 + id).0);
            assert!(table.len() <= 2 * waiting.len() + 2 * SWEEP_FROM, "{}", table.len());
        }
    }

    #[test]
    fn a_client_that_answers_nothing_does_not_make_each_wish_cost_its_whole_table() {
        let table = AckTable::with_limit(1000);
        let waiting: Vec<_> = (0..1000).map(|id| ask(&table, id)).collect();
        let sweeps = (0..10_000).filter(|id| {
            assert!(!ask(&table, 1000 + id).0);
            lock(&table.0).since_sweep == 0
        });
        assert!(sweeps.count() <= 40);
        drop(waiting);
    }
}
