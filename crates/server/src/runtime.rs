//! The flushers: who writes what waits, on each runtime

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use roomcast_core::{FlushList, Outbox, Relay, Written};
use tokio::runtime::{Handle, Id};
use tokio::task::coop::unconstrained;

/// The flush lists of each runtime that carries sessions
///
/// A runtime gets as many flushers as it has workers: a list is written by one task, so that is how many threads
/// can write at once.
#[derive(Default)]
pub(crate) struct Flushers(DashMap<Id, Arc<Lists>>);

struct Lists {
    lists: Box<[FlushList]>,
    next: AtomicUsize,
}

impl Flushers {
    /// A flush list of the current runtime, in turn; starts its flushers when it is the first
    pub(crate) fn list(&self) -> FlushList {
        let handle = Handle::current();
        let known = self.0.get(&handle.id()).map(|lists| lists.value().clone());
        let lists = known.unwrap_or_else(|| self.start(&handle));
        let turn = lists.next.fetch_add(1, Ordering::Relaxed);
        lists.lists[turn % lists.lists.len()].clone()
    }

    /// Lets the flusher of the current thread wake those of others, once all that is ready to run here has run
    ///
    /// To be kept for as long as the thread does nothing but drive a runtime of its own.
    pub(crate) fn relay(&self) -> Relay {
        self.list().relay()
    }

    /// Every list there is, each with a name of its own
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

    /// What was written on all of them
    pub(crate) fn written(&self) -> Written {
        let mut written = Written::default();
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

/// How many outboxes of one round are written before others have their turn
///
/// Bounds how long a large broadcast keeps everybody else waiting: about a third of a millisecond of writes.
const CHUNK: usize = 128;

/// Writes what waits, for as long as the runtime lives
///
/// When something is listed it yields once, so that everything which is ready to run puts its own frames behind
/// it, and each client then gets all of them in one write. What is listed while a large round is being written
/// makes a round of its own and they take turns, so a broadcast to thousands does not hold up a chat of two. Nor does
/// one that was made just before the chat, in the same turn: of a large round those come first that were listed last.
async fn flush(list: FlushList) {
    let mut rounds: VecDeque<VecDeque<Outbox>> = VecDeque::new();
    // Lists are swapped, not made: a steady state allocates nothing.
    let mut spare: VecDeque<Outbox> = VecDeque::new();
    loop {
        if rounds.is_empty() {
            poll_fn(|cx| list.poll_listed(cx)).await;
        }
        tokio::task::yield_now().await;
        list.wake_held();
        list.take(&mut spare);
        if !spare.is_empty() {
            if spare.len() > CHUNK {
                spare.rotate_right(CHUNK);
            }
            rounds.push_front(std::mem::take(&mut spare));
        }
        for _ in 0..rounds.len() {
            let Some(mut round) = rounds.pop_front() else { break };
            list.record(FlushList::write_some(&mut round, CHUNK));
            if round.is_empty() {
                spare = round;
            } else {
                rounds.push_back(round);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::Context;

    use roomcast_core::{ConnectionError, Delivery, Frame, FrameSink, Overflow, Pushed, Readiness};

    use super::*;

    /// Notes who was written, in which order
    #[derive(Debug)]
    struct Note(usize, Arc<Mutex<Vec<usize>>>);

    impl FrameSink for Note {
        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            batch: &mut VecDeque<Frame>,
        ) -> Result<Readiness, ConnectionError> {
            self.1.lock().unwrap().extend(batch.drain(..).map(|_| self.0));
            Ok(Readiness::Ready)
        }
    }

    #[tokio::test]
    async fn whoever_is_sent_something_just_before_behind_or_during_a_broadcast_waits_for_a_few_chunks_of_it()
    {
        const CROWD: usize = 40 * CHUNK;
        let written = Arc::new(Mutex::new(Vec::new()));
        let list = FlushList::new();
        tokio::spawn(flush(list.clone()));
        let members: Vec<_> = (0..CROWD + 3)
            .map(|number| {
                let outbox = Outbox::new(1 << 10, list.clone());
                outbox.set_sink(Box::new(Note(number, written.clone())));
                outbox
            })
            .collect();
        let push = |number: usize| {
            let pushed = members[number].push(Frame::new("x"), Delivery::Reliable, Overflow::Close);
            assert_eq!(pushed, Pushed::Queued);
        };
        let [before, behind, during] = [CROWD, CROWD + 1, CROWD + 2];
        for _ in 0..3 {
            push(before);
            (0..CROWD).for_each(push);
            push(behind);
            while written.lock().unwrap().len() < 10 * CHUNK {
                tokio::task::yield_now().await;
            }
            let so_far = written.lock().unwrap().len();
            push(during);
            while written.lock().unwrap().len() < members.len() {
                tokio::task::yield_now().await;
            }
            let mut order = std::mem::take(&mut *written.lock().unwrap());
            let at = |number| order.iter().position(|other| *other == number).expect("everybody is written");
            assert!(at(before) <= 2 * CHUNK && at(behind) <= CHUNK, "{} {}", at(before), at(behind));
            assert!(at(during) <= so_far + 2 * CHUNK, "{} after {so_far}", at(during));
            order.sort_unstable();
            assert!(order.into_iter().eq(0..members.len()), "each once");
        }
    }
}
