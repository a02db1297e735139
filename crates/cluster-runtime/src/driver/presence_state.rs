//! State of presence across nodes, and the messages that wait.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use roomcast_cluster::{Asker, JoinTicket, RequestId};
use roomcast_presence::{
    AnswerPart, AskId, PresenceAnswer, PresenceAsk, PresenceConfig, PresencePublication, PresenceReplica,
    RoomName, WatchId,
};

use crate::input::PresenceNews;

/// Replica of the members of rooms with presence, and what its messages wait for.
pub(super) struct PresenceState {
    pub(super) replica: PresenceReplica,
    pub(super) tickets: HashMap<JoinTicket, (RoomName, WatchId)>,
    pub(super) asks: HashMap<RequestId, AskId>,
    /// Answers that were not sent completely.
    pub(super) answers: VecDeque<(Asker, PresenceAnswer)>,
    /// Message that waits for room in the queue towards the engine.
    pub(super) unsent: Option<Unsent>,
    /// The queue towards the engine is too full for presence.
    pub(super) is_blocked: bool,
}

/// Message for the queue towards the engine.
pub(super) enum Unsent {
    Publication(PresencePublication),
    Ask(PresenceAsk),
    Answer(Asker, AnswerPart),
}

impl PresenceState {
    pub(super) fn new(config: PresenceConfig, now: Instant) -> Self {
        Self {
            replica: PresenceReplica::new(config, now),
            tickets: HashMap::new(),
            asks: HashMap::new(),
            answers: VecDeque::new(),
            unsent: None,
            is_blocked: false,
        }
    }

    /// Takes news of a room on this node.
    pub(super) fn report(&mut self, name: RoomName, news: PresenceNews, now: Instant) {
        match news {
            PresenceNews::Joined { key, member } => self.replica.join(&name, key, member, now),
            PresenceNews::DataChanged { key, data } => self.replica.set_data(&name, key, data, now),
            PresenceNews::Left { key, data } => self.replica.leave(&name, key, data, now),
            PresenceNews::Refresh => self.replica.refresh(&name),
        }
    }

    /// Publishes nothing more.
    pub(super) fn leave(&mut self) {
        self.replica.leave_cluster();
        self.answers.clear();
        self.unsent = None;
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let at = self.replica.poll_timeout();
        if self.is_blocked {
            let retry = now + BLOCKED_PAUSE;
            return Some(at.map_or(retry, |at| at.max(retry)));
        }
        at
    }

    pub(super) fn has_output(&self, now: Instant) -> bool {
        self.unsent.is_some() || !self.answers.is_empty() || self.replica.has_output(now)
    }

    /// Returns the next message.
    pub(super) fn next(&mut self, now: Instant) -> Option<Unsent> {
        if let Some(unsent) = self.unsent.take() {
            return Some(unsent);
        }
        while let Some((asker, mut answer)) = self.answers.pop_front() {
            if asker.deadline() < now {
                continue;
            }
            let part = answer.next_part(&self.replica);
            if part.expected.is_none() {
                self.answers.push_back((asker, answer));
            }
            return Some(Unsent::Answer(asker, part));
        }
        if let Some(publication) = self.replica.poll_publication(now) {
            return Some(Unsent::Publication(publication));
        }
        self.replica.poll_ask(now).map(Unsent::Ask)
    }
}

impl Unsent {
    /// Returns the bytes in the queue, without the fields of a frame.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Publication(PresencePublication { name, body }) => {
                body.len() + name.namespace.as_str().len() + name.room.as_str().len()
            }
            Self::Ask(ask) => ask.body.len(),
            Self::Answer(_, part) => part.body.len(),
        }
    }
}

/// Pause before messages are sent again, after the queue towards the engine was too full.
const BLOCKED_PAUSE: Duration = Duration::from_millis(20);
