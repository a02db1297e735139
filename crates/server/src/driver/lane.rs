//! A connection and what waits for it

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use roomcast_core::{CloseReason, Connection, Outbox, TransportName};

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

/// Closes a connection that carries no session, in a task of its own
pub(super) fn close_apart(probe: Probe, reason: CloseReason, timeout: Duration) {
    if probe.open {
        tokio::spawn(tokio::time::timeout(timeout, close(probe, reason)));
    }
}

/// Completes the handshake of a connection that cannot carry its session, and closes it, in a task of its own
pub(super) fn open_and_close(mut probe: Probe, timeout: Duration) {
    tokio::spawn(tokio::time::timeout(timeout, async move {
        if let Ok(sink) = poll_fn(|cx| probe.lane.connection.poll_open(cx)).await {
            probe.outbox.set_sink(sink);
            close(probe, CloseReason::TransportClose).await;
        }
    }));
}

/// Closes a connection, which counts against the limit of connections until it is closed
async fn close(probe: Probe, reason: CloseReason) {
    let Probe { lane: LaneState { mut connection, permit: _permit, .. }, outbox, .. } = probe;
    connection.start_close(reason, &outbox);
    outbox.finish();
    poll_fn(|cx| outbox.poll_drained(cx)).await;
    outbox.close(reason);
    poll_fn(|cx| connection.poll_closed(cx)).await;
}
