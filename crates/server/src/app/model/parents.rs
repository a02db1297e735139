//! Parents of the namespaces that are made when a client asks for them

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

/// A client asks for a namespace that is not there
#[derive(Clone)]
pub struct NamespaceRequest {
    name: Namespace,
    auth: ByteString,
    session: Arc<SessionShared>,
}

impl NamespaceRequest {
    /// The name that it asks for
    pub fn name(&self) -> &Namespace {
        &self.name
    }

    /// What it shows for it; an empty object if it shows nothing
    ///
    /// # Errors
    /// When it shows something else than a `T`.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        let json = if self.auth.is_empty() { ByteString::from_static("{}") } else { self.auth.clone() };
        Args::from_validated(json, Vec::new()).get(0)
    }

    /// The request that its session began with
    pub fn handshake(&self) -> &Handshake {
        &self.session.handshake
    }

    /// Which protocol it speaks
    pub fn kind(&self) -> ClientKind {
        self.session.kind
    }

    /// The server
    pub fn io(&self) -> &Io {
        &self.session.io
    }
}

impl fmt::Debug for NamespaceRequest {
    // What it shows may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What there is of namespaces that are made on demand
#[derive(Default)]
pub(crate) struct Dynamic {
    pub(crate) parents: RwLock<Vec<Arc<Parent>>>,
    pub(crate) hooks: RwLock<Vec<Arc<Hook>>>,
    /// Namespaces that were made on demand and are there
    pub(crate) children: AtomicUsize,
    /// How many parents have a name
    pub(crate) parents_numbered: AtomicUsize,
}

/// Called with each namespace that is made.
pub(crate) type Hook = dyn Fn(&Io, &Arc<NamespaceState>) + Send + Sync;

/// Whence namespaces are made
pub(crate) struct Parent {
    pub(crate) rule: Rule,
    pub(crate) state: Arc<NamespaceState>,
    pub(crate) children: Arc<Children>,
}

/// Which namespaces a parent makes
pub(crate) enum Rule {
    Name(Box<dyn Fn(&Namespace) -> bool + Send + Sync>),
    Ask(Box<dyn Fn(NamespaceRequest) -> HandlerFuture + Send + Sync>),
}

/// Whether a client may make a namespace
pub(crate) enum Verdict {
    Known(bool),
    /// It is, if this ends well
    Asked(HandlerFuture),
}

impl Parent {
    /// Whether the name alone is enough
    pub(crate) fn fits(&self, name: &Namespace) -> bool {
        matches!(&self.rule, Rule::Name(matches) if matches(name))
    }

    /// May panic: it runs what the application wrote
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
