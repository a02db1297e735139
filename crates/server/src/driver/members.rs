//! Sockets of a session

use std::collections::VecDeque;

use roomcast_core::{Inbound, MemberKey, Namespace};

use crate::app::model::event_input::{AnyHandler, Listeners};
use crate::app::model::socket::Socket;

/// Sockets of a session; nearly always one, which then needs no allocation.
pub(crate) enum Members {
    One(MemberState),
    /// None or several, sized exactly.
    Other(Box<[MemberState]>),
}

/// Socket and its queued events.
pub(crate) struct MemberState {
    pub(super) guard: SocketGuard,
    /// Running event handlers
    pub(crate) running: u32,
    /// Whether an event is in its middlewares
    pub(crate) passing: bool,
    /// Has left, and is retained until its queued events have run
    pub(super) outlives_client: bool,
    pub(crate) waiting: QueuedEvents,
}

/// Queued events; boxed, since most sessions never have any.
#[allow(clippy::box_collection, reason = "three words are much where it is nearly always empty")]
#[derive(Default)]
pub(crate) struct QueuedEvents(Option<Box<VecDeque<Inbound>>>);

/// Guard of a socket from connect to disconnect; cleans up on drop.
pub(super) struct SocketGuard(pub(super) Socket);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.0.clear();
        self.0.io().release(self.0.state());
    }
}

impl MemberState {
    pub(crate) fn socket(&self) -> &Socket {
        &self.guard.0
    }

    /// Returns whether its next event must wait for one in progress.
    pub(crate) fn is_busy(&self) -> bool {
        self.passing || self.running > 0 && self.socket().is_serial()
    }
}

impl QueuedEvents {
    pub(crate) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(crate) fn push_back(&mut self, inbound: Inbound) {
        self.0.get_or_insert_default().push_back(inbound);
    }

    pub(crate) fn pop_front(&mut self) -> Option<Inbound> {
        self.0.as_mut()?.pop_front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Inbound> {
        self.0.iter().flat_map(|waiting| waiting.iter())
    }
}

impl Default for Members {
    fn default() -> Self {
        Self::Other(Box::default())
    }
}

impl From<Vec<MemberState>> for Members {
    fn from(members: Vec<MemberState>) -> Self {
        match <[MemberState; 1]>::try_from(members) {
            Ok([member]) => Self::One(member),
            Err(members) => Self::Other(members.into()),
        }
    }
}

impl Members {
    fn as_slice(&self) -> &[MemberState] {
        match self {
            Self::One(member) => std::slice::from_ref(member),
            Self::Other(members) => members,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [MemberState] {
        match self {
            Self::One(member) => std::slice::from_mut(member),
            Self::Other(members) => members,
        }
    }

    pub(crate) fn find(&mut self, namespace: &Namespace) -> Option<&mut MemberState> {
        let position = self.position(namespace)?;
        self.at(position)
    }

    /// Returns the position of a namespace's member, ignoring members that have left.
    pub(crate) fn position(&self, namespace: &Namespace) -> Option<usize> {
        self.as_slice()
            .iter()
            .position(|member| !member.outlives_client && member.socket().name_of_namespace() == namespace)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Collects members that have left with events still queued.
    pub(crate) fn detached(members: Vec<MemberState>) -> Self {
        members.into()
    }

    pub(crate) fn at(&mut self, position: usize) -> Option<&mut MemberState> {
        self.as_mut_slice().get_mut(position)
    }

    pub(crate) fn of(&mut self, socket: &Socket) -> Option<&mut MemberState> {
        self.as_mut_slice().iter_mut().find(|member| member.socket().is(socket))
    }

    /// Returns the namespace of the connected socket with this key.
    pub(super) fn namespace_of(&self, key: MemberKey) -> Option<Namespace> {
        let found =
            self.as_slice().iter().find(|member| !member.outlives_client && member.socket().key() == key)?;
        Some(found.socket().name_of_namespace().clone())
    }

    /// Returns the namespace of a socket that the application disconnected and that is still listed.
    pub(super) fn mark_disconnected(&self) -> Option<Namespace> {
        let is_disconnected_by_server =
            |member: &&MemberState| !member.outlives_client && member.socket().is_disconnected_by_server();
        self.as_slice()
            .iter()
            .find(is_disconnected_by_server)
            .map(|member| member.socket().name_of_namespace().clone())
    }

    /// Removes a member that has left, once it has no queued events.
    pub(crate) fn release_if_idle(&mut self, position: usize) {
        let is_over = |member: &MemberState| member.outlives_client && member.waiting.is_empty();
        if self.as_slice().get(position).is_some_and(is_over) {
            drop(self.remove_at(position));
        }
    }

    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut MemberState> {
        self.as_mut_slice().iter_mut()
    }

    pub(crate) fn take_all(&mut self) -> Vec<MemberState> {
        match std::mem::take(self) {
            Self::One(member) => vec![member],
            Self::Other(members) => members.into_vec(),
        }
    }

    pub(super) fn remove(&mut self, namespace: &Namespace) -> Option<MemberState> {
        self.position(namespace).map(|at| self.remove_at(at))
    }

    fn remove_at(&mut self, at: usize) -> MemberState {
        let mut members = self.take_all();
        let removed = members.swap_remove(at);
        *self = members.into();
        removed
    }

    /// Registers a connecting socket with the client's other sockets.
    pub(super) fn introduce(&self, socket: &Socket) {
        if let Some(other) = self.as_slice().iter().find(|member| !member.outlives_client) {
            socket.join_siblings(other.socket());
        }
    }

    pub(super) fn enter(&mut self, guard: SocketGuard) {
        let waiting = QueuedEvents::default();
        self.add(MemberState { guard, running: 0, passing: false, outlives_client: false, waiting });
    }

    pub(super) fn add(&mut self, member: MemberState) {
        let mut members = self.take_all();
        members.push(member);
        *self = members.into();
    }
}

pub(super) fn handlers(listeners: &[Listeners]) -> Vec<AnyHandler> {
    listeners.iter().flat_map(Listeners::as_slice).map(|listener| listener.handler.clone()).collect()
}
