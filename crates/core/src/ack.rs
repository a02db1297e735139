//! Pending acknowledgements of a socket.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use crate::sync::{Mutex, lock};
use crate::{AckId, AckRequest, AnswerSink, Args, SocketId};

/// Pending acknowledgements of one socket, by the id of the event.
///
/// An entry is registered *before* the event is pushed to the outbox, so even the fastest answer finds it. Cloning
/// gives another handle to the same table. An unused table allocates nothing but itself.
#[derive(Clone)]
pub struct AckTable(Arc<Mutex<Table>>);

struct Table {
    // Boxed, since it is nearly always empty. Weak: a caller that stops waiting (a timeout, a dropped future) need not
    // remove its entry from every table.
    pending: Option<Box<Pending>>,
    /// `u32::MAX` means no limit.
    limit: u32,
    /// Requests since the last sweep, including refused ones; [`CLOSED`] once the socket has disconnected.
    since_sweep: u32,
}

/// Stored in place of a number of requests: a separate flag would cost each socket 16 bytes.
const CLOSED: u32 = u32::MAX;

type Pending = BTreeMap<AckId, Weak<dyn AnswerSink>>;

impl AckTable {
    /// Creates a table that holds at most `limit` entries.
    pub fn with_limit(limit: usize) -> Self {
        // A limit beyond `u32::MAX` is no limit in practice.
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        Self(Arc::new(Mutex::new(Table { pending: None, limit, since_sweep: 0 })))
    }

    /// Returns a closed table, for members that have none.
    pub fn closed() -> &'static Self {
        static CLOSED_TABLE: OnceLock<AckTable> = OnceLock::new();
        let table = || Table { pending: None, limit: 0, since_sweep: CLOSED };
        CLOSED_TABLE.get_or_init(|| Self(Arc::new(Mutex::new(table()))))
    }

    /// Registers a request to `socket`; returns `false` if the table is closed or full.
    ///
    /// In that case, and if the event is not sent after all, the caller calls [`AnswerSink::unanswered`] under no lock.
    pub fn register(&self, socket: &SocketId, request: &AckRequest) -> bool {
        // Before an answer can arrive, and regardless of the outcome.
        request.answers.requested(socket);
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
        if table.pending_len() >= limit {
            return false;
        }
        table.pending.get_or_insert_default().insert(request.id, Arc::downgrade(&request.answers));
        true
    }

    /// Removes a request that timed out, or whose event was never sent; returns whether it was pending.
    pub fn withdraw(&self, id: AckId) -> bool {
        lock(&self.0).remove(id).is_some()
    }

    /// Passes an answer to the request's sink; returns `false` if the request is no longer pending.
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

    /// Closes the table when its socket disconnects: notifies all sinks, and rejects further requests.
    pub fn close(&self, socket: &SocketId) {
        let pending = {
            let mut table = lock(&self.0);
            table.since_sweep = CLOSED;
            table.pending.take().unwrap_or_default()
        };
        for sink in pending.into_values().filter_map(|sink| sink.upgrade()) {
            sink.unanswered(socket);
        }
    }

    /// Returns whether the table is closed because its socket has disconnected.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).is_closed()
    }

    /// Returns the number of entries, including those whose sink was dropped.
    pub fn len(&self) -> usize {
        lock(&self.0).pending_len()
    }

    /// Returns whether the table is empty.
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

    fn pending_len(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.len())
    }

    /// Keeps an empty map: a socket that received one request usually receives more.
    fn remove(&mut self, id: AckId) -> Option<Weak<dyn AnswerSink>> {
        self.pending.as_mut()?.remove(&id)
    }

    /// Returns whether enough requests came since the last sweep to pay for another, which visits every entry.
    ///
    /// At the limit, where a dead entry blocks a new one, sweeps come sooner. They do not come each time, or a client
    /// that never answers would make every further request cost a sweep of the whole table.
    fn is_worth_sweeping(&self, limit: usize) -> bool {
        let pending_len = self.pending_len();
        let enough = if pending_len >= limit { pending_len / 4 } else { (pending_len / 2).max(SWEEP_FROM) };
        self.since_sweep as usize > enough
    }
}

/// From about this size on, the table is swept each time it has doubled.
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
        fn requested(&self, _: &SocketId) {}
        fn answered(&self, _: &SocketId, _: Args) {}
        fn unanswered(&self, _: &SocketId) {}
    }

    fn ask(table: &AckTable, id: u64) -> (bool, AckRequest) {
        let request = AckRequest { id: AckId(id), answers: Arc::new(Waits) };
        (table.register(&SocketId::new("a"), &request), request)
    }

    #[test]
    fn full_table_reuses_abandoned_entries() {
        for limit in [1, 2, 7, 8, 100, 1000] {
            let table = AckTable::with_limit(limit);
            let waiting: Vec<_> = (0..limit as u64).map(|id| ask(&table, id)).collect();
            assert!(waiting.iter().all(|(taken, _)| *taken), "{limit}");
            assert!(!ask(&table, u64::MAX).0, "{limit}");
            drop(waiting);
            // A few may be refused until the next sweep is due.
            let refused = (0..).take_while(|id| !ask(&table, 10_000 + id).0).count();
            assert!(refused <= limit / 4, "{limit}: {refused} were refused");
        }
    }

    #[test]
    fn request_count_never_marks_table_closed() {
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
    fn abandoned_entries_do_not_accumulate() {
        let table = AckTable::default();
        let waiting: Vec<_> = (0..100).map(|id| ask(&table, id)).collect();
        for id in 0..10_000 {
            assert!(ask(&table, 1000 + id).0);
            assert!(table.len() <= 2 * waiting.len() + 2 * SWEEP_FROM, "{}", table.len());
        }
    }

    #[test]
    fn refused_requests_sweep_table_rarely() {
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
