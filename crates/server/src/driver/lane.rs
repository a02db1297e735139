//! A connection and what waits for it

use std::cell::Cell;
use std::sync::Arc;

use roomcast_core::{Connection, Message, Outbox, TransportName};

use crate::host::limits::Permit;

/// A connection of a session; the outbox of the one that carries it is the session's
pub(crate) struct LaneState {
    pub(crate) connection: Box<dyn Connection>,
    pub(crate) name: TransportName,
    /// Counts the TCP connection that this took over from HTTP, or on which it began, for as long as it is there
    pub(crate) permit: Option<Arc<Permit>>,
}

/// A connection that has not proven itself, and what waits for it
pub(crate) struct Probe {
    pub(crate) lane: LaneState,
    pub(crate) outbox: Outbox,
    /// Whether its write half is there
    pub(crate) open: bool,
}

impl LaneState {
    pub(crate) fn new(connection: Box<dyn Connection>, name: TransportName) -> Self {
        Self { connection, name, permit: None }
    }
}

/// Messages the buffer of a thread has room for between reads
const KEPT: usize = 1024;

thread_local! {
    static MESSAGES: Cell<Vec<Message>> = const { Cell::new(Vec::new()) };
}

/// A buffer of this thread for what one read brings, so that an idle connection needs none
pub(crate) fn take_messages() -> Vec<Message> {
    MESSAGES.take()
}

pub(crate) fn give_back(mut messages: Vec<Message>) {
    messages.clear();
    messages.shrink_to(KEPT);
    MESSAGES.set(messages);
}
