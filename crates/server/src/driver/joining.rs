//! Joining and leaving namespaces

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Instant;

use bytestring::ByteString;
use roomcast_core::{Action, CloseReason, Command, ConnectionRole, Member, MemberKey, Namespace};
use roomcast_recovery::{Claim, PendingRecovery};

use super::errors::{Role, client_error};
use super::members::{MemberState, SocketGuard, handlers};
use super::pending::{EnteredNamespace, PendingClaim, PendingConnect, PendingNamespace, SharedResult};
use super::running::{Continuation, Running};
use super::state::Driver;
use crate::app::error::{
    EventErrorCause, HandlerError, auth_too_large, internal_error, invalid_namespace, refusal,
};
use crate::app::model::event_input::{Arguments, EventContext, HandlerInput, Listeners};
use crate::app::model::listeners::ListenerKind;
use crate::app::model::namespace_state::{Family, NamespaceState};
use crate::app::model::socket::Socket;
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::metrics::count;
use crate::session::recovery;
use crate::util::clock;
use crate::util::ids;
use crate::util::log_limit::log_limited;

impl Driver {
    /// Starts the connect of a client to a namespace; its middlewares decide.
    pub(super) fn admit(
        &mut self,
        namespace: Namespace,
        auth: &ByteString,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        if self.handlers_running.is_crowded(self.shared.io.config().limits.max_handlers) {
            log_limited!(
                WARN, (), %namespace, limit = "max_handlers", value = self.shared.io.config().limits.max_handlers,
                "client overloaded: connects faster than its handlers finish"
            );
            self.session.handle_command(Command::Close(CloseReason::Overloaded), now);
            return;
        }
        let (io, config) = (&self.shared.io, self.shared.io.config());
        let address = self.shared.handshake.address_field();
        if namespace.as_str().len() > config.limits.max_name_bytes {
            limit_exceeded!(
                io,
                Limit::NameSize,
                address,
                value = config.limits.max_name_bytes,
                "connect refused: namespace too long"
            );
            return self.reject_connect(namespace, invalid_namespace(), cx, now);
        }
        if auth.len() > config.limits.max_auth_bytes {
            limit_exceeded!(
                io,
                Limit::AuthSize,
                address,
                value = config.limits.max_auth_bytes,
                "connect refused: auth too large"
            );
            return self.reject_connect(namespace, auth_too_large(), cx, now);
        }
        match self.shared.io.enter(&namespace) {
            Some(state) => self.begin_connect(state, auth, cx, now),
            None => self.ask_parents(
                PendingNamespace::new(namespace, auth.clone(), self.shared.io.parents()),
                cx,
                now,
            ),
        }
    }

    /// Continues a connect once the client has entered the namespace.
    pub(super) fn begin_connect(
        &mut self,
        state: Arc<NamespaceState>,
        auth: &ByteString,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        if state.is_sealed() {
            self.shared.io.release(&state);
            return self.reject_connect(state.name.clone(), internal_error(), cx, now);
        }
        match self.claim(&state, auth) {
            None => self.admit_as(None, state, auth.clone(), None, cx, now),
            Some(Claim::Ready(result)) => {
                let claim = self.count_claim(result, &state);
                self.admit_as(claim, state, auth.clone(), None, cx, now);
            }
            Some(Claim::Pending(future)) => {
                let timeout = self.shared.io.config().timeouts.connect_timeout;
                let result = SharedResult::default();
                let shared = result.clone();
                let claiming = async move {
                    shared.set(future.await);
                    Ok(())
                };
                let name = ByteString::from(state.name.as_str());
                // The other half is for the middlewares: a store that hangs costs the recovery, not the connect.
                let mut running = Running::new(Box::pin(claiming), None, name, Role::ConnectMiddleware)
                    .until(clock::after(now, timeout / 2));
                let entered = EnteredNamespace::new(&self.shared.io, &state);
                let deadline = clock::after(now, timeout);
                let pending = PendingClaim { entered, auth: auth.clone(), result, deadline };
                running.then = Continuation::Claimed(Box::new(pending));
                self.handlers_running.add(running);
            }
        }
    }

    /// Continues a connect whose claim has ended, with or without success.
    pub(super) fn claimed(&mut self, pending: PendingClaim, cx: &mut Context<'_>, now: Instant) {
        let PendingClaim { entered, auth, result, deadline } = pending;
        let Some(state) = entered.into_state() else { return };
        let claim = self.count_claim(result.take(), &state);
        if state.is_sealed() {
            self.shared.io.release(&state);
            return self.reject_connect(state.name.clone(), internal_error(), cx, now);
        }
        self.admit_as(claim, state, auth, Some(deadline), cx, now);
    }

    /// Runs the connect middlewares for a new or recovered client.
    fn admit_as(
        &mut self,
        claim: Option<Box<dyn PendingRecovery>>,
        state: Arc<NamespaceState>,
        auth: ByteString,
        deadline: Option<Instant>,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let recovery = self.recovery(&state, claim.as_deref());
        let skips = claim.as_ref().is_some_and(|claim| claim.skips_middlewares());
        let asked = if skips {
            Vec::new()
        } else {
            handlers(&[state.registry.topic(ListenerKind::ConnectMiddleware)])
        };
        let rest = asked.into_iter();
        let key = claim.as_ref().map_or_else(MemberKey::next, |claim| claim.key());
        let id = match &claim {
            Some(claim) => Ok(Some(claim.id().clone())),
            None => self.shared.io.hooks().socket_id(&self.shared.handshake, &state.name),
        };
        let Ok(id) = id else {
            count::handlers_panicked(self.shared.io.metrics());
            self.shared.io.release(&state);
            return self.reject_connect(
                state.name.clone(),
                refusal(&client_error(&EventErrorCause::Panicked)),
                cx,
                now,
            );
        };
        let member = Member {
            key,
            id: id.unwrap_or_else(|| ids::socket_id(self.shared.io.app().id_tag())),
            codec: self.shared.codec.clone(),
            outbox: self.shared.outbox.clone(),
            // The socket makes the table when it is first asked for an acknowledgement.
            acks: None,
            control: None,
        };
        let guard = SocketGuard(Socket::new(member, state, self.shared.clone(), recovery));
        guard.0.set_auth(&auth);
        if let Some(claim) = &claim {
            guard.0.restore_data(claim.data().clone());
        }
        let pending = PendingConnect { guard, auth, rest, waits_for_cluster: false, deadline, claim };
        self.await_cluster(Box::new(pending), cx, now);
    }

    /// Waits until events of other nodes to the namespace arrive, if no client has yet.
    ///
    /// The cluster limits the wait. It is no part of the client's time: a cluster that does not respond delays the first
    /// clients, and refuses none.
    fn await_cluster(&mut self, mut pending: Box<PendingConnect>, cx: &mut Context<'_>, now: Instant) {
        let state = pending.socket().state();
        if !state.link.is_unheard() {
            return self.ask_next(pending, cx, now);
        }
        let heard = state.clone().heard();
        let heard = Box::pin(async move {
            heard.await;
            Ok(())
        });
        let (socket, name) = (pending.socket().clone(), ByteString::from_static("connect"));
        let mut running = Running::new(heard, Some(socket), name, Role::ConnectMiddleware);
        pending.waits_for_cluster = true;
        running.then = Continuation::Admit(pending);
        self.session.handle_command(Command::LimitConnect(None), now);
        self.handlers_running.add(running);
    }

    /// Runs the remaining connect middlewares up to the first that is pending.
    pub(super) fn ask_next(&mut self, mut pending: Box<PendingConnect>, cx: &mut Context<'_>, now: Instant) {
        if std::mem::take(&mut pending.waits_for_cluster) {
            pending.deadline = None;
            let timeout = self.shared.io.config().timeouts.connect_timeout;
            self.session.handle_command(Command::LimitConnect(Some(timeout)), now);
        }
        while let Some(middleware) = pending.rest.next() {
            let name = ByteString::from_static("connect");
            let (args, context) = (Arguments::none(), EventContext::Auth(&pending.auth));
            let mut input = HandlerInput { socket: pending.socket(), name: &name, args, ack: None, context };
            match Running::start(&middleware, Role::ConnectMiddleware, &mut input, cx) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.refuse(pending.socket(), &error, cx, now),
                Err(running) => {
                    let timeout = self.shared.io.config().timeouts.connect_timeout;
                    let deadline = *pending.deadline.get_or_insert_with(|| clock::after(now, timeout));
                    let mut running = running.until(deadline);
                    running.then = Continuation::Admit(pending);
                    return self.handlers_running.add(running);
                }
            }
        }
        self.accept(*pending, cx, now);
    }

    pub(super) fn refuse(
        &mut self,
        socket: &Socket,
        error: &HandlerError,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        self.reject_connect(socket.name_of_namespace().clone(), refusal(error), cx, now);
    }

    /// Rejects a connect.
    pub(super) fn reject_connect(
        &mut self,
        namespace: Namespace,
        error: ByteString,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        self.session.handle_command(Command::Refuse { namespace, error }, now);
        self.perform(cx, now);
    }

    fn accept(&mut self, pending: PendingConnect, cx: &mut Context<'_>, now: Instant) {
        let PendingConnect { guard, auth, claim, .. } = pending;
        // Disconnected in the meantime; the session is about to close.
        if self.shared.has_disconnected.load(Ordering::Relaxed) {
            return;
        }
        let socket = guard.0.clone();
        self.members.introduce(&socket);
        // Order: the CONNECT response is queued first, so no broadcast precedes it; then the socket joins its rooms;
        // then the application is notified; then queued events run. The response is not written before the join, so a
        // client that has read it misses no broadcast.
        let hold = self.shared.outbox.hold();
        let next = match (claim, recovery::order(self.shared.kind)) {
            (Some(claim), Some(order)) => {
                let mut next = None;
                let resumed = socket.resume(claim, order, &mut || next = self.welcome(&socket, cx, now));
                if let Err(refused) = resumed {
                    drop(hold);
                    // The middlewares took too long to recover it. No packet was sent yet.
                    self.shared.io.metrics().recoveries.count_refused(refused);
                    // The former membership ends and a new one begins.
                    socket.state().family().into_iter().for_each(Family::enter);
                    return self.admit_as(None, socket.state().clone(), auth, None, cx, now);
                }
                drop(hold);
                self.shared.io.metrics().recoveries.count_recovered();
                // Replayed events are a backlog like any other.
                self.shared.outbox.flush_backlog();
                next
            }
            _ => {
                let next = self.welcome(&socket, cx, now);
                socket.attach();
                drop(hold);
                next
            }
        };
        self.members.enter(guard);
        self.shared.io.app().unjoined.end(&self.shared);
        tracing::debug!(
            socket = %socket.id(), namespace = %socket.name_of_namespace(), kind = self.shared.kind.as_str(),
            transport = self.primary_name().0, address = self.shared.handshake.address_field(),
            recovered = socket.recovered(), "client connected"
        );
        self.notify(&socket, ListenerKind::Connect, EventContext::Auth(&auth), cx);
        if let Some(action) = next {
            self.perform_one(action, cx, now);
        }
        self.reject_pending(cx, now);
    }

    /// Completes disconnects requested by the application, for the client and the listeners.
    ///
    /// The sockets have already left. Called before the client's next message, which could otherwise appear as the
    /// reason. The caller performs the session's actions.
    pub(super) fn reject_pending(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.phase.is_closing() {
            return;
        }
        if self.shared.has_disconnected.load(Ordering::Relaxed) {
            return self.session.handle_command(Command::Close(CloseReason::ForcedServerClose), now);
        }
        while let Some(namespace) = self.members.mark_disconnected() {
            self.session.handle_command(Command::Disconnect { namespace: namespace.clone() }, now);
            self.leave(&namespace, CloseReason::ServerNamespaceDisconnect, cx);
        }
    }

    /// Sends the CONNECT response; returns the action to perform after it.
    fn welcome(&mut self, socket: &Socket, cx: &mut Context<'_>, now: Instant) -> Option<Action> {
        let namespace = socket.name_of_namespace().clone();
        let (id, recovery) = (socket.id().clone(), socket.recovery_secret());
        self.session.handle_command(Command::Accept { namespace, socket: id, recovery }, now);
        loop {
            match self.session.poll_action() {
                Some(action @ Action::Transmit { role: ConnectionRole::Primary, .. }) => {
                    self.perform_one(action, cx, now);
                }
                other => return other,
            }
        }
    }

    /// Removes a socket from its namespace.
    pub(super) fn leave(&mut self, namespace: &Namespace, reason: CloseReason, cx: &mut Context<'_>) {
        if let Some(member) = self.members.remove(namespace)
            && let Some(detached) = self.disconnect_member(member, reason, cx)
        {
            self.members.add(detached);
        }
    }

    /// Notifies listeners and rooms of a disconnect; returns the socket if its events are still queued.
    ///
    /// Events already read are handled, except events of a socket that the application disconnected or of a client
    /// closed for its event rate.
    pub(super) fn disconnect_member(
        &mut self,
        mut member: MemberState,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) -> Option<MemberState> {
        if member.outlives_client {
            return Some(member);
        }
        let socket = member.socket();
        let client_error = socket.reason_over(reason);
        tracing::debug!(
            socket = %socket.id(), namespace = %socket.name_of_namespace(), reason = %client_error, "client disconnected"
        );
        socket.expose_left_rooms(true);
        self.notify(socket, ListenerKind::Disconnecting, EventContext::Reason(client_error), cx);
        socket.detach(recovery::is_recoverable(reason), self.delivered.arrived());
        socket.expose_left_rooms(false);
        // The application may have disconnected it in the meantime.
        let context = EventContext::Reason(socket.reason_over(reason));
        self.notify(socket, ListenerKind::Disconnect, context, cx);
        let is_too_much = matches!(reason, CloseReason::Overloaded | CloseReason::RateLimited);
        member.outlives_client =
            !is_too_much && !socket.is_disconnected_by_server() && !member.waiting.is_empty();
        if member.outlives_client {
            return Some(member);
        }
        member.waiting.iter().for_each(|inbound| self.handlers_running.release(inbound));
        None
    }

    /// Calls the listeners for connects or disconnects.
    fn notify(
        &mut self,
        socket: &Socket,
        topic: ListenerKind,
        context: EventContext<'_>,
        cx: &mut Context<'_>,
    ) {
        let name = if topic == ListenerKind::Connect { "connect" } else { "disconnect" };
        let name = ByteString::from_static(name);
        for listener in socket.listening_to(topic).iter().flat_map(Listeners::as_slice) {
            let mut input = HandlerInput { socket, name: &name, args: Arguments::none(), ack: None, context };
            if let Err(running) = Running::start(&listener.handler, Role::Handler, &mut input, cx) {
                self.handlers_running.add(running);
            }
        }
    }
}
