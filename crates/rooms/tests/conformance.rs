//! Conformance suite for routers.

roomcast_testkit::router_conformance!(roomcast_rooms::Rooms::default);
