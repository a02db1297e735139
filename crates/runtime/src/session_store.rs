//! Task that writes changed sessions to their store.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use roomcast_recovery::{Batch, SessionId, SessionQueue, StoreError};
use tokio::time::{sleep, timeout};

use crate::clock;

/// Longest time between two attempts while the store fails.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Time without a look after which the process may have been frozen.
const FROZEN: Duration = Duration::from_secs(3);
/// Time between two looks whether dropped sockets have left, and their number.
const LEAVING: (Duration, u32) = (Duration::from_millis(2), 100);

/// Writes the changed sessions of a queue to its store, and drops the sessions that other nodes have claimed, for as
/// long as it is polled.
///
/// After the first change it waits for the [interval](SessionQueue::interval), so that changes are collected, and then
/// writes batches until none is left. [`SessionQueue::flush`] ends the wait. While the store fails, the time between
/// attempts doubles, up to 5 s.
///
/// All sessions are written again at the [refresh interval](SessionQueue::refresh_interval), after missed
/// [claims](roomcast_recovery::SessionStore::claimed_elsewhere), and when the process did not run for three seconds. In
/// the latter cases, the store refuses the sessions that other nodes have claimed, and their sockets are dropped.
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
    let (mut writing, mut dropping) = (pin!(write_changes(&queue)), pin!(drop_claimed(&queue)));
    let mut refreshing = pin!(refresh(&queue));
    poll_fn(|cx| {
        let ended: [Poll<Infallible>; 3] =
            [writing.as_mut().poll(cx), dropping.as_mut().poll(cx), refreshing.as_mut().poll(cx)];
        match ended {
            [Poll::Pending, ..] => Poll::Pending,
            [Poll::Ready(never), ..] => match never {},
        }
    })
    .await
}

/// Drops the sessions that other nodes have claimed.
async fn drop_claimed(queue: &SessionQueue) -> Infallible {
    let (store, node) = (queue.store(), queue.node());
    loop {
        let Ok(claims) = store.claimed_elsewhere(node).await else {
            queue.mark_all();
            sleep(TICK).await;
            continue;
        };
        queue.drop_claimed(&claims);
        let (interval, mut looks) = LEAVING;
        while queue.has_leaving() && looks > 0 {
            sleep(interval).await;
            looks -= 1;
        }
        let _ = timeout(queue.write_timeout(), store.release(node, &claims)).await;
    }
}

/// Has all sessions written now and then, and when the process may have been frozen.
async fn refresh(queue: &SessionQueue) -> Infallible {
    let mut refreshed = clock::now();
    loop {
        let before = clock::now();
        sleep(TICK).await;
        let now = clock::now();
        if now.duration_since(before) > FROZEN || now.duration_since(refreshed) > queue.refresh_interval() {
            queue.mark_all();
            refreshed = now;
        }
    }
}

async fn write_changes(queue: &SessionQueue) -> Infallible {
    loop {
        poll_fn(|cx| queue.poll_changed(cx)).await;
        let _ = timeout(queue.interval(), poll_fn(|cx| queue.poll_flush(cx))).await;
        let mut backoff = queue.interval();
        while let Some(batch) = queue.take() {
            match write(queue, &batch).await {
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
