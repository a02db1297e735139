//! State machine of one node.

mod interest;
mod order;
mod ordered;
mod outputs;
mod peers;
mod queue;
mod requests;
mod resume;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use roomcast_core::{Namespace, Room};

use self::interest::Interest;
use self::ordered::{Ordered, Ready};
use self::outputs::Outputs;
use self::peers::{Admission, Copy, Peers};
use self::queue::{ROUNDS, SendQueue};
use self::requests::Requests;
use self::resume::Resume;
use crate::envelope::{Envelope, EnvelopeWriter, Frame, MAX_ROOMS, Omission, encode_frame};
use crate::id::next_incarnation;
use crate::mutation::Mutation;
use crate::{
    Asker, Backplane, BackplaneCommand, BackplaneEvent, Channel, ClusterAction, ClusterConfig,
    ClusterMetrics, ClusterRequest, Incarnation, JoinTicket, MissingAnswer, MissingReason, NodeId, NodeRef,
    Publication, PublishError, RequestId,
};

/// State machine of one node of a cluster.
///
/// The host calls [`handle_event`](Self::handle_event) for each event of the engine, the methods named by verbs for its
/// own needs, and [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) is due. After
/// each of these it drains [`poll_action`](Self::poll_action), and passes the results of
/// [`poll_command`](Self::poll_command) to the engine as fast as that accepts them. [`exchange`](Self::exchange) does
/// both directions for a [`Backplane`].
///
/// Times are arguments. They must not decrease; their origin is the host's choice.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
///
/// use roomcast_cluster::{BackplaneCommand, ClusterConfig, Node, NodeId};
///
/// # #[allow(clippy::disallowed_methods)]
/// let now = Instant::now();
/// let config = Arc::new(ClusterConfig::default());
/// let mut node = Node::new(config.clone(), NodeId::new(7), 1, now);
/// // The first heartbeat precedes the subscriptions, which are collected for some milliseconds.
/// assert!(matches!(node.poll_command(now), Some(BackplaneCommand::Publish { .. })));
/// assert!(node.poll_command(now).is_none());
/// let later = now + config.subscribe_delay;
/// node.handle_timeout(later);
/// assert!(matches!(node.poll_command(later), Some(BackplaneCommand::Subscribe { .. })));
/// ```
#[derive(Debug)]
pub struct Node {
    config: Arc<ClusterConfig>,
    id: NodeId,
    incarnation: Incarnation,
    phase: Phase,
    interest: Interest,
    peers: Peers,
    requests: Requests,
    queue: SendQueue,
    /// Frames without a position, for single nodes.
    notices: VecDeque<(Channel, Bytes)>,
    heartbeat: Heartbeat,
    resume: Resume,
    /// Whether another node would have been noticed by now.
    is_alone: bool,
    /// Last time at which publications were omitted, or of a rejoin, and the number of the next heartbeat.
    omitted: Option<(Instant, u64)>,
    last_copy: u64,
    last_ticket: u64,
    /// Time of the last input.
    driven_at: Instant,
    out: Outputs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Active,
    /// The goodbye follows when the queue is empty.
    Leaving,
    /// The goodbye was sent; the action follows the last command.
    Closing,
    Left,
}

#[derive(Debug)]
struct Heartbeat {
    /// Number of the last one sent.
    number: u64,
    sent_at: Instant,
    next_at: Instant,
    /// Whether to ask the others for theirs.
    hello: bool,
}

impl Node {
    /// Creates a node that is about to join the cluster.
    ///
    /// See [`first_incarnation`](crate::first_incarnation) for the number of its first incarnation.
    #[must_use]
    pub fn new(config: Arc<ClusterConfig>, id: NodeId, incarnation: Incarnation, now: Instant) -> Self {
        let mut node = Self {
            interest: Interest::new(config.clone()),
            peers: Peers::new(config.clone()),
            requests: Requests::new(config.clone()),
            queue: SendQueue::new(config.clone()),
            config,
            id,
            incarnation,
            phase: Phase::Active,
            notices: VecDeque::new(),
            heartbeat: Heartbeat { number: 0, sent_at: now, next_at: now, hello: true },
            resume: Resume::default(),
            is_alone: false,
            omitted: None,
            last_copy: 0,
            last_ticket: 0,
            driven_at: now,
            out: Outputs::default(),
        };
        for channel in [Channel::Nodes, Channel::Inbox(id), Channel::Ids(id)] {
            node.interest.add(channel, now, &mut node.out);
        }
        node
    }

    /// Returns the node in its present incarnation.
    #[must_use]
    pub fn node_ref(&self) -> NodeRef {
        NodeRef { id: self.id, incarnation: self.incarnation }
    }

    /// Returns the other nodes that are alive, by id.
    pub fn peers(&self) -> impl Iterator<Item = NodeRef> {
        self.peers.alive()
    }

    /// Returns whether no other node is known although it would have been noticed, so that publishing may be omitted.
    ///
    /// It would have been noticed after a heartbeat interval in which heartbeats arrive and are sent. Changes only in
    /// calls with a time. The other nodes are notified of omitted publications as of lost ones.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Returns the counters and gauges.
    #[must_use]
    pub fn metrics(&self) -> ClusterMetrics {
        let mut metrics = self.out.metrics.clone();
        metrics.nodes = self.peers.alive().count();
        metrics.channels = self.interest.channels();
        metrics.degraded = self.interest.degraded();
        metrics.queue_len = self.queue.len();
        metrics.queue_bytes = self.queue.bytes();
        metrics.reassembly_bytes = self.interest.reassembly_bytes();
        metrics.pending_requests = self.requests.len();
        metrics
    }

    /// Returns the bytes that wait for the engine, as [`ClusterMetrics::queue_bytes`] but without a copy of the rest.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Returns a mark behind all publications, requests and answers so far, for [`has_passed`](Self::has_passed).
    pub fn mark(&mut self) -> u64 {
        self.queue.mark()
    }

    /// Returns whether everything before a mark was returned by [`poll_command`](Self::poll_command), or was dropped.
    #[must_use]
    pub fn has_passed(&self, mark: u64) -> bool {
        self.queue.has_passed(mark)
    }

    /// Publishes to all other nodes with members in the rooms.
    ///
    /// Never waits. The publications to a room are delivered in order of publication, also those to several rooms, as
    /// are those to the whole namespace. A publication to several rooms is sent on the channel of each, and delivered
    /// once it has arrived on all that the receiving node is subscribed to, at most
    /// [`order_timeout`](ClusterConfig::order_timeout) after its first arrival. One to rooms on more than 16 channels
    /// is sent on the channel of the namespace, and has the order of publications to that.
    ///
    /// # Errors
    /// Returns an error if the publication is too large, or the queue is full and its policy is to reject.
    pub fn publish(&mut self, publication: Publication, now: Instant) -> Result<(), PublishError> {
        self.check_active()?;
        let rooms = publication.rooms.len().max(publication.except.len());
        if rooms > MAX_ROOMS {
            self.out.metrics.rejected += 1;
            return Err(PublishError::TooManyRooms { rooms, limit: MAX_ROOMS });
        }
        let mut channels: Vec<_> =
            publication.rooms.iter().map(|room| Channel::of(&publication.namespace, Some(room))).collect();
        channels.sort_unstable();
        channels.dedup();
        if channels.is_empty() || channels.len() > MAX_CHANNELS {
            channels = vec![Channel::of(&publication.namespace, None)];
        }
        let copy = (channels.len() > 1).then(|| {
            self.last_copy += 1;
            self.last_copy
        });
        // The publication itself has the greatest number, if it has one.
        let after = if copy.is_some() { 0 } else { self.last_copy };
        self.queue.push(&channels, &Frame::Publish { publication, copy, after }, now, &mut self.out)?;
        self.out.metrics.published += 1;
        Ok(())
    }

    /// Subscribes to a room that got its first local member, or to a whole namespace.
    ///
    /// Each call is undone by [`remove_interest`](Self::remove_interest). Costs nothing on the engine for rooms of this
    /// node's socket ids.
    pub fn add_interest(&mut self, namespace: &Namespace, room: Option<&Room>, now: Instant) {
        if self.is_active() {
            self.interest.add(Channel::of(namespace, room), now, &mut self.out);
        }
    }

    /// Unsubscribes from a room that lost its last local member, or from a whole namespace, after a delay.
    pub fn remove_interest(&mut self, namespace: &Namespace, room: Option<&Room>, now: Instant) {
        self.interest.remove(&Channel::of(namespace, room), now, &mut self.out);
    }

    /// Awaits the subscription of a room or namespace; [`ClusterAction::Heard`] follows, within the join timeout.
    pub fn await_join(&mut self, namespace: &Namespace, room: Option<&Room>, now: Instant) -> JoinTicket {
        self.last_ticket += 1;
        let ticket = JoinTicket(self.last_ticket);
        self.interest.await_join(&Channel::of(namespace, room), ticket, now, &mut self.out);
        ticket
    }

    /// Sends a request; [`ClusterAction::Answer`] follows for each part of an answer, then [`ClusterAction::Done`].
    ///
    /// The request goes to all nodes that are alive, with members or without, and waits for each. Requests have no
    /// order with publications.
    ///
    /// # Errors
    /// Returns an error as [`publish`](Self::publish) does, or if too many requests are pending.
    pub fn request(&mut self, request: ClusterRequest, now: Instant) -> Result<RequestId, PublishError> {
        self.check_active()?;
        if self.requests.len() >= self.config.max_requests {
            self.out.metrics.rejected += 1;
            return Err(PublishError::TooManyRequests);
        }
        let ClusterRequest { to, kind, body, timeout } = request;
        let nodes: Vec<_> = self.peers.alive().filter(|node| to.is_none_or(|to| to == node.id)).collect();
        let id = self.requests.next_id();
        if nodes.is_empty() {
            let unknown = |id| MissingAnswer {
                node: NodeRef { id, incarnation: 0 },
                reason: MissingReason::NotInCluster,
            };
            self.requests.end_unasked(id, to.into_iter().map(unknown).collect(), now, &mut self.out);
            return Ok(RequestId(id));
        }
        let channel = to.map_or(Channel::Nodes, Channel::Inbox);
        let frame = Frame::Request { request: id, kind, timeout, body };
        self.queue.push(&[channel], &frame, now, &mut self.out)?;
        let deadline = now.checked_add(timeout).unwrap_or(now + FAR);
        self.requests.begin(id, nodes, now, deadline);
        Ok(RequestId(id))
    }

    /// Withdraws a request; no further action follows. Late answers are counted and dropped.
    pub fn cancel_request(&mut self, request: RequestId) {
        self.requests.cancel(request);
    }

    /// Answers a request of another node, completely or in parts.
    ///
    /// `expected` is the total number of parts, sent with any of them or alone; it may be 0. A node that answers with
    /// one part passes `Some(1)` with it. A broadcast with acknowledgements passes the number of recipients first, then
    /// each acknowledgement as a part.
    ///
    /// # Errors
    /// Returns an error as [`publish`](Self::publish) does, or if the request has ended.
    pub fn answer(
        &mut self,
        asker: Asker,
        expected: Option<u32>,
        part: Option<Bytes>,
        now: Instant,
    ) -> Result<(), PublishError> {
        self.check_active()?;
        if now > asker.deadline {
            self.out.metrics.late += 1;
            return Err(PublishError::Late);
        }
        let NodeRef { id, incarnation } = asker.node;
        let frame = Frame::Answer { request: asker.request, asker: incarnation, expected, part };
        self.queue.push(&[Channel::Inbox(id)], &frame, now, &mut self.out)
    }

    /// Leaves the cluster: ends pending requests and joins, rejects further calls, and says goodbye once all queued
    /// publications were sent.
    ///
    /// The last subscriptions end after that, and [`ClusterAction::Left`] follows. With the engine down it does not, so
    /// the host waits for a limited time.
    pub fn leave(&mut self, now: Instant) {
        if self.is_active() {
            self.note_omissions(now);
            self.is_alone = false;
            self.phase = Phase::Leaving;
            self.requests.interrupt(now, &mut self.out);
        }
    }

    /// Handles an event of the engine.
    pub fn handle_event(&mut self, event: BackplaneEvent, now: Instant) {
        self.note_pause(now);
        if matches!(self.phase, Phase::Closing | Phase::Left) {
            return;
        }
        self.note_omissions(now);
        match event {
            BackplaneEvent::Message { channel, payload } => self.receive(&channel, &payload, now),
            BackplaneEvent::Subscribed { channels, token } => {
                self.interest.confirm(&channels, token, now, &mut self.out);
                if channels.contains(&Channel::Nodes) {
                    // Earlier heartbeats of the others did not arrive.
                    self.heartbeat.hello = true;
                    self.heartbeat.next_at = now;
                    self.return_to_others(now);
                }
            }
            BackplaneEvent::Unsubscribed { channels } => {
                if channels.is_empty() || channels.contains(&Channel::Nodes) {
                    self.resume.begin(self.peers.alive().map(|node| node.id));
                }
                self.interest.lose(&channels, now, &mut self.out);
            }
            BackplaneEvent::Missed { channels } if channels.is_empty() => self.out.gap(None, None, None),
            BackplaneEvent::Missed { channels } => {
                channels.into_iter().for_each(|channel| self.out.gap(Some(channel), None, None));
            }
        }
        self.update_alone(now);
    }

    /// Handles all timeouts that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_pause(now);
        self.note_omissions(now);
        self.interest.handle_timeout(now, &mut self.out);
        self.deliver_ready();
        self.resume.handle_timeout(now);
        let ended = self.peers.handle_timeout(now, &mut self.out);
        self.end(&ended, now);
        self.requests.handle_timeout(now, &mut self.out);
        self.update_alone(now);
    }

    /// Returns the next command for the engine; called when the engine accepts one.
    ///
    /// Subscriptions come first, then a heartbeat if it is due, then publications. After the subscriptions were lost,
    /// publications wait until the other nodes have returned, for at most
    /// [`resume_delay`](ClusterConfig::resume_delay).
    pub fn poll_command(&mut self, now: Instant) -> Option<BackplaneCommand> {
        if let Some(command) = self.out.commands.pop_front() {
            return Some(command);
        }
        match self.phase {
            Phase::Active | Phase::Leaving => {}
            Phase::Closing => {
                self.phase = Phase::Left;
                self.out.act(ClusterAction::Left);
                return None;
            }
            Phase::Left => return None,
        }
        let silence = now.saturating_duration_since(self.heartbeat.sent_at);
        if silence > self.config.node_timeout {
            // The others have declared this incarnation dead, and would drop its messages.
            self.rejoin(self.incarnation, now);
        }
        if self.heartbeat.next_at <= now {
            return Some(self.send_heartbeat(now));
        }
        if let Some((channel, frame)) = self.notices.pop_front() {
            return Some(self.wrap(channel, &frame));
        }
        self.resume.limit(now + self.config.resume_delay);
        if self.resume.is_pending() && !self.queue.is_empty() {
            return None;
        }
        if let Some((channel, payload)) = self.queue.pop(self.id, self.incarnation, self.heartbeat.number) {
            return Some(self.count_out(channel, payload));
        }
        if self.phase == Phase::Leaving {
            self.phase = Phase::Closing;
            let (tails, is_cut) = self.queue.list_tails(true, now);
            if is_cut {
                self.omitted = Some((now, self.heartbeat.number + 1));
            }
            self.interest.close(&mut self.out);
            self.heartbeat.number += 1;
            let omission = self.omission(now);
            let goodbye = encode_frame(&Frame::Goodbye { tails, omission }, &Channel::Nodes);
            return Some(self.wrap(Channel::Nodes, &goodbye));
        }
        None
    }

    /// Returns whether [`poll_command`](Self::poll_command) has work.
    #[must_use]
    pub fn has_commands(&self, now: Instant) -> bool {
        let is_active = matches!(self.phase, Phase::Active | Phase::Leaving);
        // While the engine is away, the queue is work that it does not accept.
        let has_queued = !self.queue.is_empty() && !self.resume.is_limited();
        !self.out.commands.is_empty()
            || matches!(self.phase, Phase::Leaving | Phase::Closing)
            || is_active && (self.heartbeat.next_at <= now || !self.notices.is_empty() || has_queued)
    }

    /// Returns the next action for the host.
    pub fn poll_action(&mut self) -> Option<ClusterAction> {
        self.out.actions.pop_front()
    }

    /// Returns the time of the next timeout; `None` once the node has left.
    ///
    /// A host that calls [`handle_timeout`](Self::handle_timeout) later is taken to have been suspended.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Closing | Phase::Left) {
            return None;
        }
        let tick = self.driven_at + self.config.heartbeat_interval;
        // While the engine accepts nothing, the heartbeat stays due.
        let heartbeat = Some(self.heartbeat.next_at).filter(|at| *at > self.driven_at);
        let alone = self.alone_at().filter(|at| *at > self.driven_at);
        let parts = [
            self.interest.poll_timeout(),
            self.peers.poll_timeout(),
            self.requests.poll_timeout(),
            self.resume.poll_timeout(),
        ];
        parts.into_iter().chain([heartbeat, alone, Some(tick)]).flatten().min()
    }

    /// Handles the events of an engine, and passes on the commands that it accepts.
    ///
    /// The host calls it when the waker was called, after `handle_timeout`, and after it has published. The waker is
    /// registered with the engine unless both directions were cut short for fairness, in which case it is called.
    pub fn exchange(&mut self, backplane: &mut dyn Backplane, cx: &mut Context<'_>, now: Instant) {
        let mut budget = EXCHANGE_BUDGET;
        while let Poll::Ready(event) = backplane.poll_event(cx) {
            self.handle_event(event, now);
            budget -= 1;
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
        }
        budget = EXCHANGE_BUDGET;
        while self.has_commands(now) && backplane.poll_ready(cx).is_ready() {
            let Some(command) = self.poll_command(now) else { break };
            backplane.send(command);
            budget -= 1;
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
        }
    }

    fn receive(&mut self, channel: &Channel, payload: &Bytes, now: Instant) {
        let Ok(mut envelope) = Envelope::decode(payload) else {
            self.out.metrics.unreadable += 1;
            return;
        };
        let from = envelope.node;
        if from.id == self.id {
            self.out.metrics.conflicts += u64::from(from.incarnation > self.incarnation);
            return;
        }
        self.out.metrics.messages_in += 1;
        self.out.metrics.bytes_in += payload.len() as u64;
        let mut ended = Vec::new();
        let heard_since = self.interest.heard_since();
        match self.peers.admit(from, envelope.heartbeat, heard_since, now, &mut ended, &mut self.out) {
            Admission::Accepted => self.end(&ended, now),
            Admission::Stale { notify } => {
                self.out.metrics.stale += 1;
                if let Some(known) = notify {
                    self.fence(from, known);
                }
                // Two nodes may have declared each other dead. Both must rejoin.
                while let Some(frame) = envelope.next_frame(channel) {
                    if let Ok((None, Frame::Fence { stale, known })) = frame {
                        self.handle_fence(stale, known, now);
                    }
                }
                return;
            }
        }
        while let Some(frame) = envelope.next_frame(channel) {
            let Ok((position, frame)) = frame else {
                self.out.metrics.unreadable += 1;
                continue;
            };
            let frame = match position {
                Some(position) => self.interest.receive(channel, from, position, frame, now, &mut self.out),
                None => Some(frame),
            };
            if let Some(frame) = frame {
                self.handle_frame(channel, from, envelope.heartbeat, frame, now);
            }
        }
    }

    fn handle_frame(&mut self, channel: &Channel, from: NodeRef, heartbeat: u64, frame: Frame, now: Instant) {
        match frame {
            Frame::Publish { publication, copy, after } => {
                let ordered = Ordered { publication, copy, after };
                self.interest.order(channel, from, ordered, now, &mut self.out);
                self.deliver_ready();
            }
            Frame::Request { request, kind, timeout, body } => {
                let asker = Asker { node: from, request, deadline: now + timeout };
                self.out.act(ClusterAction::Request { asker, kind, body });
            }
            Frame::Answer { request, asker, expected, part } if asker == self.incarnation => {
                self.requests.answer(request, from, expected, part, now, &mut self.out);
            }
            Frame::Answer { .. } => self.out.metrics.late += 1,
            Frame::Heartbeat { hello, tails, omission } => {
                self.peers.heartbeat(from, heartbeat);
                if self.interest.nodes_since().is_some() {
                    self.resume.remove(from.id);
                }
                self.handle_omission(from, omission, now);
                tails.into_iter().for_each(|tail| self.interest.compare_tail(from, tail, now));
                if hello {
                    let soon = now + self.config.heartbeat_interval / 20;
                    self.heartbeat.next_at = self.heartbeat.next_at.min(soon);
                }
            }
            Frame::Goodbye { tails, omission } => {
                self.handle_omission(from, omission, now);
                tails.into_iter().for_each(|tail| self.interest.compare_tail(from, tail, now));
                self.resume.remove(from.id);
                if self.peers.goodbye(from, now, &mut self.out) {
                    self.requests.node_left(from, now, &mut self.out);
                }
            }
            Frame::Fence { stale, known } => self.handle_fence(stale, known, now),
            // Added by a later version, or a part within a part.
            Frame::Unknown | Frame::Part { .. } => {}
        }
    }

    /// Delivers the publications whose order is known.
    fn deliver_ready(&mut self) {
        while let Some(Ready { channel, from, mut publication, copy, overtaken }) = self.interest.pop_ready()
        {
            if !self.interest.is_wanted(&channel) {
                self.out.metrics.unwanted += 1;
                continue;
            }
            let copy = copy.filter(|_| !self.config.has(Mutation::DeliverEachCopy));
            match copy.map_or(Copy::First, |number| self.peers.copy(from, number)) {
                Copy::First => {
                    for channel in overtaken {
                        let is_on = |room: &&Room| Channel::of(&publication.namespace, Some(room)) == channel;
                        publication.except.extend(publication.rooms.iter().filter(is_on).cloned());
                        self.out.gap(Some(channel), Some(from), None);
                    }
                    self.out.metrics.delivered += 1;
                    self.out.act(ClusterAction::Deliver { from, publication });
                }
                Copy::Further => {}
                Copy::Unknown => self.out.gap(Some(channel), Some(from), None),
            }
        }
    }

    fn handle_omission(&mut self, from: NodeRef, omission: Option<Omission>, now: Instant) {
        if let Some(omission) = omission {
            self.peers.omission(from, omission, self.interest.heard_since(), now, &mut self.out);
        }
    }

    fn handle_fence(&mut self, stale: Incarnation, known: Incarnation, now: Instant) {
        let is_own = stale == self.incarnation && self.phase == Phase::Active;
        if is_own && !self.config.has(Mutation::IgnoreFence) {
            self.rejoin(known, now);
        }
    }

    /// Prepares for the return of the others, after the subscription to their heartbeats was lost and confirmed again.
    fn return_to_others(&mut self, now: Instant) {
        if !self.resume.is_pending() {
            return;
        }
        let silence = self.resume.nodes().filter_map(|node| self.peers.silence(node, now)).min();
        let usual = self.config.heartbeat_interval;
        if self.is_active() && silence.is_some_and(|silence| silence + usual >= self.config.node_timeout) {
            // The others have heard as little. They would drop the queue of an incarnation that they declared dead.
            self.rejoin(self.incarnation, now);
        }
    }

    /// Notifies a node that its incarnation is dead.
    fn fence(&mut self, node: NodeRef, known: Incarnation) {
        if self.notices.len() < MAX_NOTICES && !self.config.has(Mutation::NeverFence) {
            let channel = Channel::Inbox(node.id);
            let frame = encode_frame(&Frame::Fence { stale: node.incarnation, known }, &channel);
            self.notices.push_back((channel, frame));
        }
    }

    /// Continues as a new incarnation, newer than a known one.
    fn rejoin(&mut self, known: Incarnation, now: Instant) {
        self.incarnation = next_incarnation(self.incarnation, known);
        self.out.metrics.rejoins += 1;
        self.out.act(ClusterAction::Rejoined { incarnation: self.incarnation });
        if !self.config.has(Mutation::KeepRequestsOnRejoin) {
            self.requests.interrupt(now, &mut self.out);
        }
        self.queue.restart(&mut self.out);
        self.heartbeat = Heartbeat { number: 0, sent_at: now, next_at: now, hello: true };
        // Some nodes have dropped the last messages of the old incarnation, and may not know this node yet.
        self.omitted = Some((now, 1));
    }

    /// Forgets nodes that are no longer in the cluster.
    fn end(&mut self, ended: &[NodeRef], now: Instant) {
        for node in ended {
            self.requests.node_left(*node, now, &mut self.out);
            self.interest.forget_node(*node, &mut self.out);
        }
    }

    /// Notices that the host was suspended: the silence of others in that time says nothing about them.
    fn note_pause(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.driven_at);
        self.driven_at = self.driven_at.max(now);
        let usual = self.config.heartbeat_interval;
        if pause > 2 * usual && !self.config.has(Mutation::BlameOthersAfterFreeze) {
            self.peers.excuse(pause - usual);
        }
    }

    fn send_heartbeat(&mut self, now: Instant) -> BackplaneCommand {
        let hello = std::mem::take(&mut self.heartbeat.hello);
        let (tails, _) = self.queue.list_tails(false, now);
        self.note_omissions(now);
        self.heartbeat.number += 1;
        self.heartbeat.sent_at = now;
        self.heartbeat.next_at = now + self.config.heartbeat_interval;
        let omission = self.omission(now);
        let frame = encode_frame(&Frame::Heartbeat { hello, tails, omission }, &Channel::Nodes);
        self.wrap(Channel::Nodes, &frame)
    }

    /// Returns the last omission for the present heartbeat, if it is one of the first after it.
    fn omission(&self, now: Instant) -> Option<Omission> {
        let (at, number) = self.omitted.filter(|(_, number)| self.heartbeat.number < number + ROUNDS)?;
        Some(Omission { number, age: now.saturating_duration_since(at) })
    }

    /// Notes that publications may have been omitted up to now.
    fn note_omissions(&mut self, now: Instant) {
        if self.is_alone {
            self.omitted = Some((now, self.heartbeat.number + 1));
        }
    }

    /// Returns the time at which another node would have been noticed.
    fn alone_at(&self) -> Option<Instant> {
        self.interest.nodes_since().map(|since| since + self.config.heartbeat_interval)
    }

    fn update_alone(&mut self, now: Instant) {
        let is_heard =
            now.saturating_duration_since(self.heartbeat.sent_at) <= 2 * self.config.heartbeat_interval;
        self.is_alone = self.is_active()
            && is_heard
            && self.alone_at().is_some_and(|at| at <= now)
            && self.peers.alive().next().is_none();
    }

    /// Returns the command for a frame without a position.
    fn wrap(&mut self, channel: Channel, frame: &[u8]) -> BackplaneCommand {
        let mut envelope = EnvelopeWriter::new(self.id, self.incarnation, self.heartbeat.number);
        envelope.push(None, frame);
        self.count_out(channel, envelope.finish())
    }

    fn count_out(&mut self, channel: Channel, payload: Bytes) -> BackplaneCommand {
        self.out.metrics.messages_out += 1;
        self.out.metrics.bytes_out += payload.len() as u64;
        BackplaneCommand::Publish { channel, payload }
    }

    fn is_active(&self) -> bool {
        self.phase == Phase::Active
    }

    fn check_active(&self) -> Result<(), PublishError> {
        if self.is_active() { Ok(()) } else { Err(PublishError::Left) }
    }
}

/// Channels on which one publication is sent at most; beyond, it goes to the whole namespace.
const MAX_CHANNELS: usize = 16;
/// Notices that wait for the engine.
const MAX_NOTICES: usize = 1024;
/// Events, and commands, that one call exchanges.
const EXCHANGE_BUDGET: usize = 256;
/// Deadline of a request whose timeout exceeds the range of the clock.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
