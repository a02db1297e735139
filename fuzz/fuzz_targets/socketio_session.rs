//! See `roomcast_fuzz::socketio_session`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(socketio_session);
