//! Conformance suite for sessions.
//!
//! [`session_conformance!`](crate::session_conformance) generates the tests; a session crate calls it in a test file.

pub mod cases;
mod chaos;
mod samples;

/// Generates one test for each rule that a [`Session`](roomcast_core::Session) must keep.
///
/// Takes an expression that is called for a fresh session, whose primary connection is not open yet, for each test. A
/// session that supports upgrades should be allowed to start on `polling` and upgrade to `websocket`.
///
/// ```text
/// roomcast_testkit::session_conformance!(|| PlainSession::new(Mode::Json, Arc::default(), Namespace::main()));
/// ```
#[macro_export]
macro_rules! session_conformance {
    ($make:expr) => {
        $crate::session_conformance! { @cases $make;
            ignores_input_before_open
            session_opens_only_once
            closes_silent_client
            sends_heartbeats_repeatedly
            ignores_early_timeouts
            sets_timeouts_in_the_future
            ends_with_its_primary_connection
            survives_loss_of_probe
            keeps_reason_of_application_close
            stays_closed_under_any_input
            ignores_verdicts_for_unknown_namespaces
            ignores_second_verdict
            stored_events_equal_queued_events
            keeps_rules_in_random_sequences
        }
    };
    (@cases $make:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::session::cases::$case($make);
        }
    )*};
}
