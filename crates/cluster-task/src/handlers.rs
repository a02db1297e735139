//! Handlers of events for servers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::HostGuard;

/// Running handlers of events for servers, limited in number.
#[derive(Debug)]
pub struct Handlers {
    tasks: JoinSet<()>,
    limit: usize,
}

impl Handlers {
    /// Creates an empty set.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { tasks: JoinSet::new(), limit }
    }

    /// Returns whether another handler may be started.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.tasks.len() < self.limit
    }

    /// Returns the number of running handlers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether no handler is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Starts a handler, which is dropped at the deadline.
    ///
    /// The first poll is here, so that handlers start in order. A handler that is then pending becomes a task.
    pub fn start(
        &mut self,
        guard: &HostGuard,
        mut handling: Pin<Box<dyn Future<Output = ()> + Send>>,
        deadline: Instant,
    ) {
        let cx = &mut Context::from_waker(Waker::noop());
        if guard.call(|| handling.as_mut().poll(cx)) == Some(Poll::Pending) {
            self.tasks.spawn(async move {
                // Its first poll here registers the task's waker.
                let _ = tokio::time::timeout_at(deadline.into(), handling).await;
            });
        }
    }

    /// Removes handlers that have ended, and registers the waker for the next one.
    pub fn reap(&mut self, guard: &HostGuard, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
            if ended.is_err_and(|error| error.is_panic()) {
                guard.count_panic();
            }
        }
    }
}
