//! What a node has counted since it started

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use roomcast_recovery::Refused;

use crate::host::breach::{Breach, Breaches, Tally};
use crate::util::clock;

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident),* $(,)?) => {
        /// What a node has counted since it started
        #[derive(Debug)]
        pub struct Metrics {
            $($name: AtomicU64,)*
            pub(crate) breaches: Breaches,
            pub(crate) accept_failures: Tally,
            pub(crate) received: Received,
            pub(crate) recoveries: Recoveries,
            /// Seconds from push to write, of the probes of [`crate::serve::probe`]
            pub(crate) delivery: Histogram,
            /// Seconds from calling a handler to its end, of those that are timed
            pub(crate) handlers: Histogram,
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)*
                    breaches: Breaches::default(),
                    accept_failures: Tally::default(),
                    received: Received::default(),
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

            /// Every counter with its name
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name()),)*].into_iter()
            }

            /// Every counter with its name and what it means
            pub(crate) fn described(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $doc, self.$name()),)*].into_iter()
            }
        }

        /// Adds one to each counter
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
    /// TCP connections that were let in, by servers of one's own
    connections_opened,
    /// Sessions that began
    sessions_opened,
    /// Sessions that ended
    sessions_closed,
    /// Requests that were refused
    requests_refused,
    /// Sessions that moved to another transport
    upgrades,
    /// Events whose handler returned an error, unless it was that the client has left
    handlers_failed,
    /// Panics of handlers, and of hooks and callbacks of the application
    handlers_panicked,
    /// Requests to join a namespace that a middleware refused
    connects_refused,
    /// Events whose arguments did not fit their handler
    events_mismatched,
    /// Events that nobody handles
    events_unhandled,
    /// Clients that were closed because they stalled
    slow_consumers,
    /// Clients that were closed because more was emitted to them than their outbox may hold
    outboxes_full,
    /// Clients that were closed because the memory budget was used up and they did not read
    clients_evicted,
    /// Clients that were closed because they sent faster than their handlers could work
    overloaded,
    /// Clients that broke their protocol
    protocol_errors,
    /// Lines of the log that its writer lost, as far as it says so
    log_lines_lost,
}

impl Metrics {
    /// Counts a handler that has ended, if it is one of those that are timed
    #[inline]
    pub(crate) fn handler_ended(&self, began: Option<Instant>) {
        if let Some(began) = began {
            self.handlers.observe(clock::now().saturating_duration_since(began).as_secs_f64());
        }
    }

    /// How often a limit turned somebody away
    pub fn breaches(&self, breach: Breach) -> u64 {
        self.breaches.count(breach)
    }

    /// Connections that could not be accepted, most often since the process has no descriptor left
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.count()
    }

    /// Adds lines that the application's log writer lost, for one that drops lines rather than wait
    ///
    /// The library logs by `tracing` and cannot know what becomes of a line.
    pub fn add_log_lines_lost(&self, lines: u64) {
        self.log_lines_lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// Clients that came back and were recovered
    pub fn recovered(&self) -> u64 {
        self.recoveries.recovered()
    }

    /// Clients that came back and had to begin anew, for this reason
    pub fn recovery_refused(&self, refused: Refused) -> u64 {
        self.recoveries.refused(refused)
    }

    /// Messages that clients have sent, packets of their protocol included
    pub fn messages_received(&self) -> u64 {
        self.received.sum(|shard| &shard.messages)
    }

    /// Bytes of those messages
    pub fn bytes_received(&self) -> u64 {
        self.received.sum(|shard| &shard.bytes)
    }
}

/// What came in, counted by each thread on a cache line of its own
#[derive(Debug, Default)]
pub(crate) struct Received([Shard; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Threads beyond that share
const SHARDS: usize = 16;

impl Received {
    /// Counts what one read brought
    pub(crate) fn add(&self, messages: usize, bytes: usize) {
        thread_local! {
            // Cache line of this thread, so that threads that read do not share one. Drivers move between the threads
            // of a shared runtime, so it is no field of theirs. A number below `SHARDS`.
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

/// How many came back, and how many were refused for which reason
#[derive(Debug, Default)]
pub(crate) struct Recoveries {
    recovered: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

impl Recoveries {
    pub(crate) fn count_recovered(&self) {
        self.recovered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused(&self, refused: Refused) {
        self.refused[refused as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn recovered(&self) -> u64 {
        self.recovered.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self, refused: Refused) -> u64 {
        self.refused[refused as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_the_order_of_the_table() {
        for (at, refused) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(refused as usize, at);
        }
    }
}
