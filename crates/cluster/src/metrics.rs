//! Counters and gauges of a node.

use roomcast_core::RequestTimes;

/// Counters and gauges of a node since it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterMetrics {
    /// Gauge: other nodes that are alive.
    pub nodes: usize,
    /// Gauge: channels that the node is subscribed to or has requested.
    pub channels: usize,
    /// Gauge: channels whose join timed out and that are still unconfirmed.
    pub degraded: usize,
    /// Gauge: publications, requests and answers that wait for the engine.
    pub queue_len: usize,
    /// Gauge: their bytes.
    pub queue_bytes: usize,
    /// Gauge: bytes of publications from other nodes that are incomplete, or wait for their copies.
    pub reassembly_bytes: usize,
    /// Gauge: pending requests of this node.
    pub pending_requests: usize,
    /// Messages passed to the engine, heartbeats included.
    pub messages_out: u64,
    /// Bytes of these messages.
    pub bytes_out: u64,
    /// Messages from other nodes.
    pub messages_in: u64,
    /// Bytes of these messages.
    pub bytes_in: u64,
    /// Publications accepted for the engine.
    pub published: u64,
    /// Publications from other nodes that were delivered.
    pub delivered: u64,
    /// Publications, requests and answers dropped because the queue was full.
    pub dropped: u64,
    /// Publications, requests and answers rejected as too large or because the queue was full.
    pub rejected: u64,
    /// Messages of other nodes that were lost, as far as they could be counted.
    pub lost: u64,
    /// Reported gaps, of known and of unknown size.
    pub gaps: u64,
    /// Messages that arrived after they had been reported as lost, or after a later one to several rooms, and answers
    /// after the end of their request.
    pub late: u64,
    /// Messages dropped because they had been delivered before.
    pub duplicates: u64,
    /// Messages dropped because their incarnation is dead.
    pub stale: u64,
    /// Messages dropped because they could not be decoded.
    pub unreadable: u64,
    /// Publications dropped because the room has no members here, as after the last one left.
    pub unwanted: u64,
    /// Incomplete publications dropped at the limit of their memory.
    pub abandoned: u64,
    /// Joins that completed without a confirmed subscription.
    pub degraded_joins: u64,
    /// Subscriptions requested again.
    pub subscribe_retries: u64,
    /// Subscribe and unsubscribe commands.
    pub subscribe_commands: u64,
    /// Nodes that were declared dead.
    pub nodes_lost: u64,
    /// Times that this node rejoined as a new incarnation.
    pub rejoins: u64,
    /// Messages from another process with the id of this node.
    pub conflicts: u64,
    /// Requests that ended with the answers of all nodes.
    pub requests_complete: u64,
    /// Requests that ended without the answers of some nodes.
    pub requests_partial: u64,
    /// Answers that were missing at the end of their requests, counted by node.
    pub missing_answers: u64,
    /// Times of ended requests.
    pub request_times: RequestTimes,
}
