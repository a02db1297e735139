//! Conformance suite for routers, run against the sequencer.

mod support;

use support::{Clock, sequencer};

roomcast_testkit::router_conformance!(|| {
    let sequencer = sequencer(&Clock::new(), roomcast_recovery::RecoveryConfig::default());
    std::sync::Arc::into_inner(sequencer).expect("sole owner")
});
