//! The sockets of a session: how they join and leave their namespaces

use std::collections::VecDeque;
use std::task::Context;
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{
    AckTable, Action, Args, CloseReason, Command, Inbound, Lane, Member, Namespace, SocketId,
};

use super::Driver;
use super::events::{Call, Running};
use crate::error::{invalid_namespace, refusal};
use crate::handler::{AnyHandler, HandlerError};
use crate::ids;
use crate::socket::Socket;

/// The sockets of a session; nearly always one
#[derive(Default)]
pub(crate) struct Members(Vec<MemberState>);

/// A socket and the events that wait for its handlers
pub(crate) struct MemberState {
    pub(crate) socket: Socket,
    /// Handlers under way
    pub(crate) running: usize,
    pub(crate) waiting: VecDeque<Inbound>,
}

/// A client at the door: the middlewares that have not agreed yet
pub(crate) struct Admission {
    pub(crate) socket: Socket,
    pub(crate) auth: ByteString,
    pub(crate) rest: std::vec::IntoIter<AnyHandler>,
}

impl Members {
    pub(crate) fn find(&mut self, namespace: &Namespace) -> Option<&mut MemberState> {
        self.0.iter_mut().find(|member| member.socket.name_of_namespace() == namespace)
    }

    pub(crate) fn by_id(&mut self, id: &SocketId) -> Option<&mut MemberState> {
        self.0.iter_mut().find(|member| member.socket.id() == id)
    }

    pub(crate) fn each(&mut self) -> impl Iterator<Item = &mut MemberState> {
        self.0.iter_mut()
    }

    pub(crate) fn take_all(&mut self) -> Vec<MemberState> {
        std::mem::take(&mut self.0)
    }

    fn remove(&mut self, namespace: &Namespace) -> Option<MemberState> {
        let at = self.0.iter().position(|member| member.socket.name_of_namespace() == namespace)?;
        Some(self.0.swap_remove(at))
    }

    fn add(&mut self, socket: Socket) {
        // One namespace is the rule, and an idle client should not pay for four.
        self.0.reserve_exact(1);
        self.0.push(MemberState { socket, running: 0, waiting: VecDeque::new() });
    }
}

impl Driver {
    /// A client asks to join a namespace: its middlewares decide
    pub(super) fn admit(
        &mut self,
        namespace: Namespace,
        auth: &ByteString,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let Some(state) = self.shared.io.namespace(&namespace) else {
            self.session.handle_command(Command::Refuse { namespace, error: invalid_namespace() }, now);
            return;
        };
        if self.work.is_crowded(self.shared.io.config().max_handlers) {
            tracing::warn!(%namespace, "a client comes and goes faster than its handlers work; closing it");
            self.session.handle_command(Command::Close(CloseReason::Overloaded), now);
            return;
        }
        let member = Member {
            id: ids::socket_id(),
            codec: self.shared.codec.clone(),
            outbox: self.shared.outbox.clone(),
            acks: AckTable::with_limit(self.shared.io.config().max_acks),
            control: None,
        };
        let rest = state.middleware().into_iter();
        let socket = Socket::new(member, state, self.shared.clone());
        self.ask_next(Box::new(Admission { socket, auth: auth.clone(), rest }), cx, now);
    }

    /// Asks the middlewares that are left, up to the first that takes its time
    pub(super) fn ask_next(&mut self, mut admission: Box<Admission>, cx: &mut Context<'_>, now: Instant) {
        while let Some(middleware) = admission.rest.next() {
            let name = ByteString::from_static("connect");
            let args = Args::empty();
            let call = Call { handler: &middleware, name: &name, args: &args, ack: None, reason: None };
            match Running::start(&admission.socket, &admission.auth, call, cx) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.refuse(&admission.socket, &error, cx, now),
                Err(mut running) => {
                    running.admission = Some(admission);
                    return self.work.add(running);
                }
            }
        }
        self.accept(*admission, cx, now);
    }

    pub(super) fn refuse(
        &mut self,
        socket: &Socket,
        error: &HandlerError,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let namespace = socket.name_of_namespace().clone();
        self.session.handle_command(Command::Refuse { namespace, error: refusal(error) }, now);
        self.refusing = true;
        self.perform(cx, now);
        self.refusing = false;
    }

    fn accept(&mut self, admission: Admission, cx: &mut Context<'_>, now: Instant) {
        let Admission { socket, auth, .. } = admission;
        let namespace = socket.name_of_namespace().clone();
        let command =
            Command::Accept { namespace: namespace.clone(), socket: socket.id().clone(), recovery: None };
        self.session.handle_command(command, now);
        // The answer to the client goes out first, so no broadcast can come before it; then it is let into the
        // rooms; then the application hears of it; and only then of the events that the client sent meanwhile.
        let next = loop {
            match self.session.poll_action() {
                Some(action @ Action::Transmit { lane: Lane::Primary, .. }) => {
                    self.perform_one(action, cx, now)
                }
                other => break other,
            }
        };
        socket.attach();
        self.members.add(socket.clone());
        if let Some(handler) = socket.state().connect_handler() {
            let name = ByteString::from_static("connect");
            let args = Args::empty();
            let call = Call { handler: &handler, name: &name, args: &args, ack: None, reason: None };
            if let Err(running) = Running::start(&socket, &auth, call, cx) {
                self.work.add(running);
            }
        }
        if let Some(action) = next {
            self.perform_one(action, cx, now);
        }
    }

    /// A socket leaves its namespace
    pub(super) fn leave(&mut self, namespace: &Namespace, reason: CloseReason, cx: &mut Context<'_>) {
        if let Some(member) = self.members.remove(namespace) {
            self.part(member, reason, cx);
        }
    }

    /// Tells the application and the rooms that a socket is gone
    pub(super) fn part(&mut self, member: MemberState, reason: CloseReason, cx: &mut Context<'_>) {
        let MemberState { socket, waiting, .. } = member;
        for inbound in &waiting {
            self.work.release(inbound);
        }
        let state = socket.state().clone();
        let (name, args) = (ByteString::from_static("disconnect"), Args::empty());
        let mut tell = |handler: Option<AnyHandler>| {
            let Some(handler) = handler else { return };
            let call = Call { handler: &handler, name: &name, args: &args, ack: None, reason: Some(reason) };
            if let Err(running) = Running::start(&socket, "", call, cx) {
                self.work.add(running);
            }
        };
        tell(state.disconnecting_handler());
        socket.detach();
        tell(state.disconnect_handler());
    }
}
