//! Mailbox: bounded queue of commands for a session's driver task

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::{CloseReason, Exchange, TransportName};

/// Bounded queue of commands for a session's driver task.
///
/// An empty mailbox allocates no memory.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    visits: VecDeque<Visit>,
    exchanges: u32,
    driver: Option<Waker>,
    closed: bool,
}

/// Session command
#[derive(Debug)]
pub(crate) enum Visit {
    /// HTTP request of the session, for this transport
    Exchange(TransportName, Box<Exchange>),
    /// The application disconnected a socket of the session
    PutOut,
    /// End the session
    Close(CloseReason),
}

/// Request that was not queued
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The session has ended
    Over(Box<Exchange>),
    /// The queue is full
    Crowded(Box<Exchange>),
}

impl Inbox {
    /// Queues a command of the application or the server.
    ///
    /// # Errors
    /// Returns the command if the session has ended.
    pub(crate) fn push(&self, visit: Visit) -> Result<(), Visit> {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(visit);
            }
            state.visits.push_back(visit);
            state.driver.take()
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Queues a request for this transport, unless `limit` of them are queued.
    ///
    /// # Errors
    /// Returns the request with the reason.
    pub(crate) fn push_exchange(
        &self,
        transport: TransportName,
        exchange: Box<Exchange>,
        limit: usize,
    ) -> Result<(), NotTaken> {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(NotTaken::Over(exchange));
            }
            if state.exchanges as usize >= limit {
                return Err(NotTaken::Crowded(exchange));
            }
            state.exchanges += 1;
            state.visits.push_back(Visit::Exchange(transport, exchange));
            state.driver.take()
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Polls for the next command; registers the driver's waker if there is none.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Visit> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.visits.pop_front() {
            Some(visit) => {
                state.exchanges -= u32::from(matches!(visit, Visit::Exchange(..)));
                if state.visits.is_empty() {
                    state.visits = VecDeque::new();
                }
                Poll::Ready(visit)
            }
            None => {
                if !state.closed && !state.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker()))
                {
                    state.driver = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// Closes the mailbox and returns the queued commands.
    pub(crate) fn close(&self) -> VecDeque<Visit> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.exchanges = 0;
        // A retained socket must not retain the memory of the task.
        let driver = state.driver.take();
        let left = std::mem::take(&mut state.visits);
        drop(state);
        drop(driver);
        left
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn closed_mailbox_holds_no_task() {
        let task = Arc::new(Task);
        let waker = Waker::from(task.clone());
        let held = Arc::strong_count(&task);
        let inbox = Inbox::default();
        assert!(inbox.poll_next(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&task), held + 1);
        inbox.push(Visit::Close(CloseReason::ForcedServerClose)).expect("it is open");
        assert!(inbox.poll_next(&mut Context::from_waker(&waker)).is_ready());
        assert!(inbox.poll_next(&mut Context::from_waker(&waker)).is_pending());
        assert!(inbox.close().is_empty());
        // The task may poll once more while it ends.
        assert!(inbox.poll_next(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&task), held);
        assert!(inbox.push(Visit::Close(CloseReason::ForcedServerClose)).is_err());
    }
}
