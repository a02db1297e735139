//! The cost of emits, charged to the session on whose behalf they are made

use std::cell::{Cell, RefCell};

use roomcast_core::{Backlog, Dispatched, Receipt};

use crate::util::log_limit::log_limited;

/// Deliveries that one visit of a driver causes before other tasks have their turn
///
/// A client whose every message goes to thousands would otherwise hold its thread for as long as one read lasts.
const MAX_DELIVERIES: u32 = 32_768;

thread_local! {
    // Emits come from handlers, which know nothing of the driver that runs them, so no parameter leads from one to the
    // other. Three places and not one, because the driver looks at the first before each message, and a place whose
    // value needs to be dropped is slower to reach.

    /// Deliveries that the visit under way has caused, or [`IN_DEBT`]
    static DELIVERIES: Cell<u32> = const { Cell::new(0) };
    /// Whether a driver is being polled on this thread
    static IS_VISIT: Cell<bool> = const { Cell::new(false) };
    /// What that driver has to relieve, which it takes over at the end of its visit
    static UNPAID: RefCell<Backlog> = const { RefCell::new(Backlog::new()) };
}

/// In place of a number of deliveries: there is something to relieve
const IN_DEBT: u32 = u32::MAX;

/// Completes an emit: relieves the outboxes at high water, and counts the deliveries.
///
/// To be called under no lock. Outboxes that another writer has are left to the driver of this thread, which reads no
/// further from its client before they are relieved; elsewhere the next emit relieves them.
#[inline]
pub(crate) fn settle(dispatched: Dispatched, event: &str) -> Receipt {
    let Dispatched { receipt, backlog } = dispatched;
    // Not `LocalKey::set`, which is slower (see `scratch::put_back`).
    DELIVERIES.with(|deliveries| deliveries.set(deliveries.get().saturating_add(receipt.queued as u32)));
    if !backlog.is_empty() {
        relieve(backlog);
    }
    if receipt.overflowed > 0 {
        warn_of_overflow(event, receipt.overflowed);
    }
    receipt
}

#[cold]
#[inline(never)]
fn relieve(mut backlog: Backlog) {
    backlog.relieve();
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

/// Starts to count for a driver that is about to be polled
pub(crate) fn begin() {
    DELIVERIES.with(|deliveries| deliveries.set(0));
    IS_VISIT.with(|is_visit| is_visit.set(true));
}

/// Whether the driver that is being polled should give way before its next message
#[inline(always)]
pub(crate) fn is_spent() -> bool {
    DELIVERIES.get() >= MAX_DELIVERIES
}

/// Stops to count; gives back what could not be relieved
pub(crate) fn end() -> Backlog {
    IS_VISIT.with(|is_visit| is_visit.set(false));
    if DELIVERIES.get() == IN_DEBT { UNPAID.take() } else { Backlog::new() }
}
