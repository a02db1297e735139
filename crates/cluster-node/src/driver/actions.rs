//! Actions of namespaces: deliveries, answers to other nodes, and answers to this one.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use roomcast_cluster_task::clock;
use roomcast_cluster_task::reply::Missing;
use roomcast_core::{Args, ClusterHost, Event, Room, Target};
use roomcast_node_adapter::{
    Action, Asker, Composed, RequestNumber, Response, SocketDescription, SubscriberCount, Wanted,
};
use tracing::warn;

use super::entry::Entry;
use super::queue::Command;
use super::{Count, Driver};
use crate::cost::{MESSAGE_COST, cost};
use crate::input::{AnswerPart, Input, Key};

impl Driver {
    /// Handles a message; returns the amount of work.
    pub(super) fn receive_message(
        &mut self,
        subscription: &str,
        channel: &str,
        payload: &bytes::Bytes,
        now: Instant,
    ) -> usize {
        let Some(key) = self.subscriptions.route(subscription) else { return 0 };
        let others = self.subscriptions.others(subscription).into_iter();
        let work: usize = others.map(|key| self.receive_in(key, channel, payload, now)).sum();
        work + self.receive_in(key, channel, payload, now)
    }

    /// Handles a message in one of the namespaces that have its channel.
    fn receive_in(&mut self, key: Key, channel: &str, payload: &bytes::Bytes, now: Instant) -> usize {
        let Some(entry) = self.namespaces.get_mut(&key) else { return 0 };
        self.stats.bytes_in += payload.len() as u64;
        let Entry { node, host, .. } = entry;
        let guard = &self.shared.guard;
        let was_occupied = self.occupied.contains(key, channel);
        // Own-id rooms are among the rooms of the host.
        node.handle_message(channel, payload, now, &|room| {
            if was_occupied {
                // Nearly always it still is; otherwise the host finds no recipients.
                return true;
            }
            let Some(host) = host.as_ref().and_then(Weak::upgrade) else { return false };
            let target = Target { rooms: vec![Room::from(room)], ..Target::default() };
            guard.call(|| host.count(&target)).is_some_and(|members| members > 0)
        });
        let before = self.recipients;
        let work = self.perform(key, now);
        let is_occupied = self.recipients != before;
        if is_occupied != was_occupied {
            self.occupied.set(key, channel, is_occupied);
        }
        work
    }

    /// Continues a request with the number of nodes.
    pub(super) fn continue_request(&mut self, token: u64, count: SubscriberCount, now: Instant) {
        let Some(Count { key, request, silent }) = self.counts.remove(&token) else { return };
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        let Some(pending) = entry.requests.get_mut(&request) else { return };
        if let Some(uid) = silent {
            match count {
                SubscriberCount::Known(0) => self.nodes.note_absent(&uid),
                SubscriberCount::Known(_) => pending.silent += u64::from(self.nodes.is_silent(&uid)),
                SubscriberCount::Lost => self.queue.push(Command::Count(key, request, Some(uid))),
                SubscriberCount::Refused => {}
            }
            return;
        }
        let subscribers = match count {
            SubscriberCount::Known(subscribers) => Some(subscribers.saturating_sub(pending.silent).max(1)),
            SubscriberCount::Refused => {
                self.stats.counts_failed += 1;
                None
            }
            SubscriberCount::Lost => return self.queue.push(Command::Count(key, request, None)),
        };
        // Its message is queued now.
        self.held_bytes -= std::mem::take(&mut pending.bytes);
        entry.node.handle_node_count(request, subscribers, now);
        self.publishes_request = true;
        self.perform(key, now);
        self.publishes_request = false;
    }

    /// Sends an answer to another node, unless the queue towards the engine is full.
    pub(super) fn answer(&mut self, key: Key, asker: &Asker, response: &Response, now: Instant) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        if entry.node.answer(asker, response).is_err() {
            self.stats.answers_dropped += 1;
        }
        self.perform(key, now);
    }

    /// Performs the actions of a namespace, and updates its deadline; returns the amount of work.
    pub(super) fn perform(&mut self, key: Key, now: Instant) -> usize {
        let mut work = 0;
        while let Some(entry) = self.namespaces.get_mut(&key)
            && let Some(action) = entry.node.poll_action()
        {
            let host = entry.host();
            work += 1 + self.perform_one(key, host, action, now);
        }
        if let Some(entry) = self.namespaces.get_mut(&key) {
            let metrics = entry.node.take_metrics();
            if metrics.unreadable > 0 && self.stats.adapter.unreadable == 0 {
                let namespace = entry.node.counted_channel();
                warn!(channel = %namespace, "message in the cluster is not readable; further ones are only counted");
            }
            self.stats.adapter += metrics;
            if let Some(node) = entry.node.as_streams() {
                let bytes = node.unconfirmed_bytes();
                self.unconfirmed_bytes += bytes;
                self.unconfirmed_bytes -= std::mem::replace(&mut entry.unconfirmed_bytes, bytes);
            }
            let deadline = entry.node.poll_timeout();
            if deadline != entry.deadline {
                if let Some(before) = std::mem::replace(&mut entry.deadline, deadline) {
                    self.deadlines.remove(&(before, key));
                }
                self.deadlines.extend(deadline.map(|at| (at, key)));
            }
        }
        work
    }

    fn perform_one(
        &mut self,
        key: Key,
        host: Option<Arc<dyn ClusterHost>>,
        action: Action,
        now: Instant,
    ) -> usize {
        match action {
            // See `Names` and `RoomChannels`.
            Action::Subscribe { .. } | Action::Unsubscribe { .. } => {}
            Action::Append { fields, number, .. } => {
                if let Some(stream) = &mut self.stream {
                    stream.push(key, number, fields);
                }
            }
            Action::Publish { channel, payload } => self.enqueue(Composed { channel, payload }),
            Action::CountNodes { request } => {
                for uid in self.nodes.silent() {
                    self.queue.push(Command::Count(key, request, Some(uid.clone())));
                }
                self.queue.push(Command::Count(key, request, None));
            }
            Action::Deliver { target, event } => {
                let Some(host) = host else { return 0 };
                let recipients = self.shared.guard.call(|| host.deliver(&target, &event)).unwrap_or_default();
                self.recipients = self.recipients.wrapping_add(recipients as u64);
                return recipients / RECIPIENTS_PER_WORK;
            }
            Action::Update { target, change, asker } => {
                self.act_for(key, host, &target, asker, |host| host.update(&target, &change));
            }
            Action::Disconnect { target, close, asker } => {
                self.act_for(key, host, &target, asker, |host| host.disconnect(&target, close));
            }
            Action::Find { asker, target, wanted } => {
                if let Some(response) = self.find(host, &target, wanted) {
                    self.answer_here(key, &asker, &response);
                }
            }
            Action::ServerSide { name, args, asker } => {
                if let Some(host) = host {
                    self.run_handler(key, host, name, args, asker, now);
                }
            }
            Action::DeliverWithAck { asker, target, event, timeout } => {
                self.collect(key, host, asker, &target, event, timeout, now);
            }
            Action::Answer { request, answer } => {
                if let Some(pending) = self.pending(key, request) {
                    pending.reply.part(None, AnswerPart(answer));
                }
            }
            Action::OtherMode { node, mode } => self.note_other_mode(&node, mode.as_ref()),
            Action::Done { request, missing, .. } => self.end_request(key, request, missing, now),
            other => tracing::debug!(?other, "unknown action of a namespace"),
        }
        0
    }

    /// Queues a message of a namespace.
    fn enqueue(&mut self, message: Composed) {
        let bytes = cost(&message);
        // The bytes of requests were counted before.
        if !self.publishes_request {
            let fits = bytes <= self.shared.max_publication && self.shared.inlet.reserve(bytes);
            if !fits {
                if self.stats.answers_dropped == 0 {
                    let limit = self.shared.max_publication;
                    warn!(
                        bytes,
                        limit, "answer to another node of the cluster dropped; further ones are only counted"
                    );
                }
                self.stats.answers_dropped += 1;
                return;
            }
            self.queue.push(Command::Publish(message));
            return self.settle(bytes);
        }
        self.queue.push(Command::Publish(message));
    }

    /// Acts on the host; if that was requested by a node that waits, answers if there was a matching socket.
    fn act_for(
        &mut self,
        key: Key,
        host: Option<Arc<dyn ClusterHost>>,
        target: &Target,
        asker: Option<Asker>,
        act: impl FnOnce(&dyn ClusterHost),
    ) {
        let Some(host) = host else { return };
        let guard = &self.shared.guard;
        let has_socket = asker.is_some() && guard.call(|| host.count(target)).is_some_and(|count| count > 0);
        guard.call(|| act(&*host));
        if let Some(asker) = asker.filter(|_| has_socket) {
            self.answer_here(key, &asker, &Response::Done);
        }
    }

    /// Composes an answer while actions are performed; its publication is one of the next actions.
    fn answer_here(&mut self, key: Key, asker: &Asker, response: &Response) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        if entry.node.answer(asker, response).is_err() {
            self.stats.answers_dropped += 1;
        }
    }

    /// Returns the answer to a query; `None` if the host has panicked.
    fn find(&self, host: Option<Arc<dyn ClusterHost>>, target: &Target, wanted: Wanted) -> Option<Response> {
        self.shared.guard.call(|| {
            let found = host.map(|host| host.find(target)).unwrap_or_default();
            match wanted {
                Wanted::Ids => Response::Ids(found.into_iter().map(|socket| socket.id).collect()),
                Wanted::Rooms => {
                    let mut rooms: Vec<Room> = found.into_iter().flat_map(|socket| socket.rooms).collect();
                    rooms.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
                    rooms.dedup();
                    Response::Rooms(rooms)
                }
                _ => Response::Sockets(found.iter().map(SocketDescription::from).collect()),
            }
        })
    }

    /// Delivers an event with acknowledgements; always answers with the number of recipients.
    #[expect(clippy::too_many_arguments, reason = "fields of one action")]
    fn collect(
        &mut self,
        key: Key,
        host: Option<Arc<dyn ClusterHost>>,
        asker: Asker,
        target: &Target,
        event: Event,
        timeout: Option<Duration>,
        now: Instant,
    ) {
        let deadline = clock::after(now, timeout.unwrap_or(self.config.handler_timeout));
        let recipients = match host {
            Some(host) if self.sinks.len() < self.shared.classic.max_requests => {
                let (shared, to) = (self.shared.clone(), asker.clone());
                let pass = move |answer: roomcast_cluster_task::SinkAnswer| {
                    let sink = answer.sink;
                    let Some(args) = answer.args else {
                        shared.inlet.push_unbounded(Input::Unanswered { sink });
                        return;
                    };
                    let bytes = args.byte_len() + MESSAGE_COST;
                    let response = Response::Ack(args);
                    let input = Input::Answer { key, asker: to.clone(), response, sink: Some(sink) };
                    // The asking node waits for an answer that is refused until its timeout.
                    let _ = shared.inlet.push(input, bytes);
                };
                let guard = &self.shared.guard;
                let deliver = |answers| guard.call(|| host.deliver_with_ack(target, event, answers));
                self.sinks.deliver(deadline, pass, deliver).unwrap_or_default()
            }
            _ => 0,
        };
        self.answer_here(key, &asker, &Response::ClientCount(recipients as u64));
    }

    /// Runs the handlers of an event for servers, and sends their answer if one is requested.
    fn run_handler(
        &mut self,
        key: Key,
        host: Arc<dyn ClusterHost>,
        name: ByteString,
        args: Args,
        asker: Option<Asker>,
        now: Instant,
    ) {
        if !self.handlers.has_room() {
            self.stats.handlers_refused += 1;
            return;
        }
        let deadline = clock::after(now, self.config.handler_timeout);
        let shared = self.shared.clone();
        let handling = Box::pin(async move {
            let answer = host.server_side(&name, args).await;
            if let (Some(asker), Some(args)) = (asker, answer) {
                let bytes = args.byte_len() + MESSAGE_COST;
                let response = Response::ServerSide(args);
                let _ = shared.inlet.push(Input::Answer { key, asker, response, sink: None }, bytes);
            }
        });
        self.handlers.start(&self.shared.guard, handling, deadline);
    }

    fn pending(&mut self, key: Key, request: RequestNumber) -> Option<&mut super::entry::PendingRequest> {
        self.namespaces.get_mut(&key)?.requests.get_mut(&request)
    }

    fn end_request(&mut self, key: Key, request: RequestNumber, missing: Option<usize>, now: Instant) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        let Some(pending) = entry.requests.remove(&request) else { return };
        entry.numbers.remove(&pending.reply.key());
        self.held_bytes -= pending.bytes;
        self.stats.pending_requests -= 1;
        self.stats.request_times.record(now.saturating_duration_since(pending.begun));
        if missing == Some(0) {
            self.stats.requests_complete += 1;
        }
        pending.reply.done(Missing { number: missing, names: Vec::new() });
    }
}

/// Recipients that count as much as one event, towards the end of a turn.
const RECIPIENTS_PER_WORK: usize = 64;
