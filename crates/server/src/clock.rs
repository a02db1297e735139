//! The one place where time is read

use std::time::{Instant, SystemTime};

/// Now, on the runtime's clock, so that tests can stop it
#[allow(clippy::disallowed_methods, reason = "the server is where time enters")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Now, as people count
#[expect(clippy::disallowed_methods, reason = "the server is where time enters")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
