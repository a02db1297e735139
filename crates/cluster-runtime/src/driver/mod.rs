//! Task of a connection: owns the node and the engine.

mod answers;
mod deliveries;
mod health;
mod hosts;
mod inputs;
mod presence;
mod presence_state;
mod socket_list;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use roomcast_cluster::{
    Backplane, Channel, ClusterAction, ClusterConfig, JoinResult, JoinTicket, LeaveReason, Node,
    QueueOverflow, RequestId,
};
use roomcast_cluster_task::reply::{Missing, ReplySender};
use roomcast_cluster_task::{AckSinks, Handlers, Timer, clock};
use roomcast_core::{ClusterStatus, DeferredWakes, FlushList, Heard};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use self::health::Health;
use self::hosts::Hosts;
use self::presence_state::PresenceState;
use self::socket_list::SocketList;
use crate::body::{publication, request};
use crate::config::ConnectionConfig;
use crate::input::Input;
use crate::shared::Shared;

/// Task of a connection: owns the node and the engine, without a lock.
///
/// Each poll is one turn: a limited number of inputs, events and commands. A turn that leaves work wakes the task, so
/// other tasks run in between, and neither inputs nor events can keep the others waiting.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    config: ConnectionConfig,
    node: Node,
    engine: Box<dyn Backplane>,
    /// Inputs taken from the inlet.
    inputs: VecDeque<(Input, usize)>,
    hosts: Hosts,
    joins: HashMap<JoinTicket, oneshot::Sender<Heard>>,
    requests: HashMap<RequestId, ReplySender<Bytes>>,
    /// Pending requests by the number that their future knows.
    request_ids: HashMap<u64, RequestId>,
    confirms: VecDeque<Confirm>,
    /// Answers with sockets that were not sent yet.
    socket_lists: VecDeque<SocketList>,
    /// Broadcasts of other nodes whose recipients have not all answered.
    sinks: AckSinks,
    handlers: Handlers,
    health: Health,
    presence: PresenceState,
    timer: Timer,
    /// Holds the wake-ups of connections until the events of a turn are delivered.
    wakes: FlushList,
    has_left: bool,
    /// Time at which the task ends without a goodbye.
    ends_at: Option<Instant>,
}

struct Confirm {
    mark: u64,
    /// Number of lost publications when the wait began.
    lost: u64,
    reply: oneshot::Sender<bool>,
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        config: ConnectionConfig,
        node: Node,
        engine: Box<dyn Backplane>,
    ) -> Self {
        let now = clock::now();
        Self {
            health: Health::new(&config.node, shared.id, now),
            hosts: Hosts::new(shared.clone()),
            handlers: Handlers::new(config.max_handlers),
            presence: PresenceState::new(config.presence.clone(), now),
            shared,
            config,
            node,
            engine,
            inputs: VecDeque::new(),
            joins: HashMap::new(),
            requests: HashMap::new(),
            request_ids: HashMap::new(),
            confirms: VecDeque::new(),
            socket_lists: VecDeque::new(),
            sinks: AckSinks::default(),
            timer: Timer::new(),
            wakes: FlushList::new(),
            has_left: false,
            ends_at: None,
        }
    }

    /// Returns the settings of the node.
    ///
    /// The connection refuses what exceeds the queue, so the node's own policy is never used.
    pub(crate) fn node_config(mut config: ClusterConfig) -> ClusterConfig {
        config.queue_overflow = QueueOverflow::Reject;
        config.max_payload = config.max_payload.max(1 << 10);
        config
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = clock::now();
        if self.node.poll_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
            self.perform(now);
        }
        let mut has_more = self.take_inputs(cx, now);
        has_more |= self.deliver_together(|driver| driver.receive(cx, now));
        has_more |= self.send_socket_lists(now);
        has_more |= self.drive_presence(now);
        has_more |= self.transmit(cx, now);
        self.perform(now);
        self.sinks.expire(now);
        self.reap_handlers(cx);
        self.report(now);
        let is_over = self.ends_at.is_some_and(|at| at <= now);
        if is_over || self.has_left && self.engine.poll_flush(cx).is_ready() {
            return Poll::Ready(());
        }
        let deadlines = [
            self.node.poll_timeout(),
            self.sinks.next_deadline(),
            self.health.poll_timeout(now),
            self.presence.poll_timeout(now),
            self.ends_at,
        ];
        if has_more || !self.timer.arm(deadlines.into_iter().flatten().min(), now, cx) {
            // Sockets are polled before the next turn, which a plain wake-up would not guarantee.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
        Poll::Pending
    }

    /// Delivers the events of other nodes; each client then gets them in one write.
    fn deliver_together<T>(&mut self, deliver: impl FnOnce(&mut Self) -> T) -> T {
        let _wakes = DeferredWakes::enter_if_none(&self.wakes);
        deliver(self)
    }

    /// Handles events of the engine and the resulting actions; returns whether there may be more.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut budget = TURN_WORK;
        while let Poll::Ready(event) = self.engine.poll_event(cx) {
            self.health.note_event(&event, now);
            self.node.handle_event(event, now);
            budget = budget.saturating_sub(1 + self.perform(now));
            if budget == 0 {
                return true;
            }
        }
        false
    }

    /// Passes commands to the engine; returns whether there are more that it may accept.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut budget = TURN_WORK;
        let has_more = loop {
            if self.settle_confirms(cx).is_pending() || !self.node.has_commands(now) {
                break false;
            }
            if self.engine.poll_ready(cx).is_pending() {
                self.health.block(now);
                break false;
            }
            self.health.unblock();
            if budget == 0 {
                break true;
            }
            let Some(command) = self.node.poll_command(now) else { break false };
            self.engine.send(command);
            budget -= 1;
        };
        self.shared.inlet.settle(0, self.node.queue_bytes());
        has_more
    }

    /// Completes confirmations whose publications were passed to the engine, after it has flushed.
    ///
    /// No command is sent while the flush is pending, so that it ends under continuous load too.
    fn settle_confirms(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // The future may have been dropped, or its time is over.
            while self.confirms.front().is_some_and(|first| first.reply.is_closed()) {
                self.confirms.pop_front();
            }
            let Some(first) = self.confirms.front() else { return Poll::Ready(()) };
            if !self.node.has_passed(first.mark) {
                return Poll::Ready(());
            }
            if self.engine.poll_flush(cx).is_pending() {
                return Poll::Pending;
            }
            let lost = self.shared.counters.lost.load(Ordering::Relaxed);
            while self.confirms.front().is_some_and(|next| self.node.has_passed(next.mark))
                && let Some(confirm) = self.confirms.pop_front()
            {
                let _ = confirm.reply.send(confirm.lost == lost);
            }
        }
    }

    /// Performs the actions of the node; returns the amount of work.
    fn perform(&mut self, now: Instant) -> usize {
        let mut work = 0;
        while let Some(action) = self.node.poll_action() {
            work += 1;
            match action {
                ClusterAction::Deliver { from, publication } if publication.kind == publication::PRESENCE => {
                    self.receive_presence(from, publication, now);
                }
                ClusterAction::Deliver { publication, .. } => work += self.deliver(publication, now),
                ClusterAction::Gap { channel, from, .. } => {
                    self.presence.replica.gap(channel.as_ref(), from, now);
                    self.report_gap(channel);
                }
                ClusterAction::Heard { ticket, outcome } => {
                    if let Some((name, watch)) = self.presence.tickets.remove(&ticket) {
                        self.presence.replica.heard(&name, watch, now);
                    } else if let Some(reply) = self.joins.remove(&ticket) {
                        let _ = reply.send(heard(outcome));
                    }
                }
                ClusterAction::Request { asker, kind: request::PRESENCE, body } => {
                    self.answer_presence(asker, body);
                }
                ClusterAction::Request { asker, kind, body } => self.answer(asker, kind, body, now),
                ClusterAction::Answer { request, node, part } => {
                    if let Some(ask) = self.presence.asks.get(&request).copied() {
                        self.take_presence_part(ask, part, now);
                    } else if let Some(reply) = self.requests.get(&request) {
                        reply.part(Some(&node.id), part);
                    }
                }
                ClusterAction::Done { request, missing, .. } => {
                    if let Some(ask) = self.presence.asks.remove(&request) {
                        self.presence.replica.answered(ask, missing.is_empty(), now);
                    } else if let Some(reply) = self.requests.remove(&request) {
                        self.request_ids.remove(&reply.key());
                        let names = missing.iter().map(|missing| missing.node.id.to_string()).collect();
                        reply.done(Missing::named(names));
                    }
                }
                ClusterAction::NodeJoined { node } => {
                    info!(%node, "node joined the cluster");
                    self.presence.replica.node_joined(node, now);
                    self.update_peers();
                }
                ClusterAction::NodeLeft { node, reason } => {
                    info!(%node, ?reason, "node left the cluster");
                    self.presence.replica.node_left(node);
                    self.update_peers();
                    // The goodbye names the last publications. Without it, they may be lost.
                    if reason != LeaveReason::Goodbye {
                        self.hosts.missed_all();
                    }
                }
                // Other nodes have lost publications of this one. Gaps report the losses of this node.
                ClusterAction::Rejoined { incarnation } => {
                    warn!(incarnation, "node was declared dead by others, and has rejoined");
                    self.presence.replica.rejoined(now);
                }
                ClusterAction::Left => self.has_left = true,
                other => debug!(?other, "unknown action of the cluster"),
            }
        }
        work
    }

    fn report_gap(&self, channel: Option<Channel>) {
        match channel {
            Some(Channel::Room(namespace, room)) => self.hosts.missed(&namespace, Some(&room)),
            Some(Channel::Namespace(namespace)) => self.hosts.missed(&namespace, None),
            // Rooms of socket ids of any namespace.
            None | Some(Channel::Ids(_)) => self.hosts.missed_all(),
            // No events.
            Some(Channel::Nodes | Channel::Inbox(_)) => {}
        }
    }

    fn update_peers(&mut self) {
        self.shared.peers.set(self.node.peers().collect());
        // At once, since the next heartbeat tells how long publications were omitted.
        self.shared.peers.set_alone(false);
    }

    /// Updates the status and the gauges.
    fn report(&mut self, now: Instant) {
        let metrics = self.node.metrics();
        self.health.note_part(self.engine.is_degraded(), now);
        let status =
            if self.has_left { ClusterStatus::Left } else { self.health.status(metrics.degraded, now) };
        let (nodes, queue_bytes) = (metrics.nodes, metrics.queue_bytes + self.shared.inlet.bytes());
        *self.shared.node_metrics() = metrics;
        self.shared.peers.set_alone(self.node.is_alone());
        // It has left when the engine has flushed too.
        if status == ClusterStatus::Left || !self.shared.status.set(status) {
            return;
        }
        let status = status.as_str();
        if status == ClusterStatus::Degraded.as_str() {
            warn!(status, nodes, queue_bytes, "message engine of the cluster does not respond");
        } else {
            info!(status, nodes, queue_bytes, "connection to the cluster changed");
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().turn(cx)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.inlet.end();
        let bytes = self.inputs.iter().map(|(_, bytes)| bytes).sum();
        self.shared.inlet.settle(bytes, 0);
        self.shared.peers.set(Vec::new());
        if self.shared.status.set(ClusterStatus::Left) {
            info!(
                status = ClusterStatus::Left.as_str(),
                said_goodbye = self.has_left,
                "connection to the cluster ended"
            );
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("node", &self.node.node_ref()).finish_non_exhaustive()
    }
}

fn heard(outcome: JoinResult) -> Heard {
    match outcome {
        JoinResult::Confirmed => Heard::Confirmed,
        JoinResult::Left => Heard::Left,
        _ => Heard::Degraded,
    }
}

/// Commands, and events with their deliveries, in one turn.
const TURN_WORK: usize = 256;
