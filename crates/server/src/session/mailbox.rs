//! Mailbox of a session's driver task.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::{CloseReason, Exchange, MemberKey, TransportName};
use tokio::sync::oneshot;

/// Mailbox: queue of commands for a session's driver task.
///
/// Allocates nothing while empty.
#[derive(Default)]
pub(crate) struct Mailbox(Mutex<State>);

#[derive(Default)]
struct State {
    /// Boxed, since commands are rare for most sessions.
    pending: Option<Box<Pending>>,
    exchanges: u32,
    closed: bool,
    driver: Option<Waker>,
    /// The driver waits, and would only park a repeated poll.
    idle: bool,
}

/// Pending commands; more than one at a time is rare.
struct Pending {
    first: SessionCommand,
    rest: VecDeque<SessionCommand>,
}

impl State {
    /// Appends a command; returns the waker of the driver.
    ///
    /// `Displace` is put first: nothing that came before may have an effect on its socket.
    fn push(&mut self, command: SessionCommand) -> Option<Waker> {
        match &mut self.pending {
            Some(pending) if matches!(command, SessionCommand::Displace(_)) => {
                let before = std::mem::replace(&mut pending.first, command);
                pending.rest.push_front(before);
            }
            Some(pending) => pending.rest.push_back(command),
            None => self.pending = Some(Box::new(Pending { first: command, rest: VecDeque::new() })),
        }
        self.driver.take()
    }

    fn pop(&mut self) -> Option<SessionCommand> {
        let pending = self.pending.as_mut()?;
        match pending.rest.pop_front() {
            Some(next) => Some(std::mem::replace(&mut pending.first, next)),
            None => self.pending.take().map(|pending| pending.first),
        }
    }
}

/// Command for the driver task of a session.
#[derive(Debug)]
pub(crate) enum SessionCommand {
    /// HTTP request of the session, for this transport.
    Exchange(TransportName, Box<Exchange>),
    /// The application has disconnected a socket of the session.
    SocketDisconnected,
    /// Closes the session.
    Close(CloseReason),
    /// Closes the session, since its client has returned on another connection.
    TakeOver(TakeOver),
    /// Ends a socket whose session continues on another node.
    Displace(MemberKey),
}

/// Request of another connection to take over the session of a socket.
#[derive(Debug)]
pub(crate) struct TakeOver {
    pub(crate) key: MemberKey,
    /// Dropped once the socket has left, or if the session had ended.
    pub(crate) left: oneshot::Sender<()>,
}

/// Request that the mailbox rejected.
#[derive(Debug)]
pub(crate) enum PushError {
    /// The session has ended.
    Over(Box<Exchange>),
    /// The limit of pending requests is reached.
    Crowded(Box<Exchange>),
}

impl Mailbox {
    /// Pushes a command of the application or the server.
    ///
    /// # Errors
    /// Returns the command if the session has ended.
    pub(crate) fn push(&self, command: SessionCommand) -> Result<(), SessionCommand> {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(command);
            }
            state.push(command)
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Pushes a request for this transport.
    ///
    /// # Errors
    /// Returns the request if the session has ended or `limit` requests are pending.
    pub(crate) fn push_exchange(
        &self,
        transport: TransportName,
        exchange: Box<Exchange>,
        limit: usize,
    ) -> Result<(), PushError> {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err(PushError::Over(exchange));
            }
            if state.exchanges as usize >= limit {
                return Err(PushError::Crowded(exchange));
            }
            state.exchanges += 1;
            state.push(SessionCommand::Exchange(transport, exchange))
        };
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Lets [`while_idle`](Self::while_idle) act until the next [`poll_next`](Self::poll_next).
    pub(crate) fn set_idle(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).idle = true;
    }

    /// Acts in the driver's place if the driver is idle; otherwise returns the request.
    ///
    /// The driver's next turn begins after `act`, which must not use the mailbox.
    pub(crate) fn while_idle<R>(&self, request: R, act: impl FnOnce(R) -> Result<(), R>) -> Result<(), R> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.idle && !state.closed && state.pending.is_none() { act(request) } else { Err(request) }
    }

    /// Polls for the next command; registers the driver's waker if the mailbox is empty.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<SessionCommand> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.idle = false;
        match state.pop() {
            Some(command) => {
                state.exchanges -= u32::from(matches!(command, SessionCommand::Exchange(..)));
                Poll::Ready(command)
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

    /// Closes the mailbox and returns the pending commands.
    pub(crate) fn close(&self) -> VecDeque<SessionCommand> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.exchanges = 0;
        // The waker holds the task's memory; a socket handle kept after the session ended must not.
        let driver = state.driver.take();
        let left = state.pending.take();
        drop(state);
        drop(driver);
        left.map_or_else(VecDeque::new, |pending| {
            let Pending { first, mut rest } = *pending;
            rest.push_front(first);
            rest
        })
    }
}

impl fmt::Debug for Mailbox {
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
    fn acts_only_for_idle_driver() {
        let mailbox = Mailbox::default();
        let mut cx = Context::from_waker(Waker::noop());
        let acts = || mailbox.while_idle((), Ok).is_ok();
        assert!(!acts());
        mailbox.set_idle();
        assert!(acts() && acts());
        mailbox.push(SessionCommand::SocketDisconnected).expect("it is open");
        assert!(!acts(), "the driver has a command");
        assert!(mailbox.poll_next(&mut cx).is_ready());
        assert!(!acts(), "the driver's turn has not ended");
        mailbox.set_idle();
        mailbox.close();
        assert!(!acts());
    }

    #[test]
    fn releases_driver_waker_when_closed() {
        let task = Arc::new(Task);
        let waker = Waker::from(task.clone());
        let held = Arc::strong_count(&task);
        let mailbox = Mailbox::default();
        assert!(mailbox.poll_next(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&task), held + 1);
        mailbox.push(SessionCommand::Close(CloseReason::ForcedServerClose)).expect("it is open");
        assert!(mailbox.poll_next(&mut Context::from_waker(&waker)).is_ready());
        assert!(mailbox.poll_next(&mut Context::from_waker(&waker)).is_pending());
        assert!(mailbox.close().is_empty());
        // The task may poll once more before it ends.
        assert!(mailbox.poll_next(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(Arc::strong_count(&task), held);
        assert!(mailbox.push(SessionCommand::Close(CloseReason::ForcedServerClose)).is_err());
    }
}
