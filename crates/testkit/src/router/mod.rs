//! Conformance suite for routers, and a reference router.
//!
//! [`router_conformance!`](crate::router_conformance) generates the tests; a router crate calls it in a test file.

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
            reaches_all_members
            skips_the_sender
            reaches_current_room_members
            reaches_overlapping_rooms_once
            excludes_rooms_and_ids
            reaches_socket_by_id
            id_and_room_share_name
            id_reaches_newest_member
            detached_member_leaves_all_rooms
            lists_own_room_first
            counts_members_of_room
            enforces_room_limit_of_member
            concurrent_joins_respect_room_limit
            encodes_once_per_codec
            unsupported_codec_affects_no_other_member
            drops_volatile_for_blocked_members
            full_outbox_closes_one_member
            applies_overflow_policy_of_target
            keeps_latest_event_per_key
            registers_ack_before_event_leaves
            unreached_members_owe_no_ack
            reports_member_over_ack_limit
            ack_receiver_may_call_router
            direct_target_reaches_one_member
            bulk_changes_count_changed_members
            counts_members_and_joined_rooms
            lists_ids_of_recipients
            keeps_order_per_sender
            find_returns_rooms_and_data
            disconnects_each_addressed_member_once
            reports_room_creation_and_deletion
            late_watcher_sees_later_changes
            id_room_includes_owner_and_guests
            watcher_may_call_router
            watcher_may_use_new_member
            concurrent_detach_leaves_no_trace
            survey_reports_rooms_in_order
            survey_fits_concurrent_changes
            reports_concurrent_changes_in_order
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
///
/// Panics if the router breaks the rule.
pub fn run<R: Router>(make: impl Fn() -> R, case: impl AsyncFnOnce(Arc<dyn Router>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime starts");
    runtime.block_on(async { case(Arc::new(make())).await });
}

#[cfg(test)]
mod tests {
    crate::router_conformance!(super::MemoryRouter::default);
}
