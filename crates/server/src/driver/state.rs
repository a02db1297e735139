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

/// The task that drives one session: it owns the protocol, the connections, the timer, and runs the handlers
///
/// Whatever happens to the session happens here, one thing after the other. Only the writing of frames is done by
/// others too, who lease the write half out of the outbox.
pub(crate) struct Driver {
    pub(super) shared: Arc<SessionShared>,
    pub(super) session: Box<dyn Session>,
    /// The connection that carries the session
    pub(super) primary: LaneState,
    pub(super) phase: Phase,
    pub(super) members: Members,
    pub(super) work: Work,
    // Boxed, since few sessions have one, and all others only wait.
    pub(super) flow: Option<Box<Flow>>,
    pub(super) timer: Timer,
    /// A deadline has come so late that the connections are looked at once more before it counts
    pub(super) overslept: bool,
    pub(super) reach: Reach,
    /// Messages of this visit
    pub(super) heard: u32,
}

// With what the runtime adds a task lies in a block of 256 bytes, or else of 384: much, for a client that only listens.
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

/// A session that is dropped without an end, because its runtime goes away, leaves nothing behind all the same
impl Drop for Driver {
    fn drop(&mut self) {
        for member in self.members.take_all() {
            member.socket().detach(false, None);
        }
        // The write half goes with it. Others may hold the outbox, and some of them for ever: what is listed for a
        // flusher that is gone holds the list, which holds what is listed.
        let probe = self.phase.probe().map(|probe| &probe.outbox);
        for outbox in std::iter::once(&self.shared.outbox).chain(probe) {
            outbox.close(CloseReason::ServerShutdown);
        }
        self.forget();
        self.shared.io.app().lifecycle.driver_ended();
    }
}
