//! Clock: the only file that reads the time

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Returns the current time of the runtime's clock, which tests can pause.
#[allow(clippy::disallowed_methods, reason = "the server is where time enters")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Adds a duration; saturates to a distant time on overflow.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or_else(|| now + AGES)
}

/// Returns a duration in milliseconds, for log fields.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Converts a time to whole seconds of the process, 1 at least.
pub(crate) fn process_seconds(at: Instant) -> u32 {
    let seconds = at.saturating_duration_since(init()).as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

/// Converts [seconds of the process](process_seconds) to the time at which they begin.
pub(crate) fn process_instant(seconds: u32) -> Instant {
    after(init(), Duration::from_secs(seconds.into()))
}

/// Returns the origin of process seconds: an hour before the first call, because tests use clocks that differ.
fn init() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(|| {
        let now = now();
        now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
    })
}

/// About thirty years
const AGES: Duration = Duration::from_secs(1_000_000_000);

/// Returns the wall-clock time.
#[expect(clippy::disallowed_methods, reason = "the server is where time enters")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
