//! The outboxes that have something to write

use std::fmt;
use std::task::{Context, Poll, Waker};

use super::Outbox;
use crate::sync::{Arc, Mutex, lock};

/// The outboxes that have something to write, and whoever writes for them
///
/// One for each thread or worker that carries connections. A *flusher* task takes the whole list when something
/// was put on an empty one, lets everything that is ready to run put more on it, and then writes each outbox once:
/// all that waits for a client leaves in one system call, and a broadcast wakes one task, not one for each
/// recipient.
///
/// Cloning gives another handle to the same list.
#[derive(Clone, Default)]
pub struct FlushList(Arc<Mutex<Listed>>);

#[derive(Default)]
struct Listed {
    outboxes: Vec<Outbox>,
    flusher: Option<Waker>,
}

impl FlushList {
    /// Makes an empty list
    pub fn new() -> Self {
        Self::default()
    }

    /// Swaps what is listed with `spare`, which must be empty; pending while there is nothing
    ///
    /// Cancel safe: nothing is taken until it is ready.
    pub fn poll_take(&self, cx: &mut Context<'_>, spare: &mut Vec<Outbox>) -> Poll<()> {
        debug_assert!(spare.is_empty());
        let mut listed = lock(&self.0);
        if listed.outboxes.is_empty() {
            listed.flusher = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut listed.outboxes, spare);
        Poll::Ready(())
    }

    /// Swaps what is listed with `spare`, which must be empty
    pub fn take(&self, spare: &mut Vec<Outbox>) {
        debug_assert!(spare.is_empty());
        std::mem::swap(&mut lock(&self.0).outboxes, spare);
    }

    /// Pending while nothing is listed; takes nothing
    pub fn poll_listed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut listed = lock(&self.0);
        if listed.outboxes.is_empty() {
            listed.flusher = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Writes what waits in `outbox`, as far as its sink takes it
    pub fn write(outbox: &Outbox) {
        outbox.flush();
    }

    /// Writes for everything that is listed, and for what that puts on the list, until it is empty
    ///
    /// For tests and for programs without a flusher task.
    pub fn write_all(&self) {
        let mut outboxes = Vec::new();
        loop {
            self.take(&mut outboxes);
            if outboxes.is_empty() {
                return;
            }
            outboxes.drain(..).for_each(|outbox| outbox.flush());
        }
    }

    pub(super) fn enlist(&self, outbox: Outbox) {
        let flusher = {
            let mut listed = lock(&self.0);
            listed.outboxes.push(outbox);
            listed.flusher.take()
        };
        super::wake(flusher);
    }
}

impl fmt::Debug for FlushList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlushList").field("listed", &lock(&self.0).outboxes.len()).finish()
    }
}
