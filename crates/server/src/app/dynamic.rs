//! Dynamic namespaces, created when a client first connects to them.

use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use regex::Regex;
use roomcast_core::Namespace;
use roomcast_rooms::Rooms;

use crate::app::error::{HandlerError, NamespaceError};
use crate::app::model::io::Io;
use crate::app::model::namespace_state::{Children, Family, NamespaceState};
use crate::app::model::parents::{NamespaceRequest, Parent, Rule};
use crate::app::namespace::NamespaceHandle;
use crate::host::metrics::count;
use crate::util::log_limit::log_limited;

impl Io {
    /// Returns a parent for all namespaces whose name matches a regular expression.
    ///
    /// Each namespace is created when a client first connects to it, or by [`of`](Self::of). The pattern uses the
    /// syntax of the [`regex`] crate and may match anywhere in the name, as on Node: anchor it with `^` and `$` to
    /// match the whole name. Matching takes time linear in the length of the name, so clients cannot make it slow.
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
    /// Returns an error if the pattern is not a valid regular expression.
    #[doc(alias = "of")]
    pub fn of_pattern(&self, pattern: &str) -> Result<ParentNamespace, NamespaceError> {
        let pattern = Regex::new(pattern).map_err(|error| NamespaceError::Pattern(error.to_string()))?;
        Ok(self.of_matching(move |name| pattern.is_match(name.as_str())))
    }

    /// Returns a parent for all namespaces whose name satisfies a predicate.
    ///
    /// Each namespace is created when a client first connects to it, or by [`of`](Self::of).
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

    /// Returns a parent for all namespaces that an async predicate accepts.
    ///
    /// The predicate runs for each client that connects to a namespace that does not exist yet. It may inspect the
    /// client's auth payload and handshake. Clients that connect later are checked by the middlewares of the namespace
    /// only.
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

    /// Registers a hook that runs for each namespace created from now on, before clients can join it.
    ///
    /// It runs for namespaces created by [`of`](Self::of) and for dynamic namespaces, but not for the main namespace,
    /// which exists from the start. The hook must not block: clients that connect to the namespace wait for it.
    ///
    /// If the hook panics, the namespace rejects all clients with `internal error`, because the panic may have
    /// prevented the registration of a middleware that guards it. A dynamic namespace is created again for the next
    /// client that connects to it.
    #[doc(alias = "new_namespace")]
    pub fn on_new_namespace(&self, hook: impl Fn(NamespaceHandle) + Send + Sync + 'static) -> &Self {
        let hook = move |io: &Self, state: &Arc<NamespaceState>| {
            hook(NamespaceHandle { io: io.clone(), state: state.clone() });
        };
        self.app().dynamic.hooks.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(hook));
        self
    }

    /// Returns the namespace of this name and creates it if needed; a fallible [`of`](Self::of).
    ///
    /// # Errors
    /// Returns an error if the name contains a comma, since clients could not connect to it.
    ///
    /// # Panics
    /// Panics inside the [router factory](crate::config::IoBuilder::router) of the same namespace.
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
        // Not inserted into the table of namespaces, so clients cannot connect to it by that name.
        let number = dynamic.parents_numbered.fetch_add(1, Ordering::Relaxed);
        let name = Namespace::new(format!("/_{number}"));
        let children = Arc::new(Children::new(Arc::new(Rooms::default())));
        let (config, budget) = (self.config(), &self.app().budget);
        let state = Arc::new(NamespaceState::parent(name, children.clone(), config, budget));
        let parent = Parent { rule, state: state.clone(), children: children.clone() };
        dynamic.parents.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(parent));
        ParentNamespace { handle: NamespaceHandle { io: self.clone(), state }, children }
    }

    /// Creates a namespace, or returns the namespace that another thread created in the meantime.
    fn make(&self, name: &Namespace, parent: Option<&Parent>) -> Arc<NamespaceState> {
        // No lock is held: the application's router factory and room hooks may request namespaces themselves.
        let (router, config) = (self.app().make_router(name), self.config());
        let cluster = self.app().cluster.clone();
        let made = Arc::new(match parent {
            Some(parent) => {
                let family = Family::new(&parent.children);
                NamespaceState::child(name.clone(), router, config, &parent.state, family, cluster)
            }
            None => NamespaceState::new(name.clone(), router, config, &self.app().budget, cluster),
        });
        {
            let mut namespaces = self.app().namespaces.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(state) = namespaces.get(name).cloned() {
                drop(namespaces);
                state.open();
                return state;
            }
            if let Some(parent) = parent {
                parent.children.add(&made);
                self.app().dynamic.children.fetch_add(1, Ordering::Relaxed);
            }
            namespaces.insert(name.clone(), made.clone());
        }
        made.open();
        self.announce(&made);
        made
    }

    /// Runs the hooks for a new namespace once, and returns when they have finished.
    fn announce(&self, state: &Arc<NamespaceState>) {
        state.announced.call_once(|| {
            let hooks = self.app().dynamic.hooks.read().unwrap_or_else(PoisonError::into_inner).clone();
            for hook in hooks {
                if catch_unwind(AssertUnwindSafe(|| hook(self, state))).is_err() {
                    state.seal();
                    count::handlers_panicked(self.metrics());
                    log_limited!(
                        ERROR, (), namespace = %state.name,
                        "new-namespace hook panicked: connects refused"
                    );
                }
            }
        });
    }

    /// Returns a namespace for a connecting client; it exists at least until [`release`](Self::release).
    pub(crate) fn enter(&self, name: &Namespace) -> Option<Arc<NamespaceState>> {
        if name.is_main() {
            return self.namespace(name);
        }
        let state = {
            let namespaces = self.app().namespaces.read().unwrap_or_else(PoisonError::into_inner);
            let state = namespaces.get(name)?.clone();
            // Under the lock, so that the cleanup of empty namespaces sees the new occupant.
            if let Some(family) = state.family() {
                family.enter();
            }
            state
        };
        state.open();
        self.announce(&state);
        Some(state)
    }

    /// Creates a dynamic namespace for a connecting client; `None` if the limit is reached.
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
            // Another thread may remove it between these two steps, while it is still empty.
            let made = self.make(name, Some(parent));
            if made.is_sealed() {
                self.discard(&made);
                // Balanced by `release`, which the rejection of the client calls.
                made.family().into_iter().for_each(Family::enter);
                return Some(made);
            }
        }
    }

    /// Removes a namespace that was created for a client and rejects all clients.
    fn discard(&self, state: &Arc<NamespaceState>) {
        let Some(family) = state.family() else { return };
        let mut namespaces = self.app().namespaces.write().unwrap_or_else(PoisonError::into_inner);
        if namespaces.get(&state.name).is_some_and(|listed| Arc::ptr_eq(listed, state)) {
            namespaces.remove(&state.name);
            family.children().remove(&state.name);
            self.app().dynamic.children.fetch_sub(1, Ordering::Relaxed);
            // Under the lock, so that the next namespace of this name is opened later.
            state.link.close();
        }
    }

    /// Releases a namespace after a client has left it, and removes it if it is empty and cleanup is enabled.
    pub(crate) fn release(&self, state: &Arc<NamespaceState>) {
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
            // Under the lock, so that the next namespace of this name is opened later.
            state.link.close();
        }
    }
}

/// Parent of dynamic namespaces; returned by [`Io::of_pattern`], [`Io::of_matching`] and [`Io::of_when`].
///
/// It is used like a namespace. Handlers and settings apply to every child namespace created afterwards; existing
/// children keep theirs. An emit reaches the clients of all children. Rooms belong to each child; the parent itself has
/// no sockets.
///
/// Empty children are kept, unless [`cleanup_empty_child_namespaces`](crate::Config::cleanup_empty_child_namespaces) is
/// enabled.
#[derive(Debug, Clone)]
pub struct ParentNamespace {
    handle: NamespaceHandle,
    children: Arc<Children>,
}

impl ParentNamespace {
    /// Returns the child namespaces that exist now.
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
