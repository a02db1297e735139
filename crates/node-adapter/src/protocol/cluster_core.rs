//! Requests, answers and incoming messages of the adapters that are based on Node's `ClusterAdapter`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::Namespace;

use super::action::{Action, Asker, Query, QueryRefused, RequestNumber, Wanted};
use super::adapter::AdapterMetrics;
use super::requests::{Expected, Requests};
use super::set_options;
use crate::codec::{Received, receive};
use crate::{
    ClusterBody, ClusterChannels, ClusterEncoding, ClusterMessage, CodecLimits, EncodeError, Flags, Response,
    encode_cluster_message,
};

/// State that the sharded adapter and the streams adapter have in common.
#[derive(Debug)]
pub(super) struct ClusterCore {
    pub(super) namespace: Namespace,
    pub(super) uid: ByteString,
    pub(super) channels: ClusterChannels,
    pub(super) limits: CodecLimits,
    pub(super) actions: VecDeque<Action>,
    pub(super) metrics: AdapterMetrics,
    encoding: ClusterEncoding,
    max_requests: usize,
    requests: Requests,
}

/// Parts of the configuration of an adapter.
pub(super) struct CoreConfig<'a> {
    pub(super) prefix: &'a str,
    pub(super) encoding: ClusterEncoding,
    pub(super) limits: CodecLimits,
    pub(super) max_requests: usize,
}

impl ClusterCore {
    /// Creates the state, with the first subscriptions as its first actions.
    pub(super) fn new(config: &CoreConfig<'_>, namespace: Namespace, uid: &str) -> Self {
        let channels = ClusterChannels::new(config.prefix, &namespace, uid);
        // The common channel last: other nodes count its subscribers, and expect answers to own channels to arrive.
        let subscriptions = [channels.own().clone(), channels.common().clone()];
        Self {
            namespace,
            uid: uid.into(),
            channels,
            limits: config.limits,
            actions: subscriptions.map(|channel| Action::Subscribe { channel }).into(),
            metrics: AdapterMetrics::default(),
            encoding: config.encoding,
            max_requests: config.max_requests,
            requests: Requests::default(),
        }
    }

    pub(super) fn pending_requests(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.requests.next_deadline()
    }

    pub(super) fn encode(&self, id: &str, body: &ClusterBody) -> Result<Bytes, EncodeError> {
        encode_cluster_message(&self.uid, &self.namespace, id, body, self.encoding)
    }

    pub(super) fn publish(&mut self, channel: ByteString, payload: Bytes) {
        self.metrics.messages_out += 1;
        self.actions.push_back(Action::Publish { channel, payload });
    }

    /// Publishes a message without an answer to all nodes.
    pub(super) fn tell(&mut self, body: &ClusterBody) -> Result<(), EncodeError> {
        let payload = self.encode("", body)?;
        self.publish(self.channels.common().clone(), payload);
        Ok(())
    }

    pub(super) fn begin(
        &mut self,
        query: Query,
        timeout: Duration,
        now: Instant,
    ) -> Result<RequestNumber, QueryRefused> {
        if self.requests.len() >= self.max_requests {
            return Err(QueryRefused::TooMany);
        }
        let number = self.requests.next_number();
        let (expected, body) = match query {
            Query::Count(recipients) => (Expected::Count, ClusterBody::Fetch(recipients)),
            Query::Fetch(recipients) => (Expected::Sockets, ClusterBody::Fetch(recipients)),
            Query::ServerSide(name, args) => (Expected::ServerSide, ClusterBody::ServerSideEmit(name, args)),
            Query::Broadcast(recipients, mut flags, event) => {
                flags.timeout = Some(timeout);
                let expected = Expected::Acks { counts: 0, recipients: 0 };
                (expected, ClusterBody::Broadcast(recipients, flags, event))
            }
        };
        let payload = self.encode(&self.id_of(number), &body)?;
        self.requests.begin(number, expected, payload, timeout, now);
        self.actions.push_back(Action::CountNodes { request: number });
        Ok(number)
    }

    pub(super) fn handle_node_count(
        &mut self,
        request: RequestNumber,
        subscribers: Option<u64>,
        now: Instant,
    ) {
        let others = subscribers.map(|count| usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX));
        let Some(payload) = self.requests.set_nodes(request, others) else { return };
        if others != Some(0) {
            self.publish(self.channels.common().clone(), payload);
        }
        self.end_if_complete(request, now);
    }

    pub(super) fn cancel(&mut self, request: RequestNumber) {
        self.requests.remove(request);
        self.actions.retain(|action| match action {
            Action::CountNodes { request: other }
            | Action::Answer { request: other, .. }
            | Action::Done { request: other, .. } => *other != request,
            _ => true,
        });
    }

    pub(super) fn end_due_requests(&mut self, now: Instant) {
        while let Some(request) = self.requests.first_due(now) {
            self.end(request, now);
        }
    }

    pub(super) fn end_all_requests(&mut self, now: Instant) {
        for request in self.requests.all() {
            self.end(request, now);
        }
    }

    pub(super) fn answer(&mut self, asker: &Asker, response: &Response) -> Result<(), EncodeError> {
        let payload = self.encode(&asker.id, &ClusterBody::Response(response.clone()))?;
        self.publish(self.channels.node(&asker.node), payload);
        Ok(())
    }

    /// Handles a message of any channel. A channel does not tell the type of a message: a room may have the name of a
    /// node.
    pub(super) fn handle_message(&mut self, payload: &Bytes, now: Instant) {
        self.metrics.messages_in += 1;
        match receive(payload, &self.namespace, &self.uid, &self.limits) {
            Ok(Received::Message(message)) => self.accept(message, None, now),
            Ok(Received::Own) => self.metrics.own += 1,
            Ok(Received::Other) => self.metrics.ignored += 1,
            Err(_) => self.metrics.unreadable += 1,
        }
    }

    /// Handles a message of another node, with its offset if it is from a stream.
    pub(super) fn accept(&mut self, message: ClusterMessage, offset: Option<ByteString>, now: Instant) {
        let ClusterMessage { sender, id, body } = message;
        let plain = Flags::default();
        let asker = Asker { id, node: sender };
        let wants_answer = !asker.id.is_empty();
        let action = match body {
            ClusterBody::Broadcast(recipients, flags, mut event) => {
                set_options(&mut event, &flags);
                let target = recipients.target(&flags);
                if wants_answer {
                    Action::DeliverWithAck { asker, target, event, timeout: flags.timeout }
                } else {
                    event.offset = offset.filter(|_| !flags.volatile);
                    Action::Deliver { target, event }
                }
            }
            ClusterBody::Update(recipients, change) => {
                Action::Update { target: recipients.target(&plain), change, asker: None }
            }
            ClusterBody::Disconnect(recipients, close) => {
                Action::Disconnect { target: recipients.target(&plain), close, asker: None }
            }
            ClusterBody::Fetch(recipients) => {
                Action::Find { asker, target: recipients.target(&plain), wanted: Wanted::Sockets }
            }
            ClusterBody::ServerSideEmit(name, args) => {
                Action::ServerSide { name, args, asker: wants_answer.then_some(asker) }
            }
            ClusterBody::Response(response) => return self.handle_response(&asker.id, response, now),
        };
        self.actions.push_back(action);
    }

    fn handle_response(&mut self, id: &str, response: Response, now: Instant) {
        // Other ids are of requests of other nodes.
        let number = id.strip_prefix(&*self.uid).and_then(|number| number.parse().ok());
        let Some(number) = number.map(RequestNumber) else { return self.metrics.ignored += 1 };
        match self.requests.record(number, response) {
            Some(answer) => {
                self.actions.push_back(Action::Answer { request: number, answer });
                self.end_if_complete(number, now);
            }
            None => self.metrics.late += 1,
        }
    }

    fn end_if_complete(&mut self, request: RequestNumber, now: Instant) {
        if self.requests.is_complete(request) {
            self.end(request, now);
        }
    }

    fn end(&mut self, request: RequestNumber, now: Instant) {
        let Some(ended) = self.requests.remove(request) else { return };
        let missing = ended.missing();
        if missing != Some(0) {
            self.metrics.partial += 1;
        }
        let elapsed = now.saturating_duration_since(ended.started);
        self.actions.push_back(Action::Done { request, missing, elapsed });
    }

    fn id_of(&self, number: RequestNumber) -> String {
        format!("{}{}", self.uid, number.0)
    }
}
