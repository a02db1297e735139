//! Conformance suite for routers, and a reference router.
//!
//! [`router_conformance!`](crate::router_conformance) runs the suite; a crate with a router needs a test file of
//! one line for it.

pub mod cases;
mod memory;

use std::sync::Arc;

use roomcast_core::Router;

pub use memory::MemoryRouter;

/// Generates one test for each rule that a [`Router`](roomcast_core::Router) must keep.
///
/// Takes an expression that is called for a fresh router for each test. It runs inside a tokio runtime of one
/// thread.
///
/// ```text
/// roomcast_testkit::router_conformance!(Rooms::default);
/// ```
#[macro_export]
macro_rules! router_conformance {
    ($make:expr) => {
        $crate::router_conformance! { @cases $make;
            to_all
            to_all_but_the_sender
            to_a_room
            to_several_rooms_once_each
            but_not_to_those_excepted
            to_a_socket_by_its_id
            an_id_and_a_room_of_the_same_name
            an_id_that_is_attached_again
            out_is_out
            the_rooms_of_a_member
            how_many_are_in_a_room
            in_no_more_rooms_than_it_may_be
            joins_at_once_do_not_pass_the_limit
            encoded_once_for_each_codec
            one_codec_that_cannot_is_no_error_for_others
            volatile_only_to_those_who_can_take_it
            one_slow_member_hurts_nobody_else
            overflow_as_the_target_says
            the_latest_of_each_key
            an_answer_is_awaited_before_the_event_leaves
            nobody_waits_for_those_who_were_not_asked
            who_owes_too_many_answers_is_told
            who_waits_may_call_the_router
            to_one_member
            rooms_of_many_changed_at_once
            how_much_there_is
            who_is_named
            what_one_sender_sends_arrives_in_order
            who_is_found_is_as_it_is_here
            who_is_named_is_disconnected
            rooms_come_and_go_as_told
            who_watches_late_hears_what_is_new
            a_room_with_an_owner_and_guests_is_one_room
            a_watcher_may_call_the_router
            a_watcher_may_use_the_newcomer
            a_newcomer_is_detached_by_whoever_finds_it
            a_survey_reports_each_room_in_its_place
            a_survey_fits_changes_of_many_threads
            changes_of_many_threads_are_told_once_and_in_order
            no_other_node_answers
        }
    };
    (@cases $make:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::router::run($make, $crate::router::cases::$case);
        }
    )*};
}

/// Runs one case of the suite on a fresh router.
///
/// # Panics
/// If the router breaks the rule.
pub fn run<R: Router>(make: impl Fn() -> R, case: impl AsyncFnOnce(Arc<dyn Router>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { case(Arc::new(make())).await });
}

#[cfg(test)]
mod tests {
    crate::router_conformance!(super::MemoryRouter::default);
}
