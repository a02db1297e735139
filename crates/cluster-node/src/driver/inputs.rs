//! Inputs from other threads.

use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use roomcast_cluster_task::clock;
use roomcast_cluster_task::reply::{Missing, ReplySender};
use roomcast_core::Heard;
use roomcast_node_adapter::{ClassicNamespace, Query, ShardedNamespace, StreamsNamespace};

use super::adapter::Adapter;
use super::entry::{Entry, PendingRequest, Subscription};
use super::queue::Command;
use super::{Confirm, Driver};
use crate::input::{AnswerPart, ConfirmStart, Input, Key, Writer};

impl Driver {
    /// Handles inputs; returns whether there are more.
    pub(super) fn take_inputs(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        let mut budget = TURN_INPUTS;
        while budget > 0 {
            if self.inputs.is_empty() && self.shared.inlet.poll_inputs(cx, &mut self.inputs).is_pending() {
                return false;
            }
            let Some((input, bytes)) = self.inputs.pop_front() else { continue };
            budget = budget.saturating_sub(input.publications().max(1));
            // Answers are counted again when they are queued, since those made here have no earlier count.
            if matches!(input, Input::Answer { .. }) {
                self.settle(bytes);
                self.take(input, 0, now);
            } else {
                self.take(input, bytes, now);
                self.settle(bytes);
            }
        }
        if self.inputs.is_empty() && self.inputs.capacity() > KEPT_INPUTS {
            self.inputs.shrink_to(KEPT_INPUTS);
        }
        true
    }

    fn take(&mut self, input: Input, bytes: usize, now: Instant) {
        match input {
            Input::Publish(message) => self.queue.push(Command::Publish(message)),
            Input::PublishAll(batch) => self.queue.push(Command::PublishAll(batch)),
            Input::Open { key, writer, host } => {
                if self.health.is_leaving() {
                    return;
                }
                let node = match (writer, &self.shared.streams, &self.shared.sharded) {
                    (Writer::Sharded(writer), _, Some(config)) => {
                        let name = writer.namespace().clone();
                        Adapter::Sharded(Box::new(ShardedNamespace::new(config.clone(), name, writer.uid())))
                    }
                    (Writer::Streams(writer), Some(config), _) => {
                        let name = writer.namespace().clone();
                        self.by_namespace.insert(name.as_str().into(), key);
                        Adapter::Streams(Box::new(StreamsNamespace::new(config.clone(), name, writer.uid())))
                    }
                    (Writer::Classic(writer), ..) => {
                        let node = ClassicNamespace::with_writer(self.shared.classic.clone(), writer);
                        Adapter::Classic(Box::new(node))
                    }
                    // The kind of the writers follows from the settings.
                    (Writer::Sharded(_) | Writer::Streams(_), ..) => return,
                };
                let entry = Entry::new(node, host, now);
                let namespaces = &self.namespaces;
                let has_room = |key, name: &str| {
                    namespaces.get(&key).is_some_and(|entry: &Entry| entry.rooms.contains(name))
                };
                self.subscriptions.want(key, &entry.names, now, has_room);
                self.namespaces.insert(key, entry);
            }
            Input::Append { key, fields, local } => self.append(key, fields, local, now),
            Input::Log(input) => self.ask_log(input),
            Input::Close { key } => self.close(key, now),
            Input::Room { key, channel, has_members } => self.change_room(key, channel, has_members),
            Input::Heard { key, channel, reply } => {
                let join_timeout = self.shared.join_timeout;
                let Some(entry) = self.namespaces.get_mut(&key).filter(|entry| !entry.is_closed()) else {
                    let _ = reply.send(Heard::Left);
                    return;
                };
                if entry.subscription == Subscription::Active && self.has_position {
                    match channel {
                        Some(channel) => entry.rooms.join(&channel, reply),
                        None => _ = reply.send(Heard::Confirmed),
                    }
                } else if entry.since + join_timeout <= now {
                    // The status reports it already; further clients need not wait.
                    let _ = reply.send(Heard::Degraded);
                } else {
                    entry.joins.push((channel, reply));
                }
            }
            Input::Confirming { since } => {
                let _ = since.set(self.confirm_start());
                self.confirming.push_back(Arc::downgrade(&since));
            }
            Input::Confirm { since, reply } => {
                // It begins here only if the task had ended when it should have begun.
                since.get_or_init(|| self.confirm_start());
                let ConfirmStart { entries, .. } = self.confirm_start();
                self.confirms.push_back(Confirm { mark: self.queue.mark(), entries, since, reply });
            }
            Input::Request { key, query, timeout, reply } => {
                self.request(key, *query, timeout, reply, bytes, now);
            }
            Input::Cancel { key, number } => {
                if let Some(entry) = self.namespaces.get_mut(&key)
                    && let Some(request) = entry.numbers.remove(&number)
                {
                    entry.node.cancel(request);
                    if let Some(pending) = entry.requests.remove(&request) {
                        self.held_bytes -= pending.bytes;
                        self.stats.pending_requests -= 1;
                    }
                    self.perform(key, now);
                }
            }
            Input::Answer { key, asker, response, sink } => {
                self.answer(key, &asker, &response, now);
                if let Some(sink) = sink {
                    self.sinks.settle(sink);
                }
            }
            Input::Unanswered { sink } => self.sinks.settle(sink),
            Input::Leave => {
                self.health.leave();
                let keys: Vec<_> = self.namespaces.keys().copied().collect();
                keys.into_iter().for_each(|key| self.close(key, now));
            }
            Input::Abandon => {
                let at = clock::after(now, self.config.leave_timeout);
                self.ends_at.get_or_insert(at);
            }
        }
    }

    pub(super) fn confirm_start(&self) -> ConfirmStart {
        let entries = self.stream.as_ref().map_or(0, |stream| stream.appends().mark());
        ConfirmStart { entries, lost: self.engine.lost() + self.stats.dropped }
    }

    fn close(&mut self, key: Key, now: Instant) {
        let Some(entry) = self.namespaces.get_mut(&key) else { return };
        entry.host = None;
        entry.complete_joins(Heard::Left);
        entry.node.close(now);
        self.perform(key, now);
        self.end_subscription(key);
    }

    fn request(
        &mut self,
        key: Key,
        query: Query,
        timeout: Duration,
        reply: ReplySender<AnswerPart>,
        bytes: usize,
        now: Instant,
    ) {
        // Without an answer, the number of nodes that are missing is unknown.
        let unknown = Missing { number: None, names: Vec::new() };
        let Some(entry) = self.namespaces.get_mut(&key).filter(|entry| !entry.is_closed()) else {
            return reply.done(unknown);
        };
        let Ok(request) = entry.node.begin(query, timeout, now) else { return reply.done(unknown) };
        entry.numbers.insert(reply.key(), request);
        entry.requests.insert(request, PendingRequest { reply, bytes, begun: now, silent: 0 });
        self.held_bytes += bytes;
        self.stats.pending_requests += 1;
        self.perform(key, now);
    }
}

/// Inputs in one turn, each publication counted: about half a millisecond.
const TURN_INPUTS: usize = 1024;
/// Inputs for which memory is kept.
const KEPT_INPUTS: usize = 1024;
