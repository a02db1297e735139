//! Parents of dynamic namespaces.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};

use bytestring::ByteString;
use roomcast_core::{Args, ArgsError, Namespace};
use serde::de::DeserializeOwned;

use crate::app::model::handler_future::HandlerFuture;
use crate::app::model::io::{Io, SessionShared};
use crate::app::model::namespace_state::{Children, NamespaceState};
use crate::session::shared::ClientKind;
use crate::web::handshake::Handshake;

/// Request of a client to connect to a namespace that does not exist yet.
#[derive(Clone)]
pub struct NamespaceRequest {
    name: Namespace,
    auth: ByteString,
    session: Arc<SessionShared>,
}

impl NamespaceRequest {
    /// Returns the requested name.
    pub fn name(&self) -> &Namespace {
        &self.name
    }

    /// Returns the auth payload of the client; an empty object if it sent none.
    ///
    /// # Errors
    /// Returns an error if the payload is not a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        let json = if self.auth.is_empty() { ByteString::from_static("{}") } else { self.auth.clone() };
        Args::from_validated(json, Vec::new()).get(0)
    }

    /// Returns the handshake request of the session.
    pub fn handshake(&self) -> &Handshake {
        &self.session.handshake
    }

    /// Returns the protocol of the client.
    pub fn kind(&self) -> ClientKind {
        self.session.kind
    }

    /// Returns the server.
    pub fn io(&self) -> &Io {
        &self.session.io
    }
}

impl fmt::Debug for NamespaceRequest {
    // The auth payload may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// State of dynamic namespaces.
#[derive(Default)]
pub(crate) struct Dynamic {
    pub(crate) parents: RwLock<Vec<Arc<Parent>>>,
    pub(crate) hooks: RwLock<Vec<Arc<Hook>>>,
    /// Number of existing dynamic namespaces.
    pub(crate) children: AtomicUsize,
    /// Number of parents that have been named.
    pub(crate) parents_numbered: AtomicUsize,
}

/// Called with each new namespace.
pub(crate) type Hook = dyn Fn(&Io, &Arc<NamespaceState>) + Send + Sync;

/// Parent of dynamic namespaces.
pub(crate) struct Parent {
    pub(crate) rule: Rule,
    pub(crate) state: Arc<NamespaceState>,
    pub(crate) children: Arc<Children>,
}

/// Rule that decides which namespaces a parent creates.
pub(crate) enum Rule {
    Name(Box<dyn Fn(&Namespace) -> bool + Send + Sync>),
    Ask(Box<dyn Fn(NamespaceRequest) -> HandlerFuture + Send + Sync>),
}

/// Decision whether a client may create a namespace.
pub(crate) enum Verdict {
    Known(bool),
    /// Pending; allowed if the future completes successfully.
    Asked(HandlerFuture),
}

impl Parent {
    /// Returns whether the name alone allows the namespace.
    pub(crate) fn fits(&self, name: &Namespace) -> bool {
        matches!(&self.rule, Rule::Name(matches) if matches(name))
    }

    /// Decides whether a client may create the namespace.
    ///
    /// # Panics
    /// Panics if the application's predicate panics.
    pub(crate) fn judge(&self, name: &Namespace, auth: &ByteString, session: &Arc<SessionShared>) -> Verdict {
        match &self.rule {
            Rule::Name(matches) => Verdict::Known(matches(name)),
            Rule::Ask(allows) => Verdict::Asked(allows(NamespaceRequest {
                name: name.clone(),
                auth: auth.clone(),
                session: session.clone(),
            })),
        }
    }
}
