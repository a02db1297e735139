//! State of a session's driver task

use std::sync::Arc;

use roomcast_core::{CloseReason, Connection, Lane, Outbox, Session};

use super::flow::Flow;
use super::lane::{LaneState, Probe};
use super::members::Members;
use super::phase::Phase;
use super::reach::Reach;
use super::timer::Timer;
use super::work::Work;
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
    pub(super) primary: LaneState,
    pub(super) phase: Phase,
    pub(super) members: Members,
    pub(super) work: Work,
    // Boxed, since few sessions need it.
    pub(super) flow: Option<Box<Flow>>,
    pub(super) timer: Timer,
    /// A deadline fired so late that connections are polled once more before it counts
    pub(super) overslept: bool,
    pub(super) reach: Reach,
    /// Messages processed in this visit
    pub(super) heard: u32,
}

// With the runtime's overhead a task fits a 256-byte block, or else takes 384: costly for idle clients.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Driver>() <= 152, "one field more would cost each client 128 bytes");

impl Driver {
    pub(crate) fn new(
        shared: Arc<SessionShared>,
        session: Box<dyn Session>,
        connection: Box<dyn Connection>,
        permit: Option<Arc<Permit>>,
    ) -> Self {
        shared.io.app().lifecycle.driver_started();
        let mut primary = LaneState::new(connection, shared.transport());
        primary.permit = permit;
        Self {
            shared,
            session,
            primary,
            phase: Phase::Opening,
            members: Members::default(),
            work: Work::default(),
            flow: None,
            timer: Timer::default(),
            overslept: false,
            reach: Reach::default(),
            heard: 0,
        }
    }

    /// Returns a connection and its outbox.
    pub(super) fn lane(&mut self, lane: Lane) -> Option<(&mut LaneState, &Outbox)> {
        match lane {
            Lane::Primary => Some((&mut self.primary, &self.shared.outbox)),
            Lane::Probe => {
                let Probe { lane, outbox, .. } = self.phase.probe_mut()?;
                Some((lane, outbox))
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
