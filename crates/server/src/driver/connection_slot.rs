//! Connection of a session, with its outbox

use std::future::poll_fn;
use std::time::Duration;

use roomcast_core::{CloseReason, Connection, Outbox};

use crate::host::limits::Permit;
use crate::session::shared::TransportIndex;

/// Connection of a session; the carrier's outbox is the session's.
pub(crate) struct ConnectionSlot {
    pub(crate) connection: Box<dyn Connection>,
    pub(crate) transport: TransportIndex,
    /// Counts the TCP connection it took over from HTTP, or on which it began, until dropped
    pub(crate) permit: Option<Permit>,
}

/// Probed connection and its outbox.
pub(crate) struct Probe {
    pub(crate) role: ConnectionSlot,
    pub(crate) outbox: Outbox,
    /// Whether its write half exists
    pub(crate) open: bool,
}

impl ConnectionSlot {
    pub(crate) fn new(connection: Box<dyn Connection>, transport: TransportIndex) -> Self {
        Self { connection, transport, permit: None }
    }
}

/// Closes a connection that carries no session, in a separate task.
pub(super) fn close_apart(probe: Probe, reason: CloseReason, timeout: Duration) {
    if probe.open {
        tokio::spawn(tokio::time::timeout(timeout, close(probe, reason)));
    }
}

/// Completes the handshake of a connection that cannot carry its session, then closes it, in a separate task.
pub(super) fn open_and_close(mut probe: Probe, timeout: Duration) {
    tokio::spawn(tokio::time::timeout(timeout, async move {
        if let Ok(sink) = poll_fn(|cx| probe.role.connection.poll_open(cx)).await {
            probe.outbox.set_sink(sink);
            close(probe, CloseReason::TransportClose).await;
        }
    }));
}

/// Closes a connection, which counts against the connection limit until then.
async fn close(probe: Probe, reason: CloseReason) {
    let Probe { role: ConnectionSlot { mut connection, permit: _permit, .. }, outbox, .. } = probe;
    connection.start_close(reason, &outbox);
    outbox.finish();
    poll_fn(|cx| outbox.poll_drained(cx)).await;
    outbox.close(reason);
    poll_fn(|cx| connection.poll_closed(cx)).await;
}
