//! State of a session's driver task

use std::sync::Arc;

use roomcast_core::{CloseReason, Connection, ConnectionRole, Outbox, Session, TransportName};

use super::connection_slot::{ConnectionSlot, Probe};
use super::delivery_proof::DeliveryProof;
use super::flow::Flow;
use super::members::Members;
use super::phase::Phase;
use super::running_handlers::RunningHandlers;
use super::timer::Timer;
use crate::app::model::io::SessionShared;
use crate::host::limits::Permit;

/// Task that drives one session: owns the protocol, connections and timer, and runs the handlers.
///
/// All session state changes here, sequentially. Other threads only write frames, by leasing the write half from the
/// outbox.
pub(crate) struct Driver {
    pub(super) shared: Arc<SessionShared>,
    pub(super) session: Box<dyn Session>,
    /// Carrier of the session
    pub(super) primary: ConnectionSlot,
    pub(super) phase: Phase,
    pub(super) members: Members,
    pub(super) handlers_running: RunningHandlers,
    // Boxed, since few sessions need it.
    pub(super) flow: Option<Box<Flow>>,
    pub(super) timer: Timer,
    /// A deadline fired so late that connections are polled once more before it counts
    pub(super) overslept: bool,
    pub(super) delivered: DeliveryProof,
    /// The client polls on the primary connection
    pub(super) polled: bool,
    /// Messages processed in this visit
    pub(super) messages_read: u32,
}

// With the runtime's overhead a task fits a 256-byte block, or else takes 384: costly for idle clients.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<Driver>() <= 152, "one field more would cost each client 128 bytes");

impl Driver {
    pub(crate) fn new(
        shared: Arc<SessionShared>,
        session: Box<dyn Session>,
        connection: Box<dyn Connection>,
        permit: Option<Permit>,
    ) -> Self {
        shared.io.app().lifecycle.driver_started();
        let mut primary = ConnectionSlot::new(connection, shared.transport_index());
        primary.permit = permit;
        Self {
            polled: shared.is_polled(primary.transport),
            shared,
            session,
            primary,
            phase: Phase::Opening,
            members: Members::default(),
            handlers_running: RunningHandlers::default(),
            flow: None,
            timer: Timer::default(),
            overslept: false,
            delivered: DeliveryProof::default(),
            messages_read: 0,
        }
    }

    /// Returns the name of the transport that carries the session, also while another is about to replace it.
    pub(super) fn primary_name(&self) -> TransportName {
        self.shared.name_of_transport(self.primary.transport)
    }

    /// Returns a connection and its outbox.
    pub(super) fn role(&mut self, role: ConnectionRole) -> Option<(&mut ConnectionSlot, &Outbox)> {
        match role {
            ConnectionRole::Primary => Some((&mut self.primary, &self.shared.outbox)),
            ConnectionRole::Probe => {
                let Probe { role, outbox, .. } = self.phase.probe_mut()?;
                Some((role, outbox))
            }
        }
    }
}

/// Cleans up a session dropped without a close, such as when its runtime shuts down.
impl Drop for Driver {
    fn drop(&mut self) {
        for member in self.members.take_all() {
            member.socket().detach(false, None);
        }
        // Drops the write half. Outboxes may be held elsewhere indefinitely, and an outbox listed for a lost flusher
        // forms a reference cycle with the list.
        let probe = self.phase.probe().map(|probe| &probe.outbox);
        for outbox in std::iter::once(&self.shared.outbox).chain(probe) {
            outbox.close(CloseReason::ServerShutdown);
        }
        self.forget();
        self.shared.io.app().lifecycle.driver_ended();
    }
}
