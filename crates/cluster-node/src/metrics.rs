//! Counters and gauges for the server's metrics.

use roomcast_core::ClusterMetric;

use crate::shared::{RoomStats, Shared, StreamStats};

/// Returns all counters and gauges of a cluster.
pub(crate) fn collect(shared: &Shared) -> Vec<ClusterMetric> {
    let stats = shared.stats().clone();
    let adapter = stats.adapter;
    let gauges = [
        ("cluster_namespaces", "Namespaces that are open in the cluster.", stats.namespaces),
        (
            "cluster_namespaces_unconfirmed",
            "Namespaces whose subscription is not confirmed.",
            stats.unconfirmed,
        ),
        (
            "cluster_queue_messages",
            "Publications, requests and answers that wait for the engine.",
            stats.queue_len,
        ),
        ("cluster_queue_bytes", "Bytes that wait for the engine.", stats.queue_bytes + shared.inlet.bytes()),
        ("cluster_requests_pending", "Pending requests of this node.", stats.pending_requests),
        ("cluster_answer_bytes", "Bytes of answers that were not read yet.", shared.answers.bytes()),
        ("cluster_handlers", "Running handlers of events for servers.", stats.handlers),
        (
            "cluster_nodes_silent",
            "Roomcast servers without heartbeats, for which queries do not wait.",
            stats.silent,
        ),
    ];
    let counters = [
        ("cluster_messages_out", "Messages passed to the engine.", stats.messages_out),
        ("cluster_bytes_out", "Bytes of these messages.", stats.bytes_out),
        ("cluster_messages_in", "Messages received, those of the node itself included.", adapter.messages_in),
        ("cluster_bytes_in", "Bytes of these messages.", stats.bytes_in),
        (
            "cluster_refused",
            "Publications, requests and acknowledgements refused, as too large or at a full queue.",
            shared.inlet.refused(),
        ),
        ("cluster_dropped", "Accepted publications that were not passed to the engine.", stats.dropped),
        (
            "cluster_unconfirmed",
            "Publications that the engine refused, or to which it had not replied when it was disconnected.",
            stats.lost,
        ),
        ("cluster_late", "Answers that arrived after the end of their request.", adapter.late),
        (
            "cluster_unreadable",
            "Messages that could not be decoded, or exceed a limit.",
            adapter.unreadable + stats.oversized,
        ),
        ("cluster_unwanted", "Broadcasts to rooms without members on this node.", adapter.unwanted),
        (
            "cluster_ignored",
            "Messages for others, of the node itself, or of unknown types.",
            adapter.ignored + adapter.own,
        ),
        ("cluster_requests_complete", "Requests that all nodes answered.", stats.requests_complete),
        ("cluster_requests_partial", "Requests that some nodes may not have answered.", adapter.partial),
        ("cluster_counts_failed", "Counts of the nodes that the engine refused.", stats.counts_failed),
        (
            "cluster_answers_dropped",
            "Answers dropped at a limit, or because Node has no form for them.",
            stats.answers_dropped + shared.answers.dropped(),
        ),
        (
            "cluster_handlers_refused",
            "Events for servers dropped because too many handlers were running.",
            stats.handlers_refused,
        ),
        ("cluster_subscribe_retries", "Subscriptions requested again.", stats.subscribe_retries),
        ("cluster_disconnects", "Times that the engine was disconnected.", stats.disconnects),
        (
            "cluster_interruptions",
            "Interruptions of subscriptions that the engine renewed by itself; messages may be missing.",
            stats.interruptions,
        ),
        (
            "cluster_mixed",
            "Signs of servers with another adapter on the same prefix, or with another subscription mode.",
            stats.mixed,
        ),
        (
            "cluster_host_panics",
            "Panics of the server while it handled something of another node.",
            shared.guard.panics(),
        ),
    ];
    let gauges = gauges.into_iter().map(|(name, help, value)| ClusterMetric::gauge(name, help, value as f64));
    let counters =
        counters.into_iter().map(|(name, help, value)| ClusterMetric::counter(name, help, value as f64));
    let rooms = stats.rooms.iter().flat_map(collect_rooms);
    let stream = stats.stream.iter().flat_map(collect_stream);
    let times = [stats.request_times.to_cluster_metric()];
    gauges.chain(counters).chain(times).chain(rooms).chain(stream).collect()
}

/// Returns the gauges of the channels of rooms.
fn collect_rooms(rooms: &RoomStats) -> [ClusterMetric; 2] {
    let gauge = |name, help, value: usize| ClusterMetric::gauge(name, help, value as f64);
    [
        gauge("cluster_rooms", "Channels of rooms with members on this node.", rooms.channels),
        gauge(
            "cluster_rooms_unconfirmed",
            "Channels of rooms whose subscription is not confirmed.",
            rooms.unconfirmed,
        ),
    ]
}

/// Returns the counters and gauges of the stream.
fn collect_stream(stream: &StreamStats) -> Vec<ClusterMetric> {
    let gauges = [
        ("cluster_stream_waiting", "Entries that wait to be stored.", stream.waiting as f64),
        ("cluster_stream_entries", "Entries in the stream, at the last look.", stream.entries as f64),
        (
            "cluster_stream_span_seconds",
            "Time between the first and the last entry of the stream, within which clients can be recovered.",
            stream.span.as_secs_f64(),
        ),
        (
            "cluster_stream_smallest_max_len",
            "Entries to which another server or emitter trims the stream, if fewer than this one; otherwise 0.",
            stream.smallest_max_len as f64,
        ),
    ];
    let counters = [
        ("cluster_stream_appended", "Entries passed to the engine, repeated ones included.", stream.appended),
        (
            "cluster_stream_delivered_before",
            "Entries whose events reached the clients of this server before they were stored.",
            stream.delivered_before,
        ),
        ("cluster_stream_refused", "Entries that the engine refused.", stream.refused),
        (
            "cluster_stream_found",
            "Entries whose answer was lost, and that were found in the stream.",
            stream.found,
        ),
        (
            "cluster_stream_repeated",
            "Entries whose answer was lost, and that were appended again.",
            stream.repeated,
        ),
        (
            "cluster_stream_gaps",
            "Times that entries were or may have been lost before they were read.",
            stream.gaps,
        ),
        (
            "cluster_stream_unreadable",
            "Entries that could not be decoded, or exceed a limit.",
            stream.unreadable,
        ),
        ("cluster_stream_disconnects", "Times that the stream could not be appended to.", stream.disconnects),
    ];
    let gauges = gauges.into_iter().map(|(name, help, value)| ClusterMetric::gauge(name, help, value));
    let counters =
        counters.into_iter().map(|(name, help, value)| ClusterMetric::counter(name, help, value as f64));
    gauges.chain(counters).collect()
}
