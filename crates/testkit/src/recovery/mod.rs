//! Conformance suite for recovery implementations, and a store of sessions and a log of events in memory, with faults.
//!
//! [`recovery_conformance!`](crate::recovery_conformance) generates the tests; a crate with an implementation calls it
//! in a test file.

pub mod cases;
mod client;
mod log;
mod store;

use std::sync::Arc;

use roomcast_recovery::{Recovery, RecoveryConfig};

pub use cases::Make;
pub use log::{LogFault, LogReader, MemoryEventLog};
pub use store::{MemorySessionStore, StoreCall, StoreFault};

/// Generates one test for each rule that a [`Recovery`] must keep.
///
/// Takes a closure that creates a recovery with the given settings, around an empty router. It runs in a tokio runtime
/// of one thread whose clock is paused; the implementation must read the same clock. So claims that wait for a store
/// take no real time, and a claim that does not end fails.
///
/// ```text
/// roomcast_testkit::recovery_conformance!(|config| {
///     let clock = || tokio::time::Instant::now().into_std();
///     Arc::new(Sequencer::new(Arc::new(Rooms::default()), config, "0123456789abcdefghij", clock))
/// });
/// ```
#[macro_export]
macro_rules! recovery_conformance {
    ($make:expr) => {
        $crate::recovery_conformance! { @each [@tests $make;] }
    };
    (@each [$($then:tt)*]) => {
        $crate::recovery_conformance! { $($then)*
            restores_key_rooms_and_data
            replays_missed_events_in_order
            replays_events_lost_on_the_way
            client_without_offset_misses_everything
            replays_nothing_that_was_received
            excluded_members_miss_nothing
            volatile_events_are_not_retained
            offsets_from_outside_are_kept
            welcome_may_precede_missed_events
            wrong_token_claims_nothing
            one_of_concurrent_claims_wins
            dropped_claim_is_put_back
            late_client_is_refused
            lost_events_end_recoveries
            forgotten_session_is_refused
            detached_session_is_not_retained
            queued_events_reach_returning_member
            replay_over_budget_is_refused
            dropped_events_end_recoveries
            attached_members_are_found_by_token
            usage_counts_retained_sessions
        }
    };
    (@tests $make:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::recovery::run($make, $crate::recovery::cases::$case);
        }
    )*};
    (@failures $make:expr; $($case:ident)*) => {
        [$((
            stringify!($case),
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                $crate::recovery::run($make, $crate::recovery::cases::$case);
            }))
            .is_err(),
        )),*]
    };
}

/// Runs one case of the suite.
///
/// # Panics
///
/// Panics if the recovery breaks the rule.
pub fn run<R: Recovery>(make: impl Fn(RecoveryConfig) -> Arc<R>, case: impl AsyncFnOnce(Make<'_>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("runtime starts").block_on(async {
        let make = |config: RecoveryConfig| -> Arc<dyn Recovery> { make(config) };
        case(&make).await;
    });
}

/// Returns the names of the cases that this recovery fails.
///
/// For tests of the suite itself.
pub fn failures<R: Recovery>(make: impl Fn(RecoveryConfig) -> Arc<R>) -> Vec<&'static str> {
    let ran = crate::recovery_conformance!(@each [@failures &make;]);
    ran.into_iter().filter_map(|(name, failed)| failed.then_some(name)).collect()
}
