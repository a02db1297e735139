//! Requests of a session, and its transport upgrade

use std::task::Context;
use std::time::Instant;

use http::{Method, StatusCode};
use roomcast_core::{
    Bounds, CloseReason, Command, ConnectionRole, Exchange, Outbox, Rejection, TransportName,
};

use super::connection_slot::{ConnectionSlot, Probe, close_apart, open_and_close};
use super::state::Driver;
use crate::host::limits::ConnectionPermit;
use crate::host::metrics::count;
use crate::web::engine_error::{BadRequest, Refusal, unknown_session};

/// Outbox limit of an unproven connection, in bytes; it carries two short packets
const PROBE_OUTBOX: usize = 64 * 1024;

impl Driver {
    pub(super) fn receive_exchange(
        &mut self,
        transport: TransportName,
        exchange: Exchange,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let leaving = self.flow.as_ref().and_then(|flow| flow.leaving);
        if leaving.is_some_and(|leaving| !leaving.reads || exchange.request.method != Method::POST) {
            // Only the client's last messages are still read.
            let _ = exchange.respond.send(unknown_session());
            return;
        }
        let upgrades = exchange.upgrade.is_some() && !self.phase.is_closing();
        if transport == self.primary_name() && !upgrades {
            if let Err(refused) = self.primary.connection.accept(exchange) {
                let fatal = refused.rejection.fatal;
                // A disconnected client needs no response; likewise throughout this file.
                let _ = refused.exchange.respond.send(refused.rejection.response());
                if fatal && !self.phase.is_closing() {
                    self.session.handle_command(Command::Close(CloseReason::TransportError), now);
                    self.perform(cx, now);
                }
            }
            return;
        }
        if !upgrades {
            let refusal = Refusal::BadRequest(BadRequest::Mismatch(self.primary_name()));
            let io = &self.shared.io;
            let response = io.hooks().refuse(io.metrics(), &refusal, &exchange.request, false);
            let _ = exchange.respond.send(response);
            return;
        }
        let Some((index, kind)) = self.shared.find_transport(transport) else {
            let rejection = Rejection::new(StatusCode::BAD_REQUEST, "this transport is not enabled");
            let _ = exchange.respond.send(rejection.response());
            return;
        };
        let permit = exchange.request.extensions.get::<ConnectionPermit>().cloned();
        let is_wanted = index != self.primary.transport && self.session.can_upgrade();
        match kind.open(exchange) {
            Ok(connection) => {
                let bounds = Bounds::new(PROBE_OUTBOX, PROBE_OUTBOX);
                let outbox = Outbox::new(bounds, self.shared.io.app().flushers.list());
                let mut role = ConnectionSlot::new(connection, index);
                role.permit = permit.and_then(|permit| permit.take());
                let probe = Probe { role, outbox, open: false };
                let refused = if is_wanted { self.phase.begin_probe(probe).err() } else { Some(probe) };
                if let Some(probe) = refused {
                    // As on Node: a client library may report a refused handshake as its own error.
                    count::requests_refused(self.shared.io.metrics());
                    open_and_close(probe, self.shared.io.config().timeouts.close_timeout);
                }
            }
            Err(refused) => {
                let _ = refused.exchange.respond.send(refused.rejection.response());
            }
        }
    }

    /// Makes the probe the carrier, once its own packets are written and its write half is free.
    pub(super) fn promote(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(probe) = self.phase.probe() else { return false };
        if let Some(reason) = probe.outbox.closed() {
            // It broke after the session had moved to it.
            self.connection_lost(ConnectionRole::Probe, reason, now);
            self.perform(cx, now);
            return true;
        }
        if probe.outbox.poll_drained(cx).is_pending() {
            return false;
        }
        let Some(sink) = probe.outbox.take_sink() else { return true };
        let Some(probe) = self.phase.end_promotion() else { return false };
        let ConnectionSlot { connection, transport, permit } = probe.role;
        self.primary.connection.start_close(CloseReason::TransportClose, &self.shared.outbox);
        self.shared.outbox.set_sink(sink);
        self.primary.connection = connection;
        self.primary.transport = transport;
        self.polled = self.shared.is_polled(transport);
        self.primary.permit = permit;
        count::upgrades(self.shared.io.metrics());
        tracing::debug!(
            kind = self.shared.kind.as_str(),
            transport = self.primary_name().0,
            address = self.shared.handshake.address_field(),
            "transport upgraded"
        );
        true
    }

    pub(super) fn drop_probe(&mut self, reason: CloseReason) {
        if let Some(probe) = self.phase.drop_probe() {
            close_apart(*probe, reason, self.shared.io.config().timeouts.close_timeout);
        }
    }
}
