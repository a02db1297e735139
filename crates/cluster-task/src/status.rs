//! Status of a connection.

use roomcast_core::ClusterStatus;
use tokio::sync::watch;

/// Status of a connection, which its task sets.
#[derive(Debug)]
pub struct Status(watch::Sender<ClusterStatus>);

impl Default for Status {
    fn default() -> Self {
        Self(watch::Sender::new(ClusterStatus::Joining))
    }
}

impl Status {
    /// Returns the status; [`ClusterStatus::Joining`] at first.
    #[must_use]
    pub fn get(&self) -> ClusterStatus {
        *self.0.borrow()
    }

    /// Sets the status; returns whether it has changed.
    pub fn set(&self, status: ClusterStatus) -> bool {
        self.0.send_if_modified(|current| std::mem::replace(current, status) != status)
    }

    /// Completes once the status is [`ClusterStatus::Left`].
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn left(&self) {
        let mut status = self.0.subscribe();
        // `self` holds the sender, so there is no error.
        let _ = status.wait_for(|status| *status == ClusterStatus::Left).await;
    }
}
