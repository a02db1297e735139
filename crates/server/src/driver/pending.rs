//! Pending connects and pending dynamic namespaces, while the application decides

use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::Namespace;
use roomcast_recovery::PendingRecovery;

use super::members::SocketGuard;
use crate::app::model::event_input::AnyHandler;
use crate::app::model::parents::Parent;
use crate::app::model::socket::Socket;

/// Pending connect: middlewares still to run.
pub(crate) struct PendingConnect {
    pub(super) guard: SocketGuard,
    pub(super) auth: ByteString,
    pub(super) rest: std::vec::IntoIter<AnyHandler>,
    /// Deadline for all middlewares, set once one of them is pending.
    pub(super) deadline: Option<Instant>,
    /// State retained for recovery, if the client reconnects
    pub(super) claim: Option<Box<PendingRecovery>>,
}

impl PendingConnect {
    pub(crate) fn socket(&self) -> &Socket {
        &self.guard.0
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
