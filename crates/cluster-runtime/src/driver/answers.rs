//! Answers to requests of other nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use roomcast_cluster::Asker;
use roomcast_cluster_task::{SinkAnswer, clock};
use roomcast_core::{ClusterHost, Event};

use super::Driver;
use super::socket_list::SocketList;
use crate::body::{self, AckPart, Query, request};
use crate::input::Input;
use crate::shared::{ANSWER_FIELDS, Shared, count};

impl Driver {
    /// Handles a request of another node.
    ///
    /// A request that cannot be understood gets no answer, so that its node is missing at the other side.
    pub(super) fn answer(&mut self, asker: Asker, kind: u32, body: Bytes, now: Instant) {
        let Ok(Query { namespace, target, event }) = body::decode_query(body) else {
            return count(&self.shared.counters.unreadable);
        };
        let Some(host) = self.hosts.get(&namespace) else {
            return self.send_answer(asker, Some(0), None, now);
        };
        match (kind, event) {
            (request::FETCH, _) => {
                if let Some(sockets) = self.hosts.guard(|| host.find(&target)) {
                    self.socket_lists.push_back(SocketList::new(asker, sockets));
                }
            }
            (request::COUNT, _) => {
                if let Some(number) = self.hosts.guard(|| host.count(&target)) {
                    self.send_answer(asker, Some(1), Some(body::encode_count(number)), now);
                }
            }
            (request::SERVER_EVENT, Some(event)) => self.run_handler(host, event.event, Some(asker), now),
            (request::EVENT, Some(event)) if self.sinks.len() < self.config.node.max_requests => {
                let shared = self.shared.clone();
                let pass = move |answer: SinkAnswer| pass_acknowledgement(&shared, asker, answer);
                let delivered = self.sinks.deliver(asker.deadline(), pass, |answers| {
                    self.hosts.guard(|| host.deliver_with_ack(&target, event.event, answers))
                });
                let Some(recipients) = delivered else { return };
                let expected = u32::try_from(recipients).unwrap_or(u32::MAX - 1) + 1;
                let part = AckPart::Recipients(recipients).encode();
                self.send_answer(asker, Some(expected), Some(part), now);
            }
            _ => count(&self.shared.counters.unreadable),
        }
    }

    /// Sends a part of an answer, unless the queue towards the engine is full.
    pub(super) fn send_answer(
        &mut self,
        asker: Asker,
        expected: Option<u32>,
        part: Option<Bytes>,
        now: Instant,
    ) {
        let len = part.as_ref().map_or(0, Bytes::len) + ANSWER_FIELDS;
        let bytes = self.shared.queued_len(len);
        if !self.shared.inlet.reserve(bytes) {
            return count(&self.shared.counters.answers_dropped);
        }
        if self.node.answer(asker, expected, part, now).is_err() {
            count(&self.shared.counters.answers_dropped);
        }
        self.shared.inlet.settle(bytes, self.node.queue_bytes());
    }

    /// Sends a part of one list of sockets, if half of the queue is free; returns whether another could be sent.
    pub(super) fn send_socket_lists(&mut self, now: Instant) -> bool {
        let half = self.config.node.queue_bytes / 2;
        if self.socket_lists.is_empty() || !self.shared.inlet.has_room(half) {
            return false;
        }
        let Some(mut list) = self.socket_lists.pop_front() else { return false };
        if list.asker.deadline() >= now {
            let limit = self.shared.limits.max_publication.saturating_sub(ANSWER_FIELDS);
            let target = self.shared.limits.max_payload / 2;
            // If the control of a socket panics, the answer stays incomplete.
            if let Some(part) = self.hosts.guard(|| list.next_part(target, limit)) {
                let expected = list.expected();
                self.send_answer(list.asker, expected, part, now);
                if expected.is_none() {
                    self.socket_lists.push_back(list);
                }
            }
        }
        !self.socket_lists.is_empty() && self.shared.inlet.has_room(half)
    }

    /// Runs the handlers of an event for servers, and sends their answer if one is requested.
    pub(super) fn run_handler(
        &mut self,
        host: Arc<dyn ClusterHost>,
        event: Event,
        asker: Option<Asker>,
        now: Instant,
    ) {
        if !self.handlers.has_room() {
            return count(&self.shared.counters.handlers_refused);
        }
        let timeout = self.config.handler_timeout;
        let deadline = asker.map_or_else(|| clock::after(now, timeout), |asker| asker.deadline());
        let deadline = deadline.min(clock::after(now, timeout));
        let shared = self.shared.clone();
        let handling = Box::pin(async move {
            let answer = host.server_side(&event.name, event.args).await;
            if let (Some(asker), Some(args)) = (asker, answer) {
                let part = AckPart::Answered { socket: None, args }.encode();
                let bytes = shared.queued_len(part.len() + ANSWER_FIELDS);
                let _ = shared.inlet.push(Input::Answer { asker, expected: Some(1), part }, bytes);
            }
        });
        self.handlers.start(&self.shared.guard, handling, deadline);
    }

    pub(super) fn reap_handlers(&mut self, cx: &mut Context<'_>) {
        self.handlers.reap(&self.shared.guard, cx);
        self.shared.counters.handlers.store(self.handlers.len() as u64, Ordering::Relaxed);
    }
}

fn pass_acknowledgement(shared: &Shared, asker: Asker, answer: SinkAnswer) {
    let SinkAnswer { sink, socket, args } = answer;
    let socket = Some(socket);
    let part = match args {
        Some(args) => AckPart::Answered { socket, args },
        None => AckPart::Unanswered { socket },
    };
    let part = part.encode();
    let bytes = shared.queued_len(part.len() + ANSWER_FIELDS);
    // The asking node misses an answer that is refused, and names this node.
    let _ = shared.inlet.push(Input::Acknowledge { asker, sink, part }, bytes);
}
