use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Result of one load generator run; its one line of output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whether the run counts: it came to its end and every delivery was right.
    pub ok: bool,
    /// Why the run broke off, if it did.
    pub error: Option<String>,
    /// The pattern of load.
    pub scenario: String,
    /// Protocol of the clients.
    pub kind: String,
    /// Connected clients.
    pub clients: usize,
    /// Bytes of each message's text.
    pub payload: usize,
    /// Clients that sent.
    pub senders: usize,
    /// Messages that each sender kept on their way.
    pub outstanding: usize,
    /// Length of the measured window in seconds.
    pub window_s: f64,
    /// Messages that clients received in the window.
    pub deliveries: u64,
    /// The same for each second.
    pub deliveries_per_s: f64,
    /// The server's CPU time in the window divided by the deliveries, µs; none without `--pid`.
    pub cpu_us_per_delivery: Option<f64>,
    /// Cores the server kept busy in the window.
    pub server_cores: Option<f64>,
    /// Cores the load generator kept busy in the window.
    pub generator_cores: f64,
    /// Cores that anything else on the machine kept busy in the window.
    pub foreign_cores: Option<f64>,
    /// Cores the hypervisor gave to others in the window.
    pub stolen_cores: f64,
    /// Median time from sending to receipt, µs.
    pub p50_us: Option<f64>,
    /// The time 90 of 100 deliveries needed at most, µs.
    #[serde(default)]
    pub p90_us: Option<f64>,
    /// The time 99 of 100 deliveries needed at most, µs.
    pub p99_us: Option<f64>,
    /// The time 999 of 1000 deliveries needed at most, µs.
    #[serde(default)]
    pub p999_us: Option<f64>,
    /// Messages that were sent in the window.
    #[serde(default)]
    pub sent: u64,
    /// Messages of the server's own, which are no faults where they are expected.
    #[serde(default)]
    pub others: u64,
    /// Delivery errors, in and outside the window.
    pub faults: Faults,
    /// Cost of idle connections, if that was the scenario.
    pub idle: Option<IdleReport>,
    /// Effect of broadcasts on a chat, if that was the scenario.
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
    /// Arrived at a client that is not in the room.
    pub misdelivered: u64,
    /// Arrived with another length or content.
    pub damaged: u64,
    /// Arrived although it was never sent.
    pub unknown: u64,
}

impl Faults {
    /// Whether there is none.
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

/// Latency of a chat between two clients outside the crowd during broadcasts.
///
/// A way is the time from sending a message to its receipt by the other of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatReport {
    /// Median way while broadcasts go on, µs.
    pub p50_us: f64,
    /// The way that 99 of 100 messages needed at most, µs.
    pub p99_us: f64,
    /// The longest way, µs.
    pub max_us: f64,
    /// Median way without broadcasts, µs.
    pub quiet_p50_us: f64,
    /// The way that 99 of 100 messages needed at most without broadcasts, µs.
    pub quiet_p99_us: f64,
    /// The longest way without broadcasts, µs.
    pub quiet_max_us: f64,
    /// Median time from sending a broadcast until the last of the crowd has it, µs.
    pub broadcast_us: f64,
    /// The load generator's own share of a way: 99 of 100 times it looked for chat messages again after so long, µs.
    pub looked_p99_us: f64,
    /// The longest time in which it did not look, µs.
    pub looked_max_us: f64,
}

impl ChatReport {
    /// The way that 99 of 100 chat messages need at most, as a share of the length of a broadcast.
    pub fn share_of_broadcast(&self) -> f64 {
        self.p99_us / self.broadcast_us
    }
}

/// Cost of idle connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct IdleReport {
    /// Server CPU for accepting one connection and its handshake, µs.
    pub cpu_us_per_connection: f64,
    /// Server memory for each connection, bytes.
    pub rss_bytes_per_connection: f64,
    /// Server memory before the first connection, bytes.
    pub base_rss_bytes: u64,
    /// Server CPU while all connections were idle, µs for each second.
    pub cpu_us_per_idle_second: f64,
    /// Time until all were connected, seconds.
    pub connect_s: f64,
}
