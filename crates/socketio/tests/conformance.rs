//! Session conformance of Socket.IO.

mod support;

roomcast_testkit::session_conformance!(support::session);
