//! Clocks and randomness; the only place of the cluster's tasks that reads time.

use std::time::{Duration, Instant, SystemTime};

/// Returns the time of the runtime's clock, which tests can pause.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where time enters")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time since 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this module is where time enters")]
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time after `wait`, or a time some thirty years later if that cannot be represented.
#[must_use]
pub fn after(now: Instant, wait: Duration) -> Instant {
    const FAR_FUTURE: Duration = Duration::from_secs(1_000_000_000);
    now.checked_add(wait).unwrap_or_else(|| now + FAR_FUTURE)
}

/// Returns a random number; without a source of randomness, one that depends on the time and the process.
#[must_use]
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        (since_1970().as_nanos() as u64 ^ u64::from(std::process::id()) << 32)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
