//! Session close: sends queued frames, closes the connection, notifies the application

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use roomcast_core::{CloseReason, Received};

use super::connection_slot::close_apart;
use super::dispatch::DetachedWork;
use super::members::Members;
use super::phase::Phase;
use super::state::Driver;
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::metrics::count;
use crate::session::mailbox::SessionCommand;
use crate::util::clock;
use crate::util::log_limit::log_limited;
use crate::util::scratch::with_messages;
use crate::web::engine_error::unknown_session;

/// Time a polling client has to fetch the close of its session
const LINGER: Duration = Duration::from_secs(30);

impl Driver {
    /// Begins to close the session; `message` is the carrier's last message, if any.
    pub(super) fn start_closing(
        &mut self,
        reason: CloseReason,
        message: &str,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let io = self.shared.io.clone();
        match reason {
            CloseReason::SlowConsumer => {
                count::slow_consumers(io.metrics());
                log_limited!(INFO, (), transport = self.primary_name().0, "client closed: slow consumer");
            }
            CloseReason::OutboxFull => {
                count::outboxes_full(io.metrics());
                log_limited!(
                    INFO,
                    (),
                    transport = self.primary_name().0,
                    limit = "outbox_max",
                    value = io.config().limits.outbox_max,
                    "client closed: outbox at its hard cap"
                );
            }
            CloseReason::Overloaded => {
                count::overloaded(io.metrics());
                log_limited!(INFO, (), transport = self.primary_name().0, "client closed: overloaded");
            }
            CloseReason::ConnectTimeout => {
                let address = self.shared.handshake.address_field();
                limit_exceeded!(
                    io,
                    Limit::ConnectTime,
                    address,
                    "client closed: joined no namespace in time"
                );
            }
            CloseReason::RateLimited => {
                let address = self.shared.handshake.address_field();
                limit_exceeded!(io, Limit::EventRate, address, "client closed: event rate exceeded");
            }
            CloseReason::ParseError | CloseReason::ForcedClose => {
                count::protocol_errors(io.metrics());
                let (kind, address) = (self.shared.kind.as_str(), self.shared.handshake.address_field());
                tracing::debug!(kind, transport = self.primary_name().0, address, %reason, "protocol error");
            }
            _ => {}
        }
        tracing::debug!(
            kind = self.shared.kind.as_str(), transport = self.primary_name().0,
            address = self.shared.handshake.address_field(), %reason, "session closed"
        );
        // The client can be notified at its next request. Messages sent before go to the waiting poll, the closing
        // packet to the one after it.
        let told_by_protocol = matches!(
            reason,
            CloseReason::ForcedServerClose
                | CloseReason::ForcedClose
                | CloseReason::SlowConsumer
                | CloseReason::OutboxFull
                | CloseReason::Overloaded
                | CloseReason::RateLimited
                | CloseReason::ServerShutdown
        );
        let is_leaving = self.flow.as_ref().is_some_and(|flow| flow.leaving.is_some());
        let lingers = told_by_protocol && !is_leaving && self.shared.is_polled(self.primary.transport);
        let lingering = lingers && reason != CloseReason::ServerShutdown;
        let deadline = clock::after(now, if lingering { LINGER } else { io.config().timeouts.close_timeout });
        if let Some(flow) = &mut self.flow {
            // Unread messages are discarded.
            flow.kept.clear();
            flow.stall = None;
            flow.leaving = None;
        }
        let probe = self.phase.close(reason, deadline, lingers);
        // As on Node, sockets of a closed client see a disconnect from every namespace.
        let told = match reason {
            CloseReason::ForcedServerClose => CloseReason::ServerNamespaceDisconnect,
            // The socket that was taken over has left. The client may not return to the other namespaces.
            CloseReason::TakenOver => CloseReason::TransportClose,
            reason => reason,
        };
        let members = self.members.take_all();
        let detached =
            members.into_iter().filter_map(|member| self.disconnect_member(member, told, cx)).collect();
        // The handlers need not wait until the client has received the close.
        let mut handlers_running = std::mem::take(&mut self.handlers_running);
        handlers_running.drop_admissions();
        if let Some(detached) =
            DetachedWork::of(&self.shared.io, handlers_running, Members::detached(detached))
        {
            tokio::spawn(detached.run());
        }
        if let Some(probe) = probe {
            close_apart(*probe, reason, io.config().timeouts.close_timeout);
        }
        self.primary.connection.start_close_with_message(reason, message, &self.shared.outbox);
        self.shared.outbox.finish();
        if !lingers {
            self.forget();
        }
    }

    /// Shortens a close in progress when a caller, such as a drain, waits for it.
    pub(super) fn hasten_closing(&mut self, now: Instant) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.deadline =
                closing.deadline.min(clock::after(now, self.shared.io.config().timeouts.close_timeout));
        }
    }

    pub(super) fn poll_closing(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Phase::Closing(closing) = &mut self.phase else { return Poll::Pending };
        if !closing.drained {
            // Without a pending request there is nothing to write to.
            let given_up = !closing.lingers && self.shared.outbox.is_parked() || !closing.opened;
            let drained = self.shared.outbox.poll_drained(cx).is_ready();
            if drained || given_up {
                closing.drained = true;
                // Drops the write half, which signals the end of the stream to the peer.
                self.shared.outbox.close(closing.reason);
            }
        }
        if closing.drained && self.primary.connection.poll_closed(cx).is_ready() || now >= closing.deadline {
            return self.end();
        }
        let deadline = closing.deadline;
        if self.timer.poll(Some(deadline), &self.shared.io.app().timers, cx, now) {
            return self.end();
        }
        // A polling client may bring the awaited request.
        if self.poll_recv_closing(cx) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Keeps a lingering polling connection answering; discards what the client sends.
    fn poll_recv_closing(&mut self, cx: &mut Context<'_>) -> bool {
        let Phase::Closing(closing) = &mut self.phase else { return false };
        if !closing.lingers {
            return false;
        }
        let outcome =
            with_messages(|messages| self.primary.connection.poll_recv(cx, &self.shared.outbox, messages));
        match outcome {
            Poll::Pending => false,
            Poll::Ready(Ok(Received::Activity | Received::Pong(_))) => true,
            Poll::Ready(_) => {
                closing.lingers = false;
                true
            }
        }
    }

    fn end(&mut self) -> Poll<()> {
        let reason = match &self.phase {
            Phase::Closing(closing) => closing.reason,
            _ => CloseReason::TransportClose,
        };
        self.shared.outbox.close(reason);
        self.forget();
        Poll::Ready(())
    }

    /// Removes the session from the table; requests still queued are refused.
    pub(super) fn forget(&mut self) {
        if self.shared.io.app().sessions.remove(&self.shared.sid) {
            count::sessions_closed(self.shared.io.metrics());
            let address = self.shared.handshake.address().map(|address| address.ip());
            let limits = &self.shared.io.app().limits;
            self.shared.io.app().unjoined.end(&self.shared);
            limits.give_back_handshake(self.shared.handshake.own_bytes());
            limits.end_session(address);
        }
        for visit in self.shared.mailbox.close() {
            if let SessionCommand::Exchange(_, exchange) = visit {
                let _ = exchange.respond.send(unknown_session());
            }
        }
    }
}
