//! Store of sessions in memory, with faults.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use roomcast_recovery::{
    Claimed, Confirmed, Epoch, NodeId, SessionId, SessionStore, SessionWrite, StoreError, StoredSession,
};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Store of sessions in memory, which can be slow, fail or freeze.
///
/// It keeps the rules of [`SessionStore`], so it also serves several nodes of one test. Waiting uses tokio's clock. A
/// claim waits for the former holder until its lease has run out, or for half a second if it has renewed none.
#[derive(Default)]
pub struct MemorySessionStore {
    state: Mutex<State>,
    /// Notified when a session was claimed or released.
    news: Notify,
}

#[derive(Default)]
struct State {
    records: HashMap<SessionId, Record>,
    fault: StoreFault,
    calls: Vec<StoreCall>,
    running: usize,
    overlapped: bool,
    /// Claims to be told to each node that waits for them.
    claims: HashMap<NodeId, Vec<(SessionId, Epoch)>>,
    released: HashMap<SessionId, Epoch>,
    /// Ends of the leases.
    leases: HashMap<NodeId, Instant>,
}

struct Record {
    holder: NodeId,
    epoch: Epoch,
    session: StoredSession,
}

impl Record {
    fn refuses(&self, node: &NodeId, epoch: Epoch) -> bool {
        self.epoch > epoch && self.holder != *node
    }
}

/// Behavior of a [`MemorySessionStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreFault {
    /// Works at once.
    #[default]
    None,
    /// Works after this time.
    Slow(Duration),
    /// Each call fails.
    Failing,
    /// Each call has its effect and then fails, as if the answer was lost.
    AnswersLost,
    /// No call completes.
    Frozen,
}

/// Call of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreCall {
    /// Sessions were written: their sockets, and the bytes.
    Write(Vec<String>, usize),
    /// This many sessions were removed.
    Remove(usize),
    /// A session was claimed.
    Claim,
    /// This many sessions were to be confirmed.
    Confirm(usize),
}

impl MemorySessionStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the behavior of later calls.
    pub fn set_fault(&self, fault: StoreFault) {
        self.state().fault = fault;
    }

    /// Returns the calls since the last time, including failed ones.
    pub fn take_calls(&self) -> Vec<StoreCall> {
        std::mem::take(&mut self.state().calls)
    }

    /// Returns the stored state of a session.
    pub fn get(&self, id: &SessionId) -> Option<StoredSession> {
        self.state().records.get(id).map(|record| record.session.clone())
    }

    /// Returns the node that holds a session.
    pub fn holder(&self, id: &SessionId) -> Option<NodeId> {
        self.state().records.get(id).map(|record| record.holder.clone())
    }

    /// Returns the number of stored sessions.
    pub fn len(&self) -> usize {
        self.state().records.len()
    }

    /// Returns whether no session is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a write or removal ever began before the previous one had ended.
    pub fn has_overlapped(&self) -> bool {
        self.state().overlapped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection of a node, which gets no further news of claims.
    pub fn disconnect(&self, node: &NodeId) {
        self.state().claims.remove(node);
    }

    /// Waits until there is a result.
    async fn until<T>(&self, mut find: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(found) = find(&mut self.state()) {
                return found;
            }
            news.await;
        }
    }

    async fn call<T>(&self, call: StoreCall, effect: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let _running =
            matches!(call, StoreCall::Write(..) | StoreCall::Remove(_)).then(|| Running::begin(self));
        let fault = {
            let mut state = self.state();
            state.calls.push(call);
            state.fault
        };
        match fault {
            StoreFault::None => {}
            StoreFault::Slow(time) => tokio::time::sleep(time).await,
            StoreFault::Failing => return Err(StoreError("fails".into())),
            StoreFault::Frozen => std::future::pending().await,
            StoreFault::AnswersLost => {
                effect(&mut self.state());
                return Err(StoreError("answer lost".into()));
            }
        }
        Ok(effect(&mut self.state()))
    }
}

#[allow(clippy::disallowed_methods, reason = "the clock of a test")]
fn now() -> Instant {
    Instant::now()
}

/// Time for which a claim waits for a former holder without a lease.
const RELEASE_LIMIT: Duration = Duration::from_millis(500);

/// Write or removal in progress.
struct Running<'a>(&'a MemorySessionStore);

impl<'a> Running<'a> {
    fn begin(store: &'a MemorySessionStore) -> Self {
        let mut state = store.state();
        state.running += 1;
        state.overlapped |= state.running > 1;
        drop(state);
        Self(store)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

#[async_trait]
impl SessionStore for MemorySessionStore {
    async fn write(&self, node: &NodeId, batch: &[SessionWrite]) -> Result<Vec<SessionId>, StoreError> {
        let sockets = batch.iter().map(|write| write.session.socket.to_string()).collect();
        let bytes = batch.iter().map(|write| write.session.byte_len()).sum();
        self.call(StoreCall::Write(sockets, bytes), |state| {
            let mut refused = Vec::new();
            for SessionWrite { id, epoch, session } in batch {
                let known = state.records.get(id);
                if known.is_some_and(|record| record.refuses(node, *epoch)) {
                    refused.push(id.clone());
                    continue;
                }
                let epoch = known.map_or(*epoch, |record| record.epoch.max(*epoch));
                let record = Record { holder: node.clone(), epoch, session: session.clone() };
                state.records.insert(id.clone(), record);
            }
            refused
        })
        .await
    }

    async fn remove(&self, node: &NodeId, batch: &[(SessionId, Epoch)]) -> Result<(), StoreError> {
        self.call(StoreCall::Remove(batch.len()), |state| {
            for (id, epoch) in batch {
                if state.records.get(id).is_some_and(|record| !record.refuses(node, *epoch)) {
                    state.records.remove(id);
                }
            }
        })
        .await
    }

    async fn claim(&self, node: &NodeId, id: &SessionId) -> Result<Option<Claimed>, StoreError> {
        let claim = self.call(StoreCall::Claim, |state| {
            let record = state.records.get_mut(id)?;
            record.epoch = record.epoch.next();
            let previous = std::mem::replace(&mut record.holder, node.clone());
            let told = state.claims.get_mut(&previous).filter(|_| previous != *node);
            let is_told = told.map(|claims| claims.push((id.clone(), record.epoch))).is_some();
            let until = state.leases.get(&previous).copied();
            Some((Claimed { epoch: record.epoch, previous, session: record.session.clone() }, is_told, until))
        });
        let Some((claimed, is_told, until)) = claim.await? else { return Ok(None) };
        if is_told {
            self.news.notify_waiters();
            let is_released = |state: &mut State| {
                state.released.get(id).is_some_and(|epoch| *epoch >= claimed.epoch).then_some(())
            };
            let until = until.unwrap_or_else(|| now() + RELEASE_LIMIT);
            let _ = tokio::time::timeout_at(until, self.until(is_released)).await;
        }
        Ok(Some(claimed))
    }

    async fn confirm(&self, node: &NodeId, held: &[(SessionId, Epoch)]) -> Result<Confirmed, StoreError> {
        self.call(StoreCall::Confirm(held.len()), |state| {
            let mut confirmed = Confirmed::default();
            for (id, epoch) in held {
                match state.records.get(id) {
                    Some(record) if record.refuses(node, *epoch) => confirmed.claimed.push(id.clone()),
                    Some(_) => {}
                    None => confirmed.missing.push(id.clone()),
                }
            }
            confirmed
        })
        .await
    }

    /// Is no [call](StoreCall).
    async fn renew(&self, node: &NodeId, lease: Duration) -> Result<(), StoreError> {
        let fault = self.state().fault;
        match fault {
            StoreFault::None => {}
            StoreFault::Slow(time) => tokio::time::sleep(time).await,
            StoreFault::Failing | StoreFault::AnswersLost => return Err(StoreError("fails".into())),
            StoreFault::Frozen => std::future::pending().await,
        }
        self.state().leases.insert(node.clone(), now() + lease);
        Ok(())
    }

    async fn claimed_elsewhere(&self, node: &NodeId) -> Result<Vec<(SessionId, Epoch)>, StoreError> {
        self.state().claims.entry(node.clone()).or_default();
        let claims = self.until(|state| {
            state.claims.get_mut(node).filter(|claims| !claims.is_empty()).map(std::mem::take)
        });
        Ok(claims.await)
    }

    async fn release(&self, _: &NodeId, sessions: &[(SessionId, Epoch)]) -> Result<(), StoreError> {
        self.state().released.extend(sessions.iter().cloned());
        self.news.notify_waiters();
        Ok(())
    }
}

impl fmt::Debug for MemorySessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemorySessionStore")
            .field("sessions", &state.records.len())
            .field("fault", &state.fault)
            .finish_non_exhaustive()
    }
}
