//! `Budget`: memory limit of outgoing data, with eviction of clients

mod machine;

use std::cmp::Reverse;
use std::fmt;
use std::sync::{Mutex, Once, OnceLock, TryLockError, Weak};
use std::time::{Duration, Instant};

use roomcast_core::{CloseReason, Outbox, OutboxStatus, memory};

use crate::host::limit::Tally;
use crate::util::clock;

/// Memory budget for all clients, and eviction when it is exhausted.
///
/// Each emit and acknowledgement first checks the [ledger](memory): one load and one comparison. When the budget is
/// exhausted, one thread scans the sessions and evicts clients that do not read until an eighth of the budget is free,
/// so scans are rare. If no client can be evicted the next scan waits for [`PAUSE`].
pub(crate) struct Budget {
    limit: usize,
    source: Source,
    clients: OnceLock<Weak<dyn Clients>>,
    /// Earliest start of the next scan
    next_scan: Mutex<Option<Instant>>,
    announced: Once,
    evicted: Tally,
    refused: Tally,
}

/// Clients that a budget may evict.
pub(crate) trait Clients: Send + Sync {
    /// Returns the outboxes of all clients.
    fn outboxes(&self) -> Vec<Outbox>;

    /// Counts a client that was evicted.
    fn count_evicted(&self);
}

/// The memory budget is exhausted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverBudget {
    pub(crate) held: usize,
    pub(crate) budget: usize,
}

/// Pause after a scan that freed too little
const PAUSE: Duration = Duration::from_millis(10);
/// Smallest default budget
const LEAST: u64 = 64 * 1024 * 1024;

/// Origin of a budget's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Setting,
    Ram,
    Cgroup,
    /// The machine has less than four times [`LEAST`], or its memory is unknown
    Least,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setting => "setting",
            Self::Ram => "ram",
            Self::Cgroup => "cgroup",
            Self::Least => "minimum",
        })
    }
}

impl Budget {
    /// Creates a budget from the setting, or a quarter of the machine's memory.
    pub(crate) fn new(setting: Option<u64>) -> Self {
        let (limit, source) = match setting {
            Some(bytes) => (bytes, Source::Setting),
            None => default_limit(machine::ram(), machine::cgroup_limit()),
        };
        Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            source,
            clients: OnceLock::new(),
            next_scan: Mutex::default(),
            announced: Once::new(),
            evicted: Tally::new(),
            refused: Tally::new(),
        }
    }

    /// Sets the clients that may be evicted; initially none.
    pub(crate) fn guard(&self, clients: Weak<dyn Clients>) {
        // Called once, when the server is built.
        let _ = self.clients.set(clients);
        memory::limit_to(self.limit);
    }

    /// Returns the limit in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Logs the budget on the first call.
    pub(crate) fn announce(&self) {
        self.announced.call_once(|| {
            tracing::info!(
                bytes = self.limit,
                source = %self.source,
                setting = "memory_budget",
                "memory budget for outgoing client data"
            );
        });
    }

    /// Admits an emit if there is memory for it; may evict clients.
    ///
    /// Call it without holding a lock.
    ///
    /// # Errors
    /// Returns an error if the budget is exhausted and no client can be evicted.
    #[inline]
    pub(crate) fn admit(&self) -> Result<(), OverBudget> {
        if memory::in_use() <= self.limit { Ok(()) } else { self.make_room() }
    }

    #[cold]
    #[inline(never)]
    fn make_room(&self) -> Result<(), OverBudget> {
        let mut next_scan = match self.next_scan.try_lock() {
            Ok(next_scan) => next_scan,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread is evicting: wait only if it falls too far behind.
            Err(TryLockError::WouldBlock) => return self.within(self.limit.saturating_add(self.limit / 8)),
        };
        let now = clock::now();
        if memory::in_use() > self.limit && next_scan.is_none_or(|next| next <= now) {
            let goal = self.limit - self.limit / 8;
            self.evict(goal);
            *next_scan = (memory::in_use() > goal).then(|| clock::after(now, PAUSE));
        }
        drop(next_scan);
        self.within(self.limit)
    }

    /// Evicts clients until at most `goal` is held or no candidates remain.
    fn evict(&self, goal: usize) {
        let Some(clients) = self.clients.get().and_then(Weak::upgrade) else { return };
        let outboxes = clients.outboxes();
        let candidates = outboxes.iter().map(|outbox| (outbox.status(), outbox));
        let before = memory::in_use();
        let mut evicted = 0_u64;
        for outbox in in_order(candidates) {
            if memory::in_use() <= goal {
                break;
            }
            // It may have started to read since it was selected.
            if outbox.status().writable {
                continue;
            }
            outbox.evict(CloseReason::SlowConsumer);
            clients.count_evicted();
            evicted += 1;
        }
        if evicted > 0
            && let Some(times) = self.evicted.record()
        {
            tracing::warn!(
                clients = evicted,
                freed = before.saturating_sub(memory::in_use()),
                held = before,
                budget = self.limit,
                times,
                setting = "memory_budget",
                "clients closed: memory budget used up"
            );
        }
    }

    fn within(&self, limit: usize) -> Result<(), OverBudget> {
        let held = memory::in_use();
        if held <= limit {
            return Ok(());
        }
        if let Some(times) = self.refused.record() {
            tracing::warn!(
                held,
                budget = self.limit,
                times,
                setting = "memory_budget",
                "emit failed: memory budget used up and no client to evict"
            );
        }
        Err(OverBudget { held, budget: self.limit })
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Returns candidates for eviction: longest without progress first, then the largest.
///
/// Excludes clients that are taking bytes and clients with empty queues.
fn in_order<T>(all: impl Iterator<Item = (OutboxStatus, T)>) -> impl Iterator<Item = T> {
    let mut candidates: Vec<_> = all.filter(|(status, _)| !status.writable && status.bytes > 0).collect();
    // The counter wraps, but values of concurrent clients are close together.
    let origin = candidates.first().map_or(0, |(status, _)| status.order);
    candidates
        .sort_by_key(|(status, _)| (status.order.wrapping_sub(origin).cast_signed(), Reverse(status.bytes)));
    candidates.into_iter().map(|(_, client)| client)
}

/// Returns a quarter of the smaller value, and its source.
fn default_limit(ram: Option<u64>, cgroup: Option<u64>) -> (u64, Source) {
    let (whole, source) = match (ram, cgroup) {
        (Some(ram), Some(cgroup)) if cgroup < ram => (cgroup, Source::Cgroup),
        (None, Some(cgroup)) => (cgroup, Source::Cgroup),
        (Some(ram), _) => (ram, Source::Ram),
        (None, None) => (0, Source::Least),
    };
    if whole / 4 < LEAST { (LEAST, Source::Least) } else { (whole / 4, source) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocked(order: u32, bytes: usize) -> OutboxStatus {
        OutboxStatus { writable: false, bytes, stalled: true, order }
    }

    fn order_of(standings: &[OutboxStatus]) -> Vec<usize> {
        in_order(standings.iter().copied().zip(0..)).collect()
    }

    #[test]
    fn evicts_longest_stalled_first() {
        let standings = [blocked(7, 1), blocked(3, 10), blocked(5, 1000), blocked(3, 20)];
        assert_eq!(order_of(&standings), [3, 1, 2, 0]);
        // The counter has wrapped since the first of them stalled.
        let standings = [blocked(2, 1), blocked(u32::MAX - 1, 1), blocked(u32::MAX, 1), blocked(1, 1)];
        assert_eq!(order_of(&standings), [1, 2, 3, 0]);
    }

    #[test]
    fn spares_readers_and_empty_outboxes() {
        let reader = OutboxStatus { writable: true, bytes: 1 << 30, stalled: false, order: 0 };
        assert_eq!(order_of(&[reader, blocked(1, 0), blocked(9, 1)]), [2]);
        assert_eq!(order_of(&[reader]), [0; 0]);
    }

    proptest! {
        #[test]
        fn order_is_total_across_wrap(
            first in any::<u32>(),
            ages in prop::collection::vec((0..1_u32 << 30, 1..100_usize), 0..40),
        ) {
            let standings: Vec<_> =
                ages.iter().map(|(age, bytes)| blocked(first.wrapping_add(*age), *bytes)).collect();
            let mut expected: Vec<_> = (0..ages.len()).collect();
            expected.sort_by_key(|at| (ages[*at].0, Reverse(ages[*at].1)));
            prop_assert_eq!(order_of(&standings), expected);
        }
    }

    #[test]
    fn default_is_quarter_of_smaller() {
        const GIB: u64 = 1 << 30;
        for (ram, cgroup, expected) in [
            (Some(8 * GIB), None, (2 * GIB, Source::Ram)),
            (Some(8 * GIB), Some(GIB), (GIB / 4, Source::Cgroup)),
            // Unlimited, in the notation of version 1.
            (Some(8 * GIB), Some(9_223_372_036_854_771_712), (2 * GIB, Source::Ram)),
            (None, Some(GIB), (GIB / 4, Source::Cgroup)),
            (Some(8 * GIB), Some(128 << 20), (LEAST, Source::Least)),
            (Some(200 << 20), None, (LEAST, Source::Least)),
            (None, None, (LEAST, Source::Least)),
        ] {
            assert_eq!(default_limit(ram, cgroup), expected, "{ram:?} {cgroup:?}");
        }
    }

    #[test]
    fn setting_is_taken_literally() {
        let budget = Budget::new(Some(1));
        assert_eq!((budget.limit(), budget.source), (1, Source::Setting));
        assert!(Budget::new(None).limit() as u64 >= LEAST);
    }
}
