//! The one place where time is read

use std::time::{Duration, Instant, SystemTime};

/// Now, on the runtime's clock, so that tests can stop it
#[allow(clippy::disallowed_methods, reason = "the server is where time enters")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// So much later, or as late as makes no difference where that cannot be reckoned
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or_else(|| now + AGES)
}

/// Returns a duration in milliseconds, as fields of log lines have it.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// About thirty years
const AGES: Duration = Duration::from_secs(1_000_000_000);

/// Now, as people count
#[expect(clippy::disallowed_methods, reason = "the server is where time enters")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
