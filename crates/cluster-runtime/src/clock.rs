//! Clocks; the only place in the crate that reads time.

use std::time::{Duration, Instant, SystemTime};

/// Returns the time of the runtime's clock, which tests can pause.
#[expect(clippy::disallowed_methods, reason = "this module is where time enters")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the time since 1970.
#[expect(clippy::disallowed_methods, reason = "this module is where time enters")]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time after `wait`, or a time some thirty years later if that cannot be represented.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    const FAR_FUTURE: Duration = Duration::from_secs(1_000_000_000);
    now.checked_add(wait).unwrap_or_else(|| now + FAR_FUTURE)
}
