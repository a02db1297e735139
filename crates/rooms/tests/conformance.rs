//! What every router must do

roomcast_testkit::router_conformance!(roomcast_rooms::Rooms::default);
