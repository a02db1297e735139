//! Clients that ask to join a namespace, while the application decides

use std::sync::Arc;
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::Namespace;
use roomcast_recovery::Claim;

use super::members::Stay;
use crate::app::model::event_input::AnyHandler;
use crate::app::model::parents::Parent;
use crate::app::model::socket::Socket;

/// A client at the door: the middlewares that have not agreed yet
pub(crate) struct Admission {
    pub(super) stay: Stay,
    pub(super) auth: ByteString,
    pub(super) rest: std::vec::IntoIter<AnyHandler>,
    /// Until when all of them have to agree, once one has waited.
    pub(super) deadline: Option<Instant>,
    /// What was kept for it, if it has been here before
    pub(super) claim: Option<Box<Claim>>,
}

impl Admission {
    pub(crate) fn socket(&self) -> &Socket {
        &self.stay.0
    }
}

/// A namespace that a client asks for, and the parents that have not been asked yet
pub(crate) struct Opening {
    pub(super) namespace: Namespace,
    pub(super) auth: ByteString,
    /// Whose answer is waited for
    pub(super) asked: Option<Arc<Parent>>,
    pub(super) rest: std::vec::IntoIter<Arc<Parent>>,
}

impl Opening {
    pub(super) fn new(namespace: Namespace, auth: ByteString, parents: Vec<Arc<Parent>>) -> Self {
        Self { namespace, auth, asked: None, rest: parents.into_iter() }
    }
}
