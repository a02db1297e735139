//! A stream of Redis, for clusters with Node's streams adapter.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use roomcast_core::ClusterMetric;
use roomcast_node_adapter::{LogCommand, LogEvent, ReadRequest, StreamLog};

use crate::RedisConfig;
use crate::connection::{LinkChange, LogReader, LogWriter};
use crate::metrics::Counters;

/// Stream of a cluster of Node's streams adapter.
///
/// Two connections to the server: one appends, pipelined, and asks for ranges; the other one waits for entries. They
/// have the properties of the connections of pub/sub; see the [crate documentation](crate). The
/// [prefix](RedisConfig::prefix) is not used, since the cluster names its stream. The user needs the commands `XADD`,
/// `XRANGE`, `XREVRANGE`, `XREAD` and `XLEN` and the key of the stream in addition:
///
/// ```text
/// user roomcast on >PASSWORD resetkeys ~socket.io resetchannels &socket.io* -@all +publish +subscribe +unsubscribe
///     +pubsub|numsub +xadd +xrange +xrevrange +xread +xlen +ping +client|id +client|kill +role
/// ```
///
/// # Guarantees
///
/// - **Order**: entries are stored in the order of the commands. All commands that have no reply end with their
///   connection, and none takes effect after [`LogEvent::Connected`]: the new connection ends the old one at the
///   server first. A user without the permission for `CLIENT KILL` does without, and an entry may then be stored after
///   one that follows it.
/// - **Bounds**: the engine takes no command while the connection is away or its
///   [buffer](RedisConfig::send_buffer) is full. It holds one entry of at most
///   [`max_message`](RedisConfig::max_message), and 32 KiB of others; larger entries are skipped and reported. Entries
///   that a slow node does not read wait in the stream.
/// - **Memory of Redis**: `XADD` is refused when Redis is out of memory, other than `PUBLISH`.
#[derive(Debug)]
pub struct RedisStream {
    writer: LogWriter,
    reader: LogReader,
    counters: Counters,
    waker: Option<Waker>,
}

impl RedisStream {
    /// Creates an engine for the stream of a name, which connects when it is polled.
    #[must_use]
    pub fn new(config: RedisConfig, stream: &str) -> Self {
        let counters = Counters::default();
        let (config, stream) = (Arc::new(config), Arc::<str>::from(stream));
        Self {
            writer: LogWriter::new(stream.clone(), config.clone(), counters.clone()),
            reader: LogReader::new(stream, config, counters.clone()),
            counters,
            waker: None,
        }
    }

    /// Returns the counters.
    #[must_use]
    pub fn metrics(&self) -> RedisStreamMetrics {
        RedisStreamMetrics::of(&self.counters)
    }

    /// Returns a function that returns the counters, for another task.
    pub fn metrics_reader(&self) -> impl Fn() -> RedisStreamMetrics + Send + Sync + 'static {
        let counters = self.counters.clone();
        move || RedisStreamMetrics::of(&counters)
    }

    /// After a failover, both connections must be to the same server.
    fn compare_servers(&mut self) {
        if let (Some(one), Some(other)) = (self.writer.address(), self.reader.address())
            && one != other
        {
            self.writer.reconnect(&"the master has changed");
            self.reader.reconnect(&"the master has changed");
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn keep_waker(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}

impl StreamLog for RedisStream {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<LogEvent> {
        loop {
            // Replies to appends come before the entries that they announce, where both have arrived.
            if let Some(event) = self.writer.next_event() {
                return Poll::Ready(event);
            }
            if let Poll::Ready(change) = self.writer.poll(cx) {
                if change == LinkChange::Up {
                    self.compare_servers();
                }
                continue;
            }
            if let Some(event) = self.writer.next_event().or_else(|| self.reader.next_event()) {
                return Poll::Ready(event);
            }
            match self.reader.poll(cx) {
                Poll::Ready(Some(LinkChange::Up)) => self.compare_servers(),
                Poll::Ready(_) => {}
                Poll::Pending => {
                    self.keep_waker(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.writer.is_ready() {
            return Poll::Ready(());
        }
        self.keep_waker(cx);
        // The bytes are written, and the change of the connection is read, by the next poll for events.
        Poll::Pending
    }

    fn send(&mut self, command: LogCommand) {
        self.writer.send(command);
        // All commands of one visit of the task are written together, at its next one.
        self.wake();
    }

    fn read(&mut self, request: ReadRequest) {
        self.reader.request(request);
        self.wake();
    }
}

/// Counters of a [`RedisStream`] since it was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisStreamMetrics {
    /// Gauge: whether both connections are established.
    pub connected: bool,
    /// Entries stored.
    pub stored: u64,
    /// Entries refused, as for lack of memory.
    pub refused: u64,
    /// Entries without a reply when the connection was lost. They may be stored.
    pub unconfirmed: u64,
    /// Entries read.
    pub read: u64,
    /// Entries skipped because they exceed [`max_message`](RedisConfig::max_message).
    pub oversized: u64,
    /// Times that an established connection was lost.
    pub disconnects: u64,
    /// Connections established.
    pub connects: u64,
    /// Failed attempts to connect.
    pub connect_failures: u64,
}

impl RedisStreamMetrics {
    fn of(counters: &Counters) -> Self {
        let metrics = counters.snapshot();
        Self {
            connected: metrics.connected,
            stored: metrics.confirmed,
            refused: metrics.refused,
            unconfirmed: metrics.unconfirmed,
            read: metrics.received,
            oversized: metrics.oversized,
            disconnects: metrics.disconnects,
            connects: metrics.connects,
            connect_failures: metrics.connect_failures,
        }
    }

    /// Returns the counters and gauges for the metrics of a server.
    #[must_use]
    pub fn to_cluster_metrics(&self) -> Vec<ClusterMetric> {
        let connected = ClusterMetric::gauge(
            "redis_stream_connected",
            "1 while both connections to the stream are established.",
            f64::from(u8::from(self.connected)),
        );
        let counters = [
            ("redis_stream_stored", "Entries stored in the stream.", self.stored),
            ("redis_stream_refused", "Entries that Redis has refused, as for lack of memory.", self.refused),
            (
                "redis_stream_unconfirmed",
                "Entries without a reply when the connection was lost; they are looked up in the stream.",
                self.unconfirmed,
            ),
            ("redis_stream_read", "Entries read from the stream.", self.read),
            ("redis_stream_oversized", "Entries skipped as larger than the limit.", self.oversized),
            (
                "redis_stream_disconnects",
                "Established connections to the stream that were lost.",
                self.disconnects,
            ),
            ("redis_stream_connects", "Connections to the stream established.", self.connects),
            (
                "redis_stream_connect_failures",
                "Failed attempts to connect to the stream.",
                self.connect_failures,
            ),
        ];
        let counters =
            counters.into_iter().map(|(name, help, value)| ClusterMetric::counter(name, help, value as f64));
        std::iter::once(connected).chain(counters).collect()
    }
}
