//! Pending connects, claims and dynamic namespaces, while the application or a store decides

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::Namespace;
use roomcast_recovery::{ClaimResult, PendingRecovery, RecoveryError};

use super::members::SocketGuard;
use crate::app::model::event_input::AnyHandler;
use crate::app::model::io::Io;
use crate::app::model::namespace_state::NamespaceState;
use crate::app::model::parents::Parent;
use crate::app::model::socket::Socket;

/// Pending connect: middlewares still to run.
pub(crate) struct PendingConnect {
    pub(super) guard: SocketGuard,
    pub(super) auth: ByteString,
    pub(super) rest: std::vec::IntoIter<AnyHandler>,
    /// Whether it waits for the cluster, before the middlewares.
    pub(super) waits_for_cluster: bool,
    /// Deadline for all middlewares, set once one of them is pending.
    pub(super) deadline: Option<Instant>,
    /// State retained for recovery, if the client reconnects
    pub(super) claim: Option<Box<dyn PendingRecovery>>,
}

impl PendingConnect {
    pub(crate) fn socket(&self) -> &Socket {
        &self.guard.0
    }
}

/// Claim of a retained session that waits for a store.
pub(crate) struct PendingClaim {
    pub(super) entered: EnteredNamespace,
    pub(super) auth: ByteString,
    pub(super) result: SharedResult,
    /// Deadline of the whole connect
    pub(super) deadline: Instant,
}

/// Place where the future of a claim puts its result.
///
/// If both are dropped with a result, it is dropped too, which puts the session back.
#[derive(Clone, Default)]
pub(super) struct SharedResult(Arc<Mutex<Option<ClaimResult>>>);

impl SharedResult {
    pub(super) fn set(&self, result: ClaimResult) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    /// Takes the result of a claim that has ended.
    pub(super) fn take(&self) -> ClaimResult {
        let result = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It panicked or timed out.
        result.unwrap_or(Err(RecoveryError::Unavailable))
    }
}

/// Guard of a namespace that a client has entered without a socket.
pub(super) struct EnteredNamespace(Option<(Io, Arc<NamespaceState>)>);

impl EnteredNamespace {
    pub(super) fn new(io: &Io, state: &Arc<NamespaceState>) -> Self {
        Self(Some((io.clone(), state.clone())))
    }

    /// Returns the namespace, which the caller releases.
    pub(super) fn into_state(mut self) -> Option<Arc<NamespaceState>> {
        self.0.take().map(|(_, state)| state)
    }
}

impl Drop for EnteredNamespace {
    fn drop(&mut self) {
        if let Some((io, state)) = &self.0 {
            io.release(state);
        }
    }
}

/// Request for a dynamic namespace, with the parents still to ask.
pub(crate) struct PendingNamespace {
    pub(super) namespace: Namespace,
    pub(super) auth: ByteString,
    /// Parent whose decision is pending
    pub(super) asked: Option<Arc<Parent>>,
    pub(super) rest: std::vec::IntoIter<Arc<Parent>>,
}

impl PendingNamespace {
    pub(super) fn new(namespace: Namespace, auth: ByteString, parents: Vec<Arc<Parent>>) -> Self {
        Self { namespace, auth, asked: None, rest: parents.into_iter() }
    }
}
