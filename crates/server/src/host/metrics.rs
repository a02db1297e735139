//! Counters of a node since its start

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use roomcast_recovery::RecoveryError;

use crate::host::limit::{Limit, LimitCounters, Tally};
use crate::util::clock;

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident),* $(,)?) => {
        /// Counters of a node since its start.
        #[derive(Debug)]
        pub struct Metrics {
            $($name: AtomicU64,)*
            pub(crate) limits_exceeded: LimitCounters,
            pub(crate) accept_failures: Tally,
            pub(crate) received: ReceiveCounters,
            pub(crate) recoveries: Recoveries,
            /// Seconds from push to write, measured by the probes of [`crate::serve::probe`]
            pub(crate) delivery: Histogram,
            /// Duration of handlers in seconds, of the timed ones
            pub(crate) handlers: Histogram,
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)*
                    limits_exceeded: LimitCounters::default(),
                    accept_failures: Tally::default(),
                    received: ReceiveCounters::default(),
                    recoveries: Recoveries::default(),
                    delivery: Histogram::new(exponential_buckets(0.000_05, 4.0, 9)),
                    handlers: Histogram::new(exponential_buckets(0.000_01, 4.0, 11)),
                }
            }
        }

        impl Metrics {
            $(#[doc = $doc] pub fn $name(&self) -> u64 {
                self.$name.load(Ordering::Relaxed)
            })*

            /// Returns every counter with its name.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name()),)*].into_iter()
            }

            /// Returns every counter with its name and description.
            pub(crate) fn described(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $doc, self.$name()),)*].into_iter()
            }
        }

        /// Increments each counter.
        #[allow(dead_code, reason = "each counter has its own")]
        pub(crate) mod count {
            use super::*;
            $(pub(crate) fn $name(metrics: &Metrics) {
                metrics.$name.fetch_add(1, Ordering::Relaxed);
            })*
        }
    };
}

counters! {
    /// TCP connections accepted by standalone servers
    connections_opened,
    /// Sessions opened
    sessions_opened,
    /// Sessions closed
    sessions_closed,
    /// Requests rejected
    requests_refused,
    /// Transport upgrades completed
    upgrades,
    /// Events whose handler returned an error, except errors due to a disconnected client
    handlers_failed,
    /// Panics in handlers, hooks and callbacks of the application
    handlers_panicked,
    /// Namespace connects rejected by middleware
    connects_refused,
    /// Events whose arguments did not match their handler
    events_mismatched,
    /// Events without a handler
    events_unhandled,
    /// Clients closed because they stalled
    slow_consumers,
    /// Clients closed because their outbox was full
    outboxes_full,
    /// Stalled clients evicted because the memory budget was used up
    clients_evicted,
    /// Clients closed because they sent faster than their handlers ran
    overloaded,
    /// Clients closed for protocol errors
    protocol_errors,
    /// Log lines lost, as reported by the log writer
    log_lines_lost,
}

impl Metrics {
    /// Records the end of a handler, if it is timed.
    #[inline]
    pub(crate) fn handler_ended(&self, began: Option<Instant>) {
        if let Some(began) = began {
            self.handlers.observe(clock::now().saturating_duration_since(began).as_secs_f64());
        }
    }

    /// Returns how often a limit rejected clients.
    pub fn limits_exceeded(&self, limit: Limit) -> u64 {
        self.limits_exceeded.count(limit)
    }

    /// Returns the number of failed accepts, most often due to exhausted descriptors.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.count()
    }

    /// Adds log lines lost by the application's writer, for writers that drop lines instead of blocking.
    ///
    /// The library logs by `tracing` and does not see lost lines.
    pub fn add_log_lines_lost(&self, lines: u64) {
        self.log_lines_lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Returns the number of recovered clients.
    pub fn recovered(&self) -> u64 {
        self.recoveries.recovered()
    }

    /// Returns the number of clients not recovered for this reason.
    pub fn recovery_refused(&self, refused: RecoveryError) -> u64 {
        self.recoveries.refused(refused)
    }

    /// Returns the number of messages received from clients, including protocol packets.
    pub fn messages_received(&self) -> u64 {
        self.received.sum(|shard| &shard.messages)
    }

    /// Returns the bytes of those messages.
    pub fn bytes_received(&self) -> u64 {
        self.received.sum(|shard| &shard.bytes)
    }
}

/// Receive counters, one cache line per thread.
#[derive(Debug, Default)]
pub(crate) struct ReceiveCounters([Shard; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Further threads share shards
const SHARDS: usize = 16;

impl ReceiveCounters {
    /// Counts the messages and bytes of one read.
    pub(crate) fn add(&self, messages: usize, bytes: usize) {
        thread_local! {
            // Cache line of this thread, so that reading threads do not share one. Not a field of drivers, since they
            // move between threads of a shared runtime. A number below `SHARDS`.
            static SHARD: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        let shard = &self.0[SHARD.with(|shard| *shard)];
        shard.messages.fetch_add(messages as u64, Ordering::Relaxed);
        shard.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.0.iter().map(|shard| counter(shard).load(Ordering::Relaxed)).sum()
    }
}

/// Recovered clients, and refused recoveries by reason.
#[derive(Debug, Default)]
pub(crate) struct Recoveries {
    recovered: AtomicU64,
    refused: [AtomicU64; RecoveryError::ALL.len()],
}

impl Recoveries {
    pub(crate) fn count_recovered(&self) {
        self.recovered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self, refused: RecoveryError) {
        self.refused[refused as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn recovered(&self) -> u64 {
        self.recovered.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self, refused: RecoveryError) -> u64 {
        self.refused[refused as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_match_table_order() {
        for (at, refused) in RecoveryError::ALL.into_iter().enumerate() {
            assert_eq!(refused as usize, at);
        }
    }
}
