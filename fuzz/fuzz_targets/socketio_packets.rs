//! See `roomcast_fuzz::socketio_packets`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(socketio_packets);
