//! Task that writes changed sessions to their store.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use roomcast_recovery::{Batch, Confirmed, SessionId, SessionQueue, StoreError};
use tokio::time::{sleep, timeout};

use crate::clock;

/// Longest time between two attempts while the store fails.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);
/// Number of renewals in the time of a lease.
const RENEWALS: u32 = 4;
/// Sessions in one call to confirm them.
const CONFIRMED_AT_ONCE: usize = 1_000;
/// Key by which the task that writes waits at the fence. Sessions use addresses.
const WRITER: usize = 0;
/// Time between two looks whether dropped sockets have left, and their number.
const LEAVING: (Duration, u32) = (Duration::from_millis(2), 100);

/// Writes the changed sessions of a queue to its store, and drops the sessions that other nodes have claimed, for as
/// long as it is polled.
///
/// After the first change it waits for the [interval](SessionQueue::interval), so that changes are collected, and then
/// writes batches until none is left. [`SessionQueue::flush`] ends the wait. While the store fails, the time between
/// attempts doubles, up to 5 s.
///
/// All sessions are written again at the [refresh interval](SessionQueue::refresh_interval), and after missed
/// [claims](roomcast_recovery::SessionStore::claimed_elsewhere). In the latter case, the store refuses the sessions that
/// other nodes have claimed, and their sockets are dropped.
///
/// The [lease](SessionQueue::lease) of the node is renewed, and its [fence](SessionQueue::fence) is open for that time.
/// If the process did not run for longer, the fence is closed when it wakes up. Then the sessions are
/// [confirmed](roomcast_recovery::SessionStore::confirm), the sessions of other nodes are dropped, and the fence opens.
/// An open fence stays open while the store does not respond, since its clients cannot be recovered elsewhere then.
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
    let _open = OpenAtEnd(&queue);
    let (mut writing, mut dropping) = (pin!(write_changes(&queue)), pin!(drop_claimed(&queue)));
    let (mut refreshing, mut leasing) = (pin!(refresh(&queue)), pin!(hold_lease(&queue)));
    poll_fn(|cx| {
        // First, so that a process that wakes up does not write before.
        let ended: [Poll<Infallible>; 4] = [
            leasing.as_mut().poll(cx),
            writing.as_mut().poll(cx),
            dropping.as_mut().poll(cx),
            refreshing.as_mut().poll(cx),
        ];
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

/// Has all sessions written now and then.
async fn refresh(queue: &SessionQueue) -> Infallible {
    loop {
        sleep(queue.refresh_interval()).await;
        queue.mark_all();
    }
}

/// Opens the fence when the task ends, since only the task opens it.
struct OpenAtEnd<'a>(&'a SessionQueue);

impl Drop for OpenAtEnd<'_> {
    fn drop(&mut self) {
        self.0.fence().open();
    }
}

/// Renews the lease of the node, and keeps the fence open for its time.
async fn hold_lease(queue: &SessionQueue) -> Infallible {
    let (store, node, fence, lease) = (queue.store(), queue.node(), queue.fence(), queue.lease());
    let interval = lease / RENEWALS;
    loop {
        let began = clock::now();
        let renewed = timeout(interval, store.renew(node, lease)).await;
        let is_renewed = matches!(renewed, Ok(Ok(())));
        let now = clock::now();
        if !fence.is_open(now) {
            // Frozen for longer than the lease, now or during an earlier attempt.
            let since = if is_renewed { confirm(queue, began).await } else { None };
            if let Some(since) = since {
                fence.open_for(since, lease);
            } else if now.duration_since(began) >= lease {
                continue;
            }
        } else if is_renewed {
            fence.open_for(began, lease);
        } else {
            // Without the store, no other node can claim the sessions.
            fence.open_for(now, lease);
        }
        sleep(interval).await;
    }
}

/// Drops the sessions that other nodes have claimed, under a lease that begins at `since`.
///
/// Returns the begin of the lease, which is renewed meanwhile; `None` if it has run out, or the store did not respond.
async fn confirm(queue: &SessionQueue, mut since: Instant) -> Option<Instant> {
    let (store, node, lease) = (queue.store(), queue.node(), queue.lease());
    let held = queue.held_sessions();
    let mut confirmed = Confirmed::default();
    for part in held.chunks(CONFIRMED_AT_ONCE) {
        match timeout(queue.write_timeout(), store.confirm(node, part)).await {
            Ok(Ok(Confirmed { claimed, missing })) => {
                confirmed.claimed.extend(claimed);
                confirmed.missing.extend(missing);
            }
            _ => return None,
        }
        let now = clock::now();
        if now.duration_since(since) >= lease {
            return None;
        }
        // Only a lease that has not run out before the answer was renewed without a gap.
        if now.duration_since(since) >= lease / RENEWALS
            && let Ok(Ok(())) = timeout(lease / RENEWALS, store.renew(node, lease)).await
            && clock::now().duration_since(since) < lease
        {
            since = now;
        }
    }
    queue.drop_unconfirmed(&held, &confirmed);
    (clock::now().duration_since(since) < lease).then_some(since)
}

async fn write_changes(queue: &SessionQueue) -> Infallible {
    loop {
        poll_fn(|cx| queue.poll_changed(cx)).await;
        let _ = timeout(queue.interval(), poll_fn(|cx| queue.poll_flush(cx))).await;
        let mut backoff = queue.interval();
        loop {
            poll_fn(|cx| queue.fence().poll_open(WRITER, clock::now(), cx)).await;
            let Some(batch) = queue.take() else { break };
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
