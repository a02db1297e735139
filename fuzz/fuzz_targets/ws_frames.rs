//! See `roomcast_fuzz::ws_frames`.

#![cfg_attr(fuzzing, no_main)]

roomcast_fuzz::fuzzer!(ws_frames);
