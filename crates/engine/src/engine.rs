//! Engine.IO state machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytestring::ByteString;
use roomcast_core::{Action, CloseReason, ConnectionRole, Delivery, Frame, Message, TransportName};

use crate::packet::{self, Packet};
use crate::timers::{Timer, Timers};
use crate::{Actions, EngineConfig, OpenPacket, Version};

/// Engine.IO state of one session: handshake, heartbeat, upgrade and close.
///
/// A building block for sessions. Inputs are `handle_*` and [`close`](Self::close); their effects are appended to the
/// given `actions`: [`Transmit`](Action::Transmit), [`Promote`](Action::Promote), [`CloseProbe`](Action::CloseProbe)
/// and finally [`Close`](Action::Close), after which no action is appended and all input is ignored. Message packets are
/// returned.
///
/// The driver performs the actions of one input before it gives the next, and observes:
/// - after `Promote`, messages of the former probe connection come from [`ConnectionRole::Primary`],
/// - after `CloseProbe`, no input of that connection is passed on, except that it may report its end,
/// - a second probe is opened only while [`can_upgrade`](Self::can_upgrade).
#[derive(Debug)]
pub struct Engine {
    config: Arc<EngineConfig>,
    phase: Phase,
    version: Version,
    upgrade: Upgrade,
    /// Whether the client polls for responses on the primary connection.
    polled: bool,
    /// Whether the session may upgrade from it.
    upgradable: bool,
    timers: Timers,
}

#[derive(Debug)]
enum Phase {
    /// The primary connection is not open yet.
    Opening(OpenPacket),
    Open,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    /// No upgrade was started, or none completed.
    Idle,
    /// The probe connection is open.
    Probing { polled: bool },
    /// The probe ping was answered: the client is about to upgrade.
    Answered { polled: bool },
    /// Upgraded, which happens at most once.
    Done,
}

impl Engine {
    /// Creates a session whose primary connection is not open yet.
    pub fn new(config: Arc<EngineConfig>, handshake: OpenPacket) -> Self {
        let version = handshake.version;
        Self {
            config,
            phase: Phase::Opening(handshake),
            version,
            upgrade: Upgrade::Idle,
            polled: false,
            upgradable: false,
            timers: Timers::default(),
        }
    }

    /// Returns the client's protocol revision.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns whether the handshake was answered and the session has not ended.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Returns whether the session has ended.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Returns whether a probe may be opened now.
    pub fn can_upgrade(&self) -> bool {
        self.is_open() && self.upgrade == Upgrade::Idle && self.upgradable && !self.config.upgrades.is_empty()
    }

    /// Handles a message received on a connection; returns the content of a message packet.
    pub fn handle_message(
        &mut self,
        role: ConnectionRole,
        message: Message,
        now: Instant,
        actions: &mut Actions,
    ) -> Option<Message> {
        if !self.is_open() {
            return None;
        }
        match role {
            ConnectionRole::Primary => self.handle_primary(message, now, actions),
            ConnectionRole::Probe => {
                self.handle_probe(&Packet::decode(message), now, actions);
                None
            }
        }
    }

    /// Returns where the content of a text message packet begins, without handling the packet.
    ///
    /// `None` for other packets, and for any that must not be handled now. A packet with content does not change the
    /// state, so a session that slices the content itself need not call [`handle_message`](Self::handle_message).
    #[inline]
    pub fn content_of(&self, role: ConnectionRole, text: &ByteString) -> Option<usize> {
        let is_content =
            role == ConnectionRole::Primary && self.is_open() && text.as_bytes().first() == Some(&b'4');
        is_content.then_some(1)
    }

    /// Handles the opening of a connection.
    ///
    /// The primary connection transmits the handshake and starts the heartbeat. A probe connection starts the upgrade
    /// timeout.
    pub fn handle_connection_opened(
        &mut self,
        role: ConnectionRole,
        transport: TransportName,
        now: Instant,
        actions: &mut Actions,
    ) {
        match (role, &self.phase) {
            (ConnectionRole::Primary, Phase::Opening(handshake)) => {
                let upgrades = self.config.upgrades_from(transport);
                let open = packet::open(&handshake.sid, upgrades, &self.config);
                self.phase = Phase::Open;
                self.polled = self.config.is_polled(transport);
                self.upgradable = self.config.is_upgradable(transport);
                transmit(actions, ConnectionRole::Primary, open, Delivery::Protocol);
                self.timers.arm(Timer::Ping, now, self.config.ping_interval);
            }
            (ConnectionRole::Probe, Phase::Open) if self.probe().is_none() => {
                if self.can_upgrade() && self.config.upgrades.contains(&transport) {
                    self.upgrade = Upgrade::Probing { polled: self.config.is_polled(transport) };
                    self.timers.arm(Timer::Upgrade, now, self.config.upgrade_timeout);
                } else {
                    actions.push(Action::CloseProbe);
                }
            }
            _ => {}
        }
    }

    /// Handles the loss of a connection, with its reason.
    ///
    /// The session ends with its primary connection, even during an upgrade: messages that the connection had accepted
    /// may be lost. Losing the probe leaves the session as before, and it can be probed again.
    pub fn handle_connection_closed(
        &mut self,
        role: ConnectionRole,
        reason: CloseReason,
        actions: &mut Actions,
    ) {
        match role {
            ConnectionRole::Primary => {
                if self.is_open() && self.polled {
                    // The failed request may be another than the pending one, which must still be answered.
                    transmit(actions, ConnectionRole::Primary, packet::close(), Delivery::Volatile);
                }
                self.end(reason, actions);
            }
            ConnectionRole::Probe => self.forget_probe(),
        }
    }

    /// Schedules the response to a pending request during an upgrade, so that the client can finish the request.
    pub fn handle_writable(&mut self, now: Instant) {
        if self.is_open() && matches!(self.upgrade, Upgrade::Answered { .. }) {
            self.timers.arm_sooner(Timer::Noop, now, NOOP_DELAY);
        }
    }

    /// Handles the deadline of [`poll_timeout`](Self::poll_timeout); harmless if called early.
    pub fn handle_timeout(&mut self, now: Instant, actions: &mut Actions) {
        if self.timers.take_due(Timer::PongDeadline, now).is_some() {
            self.close(CloseReason::PingTimeout, actions);
        }
        if let Some(due) = self.timers.take_due(Timer::Ping, now) {
            actions.push(Action::Heartbeat(packet::ping()));
            // The timeout counts from when the ping was due, so the close is never late. After a pause of the whole
            // process, however, a client must not be closed for a ping that it never received.
            let late = now.saturating_duration_since(due) > self.config.ping_timeout / TOLERATED_LATENESS;
            let from = if late { now } else { due };
            self.timers.arm(Timer::PongDeadline, from, self.config.ping_timeout);
        }
        if self.timers.take_due(Timer::Upgrade, now).is_some() {
            self.abandon_probe(actions);
        }
        if self.timers.take_due(Timer::Noop, now).is_some() {
            self.answer_pending_request(now, actions);
        }
    }

    /// Handles activity on a connection: any input proves that the client is alive.
    ///
    /// If a pong is pending, its timeout restarts, as on Node.
    pub fn handle_activity(&mut self, role: ConnectionRole, now: Instant) {
        if role == ConnectionRole::Primary {
            self.restart_pong_deadline(now);
        }
    }

    /// Handles the delivery of a delayed heartbeat: the pong timeout starts now.
    pub fn handle_heartbeat_sent(&mut self, now: Instant) {
        self.restart_pong_deadline(now);
    }

    fn restart_pong_deadline(&mut self, now: Instant) {
        if self.timers.is_armed(Timer::PongDeadline) {
            self.timers.arm(Timer::PongDeadline, now, self.config.ping_timeout);
        }
    }

    /// Returns the next deadline for [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Ends the session.
    ///
    /// On a polled connection the client gets a close packet.
    pub fn close(&mut self, reason: CloseReason, actions: &mut Actions) {
        if self.is_open() && self.polled {
            transmit(actions, ConnectionRole::Primary, packet::close(), Delivery::Protocol);
        }
        self.end(reason, actions);
    }

    fn handle_primary(&mut self, message: Message, now: Instant, actions: &mut Actions) -> Option<Message> {
        match Packet::decode(message) {
            Some(Packet::Message(message)) => return Some(message),
            Some(Packet::Pong) => {
                if self.timers.is_armed(Timer::PongDeadline) {
                    self.timers.disarm(Timer::PongDeadline);
                    actions.push(Action::HeartbeatAnswered);
                }
                self.timers.arm(Timer::Ping, now, self.config.ping_interval);
            }
            Some(Packet::Close) => {
                if self.polled {
                    // Another request carried the close; the pending one must still be answered.
                    transmit(actions, ConnectionRole::Primary, packet::noop(), Delivery::Volatile);
                }
                self.end(CloseReason::TransportClose, actions);
            }
            // Since protocol revision 4 the server sends the pings.
            Some(Packet::Ping { .. }) => self.close(CloseReason::TransportError, actions),
            Some(Packet::Upgrade | Packet::Ignored) => {}
            None => self.close(CloseReason::ParseError, actions),
        }
        None
    }

    fn handle_probe(&mut self, packet: &Option<Packet>, now: Instant, actions: &mut Actions) {
        match (packet, self.upgrade) {
            (_, Upgrade::Idle | Upgrade::Done) => {}
            (
                Some(Packet::Ping { probe: true }),
                Upgrade::Probing { polled } | Upgrade::Answered { polled },
            ) => {
                transmit(actions, ConnectionRole::Probe, packet::probe_pong(), Delivery::Protocol);
                self.upgrade = Upgrade::Answered { polled };
                self.timers.arm_sooner(Timer::Noop, now, NOOP_DELAY);
            }
            (Some(Packet::Upgrade), Upgrade::Answered { polled }) => {
                self.forget_probe();
                self.upgrade = Upgrade::Done;
                self.polled = polled;
                // The client may upgrade without waiting for its last request, which is answered all the same.
                transmit(actions, ConnectionRole::Primary, packet::noop(), Delivery::Volatile);
                actions.push(Action::Promote);
                if self.timers.is_armed(Timer::PongDeadline) {
                    // The ping, or its pong, may still be in transit on the old connection.
                    self.timers.arm(Timer::PongDeadline, now, self.config.ping_timeout);
                }
            }
            _ => self.abandon_probe(actions),
        }
    }

    /// Answers the pending request, which the client finishes before it upgrades.
    fn answer_pending_request(&mut self, now: Instant, actions: &mut Actions) {
        transmit(actions, ConnectionRole::Primary, packet::noop(), Delivery::Volatile);
        self.timers.arm(Timer::Noop, now, NOOP_INTERVAL);
    }

    fn probe(&self) -> Option<Upgrade> {
        Some(self.upgrade).filter(|upgrade| !matches!(upgrade, Upgrade::Idle | Upgrade::Done))
    }

    fn abandon_probe(&mut self, actions: &mut Actions) {
        self.forget_probe();
        actions.push(Action::CloseProbe);
    }

    fn forget_probe(&mut self) {
        if self.probe().is_some() {
            self.upgrade = Upgrade::Idle;
        }
        self.timers.disarm(Timer::Upgrade);
        self.timers.disarm(Timer::Noop);
    }

    fn end(&mut self, reason: CloseReason, actions: &mut Actions) {
        if !self.is_closed() {
            self.phase = Phase::Closed;
            self.timers.clear();
            actions.push(Action::Close(reason));
        }
    }
}

/// Delay before a pending request is answered by a noop during an upgrade.
///
/// A client's first events arrive together with its probe, and their replies end the request without a noop. Node waits
/// up to 100 ms, which delays the client's next event by as much.
const NOOP_DELAY: Duration = Duration::from_millis(20);

/// Interval of checks for a pending request during an upgrade.
const NOOP_INTERVAL: Duration = Duration::from_millis(100);

/// A ping later than the pong timeout divided by this is not charged to the client.
const TOLERATED_LATENESS: u32 = 4;

fn transmit(actions: &mut Actions, role: ConnectionRole, frame: Frame, delivery: Delivery) {
    actions.push(Action::Transmit { role, frame, delivery });
}
