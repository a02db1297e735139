//! Engine.IO keeps to what every session has to keep to

mod support;

roomcast_testkit::session_conformance!(support::session);
