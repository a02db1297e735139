//! Metrics exposition in the OpenMetrics text format

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use roomcast_core::{ClusterMetric, ClusterValue, WriteStats, memory};
use roomcast_recovery::{RecoveryError, Usage};

use roomcast_transport_ws::{Compressed, Compression};

use crate::app::model::io::Io;
use crate::host::limit::Limit;
use crate::serve::families::{counter, gauge, gauges};
use crate::serve::process::Process;
use crate::util::log_limit::LogLimit;

/// `Content-Type` of the exposition
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Io {
    /// Returns all metrics of this node in the OpenMetrics text format that Prometheus scrapes.
    ///
    /// For mounted servers; [`Server::admin`](crate::Server::admin) serves the same at `/metrics`. It visits every
    /// session, in chunks, so do not call it per request. On Linux it includes process metrics under their usual names,
    /// such as `process_resident_memory_bytes`. Serve it as `application/openmetrics-text; version=1.0.0;
    /// charset=utf-8`.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn openmetrics(&self) -> String {
        let mut registry = Registry::with_prefix("roomcast");
        registry.register_collector(Box::new(Snapshot::take(self).await));
        let mut process = Registry::default();
        process.register_collector(Box::new(Process));
        let mut text = String::new();
        // Only formatting a number could fail here, and that does not.
        let _ = text::encode_registry(&mut text, &registry)
            .and_then(|()| text::encode_registry(&mut text, &process))
            .and_then(|()| text::encode_eof(&mut text));
        text
    }
}

/// Values sampled for one exposition.
#[derive(Debug)]
struct Snapshot {
    ready: bool,
    connections: usize,
    /// By client kind and transport
    sessions: BTreeMap<(&'static str, &'static str), usize>,
    waiting_frames: usize,
    waiting_bytes: usize,
    waiting_most: usize,
    memory_budget: usize,
    memory_held: usize,
    /// Members and rooms by namespace
    namespaces: BTreeMap<String, (usize, usize)>,
    /// Sessions retained for recovery, by namespace
    kept: BTreeMap<String, Usage>,
    recovered: u64,
    not_recovered: Vec<(&'static str, u64)>,
    written: WriteStats,
    messages_received: u64,
    bytes_received: u64,
    compressed: Compressed,
    counters: Vec<(&'static str, &'static str, u64)>,
    cluster: Vec<ClusterMetric>,
    refused: Vec<(&'static str, u64)>,
    delivery: Histogram,
    handlers: Histogram,
    accept_failures: u64,
    build_info: Vec<(String, String)>,
}

/// Sessions visited before the task yields
const CHUNK: usize = 1024;
/// Namespaces with a separate line; the rest are summed as `other`
const MAX_NAMESPACES: usize = 100;

impl Snapshot {
    async fn take(io: &Io) -> Self {
        let (app, metrics) = (io.app(), io.metrics());
        let mut snapshot = Self {
            ready: io.is_ready(),
            connections: app.limits.connections(),
            sessions: BTreeMap::new(),
            waiting_frames: 0,
            waiting_bytes: 0,
            waiting_most: 0,
            memory_budget: app.budget.limit(),
            memory_held: memory::in_use(),
            namespaces: BTreeMap::new(),
            kept: BTreeMap::new(),
            recovered: metrics.recovered(),
            not_recovered: RecoveryError::ALL
                .iter()
                .map(|reason| (reason.as_str(), metrics.recovery_refused(*reason)))
                .collect(),
            written: app.flushers.written(),
            messages_received: metrics.messages_received(),
            bytes_received: metrics.bytes_received(),
            compressed: app
                .config
                .websocket
                .compression
                .as_ref()
                .map(Compression::compressed)
                .unwrap_or_default(),
            counters: metrics.described().collect(),
            cluster: app.cluster.as_ref().map(|handle| handle.cluster.metrics()).unwrap_or_default(),
            refused: Limit::ALL
                .iter()
                .map(|limit| (limit.as_str(), metrics.limits_exceeded(*limit)))
                .collect(),
            delivery: metrics.delivery.clone(),
            handlers: metrics.handlers.clone(),
            accept_failures: metrics.accept_failures(),
            build_info: app.build_info.clone(),
        };
        for (name, stats) in io.router_stats() {
            let known = snapshot.namespaces.len() < MAX_NAMESPACES;
            let name = if known { name.to_string() } else { "other".to_owned() };
            let (members, rooms) = snapshot.namespaces.entry(name).or_default();
            *members += stats.members;
            *rooms += stats.rooms;
        }
        for (name, usage) in io.recovery_usage() {
            let known = snapshot.kept.len() < MAX_NAMESPACES;
            let name = if known { name.to_string() } else { "other".to_owned() };
            let sum = snapshot.kept.entry(name).or_default();
            sum.events += usage.events;
            sum.bytes += usage.bytes;
            sum.sessions += usage.sessions;
        }
        for chunk in app.sessions.all().chunks(CHUNK) {
            for session in chunk {
                let waiting = session.outbox.waiting();
                snapshot.waiting_frames += waiting.frames;
                snapshot.waiting_bytes += waiting.bytes;
                snapshot.waiting_most = snapshot.waiting_most.max(waiting.bytes);
                *snapshot.sessions.entry((session.kind.as_str(), session.transport().0)).or_default() += 1;
            }
            tokio::task::yield_now().await;
        }
        snapshot
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let to = &mut encoder;
        gauge(to, "ready", "1 if the server accepts new clients, 0 while it drains", u32::from(self.ready))?;
        gauge(to, "connections", "Open TCP connections of standalone servers", self.connections)?;
        let sessions = self
            .sessions
            .iter()
            .map(|((kind, transport), count)| ([("kind", *kind), ("transport", *transport)], *count));
        gauges(to, "sessions", "Open sessions", sessions)?;
        let sockets =
            self.namespaces.iter().map(|(name, (members, _))| ([("namespace", name.as_str())], *members));
        gauges(to, "sockets", "Sockets by namespace", sockets)?;
        let rooms = self.namespaces.iter().map(|(name, (_, rooms))| ([("namespace", name.as_str())], *rooms));
        gauges(to, "rooms", "Rooms with members, excluding the rooms named by socket ids", rooms)?;
        gauge(to, "waiting_frames", "Frames queued in the outboxes of all clients", self.waiting_frames)?;
        gauge(
            to,
            "waiting_bytes",
            "Bytes queued in the outboxes of all clients, including 64 per frame",
            self.waiting_bytes,
        )?;
        gauge(to, "outbox_bytes_max", "Bytes queued in the fullest outbox", self.waiting_most)?;
        gauge(
            to,
            "memory_budget_bytes",
            "Memory in bytes for queued client data; above it clients are evicted",
            self.memory_budget,
        )?;
        gauge(
            to,
            "memory_held_bytes",
            "Bytes held for clients of all servers in the process, shared data counted once",
            self.memory_held,
        )?;
        counter(
            to,
            "frames_sent",
            "Frames written to connections, including protocol frames",
            self.written.frames,
        )?;
        counter(to, "bytes_sent", "Message bytes in frames_sent", self.written.bytes)?;
        counter(
            to,
            "messages_received",
            "Messages received from clients, including protocol packets",
            self.messages_received,
        )?;
        counter(to, "bytes_received", "Bytes in messages_received", self.bytes_received)?;
        let help = "Connections, requests and clients rejected by a limit";
        let mut family = to.encode_descriptor("refused", help, None, MetricType::Counter)?;
        for (limit, count) in &self.refused {
            let labels = [("limit", *limit)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        let by_namespace = |part: fn(&Usage) -> usize| {
            self.kept.iter().map(move |(name, usage)| ([("namespace", name.as_str())], part(usage)))
        };
        let help = "Events retained for recovery";
        gauges(to, "recovery_log_events", help, by_namespace(|usage| usage.events))?;
        gauges(to, "recovery_log_bytes", "Bytes of retained events", by_namespace(|usage| usage.bytes))?;
        let help = "Disconnected sessions retained for recovery";
        gauges(to, "recovery_sessions", help, by_namespace(|usage| usage.sessions))?;
        counter(to, "recovered", "Clients recovered after a reconnect", self.recovered)?;
        let help = "Reconnected clients that could not be recovered";
        let mut family = to.encode_descriptor("recovery_refused", help, None, MetricType::Counter)?;
        for (reason, count) in &self.not_recovered {
            let labels = [("reason", *reason)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        let compressed = &self.compressed;
        let help = "Bytes of compressed messages before and after, shared messages counted once";
        let mut family = to.encode_descriptor("compression_bytes", help, None, MetricType::Counter)?;
        for (direction, form, bytes) in [
            ("sent", "plain", compressed.deflated_from),
            ("sent", "compressed", compressed.deflated_to),
            ("received", "compressed", compressed.inflated_from),
            ("received", "plain", compressed.inflated_to),
        ] {
            let labels = [("direction", direction), ("form", form)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&bytes, None)?;
        }
        let help = "Bytes reserved for the compression contexts of connections";
        gauge(to, "compression_context_bytes", help, compressed.context_memory)?;
        for (name, help, count) in &self.counters {
            counter(to, name, help.trim(), *count)?;
        }
        for ClusterMetric { name, help, value } in &self.cluster {
            let help = help.trim_end_matches('.');
            match value {
                ClusterValue::Counter(value) => counter(to, name, help, *value)?,
                ClusterValue::Gauge(value) => gauge(to, name, help, *value)?,
                ClusterValue::Counters { label, values } => {
                    let mut family = to.encode_descriptor(name, help, None, MetricType::Counter)?;
                    for (of, value) in values {
                        let labels = [(*label, of.as_str())];
                        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
                    }
                }
                ClusterValue::Gauges { label, values } => {
                    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
                    for (of, value) in values {
                        let labels = [(*label, of.as_str())];
                        family.encode_family(&labels)?.encode_gauge(value)?;
                    }
                }
                ClusterValue::Histogram { sum, buckets } => {
                    let count = buckets.iter().map(|(_, count)| count).sum();
                    to.encode_descriptor(name, help, None, MetricType::Histogram)?
                        .encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                }
                // Added by a later version.
                _ => {}
            }
        }
        let help = "Log lines suppressed by the rate limit and counted in later lines, in the whole process";
        counter(to, "log_lines_limited", help, LogLimit::global().withheld())?;
        let help = "Seconds from queueing a frame to writing it, probed once a second during scraping";
        let histogram = to.encode_descriptor("delivery_seconds", help, None, MetricType::Histogram)?;
        self.delivery.encode(histogram)?;
        let help = "Duration of event handlers in seconds, sampled at one call in 64";
        let histogram = to.encode_descriptor("handler_seconds", help, None, MetricType::Histogram)?;
        self.handlers.encode(histogram)?;
        let help = "Failed accepts, most often due to exhausted file descriptors";
        counter(to, "accept_failures", help, self.accept_failures)?;
        let help = "Server version and build labels of the application";
        to.encode_descriptor("build", help, None, MetricType::Info)?.encode_info(&self.build_info)
    }
}
