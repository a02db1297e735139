//! Claim of a session in a store, and then on this node.

use std::fmt;
use std::sync::{Arc, Weak};

use bytestring::ByteString;
use roomcast_core::{Member, MemberKey, Room, SocketId};

use super::queue::{Claiming, Held, SessionQueue, SessionSource};
use super::{Claimed, Epoch, SessionId};
use crate::owner::Owner;
use crate::pending_recovery::{Order, RecoveryError};
use crate::recovery::{ClaimResult, PendingRecovery, Recovery};
use crate::retained::SharedData;

/// Claim of a session by its key in the store.
pub(crate) struct SessionClaim {
    pub(crate) inner: Arc<dyn Recovery>,
    pub(crate) queue: Arc<SessionQueue>,
    pub(crate) source: Weak<dyn SessionSource>,
    pub(crate) id: SessionId,
    pub(crate) offset: Option<ByteString>,
    pub(crate) budget: usize,
}

impl SessionClaim {
    /// Claims the session in the store, and then in the wrapped recovery.
    ///
    /// `held` is its state on this node, if any.
    pub(crate) async fn run(self, held: Option<Held>) -> ClaimResult {
        let Self { inner, queue, id, offset, budget, .. } = &self;
        let claiming = queue.claiming(id);
        let claimed = queue.store().claim(queue.node(), id).await.map_err(|_| RecoveryError::Unavailable)?;
        let is_own = claimed.as_ref().is_none_or(|claimed| claimed.previous == *queue.node());
        let held = match held {
            // Not stored so far.
            Some(held) if claimed.is_none() && !held.is_stored => Some(held),
            Some(held) if claimed.is_some() && is_own => Some(held),
            // Another node has claimed it, and has removed it if there is none.
            Some(held) => {
                queue.displaced(held.key);
                inner.forget(held.key);
                None
            }
            None => None,
        };
        let Some(held) = held else {
            return match claimed {
                Some(claimed) => self.adopt(claimed, claiming).await,
                None => Err(RecoveryError::Unknown),
            };
        };
        if let Some(claimed) = claimed {
            queue.claimed(held.key, claimed.epoch);
        }
        match inner.clone().claim(&id.secret, offset.as_deref(), *budget).outcome().await {
            Ok(pending) => Ok(Box::new(StoredClaim { pending, queue: queue.clone(), adopted: None })),
            Err(refused) => {
                // The session is retained after an invalid offset, and may be claimed by another client right now.
                if refused.drops_session() || refused == RecoveryError::Expired {
                    queue.ended(held.key);
                }
                Err(refused)
            }
        }
    }

    /// Recovers a session that another process retained.
    async fn adopt(self, claimed: Claimed, claiming: Claiming) -> ClaimResult {
        let Self { inner, queue, source, id, offset, budget } = self;
        let Claimed { epoch, session, .. } = claimed;
        match inner.claim_stored(&id.secret, &session, offset.as_deref(), budget).outcome().await {
            Ok(pending) => {
                let adopted = Some(Adopted { id, epoch, source, claiming });
                Ok(Box::new(StoredClaim { pending, queue, adopted }))
            }
            Err(refused) => {
                if refused.drops_session() {
                    queue.remove(id, epoch);
                }
                Err(refused)
            }
        }
    }
}

/// Session of another process that is being recovered here.
struct Adopted {
    id: SessionId,
    epoch: Epoch,
    source: Weak<dyn SessionSource>,
    claiming: Claiming,
}

/// Pending recovery whose session is stored again once it is attached.
struct StoredClaim {
    pending: Box<dyn PendingRecovery>,
    queue: Arc<SessionQueue>,
    /// Set if another process retained the session.
    adopted: Option<Adopted>,
}

impl fmt::Debug for StoredClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredClaim").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl PendingRecovery for StoredClaim {
    fn key(&self) -> MemberKey {
        self.pending.key()
    }

    fn id(&self) -> &SocketId {
        self.pending.id()
    }

    fn secret(&self) -> &ByteString {
        self.pending.secret()
    }

    fn data(&self) -> &SharedData {
        self.pending.data()
    }

    fn rooms(&self) -> Vec<Room> {
        self.pending.rooms()
    }

    fn skips_middlewares(&self) -> bool {
        self.pending.skips_middlewares()
    }

    fn resume(
        self: Box<Self>,
        member: Member,
        owner: Option<Owner>,
        order: Order,
        welcome: &mut dyn FnMut(),
    ) -> Result<MemberKey, RecoveryError> {
        let Self { pending, queue, adopted } = *self;
        let (before, socket) = (pending.key(), pending.id().clone());
        // Another node may have claimed it in the meantime, and goes on without waiting for this one.
        if adopted.as_ref().is_some_and(|adopted| adopted.claiming.is_superseded(adopted.epoch)) {
            return Err(RecoveryError::Unknown);
        }
        let resumed = pending.resume(member, owner, order, welcome);
        match (&resumed, adopted) {
            (Ok(key), None) => queue.returned(*key),
            (Ok(key), Some(Adopted { id, epoch, source, .. })) => queue.add(*key, id, socket, epoch, source),
            (Err(_), None) => queue.ended(before),
            (Err(refused), Some(Adopted { id, epoch, .. })) if refused.drops_session() => {
                queue.remove(id, epoch);
            }
            // Another client has recovered it here with the same token.
            (Err(_), Some(_)) => {}
        }
        resumed
    }
}
