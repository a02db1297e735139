//! Answers to requests of other nodes.

use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use roomcast_cluster::Asker;
use roomcast_core::{AnswerSink, ClusterHost, Event};

use super::Driver;
use super::ack_sink::{AckSink, HeldSink};
use super::socket_list::SocketList;
use crate::body::{self, AckPart, Query, request};
use crate::clock;
use crate::inlet::Input;
use crate::shared::{ANSWER_FIELDS, count};

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
                self.last_sink += 1;
                let number = self.last_sink;
                let sink = Arc::new(AckSink::new(self.shared.clone(), asker, number));
                let answers: Arc<dyn AnswerSink> = sink.clone();
                if self.hosts.guard(|| host.deliver_with_ack(&target, event.event, answers)).is_none() {
                    return;
                }
                let recipients = sink.recipients();
                let expected = u32::try_from(recipients).unwrap_or(u32::MAX - 1) + 1;
                let part = AckPart::Recipients(recipients).encode();
                self.send_answer(asker, Some(expected), Some(part), now);
                if recipients > 0 {
                    self.sinks.insert(number, HeldSink::new(sink, recipients));
                    self.sink_deadlines.insert((asker.deadline(), number));
                }
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

    /// Records the answer of a recipient; the sink is dropped with the last one.
    pub(super) fn settle_sink(&mut self, number: u64) {
        let Some(held) = self.sinks.get_mut(&number) else { return };
        if let Some(deadline) = held.settle() {
            self.sinks.remove(&number);
            self.sink_deadlines.remove(&(deadline, number));
        }
    }

    /// Withdraws acknowledgement requests whose deadline has passed.
    pub(super) fn expire_sinks(&mut self, now: Instant) {
        while let Some((_, number)) = self.sink_deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.sink_deadlines.pop_first();
            self.sinks.remove(&number);
        }
    }

    /// Runs the handlers of an event for servers, and sends their answer if one is requested.
    ///
    /// The first poll is here, so that handlers start in order. A handler that is then pending becomes a task.
    pub(super) fn run_handler(
        &mut self,
        host: Arc<dyn ClusterHost>,
        event: Event,
        asker: Option<Asker>,
        now: Instant,
    ) {
        if self.handlers.len() >= self.config.max_handlers {
            return count(&self.shared.counters.handlers_refused);
        }
        let timeout = self.config.handler_timeout;
        let deadline = asker.map_or_else(|| clock::after(now, timeout), |asker| asker.deadline());
        let deadline = deadline.min(clock::after(now, timeout));
        let shared = self.shared.clone();
        let mut handling = Box::pin(async move {
            let answer = host.server_side(&event.name, event.args).await;
            if let (Some(asker), Some(args)) = (asker, answer) {
                let part = AckPart::Answered { socket: None, args }.encode();
                let bytes = shared.queued_len(part.len() + ANSWER_FIELDS);
                let _ = shared.inlet.push(Input::Answer { asker, expected: Some(1), part }, bytes);
            }
        });
        let cx = &mut Context::from_waker(Waker::noop());
        if self.hosts.guard(|| handling.as_mut().poll(cx)) == Some(Poll::Pending) {
            self.handlers.spawn(async move {
                // Its first poll here registers the task's waker.
                let _ = tokio::time::timeout_at(deadline.into(), handling).await;
            });
        }
    }

    pub(super) fn reap_handlers(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = self.handlers.poll_join_next(cx) {
            if ended.is_err_and(|error| error.is_panic()) {
                self.hosts.count_panic();
            }
        }
        self.shared.counters.handlers.store(self.handlers.len() as u64, Ordering::Relaxed);
    }
}
