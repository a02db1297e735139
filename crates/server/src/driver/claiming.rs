//! Claiming the session of a client that returns, also from its old connection

use std::task::Context;
use std::time::Instant;

use roomcast_core::{CloseReason, Command, MemberKey, Namespace};
use roomcast_recovery::{Claim, ClaimResult, PendingRecovery};
use tokio::sync::oneshot;

use super::state::Driver;
use crate::app::model::io::SessionShared;
use crate::app::model::namespace_state::NamespaceState;
use crate::session::recovery::{self, Recoverable, RecoveryCredentials};
use crate::session::shared::ClientKind;
use crate::util::ids;

impl Driver {
    /// Starts to claim the session of a reconnecting client.
    ///
    /// If its old connection is not known to be dead, that connection's driver first lets the socket leave, as for a
    /// broken connection. So a session is claimed in one way only, and disconnect handlers start before the connect
    /// handlers of the client that waited for them. Of several clients that return at once, the first claim wins.
    pub(super) fn claim(&self, state: &NamespaceState, auth: &str) -> Option<Claim> {
        let recovery = state.recovery.as_ref()?;
        let SessionShared { kind, handshake, outbox, io, .. } = &*self.shared;
        let shown = RecoveryCredentials::by(*kind, auth, handshake)?;
        // A replay needs memory like any emit, and may evict clients.
        let room = if state.budget.admit().is_ok() { io.config().limits.outbox_max / 2 } else { 0 };
        let Some(left) = self.take_over(state, &shown) else {
            return Some(shown.claim(recovery, outbox, room));
        };
        let (recovery, outbox) = (recovery.clone(), outbox.clone());
        Some(Claim::Pending(Box::pin(async move {
            // An error means the same: the request was dropped.
            let _ = left.await;
            shown.claim(&recovery, &outbox, room).outcome().await
        })))
    }

    /// Requests the session of a client that is attached by another connection; the receiver ends once it has left.
    fn take_over(
        &self,
        state: &NamespaceState,
        shown: &RecoveryCredentials,
    ) -> Option<oneshot::Receiver<()>> {
        let (key, id) = shown.attached(&**state.recovery.as_ref()?)?;
        let socket = state.attached(key, &id)?;
        socket.take_over(&self.shared)
    }

    /// Closes this connection for a socket whose client has returned on another one.
    pub(super) fn taken_over(&mut self, key: MemberKey, cx: &mut Context<'_>, now: Instant) {
        if !self.phase.is_closing() {
            self.read_remaining(cx, now);
        }
        // The socket has left if the session is closing.
        let Some(namespace) = self.members.namespace_of(key) else { return };
        self.leave(&namespace, CloseReason::TakenOver, cx);
        self.close_for(namespace, cx, now);
    }

    /// Closes this connection for a socket whose session continues on another node; calls no disconnect handlers.
    pub(super) fn displaced(&mut self, key: MemberKey, cx: &mut Context<'_>, now: Instant) {
        let Some(namespace) = self.members.namespace_of(key) else { return };
        if let Some(member) = self.members.remove(&namespace) {
            let socket = member.socket();
            tracing::debug!(socket = %socket.id(), namespace = %socket.name_of_namespace(), "client displaced");
            socket.detach(false, None);
            member.waiting.iter().for_each(|inbound| self.handlers_running.release(inbound));
        }
        self.close_for(namespace, cx, now);
    }

    /// Closes this connection after a socket has left for another one.
    fn close_for(&mut self, namespace: Namespace, cx: &mut Context<'_>, now: Instant) {
        if self.shared.kind == ClientKind::SocketIo {
            // If the client is alive after all, it does not reconnect by itself and take its session back.
            self.session.handle_command(Command::Disconnect { namespace }, now);
            self.perform(cx, now);
        }
        if self.shared.outbox.status().writable {
            self.session.handle_command(Command::Close(CloseReason::TakenOver), now);
        } else {
            // The queue is replayed on the other connection.
            self.shared.outbox.evict(CloseReason::TakenOver);
            self.evict(CloseReason::TakenOver, now);
        }
        self.perform(cx, now);
    }

    /// Counts a refused claim.
    pub(super) fn count_claim(
        &self,
        result: ClaimResult,
        state: &NamespaceState,
    ) -> Option<Box<dyn PendingRecovery>> {
        match result {
            Ok(claim) => Some(claim),
            Err(refused) => {
                self.shared.io.metrics().recoveries.count_refused(refused);
                tracing::debug!(namespace = %state.name, reason = refused.as_str(), "recovery refused");
                None
            }
        }
    }

    /// Returns the recovery credentials of a client, if its kind supports recovery.
    pub(super) fn recovery(
        &self,
        state: &NamespaceState,
        claim: Option<&dyn PendingRecovery>,
    ) -> Option<Box<Recoverable>> {
        let retainer = state.recovery.clone()?;
        recovery::order(self.shared.kind)?;
        let kept = claim.map(|claim| claim.secret().clone());
        let secret = kept.unwrap_or_else(ids::recovery_secret);
        Some(Box::new(Recoverable { retainer, secret, recovered: claim.is_some() }))
    }
}
