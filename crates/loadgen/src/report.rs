use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Result of a run; printed as one line of JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether the run completed and every delivery was correct.
    pub ok: bool,
    /// Reason of an early end, if any.
    pub error: Option<String>,
    /// Stage at which the run ended early, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
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
    /// Maximum latency, µs.
    #[serde(default)]
    pub max_us: Option<f64>,
    /// Histogram of the latencies in nanoseconds: `HdrHistogram` V2, compressed, in base64.
    #[serde(default)]
    pub histogram: Option<String>,
    /// Schedule and late sends of an open loop; `None` in a closed loop.
    #[serde(default)]
    pub open_loop: Option<OpenLoopReport>,
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
    /// Cost of a message between servers, in the comparison's scenarios of clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterReport>,
}

impl Report {
    /// Returns why the result must not be counted although every delivery was correct, if so.
    pub fn invalid(&self) -> Option<Invalid> {
        self.open_loop.as_ref()?.invalid
    }
}

impl AsRef<Self> for Report {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Late sends of an open loop.
///
/// A message is late if it leaves more than a tolerance of 1 ms after it was due, or has not left by the end of the
/// window; in a search for the capacity, the tolerance is a tenth of the latency limit if that is longer. Latencies
/// count from the due time, so they include the delay. With more than 1 % late sends the result is invalid: it is not
/// the latency at the requested rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenLoopReport {
    /// Messages per second that were due, over all senders.
    pub rate: f64,
    /// Maximum number of messages in flight per sender.
    pub outstanding: usize,
    /// Delay above which a send is late, µs.
    pub late_after_us: f64,
    /// Messages due in the window.
    pub due: u64,
    /// Messages that reached all recipients in the window; fewer than those due if the server falls behind.
    pub landed: u64,
    /// Late sends among them.
    pub late: u64,
    /// Late sends as a share of the messages due.
    pub late_share: f64,
    /// Messages that became due while the load generator was busy or had no CPU.
    pub late_generator: u64,
    /// Messages that waited because their sender had the maximum number in flight.
    pub late_bound: u64,
    /// Maximum time from the due time to sending, µs.
    pub late_max_us: f64,
    /// Share of the window in which the load generator had work: it ran or waited for a CPU.
    pub generator_busy: f64,
    /// Why the result must not be counted, if so.
    pub invalid: Option<Invalid>,
}

/// Reason why the result of an open loop must not be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invalid {
    /// The load generator sent too late; its own speed was the limit.
    GeneratorLate,
    /// Senders had the maximum number of messages in flight; the server did not deliver in time.
    InFlightBound,
}

/// Stage at which a run ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// No connection to the target: refused, or no answer.
    Unreachable,
    /// The clients connected, but did not receive the first message.
    Setup,
    /// Under load.
    Load,
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

/// Cost of a message that crosses servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// CPU time of the sending server per message, without that of a server alone, µs.
    pub sender_us: f64,
    /// CPU time of the receiving server per message, without the send to its client, µs.
    pub receiver_us: f64,
    /// CPU time of a server alone per message, under the same load, µs.
    pub local_us: f64,
    /// CPU time of the send to a second client of the receiver, µs.
    pub send_us: f64,
    /// CPU time of the message engine per message, µs.
    pub redis_us: f64,
    /// CPU time of the server and the message engine per second and idle session, µs.
    #[serde(default)]
    pub idle_us: f64,
    /// Number of messages, or of changes of sessions.
    pub messages: u64,
    /// Messages or changes per second.
    pub messages_per_s: f64,
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
    /// Connections whose TLS handshake resumed an earlier session.
    #[serde(default)]
    pub resumed: usize,
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
