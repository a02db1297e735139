//! Counters and gauges for the server's metrics.

use std::sync::atomic::Ordering;

use roomcast_core::ClusterMetric;

use crate::shared::Shared;

/// Returns all counters and gauges of a connection.
pub(crate) fn collect(shared: &Shared) -> Vec<ClusterMetric> {
    let node = shared.node_metrics().clone();
    let own = &shared.counters;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let gauges = [
        ("cluster_nodes", "Other nodes that are alive.", node.nodes),
        ("cluster_channels", "Channels that the node is subscribed to or has requested.", node.channels),
        ("cluster_channels_degraded", "Channels that were not confirmed in time.", node.degraded),
        (
            "cluster_queue_messages",
            "Publications, requests and answers that wait for the engine.",
            node.queue_len,
        ),
        ("cluster_queue_bytes", "Bytes that wait for the engine.", node.queue_bytes + shared.inlet.bytes()),
        (
            "cluster_reassembly_bytes",
            "Bytes of incomplete publications of other nodes.",
            node.reassembly_bytes,
        ),
        ("cluster_requests_pending", "Pending requests of this node.", node.pending_requests),
        ("cluster_answer_bytes", "Bytes of answers that were not read yet.", shared.answers.bytes()),
    ];
    let counters = [
        ("cluster_messages_out", "Messages passed to the engine, heartbeats included.", node.messages_out),
        ("cluster_bytes_out", "Bytes of these messages.", node.bytes_out),
        ("cluster_messages_in", "Messages from other nodes.", node.messages_in),
        ("cluster_bytes_in", "Bytes of these messages.", node.bytes_in),
        ("cluster_published", "Publications passed to the queue towards the engine.", node.published),
        ("cluster_delivered", "Publications of other nodes that were delivered.", node.delivered),
        (
            "cluster_refused",
            "Publications, requests and acknowledgements refused, as too large or at a full queue.",
            shared.inlet.refused() + node.rejected,
        ),
        ("cluster_dropped", "Accepted publications that were dropped.", load(&own.lost)),
        (
            "cluster_lost",
            "Messages of other nodes that were lost, as far as they could be counted.",
            node.lost,
        ),
        ("cluster_gaps", "Reported gaps, of known and of unknown size.", node.gaps),
        ("cluster_late", "Messages and answers that arrived too late.", node.late),
        ("cluster_duplicates", "Messages dropped because they had arrived before.", node.duplicates),
        ("cluster_stale", "Messages dropped because their node was declared dead.", node.stale),
        (
            "cluster_unreadable",
            "Messages and bodies that could not be decoded.",
            node.unreadable + load(&own.unreadable),
        ),
        (
            "cluster_unwanted",
            "Publications without a room or namespace on this node.",
            node.unwanted + load(&own.unwanted),
        ),
        (
            "cluster_abandoned",
            "Incomplete publications dropped at the limit of their memory.",
            node.abandoned,
        ),
        (
            "cluster_joins_degraded",
            "Joins that completed without a confirmed subscription.",
            node.degraded_joins,
        ),
        ("cluster_subscribe_retries", "Subscriptions requested again.", node.subscribe_retries),
        ("cluster_subscribe_commands", "Subscribe and unsubscribe commands.", node.subscribe_commands),
        ("cluster_nodes_lost", "Nodes that were declared dead.", node.nodes_lost),
        ("cluster_rejoins", "Times that this node was declared dead and rejoined.", node.rejoins),
        ("cluster_conflicts", "Messages of another process with the id of this node.", node.conflicts),
        ("cluster_requests_complete", "Requests that all nodes answered.", node.requests_complete),
        ("cluster_requests_partial", "Requests that some nodes did not answer.", node.requests_partial),
        (
            "cluster_answers_missing",
            "Answers that were missing at the end of their requests.",
            node.missing_answers,
        ),
        (
            "cluster_answers_dropped",
            "Parts of answers dropped at a limit of memory.",
            load(&own.answers_dropped) + shared.answers.dropped(),
        ),
        (
            "cluster_handlers_refused",
            "Events for servers dropped because too many handlers were running.",
            load(&own.handlers_refused),
        ),
        (
            "cluster_host_panics",
            "Panics of the server while it handled something of another node.",
            shared.guard.panics(),
        ),
    ];
    let handlers =
        ("cluster_handlers", "Running handlers of events for servers.", load(&own.handlers) as usize);
    let gauges = gauges
        .into_iter()
        .chain([handlers])
        .map(|(name, help, value)| ClusterMetric::gauge(name, help, value as f64));
    let counters =
        counters.into_iter().map(|(name, help, value)| ClusterMetric::counter(name, help, value as f64));
    gauges.chain(counters).chain([node.request_times.to_cluster_metric()]).collect()
}
