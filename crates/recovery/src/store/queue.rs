//! Queue of changed sessions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use roomcast_core::{MemberKey, SocketId};

use super::{
    Confirmed, Epoch, Fence, NodeId, SessionId, SessionStore, SessionWrite, StoreConfig, StoredSession,
};
use crate::retained::SharedData;

/// Source of the state of connected sessions.
pub(crate) trait SessionSource: Send + Sync {
    /// Returns the current state of a member, if it is attached.
    fn state(&self, key: MemberKey, socket: &SocketId) -> Option<StoredSession>;

    /// Drops a member whose session was claimed elsewhere.
    fn displaced(&self, key: MemberKey, socket: &SocketId);
}

/// Queue of the sessions that have changed since they were stored, of all namespaces.
///
/// A change marks a session; its state is read when it is written. So any number of changes becomes one write, and a
/// connected session takes the same memory for any number of changes. `roomcast_runtime::store_sessions` is the task
/// that writes.
pub struct SessionQueue {
    node: NodeId,
    store: Arc<dyn SessionStore>,
    config: StoreConfig,
    fence: Arc<Fence>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<MemberKey, Entry>,
    keys: HashMap<SessionId, MemberKey>,
    /// Changed sessions, in the order of their first change; may have entries that were written or removed since.
    changed: VecDeque<MemberKey>,
    /// Sessions that ended, and may be in the store.
    removed: VecDeque<(SessionId, Epoch)>,
    /// Disconnected sessions, in that order; may have entries that have returned or ended since.
    away: VecDeque<(MemberKey, u64)>,
    /// Disconnected sessions whose state is kept, likewise.
    kept: VecDeque<(MemberKey, u64)>,
    /// Number of disconnects.
    turns: u64,
    /// Bytes of the kept states and removals.
    bytes: usize,
    /// A batch is being written.
    writing: bool,
    flush: bool,
    writer: Option<Waker>,
    flushing: Vec<Waker>,
    /// Claims in progress: their number, and the highest epoch of another node's claim since.
    claiming: HashMap<SessionId, (usize, Option<Epoch>)>,
    /// Dropped sessions whose sockets may not have left yet.
    leaving: Vec<(MemberKey, Weak<dyn SessionSource>, SocketId)>,
    stats: StoreStats,
}

struct Entry {
    id: SessionId,
    socket: SocketId,
    epoch: Epoch,
    source: Weak<dyn SessionSource>,
    is_changed: bool,
    /// A batch had it, so it may be in the store.
    is_sent: bool,
    is_stored: bool,
    /// State of a disconnected session; its rooms and data share their text with the retained session.
    kept: Option<StoredSession>,
    /// Number of its disconnect, while it is disconnected.
    away: Option<u64>,
    /// How often it has returned.
    returns: u32,
}

/// Numbers of stored sessions since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Sessions written.
    pub written: u64,
    /// Calls of [`SessionStore::write`] that succeeded.
    pub batches: u64,
    /// Sessions removed.
    pub removed: u64,
    /// Calls of the store that failed, or timed out.
    pub failed: u64,
    /// Sessions dropped here because they were claimed elsewhere.
    pub displaced: u64,
    /// States and removals dropped because of [`StoreConfig::max_bytes`].
    pub dropped: u64,
    /// Times that all sessions were confirmed, since the process did not run for longer than its lease.
    pub confirmed: u64,
}

/// Sessions to be written, or to be removed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// Sessions to be written.
    pub writes: Vec<SessionWrite>,
    /// Sessions to be removed after that.
    pub removals: Vec<(SessionId, Epoch)>,
    keys: Vec<MemberKey>,
}

/// Source of a session's state, and its public id.
type Member = (Weak<dyn SessionSource>, SocketId);

/// Session that is about to disconnect.
pub(crate) struct Last {
    pub(crate) socket: SocketId,
    returns: u32,
}

/// Session of this node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) key: MemberKey,
    /// Whether it is certainly in the store, unless it was removed there.
    pub(crate) is_stored: bool,
}

/// Claim of a session in progress.
pub(crate) struct Claiming {
    queue: Arc<SessionQueue>,
    id: SessionId,
}

impl Claiming {
    /// Returns whether another node has claimed the session after this epoch.
    pub(crate) fn is_superseded(&self, epoch: Epoch) -> bool {
        let newest = self.queue.state().claiming.get(&self.id).and_then(|(_, newest)| *newest);
        newest.is_some_and(|newest| newest > epoch)
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if let Some((claims, _)) = state.claiming.get_mut(&self.id) {
            *claims -= 1;
            if *claims == 0 {
                state.claiming.remove(&self.id);
            }
        }
    }
}

/// Cost of a removal in memory.
const REMOVAL_COST: usize = 128;
/// Disconnected sessions whose epoch is remembered.
const MAX_AWAY: usize = 100_000;

impl SessionQueue {
    /// Creates an empty queue for a store.
    pub fn new(node: NodeId, store: Arc<dyn SessionStore>, config: StoreConfig) -> Self {
        Self { node, store, config, fence: Arc::default(), state: Mutex::default() }
    }

    /// Returns the id of this node.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn SessionStore> {
        &self.store
    }

    /// Returns how long changes are collected.
    pub fn interval(&self) -> Duration {
        self.config.interval
    }

    /// Returns after what time a call of the store counts as failed.
    pub fn write_timeout(&self) -> Duration {
        self.config.write_timeout
    }

    /// Returns after what time all sessions are written again.
    pub fn refresh_interval(&self) -> Duration {
        self.config.refresh
    }

    /// Returns for how long this process may be frozen without confirming its sessions.
    pub fn lease(&self) -> Duration {
        self.config.lease
    }

    /// Returns the fence around the sessions of this node.
    pub fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// Returns all sessions that may be in the store, to be [confirmed](SessionStore::confirm).
    pub fn held_sessions(&self) -> Vec<(SessionId, Epoch)> {
        let state = self.state();
        let sent = state.entries.values().filter(|entry| entry.is_sent);
        sent.map(|entry| (entry.id.clone(), entry.epoch)).collect()
    }

    /// Drops the sessions that are not confirmed, unless this node has claimed them since it asked for `held`.
    ///
    /// Returns their number.
    pub fn drop_unconfirmed(&self, held: &[(SessionId, Epoch)], confirmed: &Confirmed) -> usize {
        let Confirmed { claimed, missing } = confirmed;
        let [claimed, missing] = [claimed, missing].map(|ids| ids.iter().collect::<HashSet<_>>());
        let mut state = self.state();
        state.stats.confirmed += 1;
        let mut lost = Vec::new();
        for (id, epoch) in held.iter().filter(|(id, _)| claimed.contains(id) || missing.contains(id)) {
            let Some(key) = state.keys.get(id).copied() else { continue };
            let entry = state.entries.get(&key).filter(|entry| entry.epoch == *epoch);
            // One that was never stored was not claimed either.
            if entry.is_some_and(|entry| entry.is_stored || claimed.contains(id))
                && let Some(entry) = state.forget(key)
            {
                lost.push((key, entry.source, entry.socket));
            }
        }
        self.displace(state, &lost);
        lost.len()
    }

    /// Drops the members of sessions that this node has lost.
    fn displace(
        &self,
        mut state: MutexGuard<'_, State>,
        lost: &[(MemberKey, Weak<dyn SessionSource>, SocketId)],
    ) {
        state.stats.displaced += lost.len() as u64;
        state.leaving.extend(lost.iter().cloned());
        drop(state);
        for (key, source, socket) in lost {
            source.upgrade().into_iter().for_each(|source| source.displaced(*key, socket));
        }
    }

    /// Marks all sessions as changed, so that the store reports the sessions that other nodes have claimed.
    pub fn mark_all(&self) {
        let mut state = self.state();
        let State { entries, changed, .. } = &mut *state;
        for (key, entry) in entries {
            // The last state of a disconnected session may have been dropped.
            let is_known = entry.away.is_none() || entry.kept.is_some();
            if is_known && !std::mem::replace(&mut entry.is_changed, true) {
                changed.push_back(*key);
            }
        }
        self.wake(state);
    }

    /// Drops the sessions that other nodes have claimed with these epochs, unless this node has claimed them since.
    ///
    /// Returns their number. [`has_leaving`](Self::has_leaving) returns whether their sockets have left.
    pub fn drop_claimed(&self, claims: &[(SessionId, Epoch)]) -> usize {
        let mut lost = Vec::new();
        let mut state = self.state();
        for (id, epoch) in claims {
            if let Some((_, newest)) = state.claiming.get_mut(id) {
                *newest = (*newest).max(Some(*epoch));
            }
            let Some(key) = state.keys.get(id).copied() else { continue };
            if state.entries.get(&key).is_some_and(|entry| entry.epoch < *epoch)
                && let Some(entry) = state.forget(key)
            {
                lost.push((key, entry.source, entry.socket));
            }
        }
        self.displace(state, &lost);
        lost.len()
    }

    /// Records that a claim of a session is in progress, until the result is dropped.
    pub(crate) fn claiming(self: &Arc<Self>, id: &SessionId) -> Claiming {
        self.state().claiming.entry(id.clone()).or_default().0 += 1;
        Claiming { queue: self.clone(), id: id.clone() }
    }

    /// Returns whether sockets of [dropped](Self::drop_claimed) sessions have not left yet.
    pub fn has_leaving(&self) -> bool {
        let mut leaving = std::mem::take(&mut self.state().leaving);
        // Asked without a lock held.
        leaving.retain(|(key, source, socket)| is_attached(*key, source, socket));
        let mut state = self.state();
        state.leaving.append(&mut leaving);
        !state.leaving.is_empty()
    }

    /// Returns the numbers of stored sessions.
    pub fn stats(&self) -> StoreStats {
        self.state().stats
    }

    /// Returns the number of sessions and removals that wait, and the bytes kept for them.
    pub fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        let changed = state.entries.values().filter(|entry| entry.is_changed).count();
        (changed + state.removed.len(), state.bytes)
    }

    /// Polls until something has changed; for the task that writes, which is the only one.
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_writer(cx, |state| !state.is_empty())
    }

    /// Polls until the changes are to be written at once; for the task that writes.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_writer(cx, |state| state.flush)
    }

    fn poll_writer(&self, cx: &mut Context<'_>, is_ready: impl Fn(&State) -> bool) -> Poll<()> {
        let mut state = self.state();
        if is_ready(&state) {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Has all changes written at once, and waits until they are.
    ///
    /// Waits without limit while the store fails.
    pub async fn flush(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if state.is_empty() && !state.writing {
                return Poll::Ready(());
            }
            state.flush = true;
            state.flushing.push(cx.waker().clone());
            let writer = state.writer.take();
            drop(state);
            writer.into_iter().for_each(Waker::wake);
            Poll::Pending
        })
        .await;
    }

    /// Takes the next batch, if anything has changed. Each batch must be given to [`written`](Self::written) or
    /// [`failed`](Self::failed) before the next is taken.
    pub fn take(&self) -> Option<Batch> {
        let mut batch = Batch { writes: Vec::new(), removals: Vec::new(), keys: Vec::new() };
        let mut bytes = 0;
        while bytes < self.config.batch_bytes
            && let Some((key, id, epoch, state)) = self.next()
        {
            let session = match state {
                Ok(kept) => Some(kept),
                // Asked without a lock held.
                Err((source, socket)) => source.upgrade().and_then(|source| source.state(key, &socket)),
            };
            // It has disconnected in the meantime, and is marked again.
            let Some(session) = session else { continue };
            bytes += session.byte_len();
            batch.keys.push(key);
            batch.writes.push(SessionWrite { id, epoch, session });
        }
        let mut state = self.state();
        while bytes < self.config.batch_bytes
            && let Some(removal) = state.removed.pop_front()
        {
            state.bytes -= REMOVAL_COST;
            bytes += REMOVAL_COST;
            batch.removals.push(removal);
        }
        if batch.writes.is_empty() && batch.removals.is_empty() {
            state.end_write();
            return None;
        }
        state.writing = true;
        Some(batch)
    }

    /// Returns the next changed session with its kept state, or the source of its state.
    fn next(&self) -> Option<(MemberKey, SessionId, Epoch, Result<StoredSession, Member>)> {
        let mut state = self.state();
        let state = &mut *state;
        while let Some(key) = state.changed.pop_front() {
            let Some(entry) = state.entries.get_mut(&key) else { continue };
            if !std::mem::take(&mut entry.is_changed) {
                continue;
            }
            let kept = match &entry.kept {
                Some(kept) => Ok(kept.clone()),
                None => Err((entry.source.clone(), entry.socket.clone())),
            };
            entry.is_sent = true;
            return Some((key, entry.id.clone(), entry.epoch, kept));
        }
        None
    }

    /// Records that a batch was written, except for the refused sessions, which are dropped here.
    pub fn written(&self, batch: Batch, refused: &[SessionId]) {
        let mut lost = Vec::new();
        let mut state = self.state();
        state.stats.batches += u64::from(!batch.writes.is_empty());
        state.stats.removed += batch.removals.len() as u64;
        for (key, write) in batch.keys.into_iter().zip(batch.writes) {
            let is_refused = refused.contains(&write.id);
            state.stats.written += u64::from(!is_refused);
            let Some(entry) = state.entries.get_mut(&key).filter(|entry| entry.epoch == write.epoch) else {
                continue;
            };
            entry.is_stored = true;
            if is_refused && let Some(entry) = state.forget(key) {
                state.stats.displaced += 1;
                lost.push((key, entry.source, entry.socket));
            }
        }
        state.end_write();
        drop(state);
        for (key, source, socket) in lost {
            source.upgrade().into_iter().for_each(|source| source.displaced(key, &socket));
        }
    }

    /// Puts a batch back that failed; its sessions are written in their latest state.
    pub fn failed(&self, batch: Batch) {
        let mut state = self.state();
        state.stats.failed += 1;
        for (key, write) in batch.keys.into_iter().zip(batch.writes).rev() {
            let Some(entry) = state.entries.get_mut(&key).filter(|entry| entry.epoch == write.epoch) else {
                continue;
            };
            // The state of a disconnected session was dropped during the write.
            if entry.away.is_some() && entry.kept.is_none() && !entry.is_changed {
                state.stats.dropped += 1;
                continue;
            }
            let is_newer = std::mem::replace(&mut entry.is_changed, true);
            if !is_newer {
                state.changed.push_front(key);
            }
        }
        for removal in batch.removals.into_iter().rev() {
            state.bytes += REMOVAL_COST;
            state.removed.push_front(removal);
        }
        state.writing = false;
        state.limit(self.config.max_bytes);
    }

    /// Adds a session that is new, or was claimed from another process with a higher epoch.
    pub(crate) fn add(
        &self,
        key: MemberKey,
        id: SessionId,
        socket: SocketId,
        epoch: Epoch,
        source: Weak<dyn SessionSource>,
    ) {
        let mut state = self.state();
        state.keys.insert(id.clone(), key);
        state.entries.insert(
            key,
            Entry {
                id,
                socket,
                epoch,
                source,
                is_changed: false,
                is_sent: epoch > Epoch::FIRST,
                is_stored: epoch > Epoch::FIRST,
                kept: None,
                away: None,
                returns: 0,
            },
        );
        self.mark(state, key);
    }

    /// Marks a session as changed.
    pub(crate) fn changed(&self, key: MemberKey) {
        self.mark(self.state(), key);
    }

    /// Records that a session is connected again.
    pub(crate) fn returned(&self, key: MemberKey) {
        let mut state = self.state();
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.away = None;
            entry.returns = entry.returns.wrapping_add(1);
            let kept = entry.kept.take();
            state.bytes -= kept.map_or(0, |kept| kept.byte_len());
        }
        self.mark(state, key);
    }

    /// Keeps the last state of a session that has disconnected, unless it has returned since `last` was taken.
    pub(crate) fn disconnected(&self, key: MemberKey, last: Last, session: StoredSession) {
        let mut state = self.state();
        state.turns += 1;
        let turn = state.turns;
        let entry = state.entries.get_mut(&key).filter(|entry| entry.returns == last.returns);
        let Some(entry) = entry else { return };
        entry.away = Some(turn);
        let bytes = session.byte_len();
        let before = entry.kept.replace(session);
        state.bytes += bytes;
        state.bytes -= before.map_or(0, |before| before.byte_len());
        state.away.push_back((key, turn));
        state.kept.push_back((key, turn));
        state.limit(self.config.max_bytes);
        self.mark(state, key);
    }

    /// Marks a session whose data has changed, whether it is connected or not.
    pub(crate) fn data_changed(&self, key: MemberKey, data: &SharedData) {
        let mut state = self.state();
        let State { entries, bytes, .. } = &mut *state;
        let entry = entries.get_mut(&key);
        if let Some(kept) = entry.and_then(|entry| entry.kept.as_mut()) {
            *bytes -= kept.data.len() + kept.handled.len();
            (kept.data, kept.handled) = (data.get(), data.handled());
            *bytes += kept.data.len() + kept.handled.len();
            state.limit(self.config.max_bytes);
        }
        self.mark(state, key);
    }

    /// Returns the id with which the last state of a disconnecting session is read.
    pub(crate) fn last(&self, key: MemberKey) -> Option<Last> {
        let state = self.state();
        let entry = state.entries.get(&key)?;
        Some(Last { socket: entry.socket.clone(), returns: entry.returns })
    }

    /// Removes a session that has ended.
    pub(crate) fn ended(&self, key: MemberKey) {
        let mut state = self.state();
        let Some(entry) = state.forget(key) else { return };
        if !entry.is_sent {
            return;
        }
        self.push_removal(state, entry.id, entry.epoch);
    }

    /// Removes a session that was claimed in the store, but is not recovered.
    pub(crate) fn remove(&self, id: SessionId, epoch: Epoch) {
        self.push_removal(self.state(), id, epoch);
    }

    fn push_removal(&self, mut state: MutexGuard<'_, State>, id: SessionId, epoch: Epoch) {
        state.removed.push_back((id, epoch));
        state.bytes += REMOVAL_COST;
        state.limit(self.config.max_bytes);
        self.wake(state);
    }

    /// Returns a session of this node.
    pub(crate) fn held(&self, id: &SessionId) -> Option<Held> {
        let state = self.state();
        let key = *state.keys.get(id)?;
        Some(Held { key, is_stored: state.entries.get(&key)?.is_stored })
    }

    /// Records the epoch of a claim by this node.
    pub(crate) fn claimed(&self, key: MemberKey, epoch: Epoch) {
        let mut state = self.state();
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.epoch = entry.epoch.max(epoch);
        }
    }

    /// Drops a session that was claimed elsewhere.
    pub(crate) fn displaced(&self, key: MemberKey) {
        let mut state = self.state();
        state.stats.displaced += u64::from(state.forget(key).is_some());
    }

    fn mark(&self, mut state: MutexGuard<'_, State>, key: MemberKey) {
        let Some(entry) = state.entries.get_mut(&key) else { return };
        if std::mem::replace(&mut entry.is_changed, true) {
            return;
        }
        state.changed.push_back(key);
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.changed.is_empty()
    }

    fn end_write(&mut self) {
        self.writing = false;
        if self.is_empty() {
            self.flush = false;
            // Woken under the lock: a waker of a task only schedules it.
            self.flushing.drain(..).for_each(Waker::wake);
        }
    }

    fn forget(&mut self, key: MemberKey) -> Option<Entry> {
        let mut entry = self.entries.remove(&key)?;
        if self.keys.get(&entry.id) == Some(&key) {
            self.keys.remove(&entry.id);
        }
        self.bytes -= entry.kept.take().map_or(0, |kept| kept.byte_len());
        Some(entry)
    }

    /// Drops what exceeds the limits: the states of the clients that disconnected first, then the oldest removals.
    fn limit(&mut self, max_bytes: usize) {
        while (self.bytes > max_bytes || self.kept.len() > MAX_AWAY)
            && let Some((key, turn)) = self.kept.pop_front()
        {
            let entry = self.entries.get_mut(&key).filter(|entry| entry.away == Some(turn));
            if let Some(entry) = entry
                && let Some(kept) = entry.kept.take()
            {
                self.bytes -= kept.byte_len();
                self.stats.dropped += u64::from(entry.is_changed);
            }
        }
        while self.away.len() > MAX_AWAY
            && let Some((key, turn)) = self.away.pop_front()
        {
            if self.entries.get(&key).is_some_and(|entry| entry.away == Some(turn)) {
                self.forget(key);
            }
        }
        while self.bytes > max_bytes && self.removed.pop_front().is_some() {
            self.bytes -= REMOVAL_COST;
            self.stats.dropped += 1;
        }
        if self.changed.len() > 2 * self.entries.len() + COMPACT_FROM {
            self.changed.retain(|key| self.entries.contains_key(key));
        }
    }
}

fn is_attached(key: MemberKey, source: &Weak<dyn SessionSource>, socket: &SocketId) -> bool {
    source.upgrade().is_some_and(|source| source.state(key, socket).is_some())
}

/// Stale keys tolerated beyond the number of sessions.
const COMPACT_FROM: usize = 64;

impl fmt::Debug for SessionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionQueue").field("store", &self.store).finish_non_exhaustive()
    }
}
