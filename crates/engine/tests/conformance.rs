//! Session conformance of Engine.IO.

mod support;

roomcast_testkit::session_conformance!(support::session);
