//! Inputs from other threads.

use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use roomcast_cluster::ClusterRequest;
use roomcast_cluster_task::clock;
use roomcast_cluster_task::reply::{Members as _, ReplySender};
use roomcast_core::Heard;
use roomcast_presence::RoomName;
use tracing::error;

use super::{Confirm, Driver};
use crate::input::Input;
use crate::shared::count;

impl Driver {
    /// Handles inputs; returns whether there are more.
    pub(super) fn take_inputs(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        for _ in 0..TURN_INPUTS {
            if self.inputs.is_empty() && self.shared.inlet.poll_inputs(cx, &mut self.inputs).is_pending() {
                return false;
            }
            if let Some((input, bytes)) = self.inputs.pop_front() {
                // Answers are counted again when they are sent, since those made here have no earlier count.
                if matches!(input, Input::Answer { .. } | Input::Acknowledge { .. }) {
                    self.shared.inlet.settle(bytes, self.node.queue_bytes());
                    self.take(input, now);
                } else {
                    self.take(input, now);
                    self.shared.inlet.settle(bytes, self.node.queue_bytes());
                }
            }
        }
        if self.inputs.is_empty() && self.inputs.capacity() > KEPT_INPUTS {
            self.inputs.shrink_to(KEPT_INPUTS);
        }
        true
    }

    fn take(&mut self, input: Input, now: Instant) {
        match input {
            Input::Publish(publication) => {
                if let Err(error) = self.node.publish(*publication, now) {
                    // The limits were checked, so that only a defect leads here.
                    error!(%error, "publication to the cluster was lost");
                    count(&self.shared.counters.lost);
                }
            }
            Input::Open { namespace, host } => {
                if self.hosts.open(namespace.clone(), host) {
                    self.node.add_interest(&namespace, None, now);
                    let _ = self.node.await_join(&namespace, None, now);
                }
            }
            Input::Close { namespace } => {
                if self.hosts.close(&namespace) {
                    self.node.remove_interest(&namespace, None, now);
                }
            }
            Input::Created { namespace, room } => {
                self.node.add_interest(&namespace, Some(&room), now);
                // Without a pending join, a late confirmation would not be reported as a gap, nor in the status.
                let _ = self.node.await_join(&namespace, Some(&room), now);
            }
            Input::Deleted { namespace, room } => self.node.remove_interest(&namespace, Some(&room), now),
            Input::Presence { namespace, room, news } => {
                self.presence.report(RoomName { namespace, room }, news, now);
            }
            Input::Heard { namespace, room, reply } => {
                if self.health.is_leaving() {
                    let _ = reply.send(Heard::Left);
                    return;
                }
                let ticket = self.node.await_join(&namespace, room.as_ref(), now);
                self.joins.insert(ticket, reply);
            }
            Input::Confirm { lost, reply } => {
                let mark = self.node.mark();
                self.confirms.push_back(Confirm { mark, lost, reply });
            }
            Input::Request { request, reply } => self.request(request, reply, now),
            Input::Cancel { key } => {
                if let Some(id) = self.request_ids.remove(&key) {
                    self.node.cancel_request(id);
                    self.requests.remove(&id);
                }
            }
            Input::Answer { asker, expected, part } => self.send_answer(asker, expected, Some(part), now),
            Input::Acknowledge { asker, sink, part } => {
                self.send_answer(asker, None, Some(part), now);
                self.sinks.settle(sink);
            }
            Input::Leave => {
                self.health.leave();
                self.presence.leave();
                self.node.leave(now);
            }
            Input::Abandon => {
                let at = clock::after(now, self.config.leave_timeout);
                self.ends_at.get_or_insert(at);
            }
        }
        // A join may have completed at once, and a request that no node has to answer.
        self.perform(now);
    }

    fn request(&mut self, request: ClusterRequest, reply: ReplySender<Bytes>, now: Instant) {
        match self.node.request(request, now) {
            Ok(id) => {
                self.request_ids.insert(reply.key(), id);
                self.requests.insert(id, reply);
            }
            Err(_) => reply.done(self.shared.peers.all_missing()),
        }
    }
}

/// Inputs in one turn: about half a millisecond. Publications to one room in the same turn share a message.
const TURN_INPUTS: usize = 1024;
/// Inputs for which memory is kept.
const KEPT_INPUTS: usize = 1024;
