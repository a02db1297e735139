//! Queue of sessions that have joined no namespace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::session::shared::SessionShared;

/// Queue of sessions that have joined no namespace, oldest first.
pub(crate) struct PendingSessions<A> {
    max: usize,
    queue: Mutex<Queue<A>>,
}

struct Queue<A> {
    /// Includes joined and ended sessions until they make up half of the queue.
    sessions: VecDeque<Weak<SessionShared<A>>>,
    /// Sessions that have neither joined nor ended.
    count: usize,
}

impl<A> PendingSessions<A> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, queue: Mutex::new(Queue { sessions: VecDeque::new(), count: 0 }) }
    }

    /// Adds a session; returns the oldest for eviction if the queue is over its limit.
    pub(crate) fn begin(&self, session: &Arc<SessionShared<A>>) -> Option<Arc<SessionShared<A>>> {
        let mut queue = self.lock();
        queue.sessions.push_back(Arc::downgrade(session));
        queue.count += 1;
        let mut oldest = None;
        while queue.count > self.max
            && let Some(session) = queue.sessions.pop_front()
        {
            oldest = session.upgrade().filter(|session| session.settle());
            if oldest.is_some() {
                queue.count -= 1;
                break;
            }
        }
        if queue.sessions.len() > 2 * queue.count + COMPACT_FROM {
            queue.sessions.retain(|session| session.upgrade().is_some_and(|session| !session.is_settled()));
            let room = 2 * queue.count + COMPACT_FROM;
            queue.sessions.shrink_to(2 * room);
        }
        oldest
    }

    /// Removes a session that has joined a namespace or ended.
    pub(crate) fn end(&self, session: &SessionShared<A>) {
        if session.settle() {
            self.lock().count -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Minimum queue length for compaction.
const COMPACT_FROM: usize = 64;
