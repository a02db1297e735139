//! The cost of emits, charged to the session on whose behalf they are made

use std::cell::{Cell, RefCell};

use roomcast_core::{Backlog, Dispatched, Receipt};

use crate::breach::Tally;

/// Deliveries that one visit of a driver causes before other tasks have their turn
///
/// A client whose every message goes to thousands would otherwise hold its thread for as long as one read lasts.
const MAX_DELIVERIES: u32 = 32_768;

thread_local! {
    // Emits come from handlers, which know nothing of the driver that runs them. So the driver of this thread looks here
    // before each message.
    static DELIVERIES: Cell<u32> = const { Cell::new(0) };
    /// Whether a driver is being polled on this thread, and what it has to relieve
    static UNPAID: RefCell<Option<Backlog>> = const { RefCell::new(None) };
}

/// Completes an emit: relieves the outboxes at high water, and counts the deliveries.
///
/// To be called under no lock. Outboxes that another writer has are left to the driver of this thread, which reads no
/// further from its client before they are relieved; elsewhere the next emit relieves them.
#[inline]
pub(crate) fn settle(dispatched: Dispatched, event: &str) -> Receipt {
    let Dispatched { receipt, backlog } = dispatched;
    DELIVERIES.set(DELIVERIES.get().saturating_add(receipt.queued as u32));
    if !backlog.is_empty() {
        relieve(backlog);
    }
    if receipt.overflowed > 0 {
        warn_of_overflow(event, receipt.overflowed);
    }
    receipt
}

#[cold]
fn relieve(mut backlog: Backlog) {
    backlog.relieve();
    if !backlog.is_empty() {
        UNPAID.with_borrow_mut(|unpaid| {
            if let Some(unpaid) = unpaid {
                unpaid.append(backlog);
            }
        });
    }
}

#[cold]
fn warn_of_overflow(event: &str, clients: usize) {
    static OVERFLOWS: Tally = Tally::new();
    if let Some(times) = OVERFLOWS.record() {
        tracing::warn!(
            event,
            clients,
            times,
            setting = "outbox_max",
            "clients closed: this event did not fit into their outbox"
        );
    }
}

/// Starts to count for a driver that is about to be polled
pub(crate) fn begin() {
    DELIVERIES.set(0);
    UNPAID.set(Some(Backlog::default()));
}

/// Whether the driver that is being polled should give way before its next message
#[inline]
pub(crate) fn is_spent() -> bool {
    DELIVERIES.get() >= MAX_DELIVERIES
        || UNPAID.with_borrow(|unpaid| unpaid.as_ref().is_some_and(|unpaid| !unpaid.is_empty()))
}

/// Stops to count; gives back what could not be relieved
pub(crate) fn end() -> Backlog {
    UNPAID.take().unwrap_or_default()
}
