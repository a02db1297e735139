//! Rate limit of the log lines that clients can cause

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use crate::util::clock;

/// Rate limit of log lines that clients can cause: one line per key and second.
///
/// A client can make a handler fail as often as it sends events, so a line per failure would fill the disk and cost
/// more than the failure. The first occurrence is logged at once; later ones are counted, and the next line reports
/// their number. Metrics are always exact.
pub(crate) struct LogLimit {
    tallies: Mutex<HashMap<u64, Tally>>,
    /// Seeded, so that clients cannot choose event names that share a tally.
    hasher: RandomState,
    withheld: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Second of the last line, counted from 1970.
    logged_at: u64,
    /// Occurrences since that line.
    unlogged: u64,
}

/// Separate keys; further ones share a tally until other keys have been idle for a second.
const MAX_KEYS: usize = 256;
/// Key of the shared tally.
const SHARED: u64 = 0;

impl LogLimit {
    /// Returns the limit of this process.
    pub(crate) fn global() -> &'static Self {
        static GLOBAL: LazyLock<LogLimit> = LazyLock::new(LogLimit::new);
        &GLOBAL
    }

    fn new() -> Self {
        Self { tallies: Mutex::default(), hasher: RandomState::new(), withheld: AtomicU64::new(0) }
    }

    /// Returns the number of suppressed lines, over all keys.
    pub(crate) fn withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    /// Counts an occurrence; if a line is due, returns the number since the last line.
    pub(crate) fn admit(&self, key: impl Hash) -> Option<u64> {
        let second = clock::wall().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        self.admit_at(key, second)
    }

    fn admit_at(&self, key: impl Hash, second: u64) -> Option<u64> {
        let mut key = self.hasher.hash_one(key);
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if tallies.len() >= MAX_KEYS && !tallies.contains_key(&key) {
            tallies.retain(|_, tally| tally.logged_at == second);
            if tallies.len() >= MAX_KEYS {
                key = SHARED;
            }
        }
        let tally = tallies.entry(key).or_default();
        tally.unlogged += 1;
        if tally.logged_at == second {
            self.withheld.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        tally.logged_at = second;
        Some(std::mem::take(&mut tally.unlogged))
    }
}

/// Logs an event that clients can cause: level, key, then the arguments of `tracing::event!`.
///
/// The field `times` is the number of occurrences since the last line of this call site and key.
macro_rules! log_limited {
    ($level:ident, $key:expr, $($line:tt)+) => {
        if tracing::enabled!(tracing::Level::$level)
            && let Some(times) =
                $crate::util::log_limit::LogLimit::global().admit((module_path!(), line!(), $key))
        {
            tracing::event!(tracing::Level::$level, times, $($line)+);
        }
    };
}
pub(crate) use log_limited;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_first_and_counts_the_rest() {
        let limit = LogLimit::new();
        let admitted: Vec<_> = (0..1000).filter_map(|_| limit.admit_at("a", 7)).collect();
        assert_eq!(admitted, [1]);
        assert_eq!(limit.withheld(), 999);
        assert_eq!(limit.admit_at("b", 7), Some(1), "another key has its own line");
        assert_eq!(limit.admit_at("a", 8), Some(1000), "those not logged and this one");
        assert_eq!(limit.admit_at("a", 9), Some(1));
    }

    #[test]
    fn keys_are_bounded() {
        let limit = LogLimit::new();
        let admitted = (0..100_000).filter_map(|key| limit.admit_at(key, 7)).count();
        assert_eq!(admitted, MAX_KEYS + 1);
        assert!(limit.tallies.lock().expect("no panic").len() <= MAX_KEYS + 1);
        assert_eq!(limit.admit_at("later", 8), Some(1), "quiet keys make room");
    }
}
