//! Flush lists and flushers of each runtime

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use roomcast_core::{DeferredWakes, FlushList, WriteStats};
use roomcast_runtime::flush;
use tokio::runtime::{Handle, Id};
use tokio::task::coop::unconstrained;

/// Flush lists of each runtime that carries sessions.
///
/// A runtime has as many flushers as workers: one task writes each list, so this is the number of threads that can
/// write at once.
#[derive(Default)]
pub(crate) struct Flushers(DashMap<Id, Arc<Lists>>);

struct Lists {
    lists: Box<[FlushList]>,
    next: AtomicUsize,
}

impl Flushers {
    /// Returns a flush list of the current runtime, round-robin; starts the flushers on first use.
    pub(crate) fn list(&self) -> FlushList {
        let handle = Handle::current();
        let known = self.0.get(&handle.id()).map(|lists| lists.value().clone());
        let lists = known.unwrap_or_else(|| self.start(&handle));
        let turn = lists.next.fetch_add(1, Ordering::Relaxed);
        lists.lists[turn % lists.lists.len()].clone()
    }

    /// Defers wake-ups of other threads to the flusher of the current thread.
    ///
    /// Keep the guard for as long as the thread only drives its own runtime.
    pub(crate) fn defer_wakes(&self) -> DeferredWakes {
        DeferredWakes::enter(&self.list())
    }

    /// Returns every list with its key.
    pub(crate) fn each(&self) -> Vec<((Id, usize), FlushList)> {
        let each = |runtime: Id, lists: &Lists| {
            lists
                .lists
                .iter()
                .cloned()
                .enumerate()
                .map(move |(at, list)| ((runtime, at), list))
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(|entry| each(*entry.key(), entry.value())).collect()
    }

    /// Returns the totals written by all lists.
    pub(crate) fn written(&self) -> WriteStats {
        let mut written = WriteStats::default();
        self.each().iter().for_each(|(_, list)| written += list.written());
        written
    }

    fn start(&self, handle: &Handle) -> Arc<Lists> {
        let lists = self.0.entry(handle.id()).or_insert_with(|| {
            let lists: Box<[_]> = (0..handle.metrics().num_workers()).map(|_| FlushList::new()).collect();
            for list in &lists {
                handle.spawn(unconstrained(flush(list.clone())));
            }
            Arc::new(Lists { lists, next: AtomicUsize::new(0) })
        });
        lists.value().clone()
    }
}
