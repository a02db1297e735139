//! Phase of a session's driver

use std::time::Instant;

use roomcast_core::{CloseReason, ConnectionRole};

use super::connection_slot::Probe;

/// Phase of a session: which connections it has, and their purposes.
///
/// | Phase | Connection that carries the session | Probe |
/// | --- | --- | --- |
/// | `Opening` | has no write half yet | none |
/// | `Open` | is read and written | none |
/// | `Probing` | is read and written | is opened, then read after the messages of the other |
/// | `Promoting` | is written, not read | replaces the other as soon as no flusher has its write half |
/// | `Evicted` | sends the last frame, and nothing queued before it | none |
/// | `Closing` | sends queued frames, then closes | none |
///
/// Each transition is a method, which changes nothing in a phase where it does not apply:
///
/// | Method | From | To |
/// | --- | --- | --- |
/// | `opened` | `Opening` | `Open` |
/// | `begin_probe` | `Open` | `Probing` |
/// | `begin_promotion` | `Probing`, if the probe is open | `Promoting` |
/// | `end_promotion` | `Promoting` | `Open`, with the former probe as its connection |
/// | `drop_probe` | `Probing`, `Promoting` | `Open` |
/// | `evict` | `Open`, `Probing` | `Evicted` |
/// | `close` | all but `Closing` | `Closing`, the last one |
///
/// Two related states are no phases, as they occur together with several: reading may pause (`Flow::paused`), and a
/// connection may be about to end (`Flow::leaving`).
pub(super) enum Phase {
    Opening,
    Open,
    // Boxed, as the next ones: few sessions have one, and all others only wait.
    Probing(Box<Probe>),
    Promoting(Box<Probe>),
    Evicted,
    Closing(Box<Closing>),
}

/// State of a session that ends.
pub(super) struct Closing {
    pub(super) reason: CloseReason,
    pub(super) deadline: Instant,
    /// Whether a polling client may still fetch its queue
    pub(super) lingers: bool,
    /// Whether all data was passed to the connection, which now waits for its peer
    pub(super) drained: bool,
    /// Whether the connection has a write half
    pub(super) opened: bool,
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<Phase>() == 16, "each driver has one");

impl Phase {
    pub(super) fn is_promoting(&self) -> bool {
        matches!(self, Self::Promoting(_))
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self, Self::Closing(_))
    }

    /// Returns whether there is one connection, which is read and written.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Returns whether a connection is there and has its write half.
    pub(super) fn is_open(&self, role: ConnectionRole) -> bool {
        match role {
            ConnectionRole::Primary => !matches!(self, Self::Opening),
            ConnectionRole::Probe => self.probe().is_some_and(|probe| probe.open),
        }
    }

    pub(super) fn probe(&self) -> Option<&Probe> {
        match self {
            Self::Probing(probe) | Self::Promoting(probe) => Some(probe),
            _ => None,
        }
    }

    pub(super) fn probe_mut(&mut self) -> Option<&mut Probe> {
        match self {
            Self::Probing(probe) | Self::Promoting(probe) => Some(probe),
            _ => None,
        }
    }

    /// Records that a connection has its write half.
    pub(super) fn opened(&mut self, role: ConnectionRole) {
        match (self, role) {
            (phase @ Self::Opening, ConnectionRole::Primary) => *phase = Self::Open,
            (Self::Probing(probe), ConnectionRole::Probe) => probe.open = true,
            _ => {}
        }
    }

    /// Accepts a second connection, or returns it.
    pub(super) fn begin_probe(&mut self, probe: Probe) -> Result<(), Probe> {
        if !matches!(self, Self::Open) {
            return Err(probe);
        }
        *self = Self::Probing(Box::new(probe));
        Ok(())
    }

    /// Lets the probe replace the other connection as soon as its write half is free; returns the probe.
    pub(super) fn begin_promotion(&mut self) -> Option<&Probe> {
        if !matches!(self, Self::Probing(probe) if probe.open) {
            return None;
        }
        let probe = self.drop_probe()?;
        *self = Self::Promoting(probe);
        self.probe()
    }

    /// Returns the probe, which carries the session from now on.
    pub(super) fn end_promotion(&mut self) -> Option<Box<Probe>> {
        if self.is_promoting() { self.drop_probe() } else { None }
    }

    /// Returns the probe, which is no longer a part of the session.
    pub(super) fn drop_probe(&mut self) -> Option<Box<Probe>> {
        match std::mem::replace(self, Self::Open) {
            Self::Probing(probe) | Self::Promoting(probe) => Some(probe),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Stops all sending but the last frame; returns the probe if there was one.
    ///
    /// A client is given up by its own connection, which is not looked at before it is open nor during a promotion.
    pub(super) fn evict(&mut self) -> Option<Box<Probe>> {
        if !matches!(self, Self::Open | Self::Probing(_)) {
            return None;
        }
        let probe = self.drop_probe();
        *self = Self::Evicted;
        probe
    }

    /// Begins the end of the session, which has only one; returns the probe if there was one.
    pub(super) fn close(
        &mut self,
        reason: CloseReason,
        deadline: Instant,
        lingers: bool,
    ) -> Option<Box<Probe>> {
        if self.is_closing() {
            return None;
        }
        let probe = self.drop_probe();
        let opened = self.is_open(ConnectionRole::Primary);
        *self = Self::Closing(Box::new(Closing { reason, deadline, lingers, drained: false, opened }));
        probe
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use roomcast_core::{
        Connection, ConnectionError, Exchange, FlushList, FrameSink, Message, Outbox, Received,
        RejectedExchange, Rejection,
    };

    use super::super::connection_slot::ConnectionSlot;
    use super::*;
    use crate::session::shared::TransportIndex;
    use crate::util::clock;

    #[derive(Debug)]
    struct Silent;

    impl Connection for Silent {
        fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
            Err(RejectedExchange::new(
                exchange,
                Rejection::new(http::StatusCode::BAD_REQUEST, "takes no requests"),
            ))
        }

        fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
            Poll::Pending
        }

        fn poll_recv(
            &mut self,
            _: &mut Context<'_>,
            _: &Outbox,
            _: &mut Vec<Message>,
        ) -> Poll<Result<Received, ConnectionError>> {
            Poll::Pending
        }

        fn ping(&mut self, _: &Outbox, _: u32) -> bool {
            true
        }

        fn start_close(&mut self, _: CloseReason, _: &Outbox) {}

        fn poll_closed(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    fn probe() -> Probe {
        let role = ConnectionSlot::new(Box::new(Silent), TransportIndex(0));
        Probe { role, outbox: Outbox::new(1024, FlushList::new()), open: false }
    }

    fn close(phase: &mut Phase, reason: CloseReason) -> Option<Box<Probe>> {
        phase.close(reason, clock::now(), false)
    }

    fn probing(open: bool) -> Phase {
        Phase::Probing(Box::new(Probe { open, ..probe() }))
    }

    fn promoting() -> Phase {
        Phase::Promoting(Box::new(Probe { open: true, ..probe() }))
    }

    fn closing() -> Phase {
        let mut phase = Phase::Open;
        close(&mut phase, CloseReason::TransportClose);
        phase
    }

    fn name(phase: &Phase) -> &'static str {
        match phase {
            Phase::Opening => "opening",
            Phase::Open => "open",
            Phase::Probing(_) => "probing",
            Phase::Promoting(_) => "promoting",
            Phase::Evicted => "given up",
            Phase::Closing(_) => "closing",
        }
    }

    #[test]
    fn upgrade_ends_on_the_probe() {
        let mut phase = Phase::Opening;
        phase.opened(ConnectionRole::Primary);
        assert!(phase.begin_probe(probe()).is_ok());
        phase.opened(ConnectionRole::Probe);
        assert!(phase.begin_promotion().is_some());
        assert!(phase.end_promotion().is_some_and(|probe| probe.open));
        assert_eq!(name(&phase), "open");
    }

    #[test]
    fn probe_needs_an_open_session() {
        for mut phase in [Phase::Opening, probing(true), promoting(), Phase::Evicted, closing()] {
            let before = name(&phase);
            assert!(phase.begin_probe(probe()).is_err(), "{before}");
            assert_eq!(name(&phase), before);
        }
    }

    #[test]
    fn promotion_needs_an_open_probe() {
        for mut phase in [Phase::Opening, Phase::Open, probing(false), promoting(), Phase::Evicted, closing()]
        {
            let before = name(&phase);
            assert!(phase.begin_promotion().is_none(), "{before}");
            assert_eq!(name(&phase), before);
        }
    }

    #[test]
    fn unproven_probe_never_carries_session() {
        for mut phase in [Phase::Opening, Phase::Open, probing(true), Phase::Evicted, closing()] {
            let before = name(&phase);
            assert!(phase.end_promotion().is_none(), "{before}");
            assert_eq!(name(&phase), before);
        }
    }

    #[test]
    fn given_up_only_when_read() {
        for mut phase in [Phase::Opening, promoting(), Phase::Evicted, closing()] {
            let before = name(&phase);
            assert!(phase.evict().is_none(), "{before}");
            assert_eq!(name(&phase), before);
        }
        let mut phase = probing(true);
        assert!(phase.evict().is_some(), "the probe goes with it");
        assert_eq!(name(&phase), "given up");
    }

    #[test]
    fn dropped_probe_leaves_other_phases() {
        for mut phase in [Phase::Opening, Phase::Open, Phase::Evicted, closing()] {
            let before = name(&phase);
            assert!(phase.drop_probe().is_none(), "{before}");
            assert_eq!(name(&phase), before);
        }
        for mut phase in [probing(false), promoting()] {
            assert!(phase.drop_probe().is_some());
            assert_eq!(name(&phase), "open");
        }
    }

    #[test]
    fn opening_twice_changes_nothing() {
        for mut phase in [Phase::Open, probing(false), promoting(), Phase::Evicted, closing()] {
            let before = name(&phase);
            phase.opened(ConnectionRole::Primary);
            assert_eq!(name(&phase), before);
        }
        for mut phase in [Phase::Opening, Phase::Open, Phase::Evicted, closing()] {
            phase.opened(ConnectionRole::Probe);
            assert!(!phase.is_open(ConnectionRole::Probe), "{}", name(&phase));
        }
    }

    #[test]
    fn session_closes_once() {
        for mut phase in [Phase::Opening, Phase::Open, probing(true), promoting(), Phase::Evicted] {
            let has_probe = phase.probe().is_some();
            let was_open = phase.is_open(ConnectionRole::Primary);
            assert_eq!(close(&mut phase, CloseReason::ParseError).is_some(), has_probe);
            assert!(close(&mut phase, CloseReason::TransportClose).is_none());
            let Phase::Closing(closing) = phase else { panic!("{}", name(&phase)) };
            assert_eq!((closing.reason, closing.opened), (CloseReason::ParseError, was_open));
        }
    }
}
