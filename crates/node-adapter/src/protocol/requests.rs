//! Pending requests of a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::action::{Answer, RequestNumber};
use crate::Response;

/// Pending requests, and how many nodes have answered.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: BTreeMap<RequestNumber, Pending>,
    deadlines: BTreeSet<(Instant, RequestNumber)>,
    last: u64,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) started: Instant,
    deadline: Instant,
    expected: Expected,
    /// Message to publish once the nodes are counted.
    payload: Option<Bytes>,
    /// Number of other nodes, if known.
    nodes: Option<usize>,
    /// Number of answers; of acknowledgements for a broadcast.
    arrived: usize,
}

/// Answers that a request waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    Count,
    Sockets,
    ServerSide,
    /// Acknowledgements of sockets.
    Acks {
        /// Nodes that reported the number of their recipients.
        counts: usize,
        /// Sum of these numbers.
        recipients: usize,
    },
}

impl Pending {
    /// Returns the number of nodes whose answers are missing, or `None` if it is not known.
    pub(super) fn missing(&self) -> Option<usize> {
        let answered = match self.expected {
            Expected::Acks { counts, .. } => counts,
            _ => self.arrived,
        };
        self.nodes.map(|nodes| nodes.saturating_sub(answered))
    }

    fn is_complete(&self) -> bool {
        let has_acks = match self.expected {
            Expected::Acks { recipients, .. } => self.arrived >= recipients,
            _ => true,
        };
        has_acks && self.missing() == Some(0)
    }
}

impl Requests {
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn all(&self) -> Vec<RequestNumber> {
        self.pending.keys().copied().collect()
    }

    pub(super) fn next_number(&mut self) -> RequestNumber {
        self.last += 1;
        RequestNumber(self.last)
    }

    pub(super) fn begin(
        &mut self,
        number: RequestNumber,
        expected: Expected,
        payload: Bytes,
        timeout: Duration,
        now: Instant,
    ) {
        let deadline = now.checked_add(timeout).unwrap_or(now + FAR);
        let pending =
            Pending { started: now, deadline, expected, payload: Some(payload), nodes: None, arrived: 0 };
        self.pending.insert(number, pending);
        self.deadlines.insert((deadline, number));
    }

    /// Sets the number of other nodes and returns the message, once.
    pub(super) fn set_nodes(&mut self, number: RequestNumber, nodes: Option<usize>) -> Option<Bytes> {
        let pending = self.pending.get_mut(&number)?;
        let payload = pending.payload.take()?;
        pending.nodes = nodes;
        Some(payload)
    }

    /// Records an answer; `None` if no pending request expects it.
    pub(super) fn record(&mut self, number: RequestNumber, response: Response) -> Option<Answer> {
        let pending = self.pending.get_mut(&number)?;
        let answer = match (&mut pending.expected, response) {
            (Expected::Count, Response::Sockets(sockets)) => Answer::Count(sockets.len()),
            (Expected::Count, Response::Ids(ids)) => Answer::Count(ids.len()),
            (Expected::Sockets, Response::Sockets(sockets)) => Answer::Sockets(sockets),
            (Expected::ServerSide, Response::ServerSide(args)) => Answer::ServerSide(args),
            (Expected::Acks { counts, recipients }, Response::ClientCount(count)) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                *counts += 1;
                *recipients = recipients.saturating_add(count);
                return Some(Answer::Recipients(count));
            }
            (Expected::Acks { .. }, Response::Ack(args)) => Answer::Ack(args),
            _ => return None,
        };
        pending.arrived += 1;
        Some(answer)
    }

    pub(super) fn is_complete(&self, number: RequestNumber) -> bool {
        self.pending.get(&number).is_some_and(Pending::is_complete)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(super) fn first_due(&self, now: Instant) -> Option<RequestNumber> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, number)| *number)
    }

    pub(super) fn remove(&mut self, number: RequestNumber) -> Option<Pending> {
        let pending = self.pending.remove(&number)?;
        self.deadlines.remove(&(pending.deadline, number));
        Some(pending)
    }
}

/// Deadline of a request whose timeout exceeds the range of the clock.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
