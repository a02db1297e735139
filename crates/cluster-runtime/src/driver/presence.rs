//! Presence across nodes: connects its state machine to the node, the hosts and the inlet.

use std::time::Instant;

use bytes::Bytes;
use roomcast_cluster::{Asker, ClusterRequest, NodeRef, Publication};
use roomcast_core::PresenceUpdate;
use roomcast_presence::{
    AnswerPart, AskId, PresenceAction, PresenceAnswer, PresenceAsk, PresencePublication, RoomName,
};
use tracing::{debug, error};

use super::presence_state::Unsent;
use super::{Driver, TURN_WORK};
use crate::body::{publication, request};
use crate::shared::{ANSWER_FIELDS, count};

impl Driver {
    /// Takes a publication about a room with presence.
    pub(super) fn receive_presence(&mut self, from: NodeRef, publication: Publication, now: Instant) {
        let Publication { namespace, rooms, body, .. } = publication;
        for room in rooms {
            let name = RoomName { namespace: namespace.clone(), room };
            if self.presence.replica.receive(from, &name, body.clone(), now).is_err() {
                count(&self.shared.counters.unreadable);
            }
        }
    }

    /// Takes a question of another node.
    pub(super) fn answer_presence(&mut self, asker: Asker, body: Bytes) {
        match PresenceAnswer::new(body) {
            Ok(answer) if !self.health.is_leaving() => self.presence.answers.push_back((asker, answer)),
            Ok(_) => {}
            Err(_) => count(&self.shared.counters.unreadable),
        }
    }

    /// Takes a part of an answer.
    pub(super) fn take_presence_part(&mut self, ask: AskId, part: Bytes, now: Instant) {
        if self.presence.replica.answer(ask, part, now).is_err() {
            count(&self.shared.counters.unreadable);
        }
    }

    /// Handles timeouts, passes news to the hosts and messages to the node; returns whether there is more.
    pub(super) fn drive_presence(&mut self, now: Instant) -> bool {
        self.presence.replica.handle_timeout(now);
        let mut budget = TURN_WORK;
        while let Some(action) = self.presence.replica.poll_action() {
            budget = budget.saturating_sub(1 + self.perform_presence(action, now));
            if budget == 0 {
                return true;
            }
        }
        // A question to a node that has just left ends at once, and an awaited join may be over.
        self.perform(now);
        self.send_presence(now)
    }

    /// Performs an action; returns the amount of work.
    fn perform_presence(&mut self, action: PresenceAction, now: Instant) -> usize {
        match action {
            PresenceAction::Watch(name, watch) => {
                // The order of the first member and the first report of the server's room watcher is open.
                self.node.add_interest(&name.namespace, Some(&name.room), now);
                let ticket = self.node.await_join(&name.namespace, Some(&name.room), now);
                self.presence.tickets.insert(ticket, (name, watch));
                0
            }
            PresenceAction::Unwatch(name) => {
                self.node.remove_interest(&name.namespace, Some(&name.room), now);
                0
            }
            PresenceAction::Update(name, update) => self.update_host(&name, update),
            other => {
                debug!(?other, "unknown action of presence");
                0
            }
        }
    }

    fn update_host(&self, name: &RoomName, update: PresenceUpdate) -> usize {
        let Some(host) = self.hosts.get(&name.namespace) else { return 0 };
        self.hosts.guard(|| host.presence(&name.room, update)).unwrap_or_default() / CLIENTS_PER_WORK
    }

    /// Passes messages to the node, if half of the queue is free; returns whether there are more.
    fn send_presence(&mut self, now: Instant) -> bool {
        let half = self.config.node.queue_bytes / 2;
        self.presence.is_blocked = false;
        for _ in 0..TURN_WORK {
            let has_room = self.shared.inlet.has_room(half);
            let Some(unsent) = (if has_room { self.presence.next(now) } else { None }) else {
                self.presence.is_blocked = !has_room && self.presence.has_output(now);
                return false;
            };
            let bytes = self.shared.queued_len(unsent.len() + ANSWER_FIELDS);
            if !self.shared.inlet.reserve(bytes) {
                self.presence.unsent = Some(unsent);
                self.presence.is_blocked = true;
                return false;
            }
            self.send_unsent(unsent, now);
            self.shared.inlet.settle(bytes, self.node.queue_bytes());
        }
        true
    }

    fn send_unsent(&mut self, unsent: Unsent, now: Instant) {
        match unsent {
            Unsent::Publication(PresencePublication { name, body }) => {
                let RoomName { namespace, room } = name;
                let (rooms, kind) = (vec![room], publication::PRESENCE);
                let publication = Publication { namespace, rooms, except: Vec::new(), kind, body };
                // The announcement of its version will show that it is missing.
                if let Err(error) = self.node.publish(publication, now) {
                    error!(%error, "change of presence was lost");
                }
            }
            Unsent::Ask(PresenceAsk { id, node, body, timeout }) => {
                let request = ClusterRequest { to: Some(node.id), kind: request::PRESENCE, body, timeout };
                match self.node.request(request, now) {
                    Ok(request) => _ = self.presence.asks.insert(request, id),
                    Err(_) => self.presence.replica.answered(id, false, now),
                }
            }
            Unsent::Answer(asker, AnswerPart { expected, body }) => {
                if self.node.answer(asker, expected, Some(body), now).is_err() {
                    count(&self.shared.counters.answers_dropped);
                }
            }
        }
    }
}

/// Notified clients that count as much as one event, towards the end of a turn.
const CLIENTS_PER_WORK: usize = 64;
