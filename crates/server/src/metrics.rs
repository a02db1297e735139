//! What a node has counted since it started

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What a node has counted since it started
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($name: AtomicU64,)*
        }

        impl Metrics {
            $($(#[$doc])* pub fn $name(&self) -> u64 {
                self.$name.load(Ordering::Relaxed)
            })*

            /// Every counter with its name
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name()),)*].into_iter()
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
    /// Sessions that began
    sessions_opened,
    /// Sessions that ended
    sessions_closed,
    /// Requests that were refused
    requests_refused,
    /// Sessions that moved to another transport
    upgrades,
    /// Events whose handler returned an error
    handlers_failed,
    /// Events whose handler panicked
    handlers_panicked,
    /// Events whose arguments did not fit their handler
    events_mismatched,
    /// Events that nobody handles
    events_unhandled,
    /// Clients that were closed because they did not read
    slow_consumers,
    /// Clients that were closed because they sent faster than their handlers could work
    overloaded,
    /// Clients that broke their protocol
    protocol_errors,
}
