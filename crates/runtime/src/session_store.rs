//! Task that writes changed sessions to their store.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use roomcast_recovery::{Batch, SessionId, SessionQueue, StoreError};
use tokio::time::{sleep, timeout};

/// Longest time between two attempts while the store fails.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Writes the changed sessions of a queue to its store, for as long as it is polled.
///
/// After the first change it waits for the [interval](SessionQueue::interval), so that changes are collected, and then
/// writes batches until none is left. [`SessionQueue::flush`] ends the wait. While the store fails, the time between
/// attempts doubles, up to 5 s.
///
/// # Cancel safety
/// A batch that was taken is lost if the future is dropped, as at the end of the process.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use roomcast_recovery::{NodeId, SessionQueue, StoreConfig};
/// use roomcast_runtime::store_sessions;
/// use roomcast_testkit::recovery::MemorySessionStore;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = Arc::new(MemorySessionStore::new());
/// let queue = Arc::new(SessionQueue::new(NodeId("random".into()), store, StoreConfig::new()));
/// tokio::spawn(store_sessions(queue.clone()));
/// // For `Config::recovery_factory`: |name, inner| StoredSessions::new(name.clone(), inner, queue.clone())
/// # });
/// ```
pub async fn store_sessions(queue: Arc<SessionQueue>) {
    loop {
        poll_fn(|cx| queue.poll_changed(cx)).await;
        let _ = timeout(queue.interval(), poll_fn(|cx| queue.poll_flush(cx))).await;
        let mut backoff = queue.interval();
        while let Some(batch) = queue.take() {
            match write(&queue, &batch).await {
                Ok(refused) => {
                    backoff = queue.interval();
                    queue.written(batch, &refused);
                }
                Err(_) => {
                    queue.failed(batch);
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }
}

async fn write(queue: &SessionQueue, batch: &Batch) -> Result<Vec<SessionId>, StoreError> {
    let (store, node) = (queue.store(), queue.node());
    let calls = async {
        let refused =
            if batch.writes.is_empty() { Vec::new() } else { store.write(node, &batch.writes).await? };
        if !batch.removals.is_empty() {
            store.remove(node, &batch.removals).await?;
        }
        Ok(refused)
    };
    let timed_out = |_| Err(StoreError("no response in time".into()));
    timeout(queue.write_timeout(), calls).await.unwrap_or_else(timed_out)
}
