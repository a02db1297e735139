//! Namespaces that are made when a client asks for them

use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use regex::Regex;
use roomcast_core::Namespace;

use crate::app::error::{HandlerError, NamespaceError};
use crate::app::model::io::Io;
use crate::app::model::namespace_state::{Children, Family, NamespaceState};
use crate::app::model::parents::{NamespaceRequest, Parent, Rule};
use crate::app::namespace::NamespaceHandle;
use crate::host::metrics::count;
use crate::util::log_limit::log_limited;

impl Io {
    /// Namespaces whose name fits a pattern; each is made when a client first asks for it, or [`of`](Self::of) does
    ///
    /// The pattern is one of the [`regex`] crate and may fit anywhere in the name, as on Node: put `^` and `$` around
    /// what should be all of it. Matching takes time linear in the name, whatever the client makes of it.
    ///
    /// ```
    /// use roomcast_server::{Io, Socket};
    ///
    /// let io = Io::new();
    /// let documents = io.of_pattern(r"^/documents/\d+$")?;
    /// documents.on_connect(async |socket: Socket| {
    ///     let _ = socket.namespace().emit("opened", ()); // to those in the same document
    /// });
    /// documents.emit("saved", ())?; // to those in any document
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When it is no pattern.
    #[doc(alias = "of")]
    pub fn of_pattern(&self, pattern: &str) -> Result<ParentNamespace, NamespaceError> {
        let pattern = Regex::new(pattern).map_err(|error| NamespaceError::Pattern(error.to_string()))?;
        Ok(self.of_matching(move |name| pattern.is_match(name.as_str())))
    }

    /// Namespaces whose name this function takes; each is made when a client first asks for it, or [`of`](Self::of)
    /// does
    ///
    /// ```
    /// # let io = roomcast_server::Io::new();
    /// let teams = io.of_matching(|name| name.as_str().starts_with("/teams/"));
    /// ```
    #[doc(alias = "of")]
    pub fn of_matching(
        &self,
        matches: impl Fn(&Namespace) -> bool + Send + Sync + 'static,
    ) -> ParentNamespace {
        self.add_parent(Rule::Name(Box::new(matches)))
    }

    /// Namespaces that this async function lets a client make; it is asked for each that is not there yet
    ///
    /// It may look at what the client shows, and at its handshake. Only whoever makes a namespace is asked here;
    /// those who come later go by its middlewares.
    ///
    /// ```
    /// use roomcast_server::namespace::NamespaceRequest;
    /// use roomcast_server::{Io, Socket, Value};
    ///
    /// let io = Io::new();
    /// let private = io.of_when(async |request: NamespaceRequest| {
    ///     request.name().as_str().starts_with("/private/")
    ///         && request.auth::<Value>().is_ok_and(|auth| auth["token"] == "sesame")
    /// });
    /// private.middleware(async |socket: Socket| {
    ///     if socket.namespace().count("full") > 0 { Err("full") } else { Ok(()) }
    /// });
    /// ```
    #[doc(alias = "of")]
    pub fn of_when<F>(
        &self,
        allows: impl Fn(NamespaceRequest) -> F + Send + Sync + 'static,
    ) -> ParentNamespace
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.add_parent(Rule::Ask(Box::new(move |request| {
            let allowed = allows(request);
            let denied = HandlerError { message: String::new(), data: None };
            Box::pin(async move { if allowed.await { Ok(()) } else { Err(denied) } })
        })))
    }

    /// Called with each namespace that is made from now on, by [`of`](Self::of) or for a client, before any client is
    /// in it; the main one was there before
    ///
    /// It must not block: clients that want to join wait for it. If it panics no client may join, since what it did not
    /// come to register may have been what keeps clients out: `internal error`. A namespace that was made because a
    /// client asked for it is then made anew for the next one that does.
    #[doc(alias = "new_namespace")]
    pub fn on_new_namespace(&self, hook: impl Fn(NamespaceHandle) + Send + Sync + 'static) -> &Self {
        let hook = move |io: &Self, state: &Arc<NamespaceState>| {
            hook(NamespaceHandle { io: io.clone(), state: state.clone() });
        };
        self.app().dynamic.hooks.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(hook));
        self
    }

    /// As [`of`](Self::of), for names that are not known to be valid
    ///
    /// # Errors
    /// When the name has a comma, with which clients could not name it.
    ///
    /// # Panics
    /// Inside the [router factory](crate::config::IoBuilder::router) of this very namespace.
    pub fn try_of(&self, namespace: impl Into<Namespace>) -> Result<NamespaceHandle, NamespaceError> {
        let mut name: Namespace = namespace.into();
        if !name.as_str().starts_with('/') {
            name = Namespace::new(format!("/{name}"));
        }
        if name.as_str().contains(',') {
            return Err(NamespaceError::Comma(name));
        }
        let known = self.namespace(&name);
        let state = known.unwrap_or_else(|| {
            let parent = self.parents().into_iter().find(|parent| parent.fits(&name));
            self.make(&name, parent.as_deref())
        });
        Ok(NamespaceHandle { io: self.clone(), state })
    }

    pub(crate) fn parents(&self) -> Vec<Arc<Parent>> {
        self.app().dynamic.parents.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_parent(&self, rule: Rule) -> ParentNamespace {
        let dynamic = &self.app().dynamic;
        // No client can ask for it by that name: it is in no table.
        let number = dynamic.parents_numbered.fetch_add(1, Ordering::Relaxed);
        let name = Namespace::new(format!("/_{number}"));
        let children = Arc::new(Children::new(self.app().make_router(&name)));
        let (config, budget) = (self.config(), &self.app().budget);
        let state = Arc::new(NamespaceState::parent(name, children.clone(), config, budget));
        let parent = Parent { rule, state: state.clone(), children: children.clone() };
        dynamic.parents.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(parent));
        ParentNamespace { handle: NamespaceHandle { io: self.clone(), state }, children }
    }

    /// A namespace of this name, which may have come about meanwhile
    fn make(&self, name: &Namespace, parent: Option<&Parent>) -> Arc<NamespaceState> {
        // Under no lock: routers, and what watches rooms, are of the application, and may name namespaces themselves.
        let (router, config) = (self.app().make_router(name), self.config());
        let made = Arc::new(match parent {
            Some(parent) => {
                let family = Family::new(&parent.children);
                NamespaceState::child(name.clone(), router, config, &parent.state, family)
            }
            None => NamespaceState::new(name.clone(), router, config, &self.app().budget),
        });
        {
            let mut namespaces = self.app().namespaces.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(state) = namespaces.get(name) {
                return state.clone();
            }
            if let Some(parent) = parent {
                parent.children.add(&made);
                self.app().dynamic.children.fetch_add(1, Ordering::Relaxed);
            }
            namespaces.insert(name.clone(), made.clone());
        }
        self.announce(&made);
        made
    }

    /// Tells those who want to know of it, once; returns when that is done
    fn announce(&self, state: &Arc<NamespaceState>) {
        state.announced.call_once(|| {
            let hooks = self.app().dynamic.hooks.read().unwrap_or_else(PoisonError::into_inner).clone();
            for hook in hooks {
                if catch_unwind(AssertUnwindSafe(|| hook(self, state))).is_err() {
                    state.seal();
                    count::handlers_panicked(self.metrics());
                    log_limited!(
                        ERROR, (), namespace = %state.name,
                        "hook for new namespaces panicked: clients may not join"
                    );
                }
            }
        });
    }

    /// The namespace of this name, for a client that comes in; it stays until the client has [left](Self::vacate)
    pub(crate) fn enter(&self, name: &Namespace) -> Option<Arc<NamespaceState>> {
        if name.is_main() {
            return self.namespace(name);
        }
        let state = {
            let namespaces = self.app().namespaces.read().unwrap_or_else(PoisonError::into_inner);
            let state = namespaces.get(name)?.clone();
            // Under the lock, so that whoever takes away an empty one sees this.
            if let Some(family) = state.family() {
                family.enter();
            }
            state
        };
        self.announce(&state);
        Some(state)
    }

    /// Lets a client into a namespace that it may make; `None` if there are too many
    pub(crate) fn enter_new(&self, name: &Namespace, parent: &Parent) -> Option<Arc<NamespaceState>> {
        loop {
            if let Some(state) = self.enter(name) {
                return Some(state);
            }
            if self.app().dynamic.children.load(Ordering::Relaxed)
                >= self.config().limits.max_child_namespaces
            {
                return None;
            }
            // Whoever makes it and whoever takes it away while it is empty may be two.
            let made = self.make(name, Some(parent));
            if made.is_sealed() {
                self.discard(&made);
                // Left by whoever refuses the client.
                made.family().into_iter().for_each(Family::enter);
                return Some(made);
            }
        }
    }

    /// Removes a namespace that was made for a client and that nobody can join.
    fn discard(&self, state: &Arc<NamespaceState>) {
        let Some(family) = state.family() else { return };
        let mut namespaces = self.app().namespaces.write().unwrap_or_else(PoisonError::into_inner);
        if namespaces.get(&state.name).is_some_and(|listed| Arc::ptr_eq(listed, state)) {
            namespaces.remove(&state.name);
            family.children().remove(&state.name);
            self.app().dynamic.children.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A client that had entered is gone
    pub(crate) fn vacate(&self, state: &Arc<NamespaceState>) {
        let Some(family) = state.family() else { return };
        if !family.leave() || !self.config().cleanup_empty_child_namespaces {
            return;
        }
        let mut namespaces = self.app().namespaces.write().unwrap_or_else(PoisonError::into_inner);
        let is_listed = namespaces.get(&state.name).is_some_and(|listed| Arc::ptr_eq(listed, state));
        if is_listed && family.is_empty() {
            namespaces.remove(&state.name);
            family.children().remove(&state.name);
            self.app().dynamic.children.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Namespaces that are made when a client asks for them, by [`Io::of_pattern`], [`Io::of_matching`] or
/// [`Io::of_when`]
///
/// It is used like a namespace. What is registered here holds for each namespace that is made from then on; those
/// there already stay as they are. What is emitted here goes to the clients of all of them. Rooms are those of
/// each; there is no socket in the parent itself.
///
/// A namespace that nobody is in is kept, unless
/// [`cleanup_empty_child_namespaces`](crate::Config::cleanup_empty_child_namespaces) is on.
#[derive(Debug, Clone)]
pub struct ParentNamespace {
    handle: NamespaceHandle,
    children: Arc<Children>,
}

impl ParentNamespace {
    /// The namespaces that there are now
    pub fn children(&self) -> Vec<NamespaceHandle> {
        let handle = |state| NamespaceHandle { io: self.handle.io.clone(), state };
        self.children.all().into_iter().map(handle).collect()
    }
}

impl Deref for ParentNamespace {
    type Target = NamespaceHandle;

    fn deref(&self) -> &NamespaceHandle {
        &self.handle
    }
}
