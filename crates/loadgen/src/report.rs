use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Result of a run; printed as one line of JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether the run completed and every delivery was correct.
    pub ok: bool,
    /// Reason of an early end, if any.
    pub error: Option<String>,
    /// Load pattern.
    pub scenario: String,
    /// Protocol of the clients.
    pub kind: String,
    /// Number of connected clients.
    pub clients: usize,
    /// Payload size in bytes.
    pub payload: usize,
    /// Number of sending clients.
    pub senders: usize,
    /// Messages in flight per sender.
    pub outstanding: usize,
    /// Length of the measured window in seconds.
    pub window_s: f64,
    /// Messages received by clients in the window.
    pub deliveries: u64,
    /// Deliveries per second.
    pub deliveries_per_s: f64,
    /// Server CPU time per delivery in the window, µs; `None` without `--pid`.
    pub cpu_us_per_delivery: Option<f64>,
    /// Cores kept busy by the server in the window.
    pub server_cores: Option<f64>,
    /// Cores kept busy by the load generator in the window.
    pub generator_cores: f64,
    /// Cores kept busy by other processes in the window.
    pub foreign_cores: Option<f64>,
    /// Cores the hypervisor gave to other guests in the window.
    pub stolen_cores: f64,
    /// Median latency from sending to receipt, µs.
    pub p50_us: Option<f64>,
    /// 90th percentile of the latency, µs.
    #[serde(default)]
    pub p90_us: Option<f64>,
    /// 99th percentile of the latency, µs.
    pub p99_us: Option<f64>,
    /// 99.9th percentile of the latency, µs.
    #[serde(default)]
    pub p999_us: Option<f64>,
    /// Messages sent in the window.
    #[serde(default)]
    pub sent: u64,
    /// Messages that the server sent on its own; no faults in lenient dialects.
    #[serde(default)]
    pub others: u64,
    /// Wrong deliveries, in and outside the window.
    pub faults: Faults,
    /// Cost of idle connections, in the scenario `idle`.
    pub idle: Option<IdleReport>,
    /// Effect of broadcasts on a chat, in the scenario `chat`.
    pub chat: Option<ChatReport>,
}

/// Wrong deliveries, counted over all clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Never arrived.
    pub lost: u64,
    /// Arrived again.
    pub duplicate: u64,
    /// Arrived after a later message of the same sender.
    pub reordered: u64,
    /// Arrived at a client outside the room.
    pub misdelivered: u64,
    /// Arrived with a different length or content.
    pub damaged: u64,
    /// Arrived without having been sent.
    pub unknown: u64,
}

impl Faults {
    /// Returns whether there are no faults.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.misdelivered += other.misdelivered;
        self.damaged += other.damaged;
        self.unknown += other.unknown;
    }
}

/// Latency of a chat between two clients during broadcasts to other clients.
///
/// Latency is the time from sending a chat message to its receipt by the other client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatReport {
    /// Median latency during broadcasts, µs.
    pub p50_us: f64,
    /// 99th percentile of the latency during broadcasts, µs.
    pub p99_us: f64,
    /// Maximum latency during broadcasts, µs.
    pub max_us: f64,
    /// Median latency without broadcasts, µs.
    pub quiet_p50_us: f64,
    /// 99th percentile of the latency without broadcasts, µs.
    pub quiet_p99_us: f64,
    /// Maximum latency without broadcasts, µs.
    pub quiet_max_us: f64,
    /// Median time from sending a broadcast to its last receipt, µs.
    pub broadcast_us: f64,
    /// 99th percentile of the time between two polls for chat messages, the load generator's own delay, µs.
    pub looked_p99_us: f64,
    /// Maximum time between two polls for chat messages, µs.
    pub looked_max_us: f64,
}

impl ChatReport {
    /// Returns the 99th percentile of the latency as a share of the duration of a broadcast.
    pub fn share_of_broadcast(&self) -> f64 {
        self.p99_us / self.broadcast_us
    }
}

/// Cost of idle connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct IdleReport {
    /// Server CPU time per connection and handshake, µs.
    pub cpu_us_per_connection: f64,
    /// Server memory per connection, bytes.
    pub rss_bytes_per_connection: f64,
    /// Server memory before the first connection, bytes.
    pub base_rss_bytes: u64,
    /// Server CPU time per second while all connections are idle, µs.
    pub cpu_us_per_idle_second: f64,
    /// Time to connect all clients, seconds.
    pub connect_s: f64,
    /// Heartbeats that the server sent and the clients answered while idle.
    #[serde(default)]
    pub heartbeats: u64,
    /// Server CPU time while idle per heartbeat, µs; `None` without heartbeats.
    #[serde(default)]
    pub cpu_us_per_heartbeat: Option<f64>,
    /// Kernel memory per connection, bytes. Over loopback it contains the client's end.
    #[serde(default)]
    pub kernel_bytes_per_connection: Option<f64>,
    /// Source of the kernel memory.
    #[serde(default)]
    pub kernel_source: Option<KernelSource>,
    /// TCP sockets that were added per connection, in the whole network namespace: two over loopback.
    #[serde(default)]
    pub sockets_per_connection: Option<f64>,
}

/// Source of the kernel's memory use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KernelSource {
    /// Objects in use, from `/proc/slabinfo`.
    Slabinfo,
    /// Pages of all slabs, from `/proc/meminfo`.
    Meminfo,
}
