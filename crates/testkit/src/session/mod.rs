//! Conformance suite for sessions.
//!
//! [`session_conformance!`](crate::session_conformance) runs the suite; a crate with a session needs a test file of
//! a few lines for it.

pub mod cases;
mod chaos;
mod samples;

/// Generates one test for each rule that a [`Session`](roomcast_core::Session) must keep.
///
/// Takes an expression that is called for a fresh session, whose primary lane is not open yet, for each test. Where
/// it can move, it should be allowed to begin on `polling` and move to `websocket`.
///
/// ```text
/// roomcast_testkit::session_conformance!(|| PlainSession::new(Mode::Json, Arc::default(), Namespace::main()));
/// ```
#[macro_export]
macro_rules! session_conformance {
    ($make:expr) => {
        $crate::session_conformance! { @cases $make;
            nothing_happens_before_the_connection_is_open
            a_session_opens_once
            a_client_that_says_nothing_is_closed
            a_client_that_answers_for_its_transport_is_asked_again
            a_timeout_that_comes_early_does_nothing
            timeouts_lie_ahead
            without_its_primary_lane_a_session_ends
            the_loss_of_a_probe_is_not_the_end
            whoever_closes_it_gives_the_reason
            nothing_follows_the_close
            verdicts_about_unknown_namespaces_change_nothing
            a_second_verdict_changes_nothing
            whatever_happens_the_rules_hold
        }
    };
    (@cases $make:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::session::cases::$case($make);
        }
    )*};
}
