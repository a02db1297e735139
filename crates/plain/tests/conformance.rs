//! Session conformance of plain WebSocket in both modes.

use std::sync::Arc;

use roomcast_core::Namespace;
use roomcast_plain::{Mode, PlainSession};

fn session(mode: Mode) -> PlainSession {
    PlainSession::new(mode, Arc::default(), Namespace::new("/chat"))
}

mod bare {
    roomcast_testkit::session_conformance!(|| super::session(super::Mode::Plain));
}

mod json {
    roomcast_testkit::session_conformance!(|| super::session(super::Mode::Json));
}
