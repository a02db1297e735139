//! The sockets of a session

use std::collections::VecDeque;

use roomcast_core::{Inbound, Namespace};

use crate::app::model::event_input::{AnyHandler, Listeners};
use crate::app::model::socket::Socket;

/// The sockets of a session; nearly always one, so it has room for those alone that are there
#[derive(Default)]
pub(crate) struct Members(Box<[MemberState]>);

/// A socket and the events that wait for its handlers
pub(crate) struct MemberState {
    pub(super) stay: Stay,
    /// Handlers of events under way
    pub(crate) running: u32,
    /// Whether an event waits for its middlewares
    pub(crate) passing: bool,
    /// It has left, and stays until the events that it had sent before have had their turn
    pub(super) outlives: bool,
    pub(crate) waiting: Waiting,
}

/// Events that wait for their turn; boxed, since in most sessions none ever does
#[allow(clippy::box_collection, reason = "three words are much where it is nearly always empty")]
#[derive(Default)]
pub(crate) struct Waiting(Option<Box<VecDeque<Inbound>>>);

/// A socket from when it asks to come in to when it is out; however it ends, it leaves nothing behind
pub(super) struct Stay(pub(super) Socket);

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.clear();
        self.0.io().vacate(self.0.state());
    }
}

impl MemberState {
    pub(crate) fn socket(&self) -> &Socket {
        &self.stay.0
    }

    /// Whether its next event has to wait for one that is under way
    pub(crate) fn is_busy(&self) -> bool {
        self.passing || self.running > 0 && self.socket().is_serial()
    }
}

impl Waiting {
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

impl Members {
    pub(crate) fn find(&mut self, namespace: &Namespace) -> Option<&mut MemberState> {
        let position = self.position(namespace)?;
        self.at(position)
    }

    /// Where the member of a namespace is, those left out that have left it
    pub(crate) fn position(&self, namespace: &Namespace) -> Option<usize> {
        self.0.iter().position(|member| !member.outlives && member.socket().name_of_namespace() == namespace)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that have left, and whose events still wait for their turn
    pub(crate) fn outliving(members: Vec<MemberState>) -> Self {
        Self(members.into())
    }

    pub(crate) fn at(&mut self, position: usize) -> Option<&mut MemberState> {
        self.0.get_mut(position)
    }

    pub(crate) fn of(&mut self, socket: &Socket) -> Option<&mut MemberState> {
        self.0.iter_mut().find(|member| member.socket().is(socket))
    }

    /// The namespace of a socket that the application has put out, and that is still there
    pub(super) fn put_out(&self) -> Option<Namespace> {
        let is_put_out = |member: &&MemberState| !member.outlives && member.socket().is_put_out();
        self.0.iter().find(is_put_out).map(|member| member.socket().name_of_namespace().clone())
    }

    /// Lets go of a member that has left, once no event of it waits
    pub(crate) fn let_go(&mut self, position: usize) {
        let is_over = |member: &MemberState| member.outlives && member.waiting.is_empty();
        if self.0.get(position).is_some_and(is_over) {
            drop(self.remove_at(position));
        }
    }

    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut MemberState> {
        self.0.iter_mut()
    }

    pub(crate) fn take_all(&mut self) -> Vec<MemberState> {
        std::mem::take(&mut self.0).into_vec()
    }

    pub(super) fn remove(&mut self, namespace: &Namespace) -> Option<MemberState> {
        self.position(namespace).map(|at| self.remove_at(at))
    }

    fn remove_at(&mut self, at: usize) -> MemberState {
        let mut members = self.take_all();
        let removed = members.swap_remove(at);
        self.0 = members.into();
        removed
    }

    /// Makes a socket that is about to come in known to the others of its client
    pub(super) fn introduce(&self, socket: &Socket) {
        if let Some(other) = self.0.iter().find(|member| !member.outlives) {
            socket.join_siblings(other.socket());
        }
    }

    pub(super) fn enter(&mut self, stay: Stay) {
        let waiting = Waiting::default();
        self.add(MemberState { stay, running: 0, passing: false, outlives: false, waiting });
    }

    pub(super) fn add(&mut self, member: MemberState) {
        let mut members = self.take_all();
        members.reserve_exact(1);
        members.push(member);
        self.0 = members.into();
    }
}

pub(super) fn handlers(listeners: &[Listeners]) -> Vec<AnyHandler> {
    listeners.iter().flat_map(Listeners::as_slice).map(|listener| listener.handler.clone()).collect()
}
