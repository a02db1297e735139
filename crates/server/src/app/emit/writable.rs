//! Backpressure: waiting until outboxes are below low water.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use roomcast_core::MemberControl;

use crate::app::emit::broadcast::Emit;
use crate::app::emit::socket::SocketEmit;
use crate::app::model::socket::Socket;

impl Socket {
    /// Waits until the outbox of this client is below low water (32 KiB and 128 frames).
    ///
    /// Use it for bulk sends such as a dump of state. Without it, events queue up to
    /// [`Limits::outbox_max`](crate::config::Limits::outbox_max), beyond which the client is closed.
    ///
    /// Returns early when the client disconnects or has made no progress for 100 ms, and after
    /// [`Timeouts::stall_timeout`](crate::config::Timeouts::stall_timeout) at the latest.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    ///
    /// ```
    /// # use roomcast_server::{EmitError, Socket};
    /// async fn dump(socket: Socket, rows: Vec<String>) -> Result<(), EmitError> {
    ///     for row in rows {
    ///         socket.emit("row", row)?;
    ///         socket.writable().await;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub async fn writable(&self) {
        let waiting = poll_fn(|cx| self.poll_writable(cx));
        let _ = tokio::time::timeout(self.io().config().timeouts.stall_timeout, waiting).await;
    }
}

impl Emit {
    /// Waits until the outboxes of the recipients on this node are below low water.
    ///
    /// Takes the recipients at the time of the call and waits for each as [`Socket::writable`] does. A stalled client
    /// does not delay the caller. Returns after [`Timeouts::stall_timeout`](crate::config::Timeouts::stall_timeout) at
    /// the latest.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn writable(&self) {
        let timeout = self.namespace.stall_timeout;
        let mut left = self.recipients();
        let waiting = poll_fn(|cx| poll_all(&mut left, cx));
        let _ = tokio::time::timeout(timeout, waiting).await;
    }

    fn recipients(&self) -> Vec<Arc<dyn MemberControl>> {
        self.namespace.router.find(&self.target).into_iter().filter_map(|found| found.control).collect()
    }
}

impl SocketEmit {
    /// Waits until the outbox of this client is below low water; see [`Socket::writable`].
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn writable(&self) {
        match self.socket() {
            Some(socket) => socket.writable().await,
            None => self.operators().writable().await,
        }
    }
}

fn poll_all(left: &mut Vec<Arc<dyn MemberControl>>, cx: &mut Context<'_>) -> Poll<()> {
    left.retain(|member| member.poll_writable(cx).is_pending());
    if left.is_empty() { Poll::Ready(()) } else { Poll::Pending }
}
