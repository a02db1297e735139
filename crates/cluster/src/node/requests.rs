//! Pending requests of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::outputs::Outputs;
use crate::mutation::Mutation;
use crate::{ClusterAction, ClusterConfig, MissingAnswer, MissingReason, NodeRef, RequestId};

/// Pending requests, and what each node has answered.
#[derive(Debug)]
pub(super) struct Requests {
    config: Arc<ClusterConfig>,
    pending: BTreeMap<u64, Pending>,
    deadlines: BTreeSet<(Instant, u64)>,
    last: u64,
}

#[derive(Debug)]
struct Pending {
    started: Instant,
    deadline: Instant,
    nodes: BTreeMap<NodeRef, Progress>,
    /// Nodes that have left in the meantime.
    missing: Vec<MissingAnswer>,
}

#[derive(Debug, Default)]
struct Progress {
    expected: Option<u32>,
    arrived: u32,
}

impl Progress {
    fn is_complete(&self) -> bool {
        self.expected.is_some_and(|expected| self.arrived >= expected)
    }
}

impl Requests {
    pub(super) fn new(config: Arc<ClusterConfig>) -> Self {
        Self { config, pending: BTreeMap::new(), deadlines: BTreeSet::new(), last: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Registers a request to these nodes.
    pub(super) fn begin(&mut self, id: u64, nodes: Vec<NodeRef>, now: Instant, deadline: Instant) {
        let nodes = nodes.into_iter().map(|node| (node, Progress::default())).collect();
        self.pending.insert(id, Pending { started: now, deadline, nodes, missing: Vec::new() });
        if !self.config.has(Mutation::ForgetDeadlines) {
            self.deadlines.insert((deadline, id));
        }
    }

    /// Ends a request that no node has to answer.
    pub(super) fn end_unasked(
        &mut self,
        id: u64,
        missing: Vec<MissingAnswer>,
        now: Instant,
        out: &mut Outputs,
    ) {
        let pending = Pending { started: now, deadline: now, nodes: BTreeMap::new(), missing };
        self.pending.insert(id, pending);
        self.end(id, None, now, out);
    }

    /// Withdraws a request; no action follows.
    pub(super) fn cancel(&mut self, id: RequestId) {
        if let Some(pending) = self.pending.remove(&id.0) {
            self.deadlines.remove(&(pending.deadline, id.0));
        }
    }

    /// Records an answer, and ends the request with the last one.
    pub(super) fn answer(
        &mut self,
        id: u64,
        node: NodeRef,
        expected: Option<u32>,
        part: Option<Bytes>,
        now: Instant,
        out: &mut Outputs,
    ) {
        let Some(pending) = self.pending.get_mut(&id) else {
            out.metrics.late += 1;
            return;
        };
        if pending.missing.iter().any(|missing| missing.node == node) {
            out.metrics.late += 1;
            return;
        }
        // A node may answer that was unknown when the request was sent.
        let progress = pending.nodes.entry(node).or_default();
        if progress.is_complete() {
            out.metrics.late += 1;
            return;
        }
        progress.expected = progress.expected.or(expected);
        if let Some(part) = part {
            progress.arrived = progress.arrived.saturating_add(1);
            out.act(ClusterAction::Answer { request: RequestId(id), node, part });
        }
        self.end_if_complete(id, now, out);
    }

    /// Stops waiting for a node that is no longer in the cluster.
    pub(super) fn node_left(&mut self, node: NodeRef, now: Instant, out: &mut Outputs) {
        if self.config.has(Mutation::WaitForDeadNodes) {
            return;
        }
        let ids: Vec<u64> = self.pending.keys().copied().collect();
        for id in ids {
            let Some(pending) = self.pending.get_mut(&id) else { continue };
            let Some(progress) = pending.nodes.remove(&node) else { continue };
            if !progress.is_complete() {
                pending.missing.push(MissingAnswer { node, reason: MissingReason::NotInCluster });
            }
            self.end_if_complete(id, now, out);
        }
    }

    /// Ends all requests, since the answers to them no longer arrive.
    pub(super) fn interrupt(&mut self, now: Instant, out: &mut Outputs) {
        let ids: Vec<u64> = self.pending.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id, Some(MissingReason::Interrupted), now, out));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs) {
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_first();
            self.end(id, Some(MissingReason::TimedOut), now, out);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn end_if_complete(&mut self, id: u64, now: Instant, out: &mut Outputs) {
        if self.pending.get(&id).is_some_and(|pending| pending.nodes.values().all(Progress::is_complete)) {
            self.end(id, None, now, out);
        }
    }

    fn end(&mut self, id: u64, reason: Option<MissingReason>, now: Instant, out: &mut Outputs) {
        let Some(pending) = self.pending.remove(&id) else { return };
        self.deadlines.remove(&(pending.deadline, id));
        let mut missing = pending.missing;
        if let Some(reason) = reason {
            let incomplete = pending.nodes.iter().filter(|(_, progress)| !progress.is_complete());
            missing.extend(incomplete.map(|(node, _)| MissingAnswer { node: *node, reason }));
        }
        if self.config.has(Mutation::OmitMissingNodes) {
            missing.clear();
        }
        missing.sort_by_key(|missing| missing.node);
        let elapsed = now.saturating_duration_since(pending.started);
        out.metrics.missing_answers += missing.len() as u64;
        if missing.is_empty() {
            out.metrics.requests_complete += 1;
        } else {
            out.metrics.requests_partial += 1;
        }
        out.metrics.request_times.record(elapsed);
        out.act(ClusterAction::Done { request: RequestId(id), missing, elapsed });
    }
}
