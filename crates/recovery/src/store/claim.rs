//! Claim of a session that this node holds, after the store has agreed.

use std::sync::Arc;

use bytestring::ByteString;
use roomcast_core::{Member, MemberKey, Room, SocketId};

use super::SessionId;
use super::queue::{Held, SessionQueue};
use crate::owner::Owner;
use crate::pending_recovery::{Order, RecoveryError};
use crate::recovery::{ClaimResult, PendingRecovery, Recovery};
use crate::retained::SharedData;

/// Claims a session in the store, and then in the recovery that retains it.
pub(crate) async fn claim_stored(
    inner: Arc<dyn Recovery>,
    queue: Arc<SessionQueue>,
    id: SessionId,
    held: Held,
    offset: Option<ByteString>,
    budget: usize,
) -> ClaimResult {
    let claimed = queue.store().claim(queue.node(), &id).await.map_err(|_| RecoveryError::Unavailable)?;
    match claimed {
        // Not stored so far.
        None if !held.is_stored => {}
        Some(claimed) if claimed.previous == *queue.node() => queue.claimed(held.key, claimed.epoch),
        // Another node has claimed it, and has removed it in the first case.
        None | Some(_) => {
            queue.displaced(held.key);
            inner.forget(held.key);
            return Err(RecoveryError::Unknown);
        }
    }
    match inner.claim(&id.secret, offset.as_deref(), budget).outcome().await {
        Ok(pending) => Ok(Box::new(StoredClaim { pending, queue })),
        Err(refused) => {
            // The session is retained after an invalid offset, and may be claimed by another client right now.
            if matches!(refused, RecoveryError::Overflow | RecoveryError::TooLarge | RecoveryError::Expired) {
                queue.ended(held.key);
            }
            Err(refused)
        }
    }
}

/// Pending recovery whose session is stored again once it is attached.
#[derive(Debug)]
struct StoredClaim {
    pending: Box<dyn PendingRecovery>,
    queue: Arc<SessionQueue>,
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
        let Self { pending, queue } = *self;
        let before = pending.key();
        let resumed = pending.resume(member, owner, order, welcome);
        match resumed {
            Ok(key) => queue.returned(key),
            Err(_) => queue.ended(before),
        }
        resumed
    }
}
