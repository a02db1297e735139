//! Cost of emits, charged to the session that causes them

use std::cell::{Cell, RefCell};

use roomcast_core::{Backlog, Dispatched, Receipt};

use crate::util::log_limit::log_limited;

/// Deliveries that one visit of a driver may cause before the task yields
///
/// Otherwise a client whose messages go to thousands would hold its thread for a whole read.
const MAX_DELIVERIES: u32 = 32_768;

thread_local! {
    // Emits come from handlers, which do not know their driver, so this cannot be a parameter. Three places rather than
    // one, because the driver checks the first before each message, and a place whose value needs drop is slower to
    // access.

    /// Deliveries caused by the current visit, or [`IN_DEBT`]
    static DELIVERIES: Cell<u32> = const { Cell::new(0) };
    /// Whether a driver is being polled on this thread
    static IS_VISIT: Cell<bool> = const { Cell::new(false) };
    /// Outboxes that driver has to flush, taken over at the end of its visit
    static UNPAID: RefCell<Backlog> = const { RefCell::new(Backlog::new()) };
}

/// Sentinel for a delivery count: there are outboxes to flush
const IN_DEBT: u32 = u32::MAX;

/// Completes an emit: flushes the outboxes at high water, and counts the deliveries.
///
/// Call it without holding a lock. Outboxes held by another writer are left to this thread's driver, which pauses
/// reading until they are flushed; elsewhere the next emit flushes them.
#[inline]
pub(crate) fn settle(dispatched: Dispatched, event: &str) -> Receipt {
    let Dispatched { receipt, backlog } = dispatched;
    DELIVERIES.set(DELIVERIES.get().saturating_add(receipt.queued as u32));
    if !backlog.is_empty() {
        flush_backlog(backlog);
    }
    if receipt.overflowed > 0 {
        warn_of_overflow(event, receipt.overflowed);
    }
    receipt
}

#[cold]
fn flush_backlog(mut backlog: Backlog) {
    backlog.flush_backlog();
    if !backlog.is_empty() && IS_VISIT.get() {
        DELIVERIES.set(IN_DEBT);
        UNPAID.with_borrow_mut(|unpaid| unpaid.append(backlog));
    }
}

#[cold]
fn warn_of_overflow(event: &str, clients: usize) {
    log_limited!(
        WARN,
        event,
        event,
        clients,
        setting = "outbox_max",
        "clients closed: this event did not fit into their outbox"
    );
}

/// Starts counting for a driver about to be polled.
pub(crate) fn begin() {
    DELIVERIES.set(0);
    IS_VISIT.set(true);
}

/// Returns whether the current driver should yield before its next message.
#[inline]
pub(crate) fn is_spent() -> bool {
    DELIVERIES.get() >= MAX_DELIVERIES
}

/// Stops counting; returns the outboxes still to flush.
pub(crate) fn end() -> Backlog {
    IS_VISIT.set(false);
    if DELIVERIES.get() == IN_DEBT { UNPAID.take() } else { Backlog::new() }
}
